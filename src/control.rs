//! The control plane: the one task that changes the fleet, and the tasks that tell it what happened.
//!
//! Owns the fleet and the published view. Facts go down one pipe as [`Event`]s, what people want down another as wishes; pictures
//! come up one pipe as [`View`]s. Never touches a request.

pub mod probe;

mod keep;
mod resolve;
mod watch;

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{mpsc, oneshot, watch as channel};

use self::{probe::ProbePolicy, watch::Watching};
use crate::{
    fleet::{Applied, Change, Event, Fleet, Moment, Order, Orders, PoolPlan, Reconfigured, Standing, View},
    limits::{CONTROL_TICK, EVENT_QUEUE, WISH_QUEUE},
    server::Phase,
    service,
    telemetry::news::{News, What},
    threads,
    upstream::Approach,
};

/// How a pool's backends are watched.
#[derive(Clone, Debug)]
pub struct WatchPolicy {
    /// Its health checks.
    pub probe: ProbePolicy,
    /// How connections to the backends begin.
    pub approach: Approach,
    /// How often host names are resolved anew.
    pub resolve_interval: Duration,
    /// All of this in words: where they are the same after a change, watching goes on as it was.
    pub words: Arc<str>,
}

/// Shows a view to everybody.
pub type Publish = Box<dyn Fn(Arc<View>) + Send>;

/// What somebody wants of the control task.
enum Wish {
    Change(Box<Reconfiguration>, oneshot::Sender<Result<Obeyed, String>>),
    Obey { pool: String, backend: String, order: Order, reply: oneshot::Sender<Result<Obeyed, String>> },
}

/// Pools as they are to be, and what goes with them.
pub struct Reconfiguration {
    /// The pools.
    pub plans: Vec<PoolPlan>,
    /// How their backends are watched, in the same order.
    pub policies: Vec<WatchPolicy>,
    /// Shows the views from then on.
    pub publish: Publish,
    /// Where orders are kept from then on.
    pub state_file: Option<PathBuf>,
}

/// A wish that was granted.
#[derive(Debug)]
pub struct Obeyed {
    /// What that did.
    pub report: Reconfigured,
    /// Why operators' orders will not outlive a restart, if they will not.
    pub not_kept: Option<String>,
}

/// The way to the control task for people.
#[derive(Clone, Debug)]
pub struct Desk {
    wishes: mpsc::Sender<Wish>,
}

impl Desk {
    /// Changes the pools.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn reconfigure(&self, change: Reconfiguration) -> Result<Obeyed, String> {
        let (reply, answer) = oneshot::channel();
        self.ask(Wish::Change(Box::new(change), reply), answer).await
    }

    /// Drains a backend, gives it another weight, or takes that back.
    ///
    /// # Errors
    /// There is no such pool or backend, or the weight makes the ring too large.
    pub async fn obey(&self, pool: &str, backend: &str, order: Order) -> Result<Obeyed, String> {
        let (reply, answer) = oneshot::channel();
        let (pool, backend) = (pool.to_owned(), backend.to_owned());
        self.ask(Wish::Obey { pool, backend, order, reply }, answer).await
    }

    async fn ask<T>(&self, wish: Wish, answer: oneshot::Receiver<Result<T, String>>) -> Result<T, String> {
        let gone = || "the proxy is stopping".to_owned();
        self.wishes.send(wish).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// What the control thread is started with.
pub struct Start {
    /// The fleet.
    pub fleet: Fleet,
    /// How each pool's backends are watched.
    pub policies: Vec<WatchPolicy>,
    /// Shows the views.
    pub publish: Publish,
    /// Turns true when every backend has had its first result.
    pub proven: channel::Sender<bool>,
    /// How far the end has come.
    pub phase: channel::Receiver<Phase>,
    /// Where orders are kept. `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// What workers say about backends.
    pub events: Events,
    /// Where changes are told, beside the log.
    pub news: Arc<News>,
}

/// The pipe that facts go down.
#[derive(Debug)]
pub struct Events {
    report: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
}

impl Events {
    /// A pipe, and the end that facts are put in at.
    pub fn pipe() -> (mpsc::Sender<Event>, Events) {
        let (report, events) = mpsc::channel(EVENT_QUEUE);
        (report.clone(), Events { report, events })
    }
}

/// The control thread.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts it.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start(start: Start) -> io::Result<(Control, Desk)> {
        let (wishes, wished) = mpsc::channel(WISH_QUEUE);
        let thread = threads::with_runtime("ringway-control".into(), move |runtime| {
            // From here: a control plane that is stuck is to be noticed.
            runtime.spawn_local(service::heart_beat());
            runtime.block_on(run(start, wished));
            // A name that is being resolved is not waited for.
            runtime.shutdown_background();
        })?;
        Ok((Control { thread }, Desk { wishes }))
    }

    /// Whether it is over before its time.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end, which comes with the phase.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Reads the orders that an earlier process has kept.
///
/// # Errors
/// The file is there and can't be read or understood.
pub fn kept_orders(state_file: &std::path::Path) -> Result<Orders, String> {
    keep::load(state_file)
}

struct Chief {
    fleet: Fleet,
    publish: Publish,
    watching: Watching,
    state_file: Option<PathBuf>,
    news: Arc<News>,
}

async fn run(start: Start, mut wished: mpsc::Receiver<Wish>) {
    let Start { fleet, policies, publish, proven, mut phase, state_file, events, news } = start;
    let Events { report, mut events } = events;
    // Dropped at the end of this function, and all watching tasks with it.
    let mut watching = Watching::new(report);
    watching.follow(&fleet, &policies);
    let mut chief = Chief { fleet, publish, watching, state_file, news };
    let mut tick = tokio::time::interval(CONTROL_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if !*proven.borrow() && chief.fleet.is_proven() {
            // Nobody may be listening any more: then nobody needs to know.
            let _ = proven.send(true);
        }
        match next(&mut phase, &mut tick, &mut wished, &mut events).await {
            Step::Stop => return,
            Step::Tick => chief.tick(),
            Step::Grant(wish) => chief.grant(wish),
            Step::TakeIn(event) => chief.take_in(event),
        }
    }
}

