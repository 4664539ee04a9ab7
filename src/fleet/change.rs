//! A change of the configuration, or of an operator's mind, while the proxy runs.
//!
//! Owns what stays: a pool is known by its name, a backend by its pool, its name and how it is reached. What stays keeps its counts,
//! its connections and all that is known about its health. Nothing is changed until all of it is known to be possible.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Backend, Fleet, Health, MemberPolicy, Moment, Order, Orders, Pool, PoolPlan, PoolState, Ramp, Turn,
    member::MemberState,
};
use crate::{
    ring::{Ring, RingError, Weight},
    tally::MoveCause,
};

/// Why a change of the configuration is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    /// A ring can't be built.
    #[error("pool {pool:?}: {error}")]
    Ring {
        /// The pool.
        pool: Arc<str>,
        /// Why not.
        error: RingError,
    },
    /// Too few backends would be left.
    #[error(
        "pool {pool:?} would have {left} of its backends left, and `min_backends` is {least}: change that first if it is meant"
    )]
    TooFew {
        /// The pool.
        pool: Arc<str>,
        /// Backends with a weight.
        left: usize,
        /// The least.
        least: usize,
    },
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconfigured {
    /// Backends that came, as `POOL/BACKEND`.
    pub added: Vec<String>,
    /// Backends that went.
    pub removed: Vec<String>,
    /// Backends whose address, weight or way of being reached changed.
    pub changed: Vec<String>,
    /// Pools whose keys move, with the share of them that does, from 0 to 1, and how long that takes.
    pub moved: Vec<Moved>,
}

/// Keys that move.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The pool.
    pub pool: Arc<str>,
    /// The share of its keys.
    pub share: f64,
    /// How long it takes.
    pub within: Duration,
}

impl Reconfigured {
    /// The sum of all shares: of an order, the share of its pool's keys.
    pub fn share_moved(&self) -> f64 {
        // The sum of no numbers at all is a negative zero, which people would see.
        self.moved.iter().fold(0.0, |sum, moved| sum + moved.share)
    }
}

/// Pools as they are to be, with their rings.
#[derive(Debug)]
pub struct Prepared(Vec<(PoolPlan, Ring)>);

/// Changes of a ring that can be under way one after the other. A further one ends the oldest.
const TURNS: usize = 4;

/// The longest that a change of a ring takes, whatever its budget.
const LONGEST_TURN: Duration = Duration::from_secs(24 * 3600);

impl Fleet {
    /// Does all of a change that can fail, and changes nothing.
    ///
    /// # Errors
    /// Why the pools can't be as they are to be.
    pub fn prepare(&self, plans: Vec<PoolPlan>) -> Result<Prepared, Unchanged> {
        let mut pools = Vec::with_capacity(plans.len());
        for plan in plans {
            let members =
                plan.members.iter().map(|member| (member.name.clone(), self.weight_of(&plan, member)));
            // Operators' orders do not count: what they have drained is meant.
            let left = plan.members.iter().filter(|member| !member.weight.is_zero()).count();
            let ring = Ring::build(members, plan.replicas);
            let ring = ring.map_err(|error| Unchanged::Ring { pool: plan.name.clone(), error })?;
            if left < plan.min_backends && self.is_running {
                return Err(Unchanged::TooFew { pool: plan.name, left, least: plan.min_backends });
            }
            pools.push((plan, ring));
        }
        Ok(Prepared(pools))
    }

    /// Takes the pools as they were prepared. No order may have been obeyed in between.
    pub fn adopt(&mut self, Prepared(pools): Prepared, now: Moment) -> Reconfigured {
        let mut report = Reconfigured::default();
        let mut old: HashMap<Arc<str>, PoolState> =
            self.pools.drain(..).map(|state| (state.pool.name.clone(), state)).collect();
        for (plan, ring) in pools {
            let before = old.remove(&plan.name);
            let members = before.iter().flat_map(|state| &state.members);
            let had: Vec<_> = members.map(|member| member.backend.clone()).collect();
            let state = self.next_state(plan, ring, before, now, &mut report);
            had.into_iter()
                .filter(|backend| !state.has(backend))
                .for_each(|backend| state.pool.leaves(backend));
            self.pools.push(state);
        }
        for state in old.into_values() {
            report.removed.extend(state.members.iter().map(|member| full_name(&state.pool, &member.backend)));
        }
        for names in [&mut report.added, &mut report.removed, &mut report.changed] {
            names.sort();
        }
        self.renumber();
        self.is_running = true;
        report
    }

