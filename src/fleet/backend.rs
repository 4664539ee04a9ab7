//! A backend and a pool as things with an identity, and the cells in which the workers count about them.
//!
//! Owns what never changes about them. What changes (addresses, health) stands in the view.

use std::sync::Arc;

use super::{Address, MemberPolicy};
use crate::{
    ring::Weight,
    tally::{BackendCells, PoolCells, ProbeCells},
};

/// A backend.
#[derive(Debug)]
pub struct Backend {
    /// Its number: unique in this process, dense, never used again for another backend.
    pub id: usize,
    /// Its name: what the ring hashes and what people see.
    pub name: Arc<str>,
    /// Where it is, as configured.
    pub address: Address,
    /// Its weight.
    pub weight: Weight,
    cells: Box<[BackendCells]>,
    /// What the control task counts about it.
    pub probes: ProbeCells,
}

impl Backend {
    pub(super) fn new(id: usize, policy: MemberPolicy, workers: usize) -> Backend {
        let MemberPolicy { name, address, weight } = policy;
        let cells = (0..workers).map(|_| BackendCells::default()).collect();
        Backend { id, name, address, weight, cells, probes: ProbeCells::default() }
    }

    /// The cells that this worker writes.
    pub fn cells(&self, worker: usize) -> &BackendCells {
        &self.cells[worker]
    }

    /// The sum over all workers of what `cell` picks.
    pub fn sum(&self, cell: impl Fn(&BackendCells) -> u64) -> u64 {
        self.cells.iter().map(cell).sum()
    }

    /// Connections through to this backend that have changed to another protocol and are open.
    pub fn upgraded(&self) -> u64 {
        let ended = self.sum(|cells| cells.upgrades_ended.get());
        self.sum(|cells| cells.upgrades.get()).saturating_sub(ended)
    }

    /// Requests under way at this backend, over all workers.
    pub fn in_flight(&self) -> u64 {
        // Ended is read first: read the other way round, a request that ends in between would make it negative.
        let ended = self.sum(|cells| cells.ended.get());
        self.sum(|cells| cells.begun.get()).saturating_sub(ended)
    }
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    cells: Box<[PoolCells]>,
}

impl Pool {
    pub(super) fn new(name: Arc<str>, workers: usize) -> Pool {
        Pool { name, cells: (0..workers).map(|_| PoolCells::default()).collect() }
    }

    /// The cells that this worker writes.
    pub fn cells(&self, worker: usize) -> &PoolCells {
        &self.cells[worker]
    }

    /// All workers' cells.
    pub fn all_cells(&self) -> &[PoolCells] {
        &self.cells
    }
}
