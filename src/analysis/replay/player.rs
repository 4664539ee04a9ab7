//! One scenario, played: requests come, are given to backends by the proxy's own code, and end.
//!
//! Owns virtual time, requests in flight and the caches. Judges nothing: what happened goes to `count`.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    Arrival, Event, Lru, Outcome, ReplayError, SECOND, Scenario,
    count::{Counts, Had},
    stage::{Reel, Stage},
};
use crate::{
    fleet::{Moment, PoolView, Slot},
    limits::REPLAY_IN_FLIGHT,
    proxy::choose::{Candidates, Next, Rules},
    ring::MemberIndex,
    tally::OffOwner,
};

/// A request that was given to a backend, just after it was.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// The request.
    pub arrival: &'a Arrival,
    /// The pool as it is.
    pub pool: &'a PoolView,
    /// Its key's owner.
    pub owner: Option<MemberIndex>,
    /// The backend.
    pub chosen: MemberIndex,
    /// Why it is not at the owner.
    pub off_owner: Option<OffOwner>,
    /// The backend's cache had it.
    pub hit: bool,
    /// How long it takes, in nanoseconds.
    pub took: u64,
}

/// Sees every request that is given to a backend.
pub trait Watcher {
    /// One was.
    fn admitted(&mut self, admitted: Admitted<'_>);
}

impl Watcher for () {
    fn admitted(&mut self, _: Admitted<'_>) {}
}

/// Plays one scenario, with somebody who watches.
///
/// # Errors
/// Why it can't be played, or not to its end.
pub fn play_one(
    scenario: &Scenario,
    epoch: Moment,
    trace: impl Iterator<Item = Arrival>,
    watcher: &mut impl Watcher,
) -> Result<Outcome, ReplayError> {
    let (stage, reel) = open(scenario, epoch)?;
    let mut player = Player::new(scenario, stage, &reel);
    for arrival in trace {
        player.arrive(&arrival, watcher)?;
    }
    player.finish()
}

/// The scenario's pool, before the first request.
pub(super) fn open(scenario: &Scenario, epoch: Moment) -> Result<(Stage, Reel), ReplayError> {
    scenario.check_events()?;
    Stage::new(scenario, epoch)
}

/// A scenario under way.
#[derive(Debug)]
pub(super) struct Player<'v> {
    scenario: &'v Scenario,
    stage: Stage,
    reel: &'v Reel,
    rules: Rules,
    /// Events that have not happened yet.
    events: &'v [Event],
    next_tick: Option<u64>,
    /// When requests end, and where their places are kept.
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    slots: Vec<Option<Slot<'v>>>,
    free: Vec<u32>,
    /// By backend's number.
    caches: Vec<Option<Lru>>,
    counts: Counts,
}

impl<'v> Player<'v> {
    pub(super) fn new(scenario: &'v Scenario, stage: Stage, reel: &'v Reel) -> Player<'v> {
        Player {
            scenario,
            stage,
            reel,
            rules: scenario.rules,
            events: &scenario.events,
            next_tick: None,
            ends: BinaryHeap::new(),
            slots: vec![],
            free: vec![],
            caches: vec![],
            counts: Counts::new(&reel.pool, scenario.cache.is_some(), scenario.window, scenario.around),
        }
    }

