//! The pool of one scenario in virtual time: the fleet itself, told what events make of its backends.
//!
//! Owns the fleet and the views that it has shown. Requests in flight hold places at backends of views that are past, so all views of a replay stay
//! until its end. Knows no requests.

use std::{
    cell::OnceCell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Deed, Event, ReplayError, Scenario};
use crate::{
    fleet::{self, Fact, Fleet, MemberPolicy, Moment, Order, Orders, Outcome, PoolPlan, PoolView, Standing},
    limits::CONTROL_TICK,
    ring::{Ring, Weight},
};

/// Views in the order in which they came, each of which stays until all go.
#[derive(Debug)]
pub(super) struct Reel {
    pub(super) pool: PoolView,
    next: OnceCell<Box<Reel>>,
}

impl Reel {
    fn new(pool: PoolView) -> Reel {
        Reel { pool, next: OnceCell::new() }
    }

    /// The view that follows this one, which is the last so far.
    pub(super) fn followed_by(&self, pool: PoolView) -> &Reel {
        self.next.get_or_init(|| Box::new(Reel::new(pool)))
    }
}

impl Drop for Reel {
    /// One after the other: a long chain that drops itself is a deep stack.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut reel) = next {
            next = reel.next.take();
        }
    }
}

/// The fleet, and the time.
#[derive(Debug)]
pub(super) struct Stage {
    fleet: Fleet,
    plan: PoolPlan,
    epoch: Moment,
}

impl Stage {
    /// The pool with every backend serving, and its first view.
    pub(super) fn new(scenario: &Scenario, epoch: Moment) -> Result<(Stage, Reel), ReplayError> {
        let mut plan = scenario.plan.clone();
        if scenario.cache.is_none() {
            // Without caches there are no hits to go by.
            plan.ramp_hits = 0.0;
        }
        let fleet = Fleet::new(vec![plan.clone()], Orders::default(), 1, epoch);
        let fleet = fleet.map_err(|error| ReplayError::Fleet(error.to_string()))?;
        let mut stage = Stage { fleet, plan, epoch };
        let backends: Vec<usize> = stage.fleet.backends().map(|(_, backend)| backend.id).collect();
        for backend in backends {
            stage.fleet.apply(fleet::Event { backend, fact: Fact::Probed(Outcome::Pass) }, epoch);
        }
        let pool = stage.view();
        Ok((stage, Reel::new(pool)))
    }

    /// The moment on the fleet's clocks.
    pub(super) fn instant(&self, at: u64) -> Instant {
        self.epoch.instant + Duration::from_nanos(at)
    }

    fn moment(&self, at: u64) -> Moment {
        let passed = Duration::from_nanos(at);
        Moment { instant: self.epoch.instant + passed, wall: self.epoch.wall + passed }
    }

    fn view(&mut self) -> PoolView {
        let mut pools = self.fleet.view().pools.into_iter();
        pools.next().expect("the fleet was made with one pool")
    }

    /// Makes an event happen. The view after it.
    pub(super) fn happen(&mut self, event: &Event) -> Result<PoolView, ReplayError> {
        let now = self.moment(event.at);
        match event.deed {
            Deed::Down => self.probed(&event.backend, Outcome::fail("an event of the replay"), now),
            Deed::Up => self.probed(&event.backend, Outcome::Pass, now),
            Deed::Add(weight) => {
                let any = fleet::Address::Socket(([127, 0, 0, 1], 80).into());
                self.plan.members.push(MemberPolicy { name: event.backend.clone(), address: any, weight });
                self.adopt(now)?;
                self.probed(&event.backend, Outcome::Pass, now);
            }
            Deed::Remove => {
                self.plan.members.retain(|member| member.name != event.backend);
                self.adopt(now)?;
            }
            Deed::Weight(weight) => self.obey(&event.backend, Order::Weight(weight), now)?,
            Deed::Drain => self.obey(&event.backend, Order::Drain, now)?,
            Deed::Restore => self.obey(&event.backend, Order::None, now)?,
        }
        Ok(self.view())
    }

    /// Lets time do what it does. A view, if it did anything.
    pub(super) fn tick(&mut self, at: u64) -> Option<PoolView> {
        let (_, moved) = self.fleet.tick(self.moment(at));
        moved.then(|| self.view())
    }

    /// When to tick next, if keys are moving.
    pub(super) fn next_tick(pool: &PoolView, at: u64) -> Option<u64> {
        let moves = pool.turn.is_some() || pool.members.iter().any(|member| member.ramp.is_some());
        moves.then(|| at + CONTROL_TICK.as_nanos() as u64)
    }

    fn probed(&mut self, backend: &Arc<str>, outcome: Outcome, now: Moment) {
        let found = self.fleet.backends().find(|(_, known)| known.name == *backend);
        if let Some(backend) = found.map(|(_, known)| known.id) {
            self.fleet.apply(fleet::Event { backend, fact: Fact::Probed(outcome) }, now);
        }
    }

    fn adopt(&mut self, now: Moment) -> Result<(), ReplayError> {
        let prepared = self.fleet.prepare(vec![self.plan.clone()]);
        let prepared = prepared.map_err(|error| ReplayError::Fleet(error.to_string()))?;
        self.fleet.adopt(prepared, now);
        Ok(())
    }

    fn obey(&mut self, backend: &str, order: Order, now: Moment) -> Result<(), ReplayError> {
        let obeyed = self.fleet.obey(&self.plan.name, backend, order, now);
        obeyed.map(drop).map_err(ReplayError::Fleet)
    }
}

/// Each member's part in the weight of those that serve, by its backend's number.
pub(super) fn fair_parts(pool: &PoolView) -> Vec<f64> {
    let most = pool.members.iter().map(|member| member.backend.id + 1).max().unwrap_or(0);
    let mut parts = vec![0.0; most];
    let serving = pool.members.iter().filter(|member| member.standing == Standing::Serving);
    let total: f64 = serving.clone().map(|member| member.weight.millionths() as f64).sum();
    for member in serving {
        parts[member.backend.id] = member.weight.millionths() as f64 / total;
    }
    parts
}

/// The ring of those that serve: where keys are when all have moved. Virtual nodes lie where the name puts them, whoever else is there, so it is the
/// pool's ring with the others passed over.
pub(super) fn serving_ring(pool: &PoolView) -> Result<Ring, ReplayError> {
    let weight = |serves: bool, weight: Weight| if serves { weight } else { Weight::ZERO };
    let members = pool.members.iter().map(|member| {
        (member.backend.name.clone(), weight(member.standing == Standing::Serving, member.weight))
    });
    Ring::build(members, pool.ring.replicas()).map_err(|error| ReplayError::Fleet(error.to_string()))
}