    /// Obeys an operator.
    ///
    /// # Errors
    /// There is no such pool or backend, or its ring can't be built.
    pub fn obey(
        &mut self,
        pool: &str,
        backend: &str,
        order: Order,
        now: Moment,
    ) -> Result<Reconfigured, String> {
        let at = self.pools.iter().position(|state| &*state.pool.name == pool);
        let at = at.ok_or_else(|| {
            let names: Vec<&str> = self.pools.iter().map(|state| &*state.pool.name).collect();
            format!("there is no pool {pool:?}; there are: {}", names.join(", "))
        })?;
        let state = &self.pools[at];
        let Some(index) = state.ring.index_of(backend) else {
            return match order {
                Order::None if self.forget(pool, backend) => Ok(Reconfigured::default()),
                _ => Err(format!("there is no backend {backend:?} in the pool {pool:?}")),
            };
        };
        let weight = |(i, member): (usize, &MemberState)| {
            let weight =
                if i == index.as_usize() { order.weight(member.configured) } else { member.weight() };
            (member.backend.name.clone(), weight)
        };
        let ring = Ring::build(state.members.iter().enumerate().map(weight), state.plan.replicas);
        let ring = ring.map_err(|error| error.to_string())?;
        let configured = state.configured_ring();
        let (pool, backend) = (state.pool.name.clone(), state.members[index.as_usize()].backend.name.clone());
        Arc::make_mut(&mut self.orders).set(&pool, &backend, order);
        let state = &mut self.pools[at];
        let member = &mut state.members[index.as_usize()];
        let before = member.standing();
        let mut report = Reconfigured::default();
        if member.order != order {
            report.changed.push(full_name(&state.pool, &member.backend));
        }
        member.order = order;
        if member.standing() != before {
            member.reason = match order {
                Order::Drain => "an operator drained it".into(),
                Order::None | Order::Weight(_) => "an operator gave it a weight".into(),
            };
        }
        member.settle(before, &state.plan, now);
        state.keep_one_whole(now.instant);
        if ring.fingerprint() != state.ring.fingerprint() {
            let old = std::mem::replace(&mut state.ring, Arc::new(ring));
            state.turn_from(&old, now, &mut report, MoveCause::Order);
        }
        state.configured = configured.filter(|_| !state.is_as_configured());
        Ok(report)
    }

    /// Takes an order back that is about a backend which is not there. Whether there was one.
    fn forget(&mut self, pool: &str, backend: &str) -> bool {
        let (pool, backend) = (pool.into(), backend.into());
        let was_there = self.orders.of(&pool, &backend) != Order::None;
        if was_there {
            Arc::make_mut(&mut self.orders).set(&pool, &backend, Order::None);
        }
        was_there
    }

