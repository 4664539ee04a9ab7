//! Who may connect: the bounds on open connections, in all and for each client address.
//!
//! Owns the counts. A connection holds a [`Permit`]; dropping it is the only way out of the count.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::tally::{ListenerCells, Rejected};

/// The counts of one process.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    max_per_address: Option<usize>,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    listeners: Arc<[ListenerCells]>,
}

/// One connection's place in the counts.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    listener: usize,
    /// `None`: it is not counted by address.
    address: Option<IpAddr>,
    /// The connections of the worker that serves it.
    load: Arc<AtomicUsize>,
}

impl Admission {
    /// Bounds, and where connections are counted for each listener.
    pub fn new(max: usize, max_per_address: Option<usize>, listeners: Arc<[ListenerCells]>) -> Admission {
        Admission { max, max_per_address, open: AtomicUsize::new(0), by_address: Mutex::default(), listeners }
    }

    /// Takes a connection into the counts, and into the load of a worker. `address`: `None` if that is not known yet, or counts
    /// for nothing.
    ///
    /// # Errors
    /// Which bound it would break. It has been counted as rejected.
    pub fn admit(
        self: &Arc<Self>,
        listener: usize,
        address: Option<IpAddr>,
        load: &Arc<AtomicUsize>,
    ) -> Result<Permit, Rejected> {
        // Counted first: all workers accept, and between a look and a count another could come in.
        if self.open.fetch_add(1, Relaxed) >= self.max {
            self.open.fetch_sub(1, Relaxed);
            self.reject(listener, Rejected::Full);
            return Err(Rejected::Full);
        }
        if let Some(address) = address
            && let Err(full) = self.count(listener, address)
        {
            self.open.fetch_sub(1, Relaxed);
            return Err(full);
        }
        let address = address.map(|address| address.to_canonical());
        load.fetch_add(1, Relaxed);
        self.listeners[listener].accepted.fetch_add(1, Relaxed);
        self.listeners[listener].open.fetch_add(1, Relaxed);
        Ok(Permit { admission: self.clone(), listener, address, load: load.clone() })
    }

    fn count(&self, listener: usize, address: IpAddr) -> Result<(), Rejected> {
        let Some(max) = self.max_per_address else { return Ok(()) };
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address.to_canonical()).or_insert(0);
        if *count >= max {
            drop(by_address);
            self.reject(listener, Rejected::AddressFull);
            return Err(Rejected::AddressFull);
        }
        *count += 1;
        Ok(())
    }

    /// Counts a connection that was turned away.
    pub fn reject(&self, listener: usize, reason: Rejected) {
        self.listeners[listener].rejected[reason as usize].fetch_add(1, Relaxed);
    }
}

impl Permit {
    /// The client's address has become known: from now on it counts.
    ///
    /// # Errors
    /// It has as many connections as it may have. That has been counted as rejected.
    pub(super) fn count_address(&mut self, address: IpAddr) -> Result<(), Rejected> {
        if self.address.is_none() {
            self.admission.count(self.listener, address)?;
            self.address = Some(address.to_canonical());
        }
        Ok(())
    }

    /// Counts it as turned away after all.
    pub(super) fn reject(&self, reason: Rejected) {
        self.admission.reject(self.listener, reason);
    }

    /// The number of the listener that it came in by.
    pub(super) fn listener(&self) -> usize {
        self.listener
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Permit { admission, listener, address, load } = self;
        load.fetch_sub(1, Relaxed);
        admission.open.fetch_sub(1, Relaxed);
        admission.listeners[*listener].open.fetch_sub(1, Relaxed);
        if let (Some(_), Some(address)) = (admission.max_per_address, &*address) {
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
        let admission = Arc::new(Admission::new(2, Some(1), Arc::new([ListenerCells::default()])));
        let load = Arc::new(AtomicUsize::new(0));
        let admit = |text: &str| admission.admit(0, Some(text.parse().unwrap()), &load);
        let first = admit("10.0.0.1").unwrap();
        assert_eq!(admit("::ffff:10.0.0.1").unwrap_err(), Rejected::AddressFull);
        let second = admit("10.0.0.2").unwrap();
        assert_eq!(admit("10.0.0.3").unwrap_err(), Rejected::Full);
        drop(first);
        assert!(admit("10.0.0.1").is_ok());
        drop(second);
        assert_eq!((load.load(Relaxed), admission.open.load(Relaxed)), (0, 0));
        assert!(admission.by_address.lock().unwrap().is_empty());
    }
}
