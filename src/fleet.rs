//! The one truth about pools and backends, and the pictures of it that requests read.
//!
//! Owns membership, addresses and health, and changes them in one place: [`Fleet::apply`] for what happens, [`Fleet::adopt`] and
//! [`Fleet::obey`] for what people want, [`Fleet::tick`] for what time does. Pure: no sockets, no tasks, no clock of its own. Never
//! decides for a request: that is [`crate::proxy`], on a [`View`].

mod address;
mod away;
mod backend;
mod change;
mod health;
mod limiter;
mod load;
mod member;
mod order;
mod policy;
mod ramp;
mod view;
mod window;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

pub use address::{Address, AddressError};
pub(crate) use address::{host_name_fault, read_socket_path};
pub use backend::{Backend, Pool};
pub use change::{Moved, Prepared, Reconfigured, Unchanged};
pub use health::{Health, Outcome, Thresholds};
pub use load::{Bound, Busy, KeptSlot, LoadCells, Room, Slot};
pub use order::{Order, Orders};
pub use policy::{LoadPolicy, MemberPolicy, OnAllDown, PassivePolicy, PoolPlan};
pub use ramp::{Ramp, Turn};
pub use view::{MemberView, PoolView, Standing, Tier, Trust, View};

use self::member::MemberState;
use crate::{
    endpoint::Endpoint,
    ring::{MemberIndex, Ring},
    tally::MoveCause,
};

/// A moment on both clocks: one that nobody sets, for measuring, and one for people.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For how long something lasts.
    pub instant: Instant,
    /// For when something was.
    pub wall: SystemTime,
}

/// Something that happened to a backend.
#[derive(Clone, Debug)]
pub struct Event {
    /// The backend's [`Backend::id`]. Events about those that are gone are ignored.
    pub backend: usize,
    /// What happened.
    pub fact: Fact,
}

/// What can happen to a backend.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A probe ended.
    Probed(Outcome),
    /// Its host name was resolved, to at least one address.
    Resolved(Arc<[Endpoint]>),
    /// Its host name could not be resolved. The addresses known so far stay in use.
    NotResolved(String),
    /// As many requests as it takes have failed in a row.
    Struck {
        /// How many.
        failures: u32,
        /// How the last one ended.
        last: &'static str,
    },
    /// The requests of its trial have succeeded.
    TrialPassed,
}

/// A change of a backend's standing, for the log and the metrics.
#[derive(Clone, Debug)]
pub struct Change {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// Standing before.
    pub from: Standing,
    /// Standing now.
    pub to: Standing,
    /// Why, in a sentence.
    pub reason: Arc<str>,
}

/// What [`Fleet::apply`] did.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Nothing that a request could notice.
    Nothing,
    /// A new view must be published; the backend stands as it stood.
    Moved,
    /// A new view must be published, and somebody told.
    Changed(Change),
}

/// All pools and backends.
#[derive(Debug)]
pub struct Fleet {
    pools: Vec<PoolState>,
    orders: Arc<Orders>,
    /// By [`Backend::id`], where it stands. `None`: it is gone.
    places: Vec<Option<(usize, usize)>>,
    pool_ids: usize,
    workers: usize,
    revision: u64,
    /// The first configuration is in force: from then on what comes joins what is there.
    is_running: bool,
}

#[derive(Debug)]
struct PoolState {
    pool: Arc<Pool>,
    ring: Arc<Ring>,
    turn: Option<Turn>,
    /// The ring that the configuration alone would make. `None`: it is the ring.
    configured: Option<Arc<Ring>>,
    plan: PoolPlan,
    members: Vec<MemberState>,
}

impl Fleet {
    /// Builds the rings. Every backend begins unproven where there are health checks, and serving where there are none. What operators
    /// ordered before the process began is in force from the start.
    ///
    /// # Errors
    /// A pool's ring can't be built.
    pub fn new(
        plans: Vec<PoolPlan>,
        orders: Orders,
        workers: usize,
        now: Moment,
    ) -> Result<Fleet, Unchanged> {
        let mut fleet = Fleet {
            pools: Vec::new(),
            orders: Arc::new(orders),
            places: Vec::new(),
            pool_ids: 0,
            workers,
            revision: 0,
            is_running: false,
        };
        let prepared = fleet.prepare(plans)?;
        fleet.adopt(prepared, now);
        Ok(fleet)
    }

