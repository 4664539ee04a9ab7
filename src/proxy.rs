//! The request path: from a parsed head to an answer, by way of a key, an owner and one or more attempts.
//!
//! Owns every decision that is made for one request. Never changes the fleet: it reads one [`Picture`] and reports nothing but
//! counts. Start at [`exchange::exchange`]; it reads from top to bottom in the order in which things happen.

pub mod budget;
pub mod choose;
pub mod claims;
pub mod client;
pub mod client_end;
pub mod exchange;
pub mod explain;
pub mod head;
pub mod key;
pub mod own_fields;
pub mod policy;
pub mod refuse;
pub mod repeat;
pub mod rewrite;
pub mod route;
pub mod trail;

mod answer;
mod attempt;
mod connect;
mod dates;
mod form;
mod hedge;
mod leaving;
mod onward;
mod place;
mod record;
mod request_body;
mod rest;
mod send;
mod short;
mod terms;
mod tunnel;
mod under_way;
mod waits;
mod warmth;

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::{Notify, mpsc};

use self::{
    budget::{Budgets, Rates},
    choose::Rules,
    client::TrustedProxies,
    dates::Dates,
    policy::ForwardPolicy,
    route::Router,
};
use crate::{
    fleet::{Event, OnAllDown, View},
    http1::{AnswerHead, Method, RequestHead},
    io::{BufferPool, Pipes},
    limits::{ACCESS_BATCH_TIME, BUFFER_BYTES, SPARE_BUFFERS},
    tally::{Refusal, WorkerCells},
    telemetry::access::{AccessLine, AccessLines, AccessLog},
    upstream::{Approach, Protocol, ReusePolicy, Upstreams},
};

/// What requests are handled by: which backends there are, and what is done with them. Published together, so that a request never
/// meets the pools of one configuration with the rules of another.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The pools and backends.
    pub view: Arc<View>,
    /// The rules.
    pub plan: Arc<Plan>,
}

/// The rules for requests, which the configuration gives.
#[derive(Debug)]
pub struct Plan {
    /// Which pool a request goes to.
    pub router: Router,
    /// How each pool's requests are forwarded, in the order of the view's pools.
    pub pools: Vec<PoolPlan>,
    /// Whose forwarding headers count.
    pub trusted: TrustedProxies,
    /// The pseudonym in `Via`.
    pub via: Option<String>,
    /// Requests under way in all. `None`: no bound.
    pub max_requests: Option<usize>,
    /// Where access lines go, if they are wanted.
    pub access_log: Option<AccessLog>,
}

/// One pool, as the request path needs it.
#[derive(Debug)]
pub struct PoolPlan {
    /// How requests are forwarded.
    pub forward: ForwardPolicy,
    /// How connections are used again.
    pub reuse: ReusePolicy,
    /// What to do when nobody is serving.
    pub on_all_down: OnAllDown,
    /// What flows into a worker's budget for repeats.
    pub repeat_rates: Rates,
    /// How connections to backends begin.
    pub approach: Approach,
}

impl PoolPlan {
    /// What a request with this method may do on its way along the ring.
    fn rules(&self, method: Method) -> Rules {
        Rules {
            attempts: self.forward.attempts,
            on_all_down: self.on_all_down,
            owner_only: self.forward.affinity.binds(method),
            when_full: self.forward.when_full,
        }
    }

    /// Whether a client may change to this protocol. Backends of HTTP/2 are not asked to: their connections are shared.
    fn allows_upgrade(&self, protocol: &[u8]) -> bool {
        self.approach.protocol == Protocol::Http1 && self.forward.allows_upgrade(protocol)
    }
}

/// What all workers have of the proxy in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The published picture.
    pub pictures: Arc<ArcSwap<Picture>>,
    /// Where is told what requests say about backends.
    pub report: mpsc::Sender<Event>,
    /// Requests under way, counted where there is a bound.
    pub under_way: Arc<AtomicUsize>,
}

/// A worker's own half of the proxy: its connections, buffers and counts.
#[derive(Debug)]
pub struct Gateway {
    /// The worker's number.
    pub worker: usize,
    /// Idle connections to backends.
    pub upstreams: Upstreams,
    /// What may be spent on repeats.
    budgets: Budgets,
    /// Spare buffers.
    pub buffers: BufferPool,
    /// Ways past the buffers.
    pub pipes: Pipes,
    /// Where this worker tells what requests say about backends.
    pub report: mpsc::Sender<Event>,
    /// Where this worker counts what belongs to no pool.
    pub cells: Arc<WorkerCells>,
    /// Where this worker collects access lines, if they are wanted.
    access: RefCell<Option<AccessLines>>,
    /// Told when the first line of a batch is there.
    first_line: Notify,
    /// Requests under way, over all workers; counted where there is a bound.
    under_way: Arc<AtomicUsize>,
    /// No request after the present one on any connection.
    pub draining: Cell<bool>,
    /// For answers without a date.
    dates: Dates,
    picture: RefCell<LocalPicture>,
    rng: RefCell<fastrand::Rng>,
    spare_keys: RefCell<Vec<Vec<u8>>>,
    #[expect(
        clippy::vec_box,
        reason = "taken and given back for every request: a pointer, not the head, is moved"
    )]
    spare_heads: RefCell<Vec<Box<RequestHead>>>,
    /// For answers that go the short way: they are parsed and passed on in one go.
    answer_head: RefCell<AnswerHead>,
}

