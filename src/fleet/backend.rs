//! A backend and a pool as things with an identity, and the cells in which the workers count about them.
//!
//! Owns what never changes about them. What changes (addresses, weight, health) stands in the view.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{Ordering, fence},
};

use super::{Address, LoadCells, MemberView};
use crate::tally::{BackendCells, ByReason, Durations, MoveCause, PoolCells, ProbeCells, add};

/// Parts of the keyspace that a count of it is kept in.
const PARTS: f64 = 1e9;

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

    /// The time to the answer's head of the requests that it answered, over all workers.
    pub fn first_byte(&self) -> Durations {
        let mut all = Durations::default();
        self.cells.iter().for_each(|cells| add(&mut all, &cells.first_byte.read()));
        all
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
    /// Keyspace moved by [`MoveCause`], in billionths of all of it. Whoever changes the fleet counts.
    moved: ByReason<{ MoveCause::ALL.len() }>,
    departed: Mutex<Departed>,
}

/// Backends that have left a pool. What the pool counts as the sum over its backends must not go backwards when one leaves.
#[derive(Debug, Default)]
struct Departed {
    /// Those about which somebody may still count: requests of theirs are under way, or an older view is being read.
    held: Vec<Arc<Backend>>,
    /// What all others have counted.
    first_byte: Durations,
}

impl Departed {
    /// Lets go of those that nobody else knows any more: nothing is added to their counts.
    fn settle(&mut self) {
        let first_byte = &mut self.first_byte;
        self.held.retain(|backend| {
            let is_held = Arc::strong_count(backend) > 1;
            if !is_held {
                // What its last holder counted came before it let go.
                fence(Ordering::Acquire);
                add(first_byte, &backend.first_byte());
            }
            is_held
        });
    }
}

impl Pool {
    pub(super) fn new(id: usize, name: Arc<str>, workers: usize) -> Pool {
        let cells = (0..workers).map(|_| PoolCells::default()).collect();
        Pool { id, name, cells, moved: ByReason::default(), departed: Mutex::default() }
    }

    fn departed(&self) -> MutexGuard<'_, Departed> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend is no longer one of its. To be called before a view without it is seen by anybody.
    pub(super) fn leaves(&self, backend: Arc<Backend>) {
        let mut departed = self.departed();
        departed.held.push(backend);
        departed.settle();
    }

    /// The time to an answer's head, over all workers: at these backends, which are those of a view, at those that have left, and of the
    /// answers of our own.
    pub(super) fn first_byte(&self, members: &[MemberView]) -> Durations {
        let mut departed = self.departed();
        departed.settle();
        let mut all = departed.first_byte;
        // A view that was taken before one of them left has it among its members.
        let is_here = |other: &Arc<Backend>| members.iter().any(|member| member.backend.id == other.id);
        let held = departed.held.iter().filter(|other| !is_here(other));
        held.for_each(|backend| add(&mut all, &backend.first_byte()));
        members.iter().for_each(|member| add(&mut all, &member.backend.first_byte()));
        self.cells.iter().for_each(|cells| add(&mut all, &cells.first_byte.read()));
        all
    }

    /// The cells that this worker writes.
    pub fn cells(&self, worker: usize) -> &PoolCells {
        &self.cells[worker]
    }

    /// All workers' cells.
    pub fn all_cells(&self) -> &[PoolCells] {
        &self.cells
    }

    /// A share of its keys got another place to be, from 0 to 1.
    pub(super) fn keys_moved(&self, cause: MoveCause, share: f64) {
        self.moved.at(cause as usize).add((share * PARTS).round() as u64);
    }

    /// How often the whole keyspace has moved for this cause: shares added up.
    pub fn moved_by(&self, cause: MoveCause) -> f64 {
        self.moved.at(cause as usize).get() as f64 / PARTS
    }

    /// Requests in flight at its backends, over all workers.
    pub fn in_flight(&self) -> u64 {
        // Ended is read first: read the other way round, a request that ends in between would make it negative.
        let ended: u64 = self.cells.iter().map(|cells| cells.slots_ended.get()).sum();
        let begun: u64 = self.cells.iter().map(|cells| cells.slots_begun.get()).sum();
        begun.saturating_sub(ended)
    }
}