    /// Takes in what happened at `now`.
    pub fn apply(&mut self, event: Event, now: Moment) -> Applied {
        let Some((pool, member)) = self.places.get(event.backend).copied().flatten() else {
            return Applied::Nothing;
        };
        let state = &mut self.pools[pool];
        let could_eject = matches!(
            (&event.fact, state.members[member].health),
            (Fact::Struck { .. }, _) | (Fact::Probed(Outcome::Pass), Health::Down { .. })
        );
        let may_eject = could_eject && state.weighing().leaves_enough(state, member);
        let share = state.share(member);
        let PoolState { pool, plan, members, .. } = state;
        let member = &mut members[member];
        let before = member.standing();
        let mut moved = false;
        match event.fact {
            Fact::Probed(outcome) => moved = member.probed(&outcome, plan, may_eject, now),
            Fact::Resolved(addresses) => moved = member.resolved(addresses),
            Fact::NotResolved(error) => member.not_resolved(&error),
            // A failure from a trial that is over, or from before a change of the configuration: it counts in the row, and is no row.
            Fact::Struck { failures, .. } if !member.is_enough(failures, &plan.passive) => {}
            Fact::Struck { failures, last } => {
                // An answer that counts as a failure is one by its status.
                let last = if last == "answered" { "its status" } else { last };
                let why = match failures {
                    1 => format!("a request failed: {last}"),
                    _ => format!("{failures} requests in a row failed, the last: {last}"),
                };
                if !member.struck(&why, &plan.passive, may_eject, now.instant) {
                    member.backend.load.forget_strikes();
                }
            }
            Fact::TrialPassed => member.trial_passed(),
        }
        match changed((pool, share), member, before, plan, now) {
            Some(change) => {
                state.keep_one_whole(now.instant);
                Applied::Changed(change)
            }
            None if moved => Applied::Moved,
            None => Applied::Nothing,
        }
    }

    /// Takes in that time has passed. The changes, and whether a view must be published for them or for something else.
    pub fn tick(&mut self, now: Moment) -> (Vec<Change>, bool) {
        let (mut changes, mut moved) = (Vec::new(), false);
        for state in &mut self.pools {
            if state.turn.as_ref().is_some_and(|turn| turn.ramp.is_over(now.instant)) {
                // Those before it are over for its keys too.
                state.turn = None;
                moved = true;
            }
            let mut weighing = state.weighing();
            for index in 0..state.members.len() {
                let may_eject = weighing.leaves_enough(state, index);
                let share = state.share(index);
                let member = &mut state.members[index];
                let before = member.standing();
                moved |= member.tick(&state.plan, may_eject, now);
                if let Some(change) = changed((&state.pool, share), member, before, &state.plan, now) {
                    changes.push(change);
                    weighing = state.weighing();
                }
            }
            state.keep_one_whole(now.instant);
        }
        moved |= !changes.is_empty();
        (changes, moved)
    }

    /// The picture as it is now, under the next revision.
    pub fn view(&mut self) -> View {
        self.revision += 1;
        let pools = self.pools.iter().map(|state| {
            let members = state.members.iter().map(MemberState::view).collect();
            let PoolState { pool, ring, turn, configured, plan, .. } = state;
            let rings = (ring.clone(), turn.clone(), configured.clone());
            PoolView::new(pool.clone(), rings, members, &plan.load)
        });
        View::new(self.revision, pools.collect(), self.orders.clone())
    }

    /// Whether every backend has been looked up and, where there are health checks, has had its first result.
    pub fn is_proven(&self) -> bool {
        let mut members = self.pools.iter().flat_map(|pool| &pool.members);
        members.all(|member| member.looked_up && member.health != Health::Unproven)
    }

