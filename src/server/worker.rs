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
    ClientPolicy, Phase,
    accept::{Accepted, Entrance, Reception},
    admission::Permit,
    connection,
    gate::Gate,
    handshakes::Handshakes,
    site::{Scene, Site},
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
    policy: RefCell<Rc<ClientPolicy>>,
    /// The listeners that it has connections from, or accepts from.
    rooms: RefCell<Vec<Rc<Room>>>,
    /// The TLS handshakes under way.
    pub(super) handshakes: Handshakes,
    /// Which requests begin, and when.
    pub(super) gate: Gate,
    /// When draining began.
    draining_since: Cell<Option<Instant>>,
    /// Who must be woken when it does, or when a listener is closed: the connections, which may all be idle.
    sleepers: RefCell<HashMap<u64, Waker>>,
    guests: Cell<u64>,
}

/// A listener, as one worker's connections see it.
#[derive(Debug)]
pub(super) struct Room {
    site: Arc<Site>,
    is_attended: Cell<bool>,
    /// Since when its connections are to end: the listener is closed, or the proxy drains.
    pub(super) leaving: Cell<Option<Instant>>,
}

impl House {
    fn new(gateway: Gateway, policy: &ClientPolicy) -> House {
        House {
            gateway,
            policy: RefCell::new(Rc::new(policy.clone())),
            rooms: RefCell::default(),
            handshakes: Handshakes::default(),
            gate: Gate::default(),
            draining_since: Cell::new(None),
            sleepers: RefCell::default(),
            guests: Cell::new(0),
        }
    }

    /// What is asked of clients now.
    pub(super) fn policy(&self) -> Rc<ClientPolicy> {
        self.policy.borrow().clone()
    }

    /// What this worker knows of a listener.
    pub(super) fn room(&self, site: &Arc<Site>) -> Rc<Room> {
        let mut rooms = self.rooms.borrow_mut();
        if let Some(room) = rooms.iter().find(|room| Arc::ptr_eq(&room.site, site)) {
            return room.clone();
        }
        let since = self.draining_since.get().or_else(|| site.is_closed().then(Instant::now));
        let room = Room { site: site.clone(), is_attended: Cell::new(false), leaving: Cell::new(since) };
        let room = Rc::new(room);
        rooms.push(room.clone());
        room
    }

    /// A number for a connection.
    pub(super) fn check_in(&self) -> u64 {
        let number = self.guests.get();
        self.guests.set(number + 1);
        number
    }

    /// Has this task woken when draining begins, or a listener is closed.
    pub(super) fn wake_when_leaving(&self, number: u64, waker: &Waker) {
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
            self.leave(|_| true);
        }
    }

    /// The connections of these rooms are to end.
    fn leave(&self, which: impl Fn(&Room) -> bool) {
        let rooms = self.rooms.borrow();
        let mut is_any = false;
        for room in rooms.iter().filter(|room| room.leaving.get().is_none() && which(room)) {
            room.leaving.set(Some(Instant::now()));
            is_any = true;
        }
        if is_any {
            self.sleepers.borrow().values().for_each(Waker::wake_by_ref);
        }
    }

    /// Takes in which listeners there are, and what is asked of clients.
    fn take_in_scene(self: &Rc<Self>, scene: &Scene, reception: &Reception) {
        self.policy.replace(Rc::new((*scene.client).clone()));
        for site in &scene.sites {
            if !self.room(site).is_attended.replace(true) {
                reception.attend(site, self);
            }
        }
        self.leave(|room| room.site.is_closed());
        self.rooms.borrow_mut().retain(|room| !room.site.is_closed() || Rc::strong_count(room) > 1);
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
        phase: watch::Receiver<Phase>,
        entrance: Entrance,
    ) -> io::Result<Worker> {
        let thread = threads::with_runtime(format!("ringway-work-{number}"), move |runtime| {
            let (gateway, _alive) = gateway();
            let policy = entrance.scene.borrow().client.clone();
            let house = Rc::new(House::new(gateway, &policy));
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
    let Entrance { mut arrivals, mut scene, reception } = entrance;
    let load = reception.load();
    // Whoever accepts holds one, and so does whoever may yet begin to.
    let mut reception = Some(reception);
    scene.mark_changed();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut open = true;
    loop {
        let now = *phase.borrow_and_update();
        if now >= Phase::Draining {
            house.drain();
            reception = None;
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
            changed = scene.changed(), if reception.is_some() => match (changed, &reception) {
                (Ok(()), Some(reception)) => {
                    let scene = scene.borrow_and_update().clone();
                    house.take_in_scene(&scene, reception);
                }
                _ => reception = None,
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
