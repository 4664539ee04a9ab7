//! Who may connect: the bounds on open connections, in all and for each client address.
//!
//! Owns the counts and the bounds, which can be replaced while connections are open. A connection holds a [`Permit`]; dropping it is the only way out of the count.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::site::{Doorway, Site};
use crate::{limits::DESCRIPTORS_KEPT, tally::Rejected};

/// The counts of one process.
#[derive(Debug)]
pub(super) struct Admission {
    max: AtomicUsize,
    /// `usize::MAX`: no bound.
    max_per_address: AtomicUsize,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place in the counts.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    site: Arc<Site>,
    /// What the listener did with connections when this one came.
    doorway: Arc<Doorway>,
    /// `None`: it is not counted by address.
    address: Option<IpAddr>,
    /// The connections of the worker that serves it.
    load: Arc<AtomicUsize>,
}

impl Admission {
    /// Bounds in all, and for each address.
    pub(super) fn new(max: usize, max_per_address: Option<usize>) -> Admission {
        let admission = Admission {
            max: AtomicUsize::new(0),
            max_per_address: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        };
        admission.bound(max, max_per_address);
        admission
    }

    /// As many connections as the process has descriptors for, if that is less than is allowed: the last quarter is kept for connections to
    /// backends, probes, the admin listener and files, which must go on when clients have taken all the rest.
    pub(super) fn affordable(max: usize) -> usize {
        let Ok((limit, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else { return max };
        let most = usize::try_from(limit - limit / DESCRIPTORS_KEPT).unwrap_or(usize::MAX);
        if most < max {
            tracing::info!(
                descriptors = limit,
                max_connections = max,
                bound = most,
                "fewer connections than configured: the limit of open files is too low"
            );
        }
        most.min(max)
    }

    /// Other bounds from now on. Connections that are open stay, and those that came while there was no bound for an address do not
    /// count for theirs.
    pub(super) fn bound(&self, max: usize, max_per_address: Option<usize>) {
        self.max.store(max, Relaxed);
        self.max_per_address.store(max_per_address.unwrap_or(usize::MAX), Relaxed);
    }

    /// Takes a connection into the counts, and into the load of a worker. `address`: `None` if that is not known yet, or counts
    /// for nothing.
    ///
    /// # Errors
    /// Which bound it would break. It has been counted as rejected.
    pub(super) fn admit(
        self: &Arc<Self>,
        site: &Arc<Site>,
        doorway: Arc<Doorway>,
        address: Option<IpAddr>,
        load: &Arc<AtomicUsize>,
    ) -> Result<Permit, Rejected> {
        // Counted first: all workers accept, and between a look and a count another could come in.
        if self.open.fetch_add(1, Relaxed) >= self.max.load(Relaxed) {
            self.open.fetch_sub(1, Relaxed);
            reject(site, Rejected::Full);
            return Err(Rejected::Full);
        }
        let counted = match address.map(|address| self.count(site, address)).transpose() {
            Ok(counted) => counted.flatten(),
            Err(full) => {
                self.open.fetch_sub(1, Relaxed);
                return Err(full);
            }
        };
        load.fetch_add(1, Relaxed);
        site.cells.accepted.fetch_add(1, Relaxed);
        site.cells.open.fetch_add(1, Relaxed);
        Ok(Permit {
            admission: self.clone(),
            site: site.clone(),
            doorway,
            address: counted,
            load: load.clone(),
        })
    }

    /// The address as it was counted. `None`: there is no bound.
    fn count(&self, site: &Site, address: IpAddr) -> Result<Option<IpAddr>, Rejected> {
        let max = self.max_per_address.load(Relaxed);
        if max == usize::MAX {
            return Ok(None);
        }
        let address = address.to_canonical();
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= max {
            drop(by_address);
            reject(site, Rejected::AddressFull);
            return Err(Rejected::AddressFull);
        }
        *count += 1;
        Ok(Some(address))
    }
}

/// Counts a connection that was turned away.
pub(super) fn reject(site: &Site, reason: Rejected) {
    site.cells.rejected[reason as usize].fetch_add(1, Relaxed);
}

impl Permit {
    /// The client's address has become known: from now on it counts.
    ///
    /// # Errors
    /// It has as many connections as it may have. That has been counted as rejected.
    pub(super) fn count_address(&mut self, address: IpAddr) -> Result<(), Rejected> {
        if self.address.is_none() {
            self.address = self.admission.count(&self.site, address)?;
        }
        Ok(())
    }

    /// Counts it as turned away after all.
    pub(super) fn reject(&self, reason: Rejected) {
        reject(&self.site, reason);
    }

    /// The listener that it came in by.
    pub(super) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// What the listener does with it.
    pub(super) fn doorway(&self) -> &Arc<Doorway> {
        &self.doorway
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permit { admission, site, address, load, .. } = self;
        load.fetch_sub(1, Relaxed);
        admission.open.fetch_sub(1, Relaxed);
        site.cells.open.fetch_sub(1, Relaxed);
        if let Some(address) = &*address {
            let mut by_address = admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_places_come_back() {
        let admission = Arc::new(Admission::new(2, Some(1)));
        let load = Arc::new(AtomicUsize::new(0));
        let site = crate::server::listen::tests::site();
        let admit = |text: &str| admission.admit(&site, site.doorway(), Some(text.parse().unwrap()), &load);
        let first = admit("10.0.0.1").unwrap();
        assert_eq!(admit("::ffff:10.0.0.1").unwrap_err(), Rejected::AddressFull);
        let second = admit("10.0.0.2").unwrap();
        assert_eq!(admit("10.0.0.3").unwrap_err(), Rejected::Full);
        drop(first);
        assert!(admit("10.0.0.1").is_ok());
        // Other bounds: who is there stays.
        admission.bound(1, None);
        assert_eq!(admit("10.0.0.4").unwrap_err(), Rejected::Full);
        admission.bound(3, None);
        let uncounted = [admit("10.0.0.2").unwrap(), admit("10.0.0.2").unwrap()];
        admission.bound(9, Some(1));
        assert_eq!(admit("10.0.0.2").unwrap_err(), Rejected::AddressFull);
        drop((second, uncounted));
        assert!(admit("10.0.0.2").is_ok());
        assert_eq!((load.load(Relaxed), admission.open.load(Relaxed)), (0, 0));
        assert!(admission.by_address.lock().unwrap().is_empty());
    }
}
