//! A backend and a pool as things with an identity, and the cells in which the workers count about them.
//!
//! Owns what never changes about them. What changes (addresses, weight, health) stands in the view.

use std::sync::Arc;

use super::{Address, LoadCells};
use crate::tally::{BackendCells, PoolCells, ProbeCells};

/// A backend.
#[derive(Debug)]
pub struct Backend {
    /// Its number: unique in this process, dense, never used again for another backend.
    pub id: usize,
    /// Its name: what the ring hashes and what people see.
    pub name: Arc<str>,
    /// Where it is, as configured.
    pub address: Address,
    /// How it is reached, beside its address.
    pub(super) reached: Arc<str>,
    /// What all workers count about it together.
    pub load: LoadCells,
    cells: Box<[BackendCells]>,
    /// What the control task counts about it.
    pub probes: ProbeCells,
}

impl Backend {
    pub(super) fn new(
        id: usize,
        name: Arc<str>,
        address: Address,
        reached: Arc<str>,
        workers: usize,
    ) -> Backend {
        let cells = (0..workers).map(|_| BackendCells::default()).collect();
        let (load, probes) = (LoadCells::default(), ProbeCells::default());
        Backend { id, name, address, reached, load, cells, probes }
    }

    /// The cells that this worker writes.
    pub fn cells(&self, worker: usize) -> &BackendCells {
        &self.cells[worker]
    }

    /// The sum over all workers of what `cell` picks.
    pub fn sum(&self, cell: impl Fn(&BackendCells) -> u64) -> u64 {
        self.cells.iter().map(cell).sum()
    }

    /// Requests under way at this backend, over all workers.
    pub fn in_flight(&self) -> u64 {
        self.load.in_flight().into()
    }

    /// Connections through to this backend that have changed to another protocol and are open.
    pub fn upgraded(&self) -> u64 {
        let ended = self.sum(|cells| cells.upgrades_ended.get());
        self.sum(|cells| cells.upgrades.get()).saturating_sub(ended)
    }
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its number: unique in this process, dense, never used again for another pool.
    pub id: usize,
    /// Its name.
    pub name: Arc<str>,
    cells: Box<[PoolCells]>,
}

impl Pool {
    pub(super) fn new(id: usize, name: Arc<str>, workers: usize) -> Pool {
        Pool { id, name, cells: (0..workers).map(|_| PoolCells::default()).collect() }
    }

    /// The cells that this worker writes.
    pub fn cells(&self, worker: usize) -> &PoolCells {
        &self.cells[worker]
    }

    /// All workers' cells.
    pub fn all_cells(&self) -> &[PoolCells] {
        &self.cells
    }

    /// Requests in flight at its backends, over all workers.
    pub fn in_flight(&self) -> u64 {
        // Ended is read first: read the other way round, a request that ends in between would make it negative.
        let ended: u64 = self.cells.iter().map(|cells| cells.slots_ended.get()).sum();
        let begun: u64 = self.cells.iter().map(|cells| cells.slots_begun.get()).sum();
        begun.saturating_sub(ended)
    }
}
