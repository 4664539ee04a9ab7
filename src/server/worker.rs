//! A worker: one thread, one runtime, and everything that its connections need, shared with nobody.
//!
//! Owns its connections' tasks and their end. Never probes, never answers an operator.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Waker,
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::watch;

use super::{
    ClientPolicy, Doorway, Phase,
    accept::{Accepted, Entrance},
    admission::Permit,
    connection,
    gate::Gate,
    handshakes::Handshakes,
};
use crate::{io::Stream, limits::SWEEP, proxy::Gateway, threads};

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<()>,
}

/// What the connections of a worker share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) gateway: Gateway,
    pub(super) policy: Arc<ClientPolicy>,
    /// What each listener does with a connection.
    pub(super) doorways: Arc<[Doorway]>,
    /// The TLS handshakes under way.
    pub(super) handshakes: Handshakes,
    /// Which requests begin, and when.
    pub(super) gate: Gate,
    /// When draining began.
    pub(super) draining_since: Cell<Option<Instant>>,
    /// Who must be woken when it does: the connections, which may all be idle.
    sleepers: RefCell<HashMap<u64, Waker>>,
    guests: Cell<u64>,
}

impl House {
    /// Whether what comes from there begins with the PROXY protocol.
    pub(super) fn begins_with_preface(&self, listener: usize, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.doorways[listener].preface_from.iter().any(|network| network.contains(&peer))
    }

    /// A number for a connection.
    pub(super) fn check_in(&self) -> u64 {
        let number = self.guests.get();
        self.guests.set(number + 1);
        number
    }

    /// Has this task woken when draining begins.
    pub(super) fn wake_when_draining(&self, number: u64, waker: &Waker) {
        self.sleepers.borrow_mut().insert(number, waker.clone());
    }

    /// The connection is over.
    pub(super) fn check_out(&self, number: u64) {
        self.sleepers.borrow_mut().remove(&number);
    }

    fn drain(&self) {
        if self.draining_since.get().is_none() {
            self.draining_since.set(Some(Instant::now()));
            self.gateway.draining.set(true);
            for waker in self.sleepers.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }
}

impl Worker {
    /// Starts worker number `number`. `gateway` is made on its thread, where it stays, together with a token that is
    /// dropped when the thread ends. Connections come in through the entrance.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start<T: Send + 'static>(
        number: usize,
        gateway: impl FnOnce() -> (Gateway, T) + Send + 'static,
        policy: Arc<ClientPolicy>,
        doorways: Arc<[Doorway]>,
        phase: watch::Receiver<Phase>,
        entrance: Entrance,
    ) -> io::Result<Worker> {
        let thread = threads::with_runtime(format!("ringway-work-{number}"), move |runtime| {
            let (gateway, _alive) = gateway();
            let house = Rc::new(House {
                gateway,
                policy,
                doorways,
                handshakes: Handshakes::default(),
                gate: Gate::default(),
                draining_since: Cell::new(None),
                sleepers: RefCell::default(),
                guests: Cell::new(0),
            });
            let lines = house.clone();
            runtime.spawn_local(async move { lines.gateway.hand_access_lines_over().await });
            let keeper = house.clone();
            runtime.spawn_local(async move { keeper.gate.keep().await });
            runtime.block_on(run(&house, entrance, phase));
            house.gateway.upstreams.close_all();
        })?;
        Ok(Worker { thread })
    }

    /// Waits for its end: when it drains and its last connection is closed, or when it is told to stop.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

async fn run(house: &Rc<House>, entrance: Entrance, mut phase: watch::Receiver<Phase>) {
    let (mut arrivals, load) = entrance.open(house);
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut open = true;
    loop {
        let now = *phase.borrow_and_update();
        if now >= Phase::Draining {
            house.drain();
        }
        if now == Phase::Stopping || (!open && load.load(Relaxed) == 0) {
            return;
        }
        tokio::select! {
            accepted = arrivals.recv(), if open => match accepted {
                Some(accepted) => take_in(house, accepted),
                // No worker accepts any more.
                None => open = false,
            },
            changed = phase.changed() => if changed.is_err() { return },
            () = connection_ended(open) => {}
            _ = sweep.tick() => house.gateway.sweep(),
        }
    }
}

/// While draining, the end of the last connection is looked for often.
async fn connection_ended(open: bool) {
    if open {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
}

/// A connection that another worker has accepted.
fn take_in(house: &Rc<House>, accepted: Accepted) {
    let Accepted { stream, peer, permit } = accepted;
    match stream.attach() {
        Ok(stream) => admit(house, stream, peer, permit),
        Err(error) => tracing::warn!(%error, "a connection can't be watched"),
    }
}

/// Serves a connection, from now on.
pub(super) fn admit(house: &Rc<House>, stream: Stream, peer: IpAddr, permit: Permit) {
    let house = house.clone();
    tokio::task::spawn_local(async move {
        connection::serve(house, stream, peer, permit).await;
    });
}
