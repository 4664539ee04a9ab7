//! The admin listener: metrics, health, and the answers to an operator's questions.
//!
//! Owns one thread and a small, stable JSON API. Reads the published view; what operators want changed it hands on. It never shares a thread with
//! requests, so a scrape delays none.

mod answers;
mod arcs;
mod change;
mod events;
mod live;
mod lookup;
mod page;
mod patience;
mod plan;
mod routes;

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::{AbortHandle, JoinSet},
};

use self::{
    live::Live,
    patience::{Patience, Watched},
};
use crate::{
    analysis::compare::Comparison,
    fleet::Order,
    limits::{
        ADMIN_CONNECTIONS, ADMIN_GOODBYE, ADMIN_HEAD, ADMIN_ROOM, EVENT_STREAMS, LOOKUPS_AT_ONCE,
        PLANS_AT_ONCE,
    },
    proxy::Picture,
    server::Phase,
    telemetry::{metrics::Metrics, news::News},
};

/// What an operator chooses.
#[derive(Clone, Debug)]
pub struct AdminPolicy {
    /// Where it listens. `None`: there is no admin listener.
    pub address: Option<SocketAddr>,
    /// A file whose first line is the token that clients must show as `Authorization: Bearer TOKEN`.
    pub token_file: Option<PathBuf>,
    /// Reading needs no token.
    pub allow_unauthenticated_reads: bool,
}

/// What the answers are made from.
pub struct State {
    /// The published picture: pools, backends, routes, key sources.
    pub pictures: Arc<ArcSwap<Picture>>,
    /// The metrics.
    pub metrics: Metrics,
    /// Every backend has had its first result.
    pub proven: watch::Receiver<bool>,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
    /// The configuration in force.
    pub in_force: Arc<ArcSwap<InForce>>,
    /// Connections are accepted while this is so.
    pub in_charge: watch::Receiver<bool>,
    /// What has changed lately.
    pub news: Arc<News>,
    /// Who does what operators want.
    pub operator: Arc<dyn Operator>,
}

/// What the admin listener is made of.
struct House {
    state: State,
    live: Live,
    /// Places for those who watch events.
    watchers: Arc<Semaphore>,
    /// Places for configurations that are compared.
    plans: Arc<Semaphore>,
    /// Places for those who ask about many keys.
    lookups: Arc<Semaphore>,
}

/// The configuration in force, as far as it is told or asked for here.
#[derive(Debug)]
pub struct InForce {
    /// With defaults filled in and secrets hidden, as TOML.
    pub config: String,
    /// When it was read.
    pub loaded: SystemTime,
    /// What a client must show to change anything, or to read anything but health. `None`: nothing can be changed, and all be read.
    pub token: Option<String>,
    /// Reading needs no token.
    pub free_reads: bool,
}

impl InForce {
    /// Whoever shows this may read.
    fn may_read(&self, shown: Option<&[u8]>) -> bool {
        self.token.is_none() || self.free_reads || self.is_token(shown)
    }

    /// This is the token.
    fn is_token(&self, shown: Option<&[u8]>) -> bool {
        let (Some(shown), Some(token)) = (shown, &self.token) else { return false };
        equal_in_constant_time(shown, token.as_bytes())
    }
}

/// Compares without telling by the time it takes where the first difference is.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Why an operator's wish was not granted.
#[derive(Debug)]
pub enum OperatorError {
    /// It can't be; the reason.
    Refused(String),
    /// It can't be now.
    NotNow(String),
    /// It was tried, and has failed.
    Failed(String),
}

/// What obeying an order did.
#[derive(Debug, Serialize)]
pub struct Obeyed {
    /// The share of the pool's keys that moves, from 0 to 1.
    pub share_moved: f64,
    /// Why a restart forgets it; `null` if it does not.
    pub not_kept: Option<String>,
}

/// An answer that takes time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, OperatorError>> + Send + 'a>>;

/// Does what operators want. The admin listener itself changes nothing.
pub trait Operator: Send + Sync {
    /// Reads the configuration again.
    fn reload(self: Arc<Self>) -> Pending<'static, serde_json::Value>;
    /// Drains a backend, gives it another weight, or takes that back.
    fn obey<'a>(&'a self, pool: &'a str, backend: &'a str, order: Order) -> Pending<'a, Obeyed>;
    /// What would move if this configuration, in TOML, took the place of the one in force. Changes nothing.
    fn plan(&self, text: String) -> Pending<'_, Comparison>;
    /// Has a new process take over. Its number.
    fn upgrade(&self) -> Pending<'_, u32>;
}