    /// The orders in force, those about backends that are not there among them.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    fn weight_of(&self, plan: &PoolPlan, member: &MemberPolicy) -> Weight {
        self.orders.of(&plan.name, &member.name).weight(member.weight)
    }

    fn next_state(
        &mut self,
        plan: PoolPlan,
        ring: Ring,
        before: Option<PoolState>,
        now: Moment,
        report: &mut Reconfigured,
    ) -> PoolState {
        let joins = before.is_some();
        let (pool, old_ring, turn, old_members) = match before {
            Some(PoolState { pool, ring, turn, members, .. }) => (pool, Some(ring), turn, members),
            None => {
                let pool = Pool::new(self.next_pool_id(), plan.name.clone(), self.workers);
                (Arc::new(pool), None, None, vec![])
            }
        };
        let mut old: HashMap<Arc<str>, MemberState> =
            old_members.into_iter().map(|member| (member.backend.name.clone(), member)).collect();
        let mut policies: Vec<&MemberPolicy> = plan.members.iter().collect();
        policies.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let mut members = Vec::with_capacity(policies.len());
        for policy in policies {
            let order = self.orders.of(&plan.name, &policy.name);
            let known = old.remove(&policy.name);
            let name = format!("{}/{}", plan.name, policy.name);
            let is_same = |member: &MemberState| {
                member.backend.address == policy.address && member.backend.reached == plan.reached
            };
            match known {
                Some(mut member) if is_same(&member) => {
                    if member.configured != policy.weight {
                        report.changed.push(name);
                    }
                    member.keep(policy, &plan, now);
                    members.push(member);
                }
                known => {
                    match known {
                        Some(_) => report.changed.push(name),
                        None => report.added.push(name),
                    }
                    let predecessor = known.filter(|known| known.backend.address == policy.address);
                    let backend = Backend::new(
                        self.next_backend_id(),
                        policy.name.clone(),
                        policy.address.clone(),
                        plan.reached.clone(),
                        self.workers,
                    );
                    let mut member = MemberState::new(Arc::new(backend), policy, &plan, order, joins, now);
                    if let Some(known) = &predecessor {
                        member.inherit(known);
                    }
                    members.push(member);
                }
            }
        }
        report.removed.extend(old.values().map(|member| full_name(&pool, &member.backend)));
        let is_same_ring = old_ring.as_ref().is_some_and(|old| old.fingerprint() == ring.fingerprint());
        let ring = match &old_ring {
            Some(old) if is_same_ring => old.clone(),
            _ => Arc::new(ring),
        };
        let mut state = PoolState { pool, ring, turn, configured: None, plan, members };
        state.configured = if state.is_as_configured() { None } else { state.configured_ring() };
        if let Some(old) = old_ring.filter(|_| !is_same_ring) {
            state.turn_from(&old, now, report, MoveCause::Reload);
        }
        state.keep_one_whole(now.instant);
        state
    }
}

impl MemberState {
    /// It is where another one was that was reached in another way: what is known about that holds until something else is known. What
    /// requests said of it they said of that way, and is forgotten.
    fn inherit(&mut self, known: &MemberState) {
        (self.addresses, self.looked_up) = (known.addresses.clone(), known.looked_up);
        if self.health == Health::Unproven && known.health != Health::Unwatched {
            (self.health, self.health_reason) = (known.health, known.health_reason.clone());
        }
        if self.standing() == known.standing() {
            // Keys that have not moved to it yet do not move to it all at once.
            self.ramp = known.ramp;
            (self.since, self.reason) = (known.since, known.reason.clone());
        } else {
            self.reason = "it is reached in another way".into();
        }
    }

    /// It stays; what is asked of it may be new.
    fn keep(&mut self, policy: &MemberPolicy, plan: &PoolPlan, now: Moment) {
        let before = self.standing();
        self.configured = policy.weight;
        if !plan.load.adaptive {
            self.limiter = None;
            self.backend.load.set_limit(plan.load.max_in_flight);
        }
        match (plan.thresholds, self.health) {
            (None, Health::Unwatched) => {}
            (None, _) => {
                self.health = Health::Unwatched;
                self.health_reason = "there are no health checks".into();
            }
            // It has served without being watched: it goes on until a probe says otherwise.
            (Some(_), Health::Unwatched) => {
                self.health = Health::Up { misses: 0 };
                self.health_reason = "not probed yet".into();
            }
            (Some(_), _) => {}
        }
        if self.standing() != before {
            self.reason = "the configuration changed".into();
        }
        self.settle(before, plan, now);
    }
}

impl PoolState {
    fn has(&self, backend: &Backend) -> bool {
        let at = self.ring.index_of(&backend.name);
        at.is_some_and(|at| self.members[at.as_usize()].backend.id == backend.id)
    }