    /// All backends, by pool.
    pub fn backends(&self) -> impl Iterator<Item = (usize, &Arc<Backend>)> {
        self.found().map(|(pool, backend, _)| (pool, backend))
    }

    /// The same with the address that is used, where one is known.
    pub fn found(&self) -> impl Iterator<Item = (usize, &Arc<Backend>, Option<&Endpoint>)> {
        let pools = self.pools.iter().enumerate();
        pools.flat_map(|(pool, state)| {
            state.members.iter().map(move |member| (pool, &member.backend, member.addresses.first()))
        })
    }

    fn next_backend_id(&mut self) -> usize {
        self.places.push(None);
        self.places.len() - 1
    }

    fn next_pool_id(&mut self) -> usize {
        self.pool_ids += 1;
        self.pool_ids - 1
    }

    fn renumber(&mut self) {
        self.places.fill(None);
        for (pool, state) in self.pools.iter().enumerate() {
            for (index, member) in state.members.iter().enumerate() {
                self.places[member.backend.id] = Some((pool, index));
            }
        }
    }
}

/// How much of a pool is ejected, and how many serve.
#[derive(Clone, Copy, Debug)]
struct Weighing {
    all: f64,
    out: f64,
    serving: usize,
}

impl PoolState {
    /// Who serves with nobody beside it that has all of its keys has nobody to spare it, and takes all of them at once. Otherwise the keys
    /// that have moved to nobody yet would go to whoever comes next, and come back later.
    fn keep_one_whole(&mut self, now: Instant) {
        let serves = |member: &MemberState| member.standing() == Standing::Serving;
        if self.members.iter().any(|member| serves(member) && member.ramp.is_none()) {
            return;
        }
        let far = |member: &MemberState| member.ramp.map_or(1.0, |ramp| ramp.progress(now));
        let serving = self.members.iter_mut().filter(|member| serves(member));
        if let Some(member) = serving.max_by(|a, b| far(a).total_cmp(&far(b))) {
            member.ramp = None;
        }
    }

    /// The share of the keys that a member owns: members have the order of the ring's.
    fn share(&self, member: usize) -> f64 {
        self.ring.share(MemberIndex(member as u32))
    }

    fn weighing(&self) -> Weighing {
        let mut weighing = Weighing { all: 0.0, out: 0.0, serving: 0 };
        for member in &self.members {
            let weight = member.weight().millionths() as f64;
            weighing.all += weight;
            weighing.out += if member.trust == Trust::Whole { 0.0 } else { weight };
            weighing.serving += usize::from(member.standing() == Standing::Serving);
        }
        weighing
    }
}

impl Weighing {
    /// Whether this member may be ejected: not if nobody else serves, and not if too much of the pool is out already.
    fn leaves_enough(self, state: &PoolState, index: usize) -> bool {
        let member = &state.members[index];
        let serves = member.standing() == Standing::Serving;
        let is_new = member.trust == Trust::Whole;
        let out = self.out + if is_new { member.weight().millionths() as f64 } else { 0.0 };
        self.serving > usize::from(serves) && out <= state.plan.passive.max_ejected * self.all
    }
}

/// What follows from a change that was made to a member with this share of the keys.
fn changed(
    (pool, share): (&Pool, f64),
    member: &mut MemberState,
    from: Standing,
    plan: &PoolPlan,
    now: Moment,
) -> Option<Change> {
    let to = member.standing();
    if to == from {
        return None;
    }
    member.settle(from, plan, now);
    // Who serves for the first time has its keys from whatever brought it.
    let is_known = !matches!(from, Standing::Unproven | Standing::Unresolved);
    if is_known && (from == Standing::Serving) != (to == Standing::Serving) {
        pool.keys_moved(MoveCause::Standing, share);
    }
    let (backend, reason) = (member.backend.clone(), member.reason.clone());
    Some(Change { pool: pool.name.clone(), backend, from, to, reason })
}

#[cfg(test)]
mod tests;
