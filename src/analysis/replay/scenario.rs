//! One cell of the grid: a pool as it is to be, and what is supposed about requests and caches.
//!
//! Owns values, and the check that events are about backends that are there. Plays nothing.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{CacheSize, Deed, Event, ReplayError, SECOND};
use crate::{
    fleet::{MemberPolicy, PoolPlan, Thresholds},
    limits::REPLAY_CACHED,
    proxy::choose::Rules,
};

/// How long a request is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// As the trace tells, where it does.
    pub as_recorded: bool,
    /// Otherwise so long, in nanoseconds; with a cache, if it hits.
    pub hit: u64,
    /// So long if the cache misses.
    pub miss: u64,
}

/// What tells a cell from the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Virtual nodes per unit of weight.
    pub replicas: u32,
    /// No backend has more than this times the mean in flight. 0: no bound.
    pub factor: f64,
    /// Up to so many requests in flight that bound does not act.
    pub floor: u32,
    /// How many backends there are.
    pub backends: usize,
    /// Seconds in which a backend that comes back takes its keys.
    pub ramp: f64,
    /// Weights, as they were given.
    pub weights: String,
    /// What a backend's cache holds, as it was given. `off`: there is none.
    pub cache: String,
}

impl Settings {
    /// The names of the dimensions, in the order of [`texts`](Self::texts).
    pub const NAMES: [&'static str; 7] =
        ["replicas", "factor", "floor", "backends", "ramp", "weights", "cache"];

    /// All of them as people write them.
    pub fn texts(&self) -> [String; 7] {
        let factor = if self.factor == 0.0 { "off".to_owned() } else { self.factor.to_string() };
        let ramp = humantime::format_duration(Duration::from_secs_f64(self.ramp)).to_string();
        [
            self.replicas.to_string(),
            factor,
            self.floor.to_string(),
            self.backends.to_string(),
            ramp,
            self.weights.clone(),
            self.cache.clone(),
        ]
    }
}

/// All that a replay needs beside the trace.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What tells it from the others.
    pub settings: Settings,
    /// The pool.
    pub plan: PoolPlan,
    /// What a request may do.
    pub rules: Rules,
    /// What each backend's cache holds.
    pub cache: Option<CacheSize>,
    /// Objects in one cache at most.
    pub cached_most: usize,
    /// How long a request is in flight.
    pub service: Service,
    /// What happens, in order of time.
    pub events: Vec<Event>,
    /// The width of a window, in nanoseconds, before it has to be doubled.
    pub window: u64,
    /// How far before and after an event hits are counted, in nanoseconds.
    pub around: u64,
}

impl Scenario {
    /// A pool with what is usual for the rest.
    pub fn new(mut plan: PoolPlan, rules: Rules) -> Scenario {
        // Every backend is up unless an event says otherwise: a probe's result is what an event makes of it, and no request fails.
        plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
        (plan.passive.share, plan.passive.flaps) = (0.0, 0);
        // Latency is supposed here, and not caused by load: a bound that follows it would follow nothing.
        plan.load.adaptive = false;
        plan.min_backends = 0;
        let settings = Settings {
            replicas: plan.replicas,
            factor: plan.load.factor,
            floor: plan.load.floor,
            backends: plan.members.len(),
            ramp: plan.ramp.as_secs_f64(),
            weights: "as configured".to_owned(),
            cache: "off".to_owned(),
        };
        let service = Service { as_recorded: true, hit: 20_000_000, miss: 20_000_000 };
        let (window, around) = (SECOND, 10 * SECOND);
        Scenario {
            settings,
            plan,
            rules,
            cache: None,
            cached_most: REPLAY_CACHED as usize,
            service,
            events: vec![],
            window,
            around,
        }
    }

    /// Virtual nodes of its ring.
    pub fn nodes(&self) -> u64 {
        self.plan.members.iter().map(|member| member.weight.nodes(self.plan.replicas)).sum()
    }

    /// Whether each event is about a backend that is there then.
    pub(super) fn check_events(&self) -> Result<(), ReplayError> {
        let mut there: BTreeMap<&str, ()> =
            self.plan.members.iter().map(|member| (&*member.name, ())).collect();
        for event in &self.events {
            let name = &*event.backend;
            match (event.deed, there.contains_key(name)) {
                (Deed::Add(_), true) => {
                    return Err(ReplayError::ThereAlready { event: event.to_string() });
                }
                (Deed::Add(_), false) => drop(there.insert(name, ())),
                (_, false) => {
                    let there = names(there.keys());
                    return Err(ReplayError::NotThere { event: event.to_string(), there });
                }
                (Deed::Remove, true) => drop(there.remove(name)),
                (_, true) => {}
            }
        }
        Ok(())
    }
}

/// Who is there, for people.
pub(super) fn names(names: impl ExactSizeIterator<Item = impl fmt::Display>) -> String {
    const SHOWN: usize = 12;
    let more = names.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = names.take(SHOWN).map(|name| name.to_string()).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    match shown.is_empty() {
        true => "there is nobody".to_owned(),
        false => format!("there are {}", shown.join(", ")),
    }
}

/// The names of members, in the order of the configuration.
pub(super) fn member_names(members: &[MemberPolicy]) -> String {
    names(members.iter().map(|member| &member.name))
}
