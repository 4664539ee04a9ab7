//! A listener while it is there: its sockets, what it does with a connection, and its end.
//!
//! Owns the sockets until it is closed; workers accept from copies. What it does with a connection can be replaced at any time: a
//! connection goes on with what it began with. Accepts nothing itself.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    ClientPolicy, Handed, Http2, ListenerPolicy,
    listen::{Door, Listener},
};
use crate::{endpoint::Endpoint, tally::ListenerCells, tls::ListenerTls};

/// What a listener does with a connection before and beside its requests.
#[derive(Debug)]
pub struct Doorway {
    /// What the operator chose.
    pub policy: ListenerPolicy,
    /// Its TLS, where it has it.
    pub tls: Option<Arc<ListenerTls>>,
}

impl Doorway {
    /// Whether what comes from there begins with the PROXY protocol.
    pub(super) fn begins_with_preface(&self, peer: std::net::IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.policy.preface_from.iter().any(|network| network.contains(&peer))
    }

    /// Where it sends its clients, if it does nothing else.
    pub(super) fn redirect(&self) -> Option<u16> {
        self.policy.redirect
    }

    /// Whether it speaks HTTP/2.
    pub(super) fn http2(&self) -> Http2 {
        self.policy.http2
    }
}

/// A listener that is there.
#[derive(Debug)]
pub struct Site {
    /// Where it listens, with the port that the kernel chose if 0 was asked for.
    pub address: Endpoint,
    /// What is counted about it.
    pub cells: Arc<ListenerCells>,
    doorway: ArcSwap<Doorway>,
    /// Empty once it is closed.
    doors: Mutex<Vec<Door>>,
    closed: watch::Sender<bool>,
}

/// What all workers serve.
#[derive(Debug)]
pub(super) struct Scene {
    /// The listeners, in the order of the configuration.
    pub(super) sites: Vec<Arc<Site>>,
    pub(super) client: Arc<ClientPolicy>,
}

impl Site {
    /// From bound sockets.
    pub(super) fn new(listener: Listener, doorway: Arc<Doorway>) -> Site {
        Site {
            address: listener.address,
            cells: Arc::default(),
            doorway: ArcSwap::new(doorway),
            doors: Mutex::new(listener.doors),
            closed: watch::Sender::new(false),
        }
    }

    /// What it does with a connection that comes now.
    pub fn doorway(&self) -> Arc<Doorway> {
        self.doorway.load_full()
    }

    /// New connections find this from now on.
    pub(super) fn change(&self, doorway: Arc<Doorway>) {
        self.doorway.store(doorway);
    }

    /// Copies of the sockets that worker `worker` of `workers` accepts from: none is left out, and none of the workers without.
    ///
    /// # Errors
    /// There are no descriptors for copies.
    pub(super) fn doors_of(&self, worker: usize, workers: usize) -> std::io::Result<Vec<Door>> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let count = doors.len();
        let is_ours = |at: usize| at % workers == worker || (worker >= count && at == worker % count);
        let ours = doors.iter().enumerate().filter(|(at, _)| is_ours(*at));
        ours.map(|(_, door)| door.copy()).collect()
    }

    /// Its sockets for another process.
    ///
    /// # Errors
    /// There are no descriptors for copies.
    pub(super) fn to_hand_over(&self) -> std::io::Result<Handed> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let doorway = self.doorway();
        let file = doors.iter().find_map(|door| match door {
            Door::Unix(_, file) => file.identity(),
            Door::Tcp(_) => None,
        });
        Ok(Handed {
            name: doorway.policy.name.clone(),
            asked: Some(doorway.policy.address.clone()),
            address: self.address.clone(),
            sockets: doors.iter().map(Door::to_hand_over).collect::<std::io::Result<_>>()?,
            file,
        })
    }

    /// This process answers there now: a Unix socket's file is its own.
    pub(super) fn claim(&self) {
        let mode = self.doorway().policy.mode;
        for door in &*self.doors.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Door::Unix(_, file) = door {
                file.claim(mode);
            }
        }
    }

    /// Another process has them now: a Unix socket's file is that one's.
    pub(super) fn give_away(&self) {
        for door in &*self.doors.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Door::Unix(_, file) = door {
                file.give_away();
            }
        }
    }

    /// Gives up its own sockets: from now on they end with the last worker that accepts from them.
    pub(super) fn let_go(&self) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends it: workers serve what waits, and accept no more.
    pub(super) fn close(&self) {
        self.let_go();
        self.closed.send_replace(true);
    }

    /// Whether it has been ended.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Tells of its end.
    pub(super) fn watch_end(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}
