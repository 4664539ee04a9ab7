//! All listeners together, and what is asked of their clients: what the process shows to the outside, and the way to change it while it
//! runs.
//!
//! Owns the list. A change is prepared first, which reads every file and binds every address, and may fail; taking it in can't. So a
//! change that fails has changed nothing. Never touches a connection: workers see a new scene and act on it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::{
    ClientPolicy, Entrance, Handed, ListenerPolicy, Phase,
    admission::Admission,
    handed::take_handed,
    listen::{Listener, set_mode},
    site::{Doorway, Scene, Site},
};
use crate::{
    endpoint::Endpoint,
    tls::{ListenerTls, TlsProblem, Upkeep},
};

/// The listeners that there are.
#[derive(Debug)]
pub struct Front {
    scene: watch::Sender<Arc<Scene>>,
    admission: Arc<Admission>,
    workers: usize,
    upkeep: Mutex<Upkeep>,
    /// Sockets from another process that nobody has asked for yet.
    handed: Mutex<Vec<Handed>>,
}

/// Why listeners can't be as asked.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// An address can't be bound.
    #[error("can't listen on {address} (listener {listener:?}): {error}{}", right_needed(address, error))]
    Bind {
        /// The listener.
        listener: String,
        /// The address.
        address: Endpoint,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A listener's certificates can't be used.
    #[error("listener {listener:?}: {problem}")]
    Tls {
        /// The listener.
        listener: String,
        /// What is wrong.
        problem: TlsProblem,
    },
}

/// What it takes to listen there, where that is more than anybody has.
pub fn right_needed(address: &Endpoint, error: &io::Error) -> &'static str {
    match address.socket() {
        Some(socket) if error.kind() == io::ErrorKind::PermissionDenied && socket.port() < 1024 => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// A change that can't fail any more. Dropped, it has never been.
#[derive(Debug)]
pub struct Prepared {
    places: Vec<(Arc<Site>, Arc<Doorway>)>,
    client: Arc<ClientPolicy>,
}

/// What a change came to, by the listeners' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Those that were not there before.
    pub opened: Vec<String>,
    /// Those that do something else with new connections.
    pub changed: Vec<String>,
    /// Those that are no more.
    pub closed: Vec<String>,
}

impl Front {
    /// Without listeners. Those that are asked for first go on with the sockets that were handed over for them.
    pub fn new(workers: usize, client: &ClientPolicy, handed: Vec<Handed>) -> Front {
        let scene = Scene { sites: vec![], client: Arc::new(client.clone()) };
        Front {
            scene: watch::Sender::new(Arc::new(scene)),
            admission: Arc::new(Admission::new(client.max_connections, client.max_connections_per_address)),
            workers,
            upkeep: Mutex::default(),
            handed: Mutex::new(handed),
        }
    }