/// The published picture, with a handle that can be cloned without touching memory that other workers touch.
#[derive(Debug)]
struct LocalPicture {
    published: Cache<Arc<ArcSwap<Picture>>, Arc<Picture>>,
    local: Rc<Held>,
}

/// A picture that this worker holds: its requests count their references here, not in memory that all workers share.
#[derive(Debug)]
pub struct Held(Arc<Picture>);

impl Deref for Held {
    type Target = Picture;

    fn deref(&self) -> &Picture {
        &self.0
    }
}

/// A request under way.
#[derive(Debug)]
struct Entered(Arc<AtomicUsize>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gateway {
    /// One for this worker.
    pub fn new(worker: usize, common: Common, cells: Arc<WorkerCells>) -> Gateway {
        let Common { pictures, report, under_way } = common;
        let local = Rc::new(Held(pictures.load_full()));
        Gateway {
            worker,
            access: RefCell::new(local.plan.access_log.as_ref().map(AccessLog::lines)),
            first_line: Notify::new(),
            upstreams: Upstreams::new(worker),
            budgets: Budgets::default(),
            buffers: BufferPool::default(),
            pipes: Pipes::default(),
            report,
            under_way,
            cells,
            draining: Cell::new(false),
            dates: Dates::default(),
            picture: RefCell::new(LocalPicture { published: Cache::new(pictures), local }),
            rng: RefCell::new(fastrand::Rng::new()),
            spare_keys: RefCell::default(),
            spare_heads: RefCell::default(),
            answer_head: RefCell::default(),
        }
    }

    /// The picture as it is now.
    pub fn picture(&self) -> Rc<Held> {
        let LocalPicture { published, local } = &mut *self.picture.borrow_mut();
        let now = published.load();
        if !Arc::ptr_eq(now, &local.0) {
            *local = Rc::new(Held(now.clone()));
            self.follow_access_log(local.plan.access_log.as_ref());
        }
        local.clone()
    }

    /// Counts a request under way, if there is a bound and room.
    ///
    /// # Errors
    /// There is no room.
    fn enter(&self, plan: &Plan) -> Result<Option<Entered>, Refusal> {
        let Some(most) = plan.max_requests else { return Ok(None) };
        let entered = Entered(self.under_way.clone());
        if self.under_way.fetch_add(1, Relaxed) >= most { Err(Refusal::Overload) } else { Ok(Some(entered)) }
    }

    /// A number that nobody can foresee from the outside by chance.
    pub fn random(&self) -> u128 {
        self.rng.borrow_mut().u128(..)
    }

    /// An empty vector for a key.
    fn take_key_buffer(&self) -> Vec<u8> {
        self.spare_keys.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes it back.
    fn give_key_buffer(&self, key: Vec<u8>) {
        let mut spare = self.spare_keys.borrow_mut();
        if spare.len() < SPARE_BUFFERS && key.capacity() <= BUFFER_BYTES {
            spare.push(key);
        }
    }

    /// A head to parse into.
    pub fn take_head(&self) -> Box<RequestHead> {
        self.spare_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes it back: a connection that idles holds none.
    pub fn give_head(&self, head: Box<RequestHead>) {
        let mut spare = self.spare_heads.borrow_mut();
        if spare.len() < SPARE_BUFFERS && head.bytes().len() <= BUFFER_BYTES {
            spare.push(head);
        }
    }

    /// Another log may have taken the place of the one that lines went to.
    fn follow_access_log(&self, log: Option<&AccessLog>) {
        let mut access = self.access.borrow_mut();
        let is_same = match (&*access, log) {
            (Some(lines), Some(log)) => lines.log().is_same(log),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            *access = log.map(AccessLog::lines);
        }
    }

    /// Whether access lines are wanted.
    fn logs_access(&self) -> bool {
        self.access.borrow().is_some()
    }

    /// Takes an access line.
    fn log_access(&self, line: &AccessLine<'_>) {
        if self.access.borrow().as_ref().is_some_and(|lines| lines.add(line)) {
            self.first_line.notify_one();
        }
    }

    /// Hands access lines on before they are old. Never ends.
    pub async fn hand_access_lines_over(&self) {
        loop {
            self.first_line.notified().await;
            tokio::time::sleep(ACCESS_BATCH_TIME).await;
            if let Some(lines) = &*self.access.borrow() {
                lines.hand_over();
            }
        }
    }

    /// Closes idle upstream connections whose time is over, and pipes that nobody needs.
    pub fn sweep(&self) {
        // A worker without requests follows too, so that what has been replaced can end.
        drop(self.picture());
        self.pipes.sweep();
        self.upstreams.sweep(Instant::now());
    }
}