/// What the control task does next.
enum Step {
    Stop,
    Tick,
    Grant(Wish),
    TakeIn(Event),
}

/// What is to be done, in the order of what can wait least. The clock comes before what others say: it asks for a turn four times a second at
/// most, and facts that come faster than they are taken in must not keep ejections and ramps from ending.
async fn next(
    phase: &mut channel::Receiver<Phase>,
    tick: &mut tokio::time::Interval,
    wished: &mut mpsc::Receiver<Wish>,
    events: &mut mpsc::Receiver<Event>,
) -> Step {
    tokio::select! {
        biased;
        () = Phase::Stopping.reached(phase) => Step::Stop,
        _ = tick.tick() => Step::Tick,
        Some(wish) = wished.recv() => Step::Grant(wish),
        Some(event) = events.recv() => Step::TakeIn(event),
    }
}

impl Chief {
    /// Applies one event; publishes a new view if requests could notice, and tells people if they would want to know.
    fn take_in(&mut self, event: Event) {
        match self.fleet.apply(event, now()) {
            Applied::Nothing => {}
            Applied::Moved => drop(self.show()),
            Applied::Changed(change) => {
                let revision = self.show();
                self.tell(&change, revision);
            }
        }
    }

    fn tick(&mut self) {
        let (changes, moved) = self.fleet.tick(now());
        if moved {
            let revision = self.show();
            changes.iter().for_each(|change| self.tell(change, revision));
        }
    }

    fn show(&mut self) -> u64 {
        let view = self.fleet.view();
        let revision = view.revision;
        (self.publish)(Arc::new(view));
        revision
    }

    fn grant(&mut self, wish: Wish) {
        // Who asked may have gone away; what was asked for is done all the same.
        match wish {
            Wish::Change(change, reply) => drop(reply.send(self.reconfigure(*change))),
            Wish::Obey { pool, backend, order, reply } => {
                drop(reply.send(self.obey(&pool, &backend, order)));
            }
        }
    }

    fn reconfigure(&mut self, change: Reconfiguration) -> Result<Obeyed, String> {
        let Reconfiguration { plans, policies, publish, state_file } = change;
        let prepared = self.fleet.prepare(plans).map_err(|error| error.to_string())?;
        let report = self.fleet.adopt(prepared, now());
        self.publish = publish;
        let kept = match &state_file {
            _ if state_file == self.state_file => Ok(()),
            Some(file) => keep::save(file, self.fleet.orders()),
            None if self.fleet.orders().all().next().is_none() => Ok(()),
            None => Err("there is no `server.state_file` any more: a restart forgets them".to_owned()),
        };
        self.state_file = state_file;
        self.show();
        self.watching.follow(&self.fleet, &policies);
        Ok(Obeyed { report, not_kept: kept.err() })
    }

    fn obey(&mut self, pool: &str, backend: &str, order: Order) -> Result<Obeyed, String> {
        let report = self.fleet.obey(pool, backend, order, now())?;
        let revision = self.show();
        tracing::info!(pool, backend, %order, revision, "an operator's order");
        let share_moved = report.share_moved();
        self.news.tell(What::Order { pool, backend, order: &order.to_string(), share_moved, revision });
        let kept = match &self.state_file {
            Some(file) => keep::save(file, self.fleet.orders()),
            // What was taken back, a restart has nothing to forget of.
            None if order == Order::None => Ok(()),
            None => Err("there is no `server.state_file`: a restart forgets it".to_owned()),
        };
        if let (Err(problem), Some(_)) = (&kept, &self.state_file) {
            tracing::error!(problem, "the operator's order can't be kept");
        }
        Ok(Obeyed { report, not_kept: kept.err() })
    }

    /// Tells people.
    fn tell(&self, change: &Change, revision: u64) {
        change.backend.probes.transitions.bump();
        let Change { pool, backend, from, to, reason } = change;
        let (backend, from, to) = (&*backend.name, from.word(), to.word());
        self.news.tell(What::Backend { pool, backend, from, to, reason, revision });
        if change.to == Standing::Serving {
            tracing::info!(pool = &**pool, backend, from, to, %reason, revision, "backend changed");
        } else {
            tracing::warn!(pool = &**pool, backend, from, to, %reason, revision, "backend changed");
        }
    }
}

fn now() -> Moment {
    Moment { instant: Instant::now(), wall: SystemTime::now() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Fact, Outcome};

    #[tokio::test]
    async fn time_has_its_turn_however_many_facts_wait() {
        let (_stop, mut phase) = channel::channel(Phase::Serving);
        let (_desk, mut wished) = mpsc::channel(1);
        let (report, mut events) = mpsc::channel(2);
        let fact = || Event { backend: 0, fact: Fact::Probed(Outcome::Pass) };
        (0..2).for_each(|_| report.try_send(fact()).unwrap());
        // The first one is long due, and the second one when most of an hour has passed.
        let due = tokio::time::Instant::now() - Duration::from_secs(60);
        let mut tick = tokio::time::interval_at(due, Duration::from_secs(3600));
        assert!(matches!(next(&mut phase, &mut tick, &mut wished, &mut events).await, Step::Tick));
        for _ in 0..2 {
            assert!(matches!(next(&mut phase, &mut tick, &mut wished, &mut events).await, Step::TakeIn(_)));
        }
    }
}
