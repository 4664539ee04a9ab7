//! The control plane: the one task that changes the fleet, and the tasks that tell it what happened.
//!
//! Owns the fleet and the published view. Facts go down one pipe as [`Event`]s; pictures come up one pipe as [`View`]s.
//! Never touches a request.

pub mod probe;

mod resolve;
mod watch;

use std::{
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, watch as channel};

use self::{probe::ProbePolicy, watch::Watched};
use crate::{
    fleet::{Applied, Change, Event, Fleet, Standing, View},
    limits::EVENT_QUEUE,
    server::Phase,
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
}

/// Shows a view to everybody.
pub type Publish = Box<dyn Fn(Arc<View>) + Send>;

/// The control thread.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts it. `proven` turns true when every backend has had its first result.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start(
        fleet: Fleet,
        policies: Vec<WatchPolicy>,
        publish: Publish,
        proven: channel::Sender<bool>,
        phase: channel::Receiver<Phase>,
    ) -> io::Result<Control> {
        let thread = threads::with_runtime("ringway-control".into(), move |runtime| {
            runtime.block_on(run(fleet, &policies, publish, proven, phase));
            // A name that is being resolved is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Control { thread })
    }

    /// Waits for its end, which comes with the phase.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

async fn run(
    mut fleet: Fleet,
    policies: &[WatchPolicy],
    publish: Publish,
    proven: channel::Sender<bool>,
    mut phase: channel::Receiver<Phase>,
) {
    let (report, mut events) = mpsc::channel(EVENT_QUEUE);
    // Dropped at the end of this function, and all watching tasks with it.
    let _tasks = watch::start(&watched(&fleet.view()), policies, &report);
    drop(report);
    loop {
        if !*proven.borrow() && fleet.is_proven() {
            // Nobody may be listening any more: then nobody needs to know.
            let _ = proven.send(true);
        }
        tokio::select! {
            biased;
            () = Phase::Stopping.reached(&mut phase) => return,
            event = events.recv() => match event {
                Some(event) => take_in(&mut fleet, event, &publish),
                // No pool is watched: the picture stays as it is until the end.
                None => break,
            },
        }
    }
    Phase::Stopping.reached(&mut phase).await;
}

fn watched(view: &View) -> Vec<Watched> {
    let pools = view.pools.iter().enumerate();
    pools.flat_map(|(pool, state)| Watched::all_of(pool, state)).collect()
}

/// Applies one event; publishes a new view if requests could notice, and tells people if they would want to know.
fn take_in(fleet: &mut Fleet, event: Event, publish: &Publish) {
    let change = match fleet.apply(event, SystemTime::now()) {
        Applied::Nothing => return,
        Applied::Moved => None,
        Applied::Changed(change) => Some(change),
    };
    let next = fleet.view();
    let revision = next.revision;
    let pool = change.as_ref().map(|change| next.pools[change.pool].pool.name.clone());
    publish(Arc::new(next));
    if let (Some(change), Some(pool)) = (change, pool) {
        change.backend.probes.transitions.bump();
        tell(&change, &pool, revision);
    }
}

fn tell(change: &Change, pool: &str, revision: u64) {
    let Change { backend, from, to, reason, .. } = change;
    let (backend, from, to) = (&*backend.name, from.word(), to.word());
    if change.to == Standing::Serving {
        tracing::info!(pool, backend, from, to, %reason, revision, "backend changed");
    } else {
        tracing::warn!(pool, backend, from, to, %reason, revision, "backend changed");
    }
}