    /// A request comes.
    pub(super) fn arrive(
        &mut self,
        arrival: &Arrival,
        watcher: &mut impl Watcher,
    ) -> Result<(), ReplayError> {
        self.pass_until(arrival.at)?;
        self.counts.came(arrival.at);
        let pool = &self.reel.pool;
        let now = self.stage.instant(arrival.at);
        let mut candidates = Candidates::new(pool, arrival.place, now, self.rules);
        let Next::Try(chosen, slot) = candidates.next_backend() else {
            self.counts.refused();
            return Ok(());
        };
        let off_owner = candidates.off_owner(chosen);
        pool.pool.cells(0).slots_begun.bump();
        let backend = &pool.member(chosen).backend;
        let hit = self.ask_cache(backend.id, arrival);
        let cells = backend.cells(0);
        // A ramp that goes by hits reads them here.
        if hit { &cells.hits } else { &cells.misses }.bump();
        let service = &self.scenario.service;
        let supposed = if hit || self.scenario.cache.is_none() { service.hit } else { service.miss };
        let took = arrival.took.filter(|_| service.as_recorded).unwrap_or(supposed);
        let in_flight = backend.load.in_flight();
        let had = Had {
            at: arrival.at,
            place: arrival.place,
            backend: backend.id,
            off_owner,
            hit,
            took,
            in_flight,
        };
        self.counts.had(had);
        watcher.admitted(Admitted { arrival, pool, owner: candidates.owner(), chosen, off_owner, hit, took });
        self.begin(arrival.at, took, slot)
    }

    /// All requests have come.
    pub(super) fn finish(mut self) -> Result<Outcome, ReplayError> {
        self.slots.clear();
        Ok(self.counts.outcome(self.scenario.settings.clone()))
    }

    fn begin(&mut self, at: u64, took: u64, slot: Slot<'v>) -> Result<(), ReplayError> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.slots.len() >= REPLAY_IN_FLIGHT => {
                return Err(ReplayError::TooManyInFlight { at: at / SECOND, most: REPLAY_IN_FLIGHT });
            }
            None => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        self.slots[place as usize] = Some(slot);
        self.ends.push(Reverse((at.saturating_add(took), place)));
        Ok(())
    }

    fn ask_cache(&mut self, backend: usize, arrival: &Arrival) -> bool {
        let Some(size) = self.scenario.cache else { return false };
        if self.caches.len() <= backend {
            self.caches.resize_with(backend + 1, || None);
        }
        let cache = self.caches[backend].get_or_insert_with(|| Lru::new(size, self.scenario.cached_most));
        cache.ask(arrival.object, arrival.bytes)
    }

    /// Lets all happen that is due by `at`, in order of time.
    fn pass_until(&mut self, at: u64) -> Result<(), ReplayError> {
        loop {
            let event = self.events.first().map_or(u64::MAX, |event| event.at);
            let tick = self.next_tick.unwrap_or(u64::MAX);
            let due = event.min(tick);
            if due > at {
                break;
            }
            self.end_until(due);
            if event <= tick {
                self.happen()?;
            } else if let Some(pool) = self.stage.tick(tick) {
                self.turn(pool);
            }
            self.next_tick = Stage::next_tick(&self.reel.pool, due);
        }
        self.end_until(at);
        Ok(())
    }

    fn happen(&mut self) -> Result<(), ReplayError> {
        let Some((event, rest)) = self.events.split_first() else { return Ok(()) };
        self.events = rest;
        let before = &self.reel.pool;
        let after = self.stage.happen(event)?;
        self.counts.changed(event, before, &after)?;
        // What is down has lost its cache, and what is gone needs none.
        let serves = |id: usize| {
            let member = after.members.iter().find(|member| member.backend.id == id);
            member.is_some_and(|member| member.standing != crate::fleet::Standing::Down)
        };
        for (id, cache) in self.caches.iter_mut().enumerate() {
            if !serves(id) {
                *cache = None;
            }
        }
        self.turn(after);
        Ok(())
    }

    fn turn(&mut self, pool: PoolView) {
        self.reel = self.reel.followed_by(pool);
        self.counts.turn(&self.reel.pool);
    }

    /// Ends requests that are over by `at`. One that ends when another comes is not in its way.
    fn end_until(&mut self, at: u64) {
        while let Some(&Reverse((end, place))) = self.ends.peek()
            && end <= at
        {
            self.ends.pop();
            self.slots[place as usize] = None;
            self.free.push(place);
            self.reel.pool.pool.cells(0).slots_ended.bump();
        }
    }
}