    /// Has the ring take the old one's place: at once, or key by key. What leaves takes its keys along at once.
    fn turn_from(&mut self, old: &Ring, now: Moment, report: &mut Reconfigured, cause: MoveCause) {
        let share = old.share_moved(&self.ring);
        self.pool.keys_moved(cause, share);
        let under_way = self.turn.take();
        let renew = |ring: &Arc<Ring>| self.of_present(ring);
        let earlier = under_way.and_then(|turn| turn.renewed(now.instant, TURNS, &renew));
        if share == 0.0 {
            // Only members without a place came or went: keys that are on their way stay on it.
            self.turn = earlier;
            return;
        }
        let leaving = self.share_of_leaving(old);
        let moving = (share - leaving).max(0.0);
        let left = moving + earlier.as_ref().map_or(0.0, |earlier| earlier.left(now.instant));
        let most = self.plan.max_moved_per_minute;
        let needed = if most > 0.0 { 60.0 * left / most } else { 0.0 };
        let needed = Duration::try_from_secs_f64(needed).unwrap_or(LONGEST_TURN).min(LONGEST_TURN);
        // A share so small is the rounding of places to a fraction.
        let is_more = moving > 1e-9;
        let within = if is_more { self.plan.ramp.max(needed) } else { Duration::ZERO };
        for (share, within) in [(leaving, Duration::ZERO), (moving, within)] {
            if share > 1e-9 {
                report.moved.push(Moved { pool: self.pool.name.clone(), share, within });
            }
        }
        if within.is_zero() {
            // Nothing is moved by this one beside what leaves: whatever was on its way stays so.
            self.turn = if is_more { None } else { earlier };
            return;
        }
        let ramp = Ramp { began: now.instant, length: within, steered: None };
        let earlier = earlier.map(|mut earlier| {
            if most > 0.0 {
                earlier.ends_within(within, now.instant);
            }
            Arc::new(earlier)
        });
        self.turn = self.of_present(old).map(|before| Turn { before, ramp, share: moving, earlier });
    }

    /// No operator's order makes another ring than the configuration's.
    fn is_as_configured(&self) -> bool {
        self.members.iter().all(|member| member.weight() == member.configured)
    }

    /// The ring of the weights in the configuration. It is built only where it is not known, as it is as large as the one in force.
    fn configured_ring(&self) -> Option<Arc<Ring>> {
        if self.configured.is_some() {
            return self.configured.clone();
        }
        if self.is_as_configured() {
            return (self.ring.node_count() > 0).then(|| self.ring.clone());
        }
        let members = self.members.iter().map(|member| (member.backend.name.clone(), member.configured));
        // An order may be what keeps the ring from being too large.
        let ring = Ring::build(members, self.plan.replicas).ok()?;
        (ring.node_count() > 0).then(|| Arc::new(ring))
    }

    /// The share of the keys whose owner has no place any more.
    fn share_of_leaving(&self, old: &Ring) -> f64 {
        let stays =
            |name: &str| self.ring.index_of(name).is_some_and(|at| !self.ring.member(at).weight.is_zero());
        let leaving = old.members().iter().zip(old.shares()).filter(|(member, _)| !stays(&member.name));
        leaving.map(|(_, share)| share).sum()
    }

    /// An old ring, over the members that there are now. `None`: none of them has a place on it.
    fn of_present(&self, old: &Ring) -> Option<Arc<Ring>> {
        let weight_before = |name: &str| old.index_of(name).map_or(Weight::ZERO, |at| old.member(at).weight);
        let names = self.members.iter().map(|member| &member.backend.name);
        // It has the nodes of a ring that there was, less some: it can't be too large.
        let ring = Ring::build(names.map(|name| (name.clone(), weight_before(name))), old.replicas()).ok()?;
        (ring.node_count() > 0).then(|| Arc::new(ring))
    }
}

fn full_name(pool: &Pool, backend: &Backend) -> String {
    format!("{}/{}", pool.name, backend.name)
}
