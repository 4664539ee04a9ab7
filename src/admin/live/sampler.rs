//! Takes samples: reads the cells, and tells rates by what they were at the last time.
//!
//! Owns what was read last, by pool and backend. What has gone is forgotten. Writes nothing that others read.

use std::{
    collections::HashMap,
    sync::atomic::Ordering::Relaxed,
    time::{Instant, SystemTime},
};

use super::{
    super::State,
    sample::{BackendSample, PoolSample, Sample, Totals},
    window::{Counts, Window, quantile},
};
use crate::{
    fleet::{MemberView, PoolView},
    server::Phase,
    tally::{BackendCells, Class, OffOwner, PoolCells, Refusal, WorkerCells},
};

/// What was read at the last time.
pub(in super::super) struct Sampler {
    at: Instant,
    number: u64,
    pools: HashMap<usize, PoolBefore>,
    backends: HashMap<usize, BackendBefore>,
    unrouted: Ends,
}

struct PoolBefore {
    number: u64,
    ends: Ends,
    off_owner: [u64; OffOwner::ALL.len()],
    repeats: u64,
    unanswered: Window,
}

struct BackendBefore {
    number: u64,
    ends: Ends,
    first_byte: Window,
}

/// Requests that have ended, and those of them that are errors.
#[derive(Clone, Copy, Default)]
struct Ends {
    requests: u64,
    errors: u64,
}

impl Ends {
    fn of(count: impl Fn(Class) -> u64) -> Ends {
        let requests = Class::ALL.iter().map(|&class| count(class)).sum();
        Ends { requests, errors: count(Class::ServerError) + count(Class::Truncated) }
    }

    /// Per second since an earlier time.
    fn rates(self, before: Ends, seconds: f64) -> (f64, f64) {
        (rate(self.requests, before.requests, seconds), rate(self.errors, before.errors, seconds))
    }
}

fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

impl Sampler {
    /// Knows nothing yet.
    pub(super) fn new() -> Sampler {
        let at = Instant::now();
        Sampler { at, number: 0, pools: HashMap::new(), backends: HashMap::new(), unrouted: Ends::default() }
    }

    /// Takes one.
    pub(super) fn take(&mut self, state: &State) -> Sample {
        let view = state.pictures.load().view.clone();
        let (now, time) = (Instant::now(), SystemTime::now());
        let seconds = (now - self.at).as_secs_f64().max(1e-3);
        (self.at, self.number) = (now, self.number + 1);
        let pools: Box<[PoolSample]> = view.pools.iter().map(|pool| self.pool(pool, now, seconds)).collect();
        let number = self.number;
        self.pools.retain(|_, before| before.number == number);
        self.backends.retain(|_, before| before.number == number);

        let sources = state.metrics.sources();
        let unrouted = unrouted(&sources.workers);
        let (requests, errors) = unrouted.rates(std::mem::replace(&mut self.unrouted, unrouted), seconds);
        let mut totals = Totals { requests, errors, ..Totals::default() };
        for pool in &pools {
            totals.requests += pool.requests;
            totals.errors += pool.errors;
            totals.in_flight += pool.in_flight;
            totals.off_owner += pool.off_owner.iter().sum::<f64>();
            totals.spill += pool.spill();
            totals.repeats += pool.repeats;
        }
        totals.connections =
            (sources.listeners)().iter().map(|listener| listener.cells.open.load(Relaxed)).sum();
        let phase = *state.phase.borrow();
        let is_ready = phase == Phase::Serving && *state.proven.borrow();
        let can_change = state.in_force.load().token.is_some();
        Sample::new(view, time, seconds, (phase, is_ready, can_change), totals, pools)
    }

    fn pool(&mut self, view: &PoolView, now: Instant, seconds: f64) -> PoolSample {
        let cells = view.pool.all_cells();
        let sum = |cell: &dyn Fn(&PoolCells) -> u64| -> u64 { cells.iter().map(cell).sum() };
        let off_owner = std::array::from_fn(|at| sum(&|cells| cells.off_owner.at(at).get()));
        let repeats = sum(&|cells| cells.repeats.sum());
        let ends = Ends::of(|class| sum(&|cells| cells.unanswered.at(class as usize).get()));
        let unanswered: Counts =
            cells.iter().fold(Counts::default(), |all, cells| added(all, cells.first_byte.read().0));
        let number = self.number;
        let before = self.pools.entry(view.pool.id).or_insert_with(|| PoolBefore {
            number,
            ends: Ends::default(),
            off_owner: Default::default(),
            repeats: 0,
            unanswered: Window::since(Counts::default()),
        });
        before.number = number;
        before.unanswered.look(unanswered);
        let mut first_byte = before.unanswered.counts();
        let (mut requests, mut errors) = ends.rates(std::mem::replace(&mut before.ends, ends), seconds);
        let off_owner_before = std::mem::replace(&mut before.off_owner, off_owner);
        let repeats = rate(repeats, std::mem::replace(&mut before.repeats, repeats), seconds);
        let mut in_flight = 0;
        let members = view.members.iter().map(|member| {
            let backend = self.backend(member, now, seconds, &mut first_byte);
            requests += backend.requests;
            errors += backend.errors;
            in_flight += backend.in_flight;
            backend
        });
        let backends = members.collect();
        PoolSample {
            requests,
            errors,
            in_flight,
            off_owner: std::array::from_fn(|at| rate(off_owner[at], off_owner_before[at], seconds)),
            repeats,
            p50: quantile(&first_byte, 0.5),
            p99: quantile(&first_byte, 0.99),
            ramp: view.turn.as_ref().map(|turn| turn.ramp.progress(now)),
            backends,
        }
    }

    fn backend(
        &mut self,
        member: &MemberView,
        now: Instant,
        seconds: f64,
        all: &mut Counts,
    ) -> BackendSample {
        let backend = &member.backend;
        let requests = |cells: &BackendCells, class| cells.requests.at(class as usize).get();
        let ends = Ends::of(|class| backend.sum(|cells| requests(cells, class)));
        let number = self.number;
        let before = self.backends.entry(backend.id).or_insert_with(|| BackendBefore {
            number,
            ends: Ends::default(),
            first_byte: Window::since(Counts::default()),
        });
        before.number = number;
        before.first_byte.look(backend.first_byte().0);
        let first_byte = before.first_byte.counts();
        *all = added(*all, first_byte);
        let (requests, errors) = ends.rates(std::mem::replace(&mut before.ends, ends), seconds);
        BackendSample {
            requests,
            errors,
            in_flight: backend.in_flight(),
            limit: backend.load.limit(),
            waiting: backend.load.waiting(),
            p50: quantile(&first_byte, 0.5),
            p99: quantile(&first_byte, 0.99),
            ramp: member.ramp.map(|ramp| ramp.progress(now)),
        }
    }
}

fn added(mut all: Counts, more: Counts) -> Counts {
    all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
    all
}

/// Answers of our own before a pool was known.
fn unrouted(workers: &[std::sync::Arc<WorkerCells>]) -> Ends {
    let mut ends = Ends::default();
    for (at, refusal) in Refusal::ALL.iter().enumerate() {
        let count: u64 = workers.iter().map(|cells| cells.refusals.at(at).get()).sum();
        ends.requests += count;
        if Class::of(refusal.status()) == Class::ServerError {
            ends.errors += count;
        }
    }
    ends
}