    /// The sockets from another process that nobody has asked for.
    pub fn left_over(&self) -> Vec<Handed> {
        std::mem::take(&mut *self.handed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the workers come in by, one for each. They accept once all of `opening` have turned true.
    pub fn entrances(
        &self,
        opening: &[watch::Receiver<bool>],
        phase: &watch::Receiver<Phase>,
    ) -> Vec<Entrance> {
        Entrance::for_workers(self.workers, &self.scene.subscribe(), &self.admission, opening, phase)
    }

    /// The listeners, in the order of the configuration.
    pub fn sites(&self) -> Vec<Arc<Site>> {
        self.scene.borrow().sites.clone()
    }

    /// Reads the files and binds the addresses that a change needs. A listener whose address is asked for as before keeps its sockets.
    ///
    /// # Errors
    /// The first thing that is wrong. Nothing has been changed.
    pub fn prepare(
        &self,
        listeners: &[ListenerPolicy],
        client: &ClientPolicy,
    ) -> Result<Prepared, FrontError> {
        let mut present = self.sites();
        let mut plans = Vec::with_capacity(listeners.len());
        for policy in listeners {
            let kept = take_place(&mut present, policy);
            let doorway = doorway(policy, kept.as_deref())?;
            plans.push((kept, doorway));
        }
        let mut places = Vec::with_capacity(plans.len());
        for (kept, doorway) in plans {
            let site = match kept {
                Some(site) => site,
                None => Arc::new(self.bind(&doorway)?),
            };
            places.push((site, doorway));
        }
        Ok(Prepared { places, client: Arc::new(client.clone()) })
    }

    fn bind(&self, doorway: &Arc<Doorway>) -> Result<Site, FrontError> {
        let policy = &doorway.policy;
        let handed = take_handed(
            &mut self.handed.lock().unwrap_or_else(PoisonError::into_inner),
            &policy.name,
            &policy.address,
        );
        let bound = match handed {
            Some(handed) => Listener::adopt(handed, self.workers),
            None => Listener::bind(policy, self.workers),
        };
        let bound = bound.map_err(|error| FrontError::Bind {
            listener: policy.name.clone(),
            address: policy.address.clone(),
            error,
        })?;
        Ok(Site::new(bound, doorway.clone()))
    }

    /// Takes a change in. New connections find it at once, those that are open from their next request on. Those of a listener that is no
    /// more end with the request that they are at. One change at a time: what was prepared before another was taken in is stale.
    pub fn take_in(&self, prepared: Prepared) -> Changed {
        let Prepared { places, client } = prepared;
        let (mut changed, before) = (Changed::default(), self.sites());
        self.admission
            .bound(Admission::affordable(client.max_connections), client.max_connections_per_address);
        for (site, doorway) in &places {
            let (old, name) = (site.doorway(), doorway.policy.name.clone());
            if !before.iter().any(|present| Arc::ptr_eq(present, site)) {
                changed.opened.push(name);
            } else if old.policy != doorway.policy {
                if let Endpoint::Unix(path) = &site.address
                    && old.policy.mode != doorway.policy.mode
                    && let Err(error) = set_mode(path, doorway.policy.mode)
                {
                    tracing::error!(listener = name, %error, "the mode of the socket's file can't be changed");
                }
                site.change(doorway.clone());
                changed.changed.push(name);
            }
        }
        let sites: Vec<_> = places.into_iter().map(|(site, _)| site).collect();
        for gone in before.iter().filter(|site| !sites.iter().any(|stays| Arc::ptr_eq(site, stays))) {
            gone.close();
            changed.closed.push(gone.doorway().policy.name.clone());
        }
        self.scene.send_replace(Arc::new(Scene { sites, client }));
        if let Err(error) = self.keep_certificates() {
            tracing::error!(%error, "certificates are not kept up to date: no thread can be had");
        }
        changed
    }

    /// [`prepare`](Front::prepare) and [`take_in`](Front::take_in) in one.
    ///
    /// # Errors
    /// As the former.
    pub fn change(&self, listeners: &[ListenerPolicy], client: &ClientPolicy) -> Result<Changed, FrontError> {
        self.prepare(listeners, client).map(|prepared| self.take_in(prepared))
    }

    /// Follows the files of the certificates that there are now, and asks for those that come from an authority.
    fn keep_certificates(&self) -> io::Result<()> {
        let sites = self.sites();
        let of_one = |site: &Arc<Site>| {
            let doorway = site.doorway();
            Some((doorway.policy.name.clone(), doorway.tls.clone()?))
        };
        let listeners = sites.iter().filter_map(of_one).collect();
        self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).follow(listeners)
    }

    /// All sockets for another process.
    ///
    /// # Errors
    /// There are no descriptors for copies.
    pub fn to_hand_over(&self) -> io::Result<Vec<Handed>> {
        self.sites().iter().map(|site| site.to_hand_over()).collect()
    }

    /// This process has the charge of sockets that it was handed, and of what belongs to them. Before, nothing that it does may touch them: another
    /// one answers there, and goes on if this one fails.
    pub fn claim(&self) {
        self.sites().iter().for_each(|site| site.claim());
    }

    /// Another process has the sockets now, and what belongs to them.
    pub fn give_away(&self) {
        self.sites().iter().for_each(|site| site.give_away());
    }

    /// From now on the sockets end with the last worker that accepts from them.
    pub fn let_go(&self) {
        self.sites().iter().for_each(|site| site.let_go());
    }

    /// Ends what belongs to no worker, once they have ended.
    pub fn end(&self) {
        std::mem::take(&mut *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner)).end();
    }
}

/// The listener whose sockets this one goes on with: of the same name, if several were asked for in the same way.
fn take_place(present: &mut Vec<Arc<Site>>, policy: &ListenerPolicy) -> Option<Arc<Site>> {
    let is_there = |site: &Arc<Site>| site.doorway().policy.address == policy.address;
    let is_it = |site: &Arc<Site>| is_there(site) && site.doorway().policy.name == policy.name;
    let at = present.iter().position(is_it).or_else(|| present.iter().position(is_there))?;
    Some(present.remove(at))
}

/// What a listener does with connections from now on. TLS that stays as it was asked for goes on as it is.
fn doorway(policy: &ListenerPolicy, kept: Option<&Site>) -> Result<Arc<Doorway>, FrontError> {
    let old = kept.and_then(|site| site.doorway().tls.clone());
    let tls = match (&policy.tls, old) {
        (None, _) => None,
        (Some(asked), Some(old)) if old.is_as(asked) => Some(old),
        (Some(asked), old) => {
            let loaded = ListenerTls::load(asked.clone()).map(|new| match old {
                Some(old) => new.after(&old),
                None => new,
            });
            let loaded =
                loaded.map_err(|problem| FrontError::Tls { listener: policy.name.clone(), problem })?;
            Some(Arc::new(loaded))
        }
    };
    Ok(Arc::new(Doorway { policy: policy.clone(), tls }))
}