/// The admin thread.
#[derive(Debug)]
pub struct Admin {
    thread: JoinHandle<()>,
}

impl Admin {
    /// Reads the token that the policy names. `None`: there is none.
    ///
    /// # Errors
    /// The file can't be read, or its first line is empty.
    pub fn token(policy: &AdminPolicy) -> io::Result<Option<String>> {
        let Some(path) = &policy.token_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its first line is empty"));
        }
        Ok(Some(token.to_owned()))
    }

    /// Starts the thread on a bound socket.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start(socket: TcpListener, state: State) -> io::Result<Admin> {
        socket.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("ringway-admin".into()).spawn(move || {
            runtime.block_on(run(socket, state));
        })?;
        Ok(Admin { thread })
    }

    /// Waits for its end, which comes with the phase.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

async fn run(socket: TcpListener, state: State) {
    let (mut phase, mut in_charge) = (state.phase.clone(), state.in_charge.clone());
    let mut clients = JoinSet::new();
    let (live, sampler) = Live::begin(&state);
    let places = |number| Arc::new(Semaphore::new(number));
    let house = Arc::new(House {
        state,
        live,
        watchers: places(EVENT_STREAMS),
        plans: places(PLANS_AT_ONCE),
        lookups: places(LOOKUPS_AT_ONCE),
    });
    tokio::select! {
        () = Phase::Stopping.reached(&mut phase) => return,
        charged = in_charge.wait_for(|is_so| *is_so) => if charged.is_err() { return },
    }
    tokio::select! {
        () = Phase::Stopping.reached(&mut phase) => {}
        () = accept(socket, &house, &mut clients) => {}
        () = house.live.run(sampler, &house.state) => {}
        // Another process answers from now on.
        _ = in_charge.wait_for(|is_so| !*is_so) => {}
    }
    Phase::Stopping.reached(&mut phase).await;
    // Those who wait for an answer get it.
    let all = async { while clients.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(ADMIN_GOODBYE, all).await;
}

async fn accept(socket: TcpListener, house: &Arc<House>, clients: &mut JoinSet<()>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin listener can't be watched"),
    };
    let mut inside = Inside::default();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    // No descriptors, say: at once again would be a busy loop.
                    Err(error) => {
                        tracing::error!(%error, "the admin listener can't accept; trying again in 100 ms");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                // One client too many is closed, not kept waiting: a probe had better fail than hang.
                if inside.has_place(Instant::now()) {
                    let patience = Patience::new();
                    let task = clients.spawn(serve(stream, house.clone(), patience.clone()));
                    inside.0.push((task, patience));
                }
            }
        }
    }
}

/// The clients that there are.
#[derive(Default)]
struct Inside(Vec<(AbortHandle, Arc<Patience>)>);

impl Inside {
    /// Whether one more may come in. If need be, one goes that has had no question under way for the longest, or else the one that has taken
    /// nothing of its answer for the longest: whoever holds connections and asks nothing, or asks and does not read, keeps no probe out.
    fn has_place(&mut self, now: Instant) -> bool {
        if self.0.len() < ADMIN_CONNECTIONS {
            return true;
        }
        self.0.retain(|(task, _)| !task.is_finished());
        if self.0.len() < ADMIN_CONNECTIONS {
            return true;
        }
        let since = |ask: fn(&Patience) -> Option<Instant>| {
            let all = self.0.iter().enumerate();
            all.filter_map(|(at, (_, known))| Some((ask(known)?, at))).min()
        };
        let stuck = || since(Patience::stuck_since).filter(|(since, _)| now - *since > ADMIN_ROOM);
        let Some((_, at)) = since(Patience::idle_since).or_else(stuck) else { return false };
        let (task, _) = self.0.swap_remove(at);
        task.abort();
        true
    }
}

async fn serve(stream: TcpStream, house: Arc<House>, patience: Arc<Patience>) {
    let mut phase = house.state.phase.clone();
    let stream = Watched::new(stream, patience.clone());
    let known = patience.clone();
    let service = service_fn(move |request| {
        let (house, known) = (house.clone(), known.clone());
        async move {
            known.asks();
            let answer = routes::answer(&house, &known, request).await;
            known.answers();
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD).max_buf_size(64 * 1024);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut connection => served,
        () = patience.ended() => return tracing::debug!("an admin client takes nothing, or too slowly, and is cut off"),
        () = Phase::Stopping.reached(&mut phase) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke");
    }
}
