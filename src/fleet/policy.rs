//! What an operator chooses about a pool's membership, health and load, as the fleet reads it.
//!
//! Owns values. Decides nothing.

use std::{fmt, sync::Arc, time::Duration};

use super::{Address, Thresholds};
use crate::ring::Weight;

/// One backend as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberPolicy {
    /// What the ring hashes: a backend keeps its keys when its address changes.
    pub name: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// Its share of the ring, relative to the others. 0: on no key's walk.
    pub weight: Weight,
}

/// What to do with requests when no backend of a pool is serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAllDown {
    /// 503 with `Retry-After`.
    Refuse,
    /// Go to the key's owner all the same: for pools whose health checks are less certain than their backends.
    TryAnyway,
}

impl fmt::Display for OnAllDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnAllDown::Refuse => "refuse",
            OnAllDown::TryAnyway => "try-anyway",
        })
    }
}

/// What requests tell about their backend.
#[derive(Clone, Debug, PartialEq)]
pub struct PassivePolicy {
    /// Failures in a row that eject a backend. 0: they do not.
    pub consecutive: u32,
    /// The share of failures in the window that ejects a backend, above 0 and up to 1. 0: none does.
    pub share: f64,
    /// Requests that the window must hold before the share counts.
    pub min_requests: u64,
    /// How far the window reaches back.
    pub window: Duration,
    /// How long the first ejection lasts. Each further one lasts twice as long as the one before, until the backend has
    /// behaved for as long as its last ejection lasted.
    pub ejection: Duration,
    /// The longest ejection.
    pub max_ejection: Duration,
    /// The share of the pool's weight that may be ejected at once.
    pub max_ejected: f64,
    /// Requests that must succeed before a backend that was ejected takes all of its keys again. 0: none.
    pub trial: u32,
    /// How often a backend may go down before its coming back is delayed as if it were ejected. 0: any number.
    pub flaps: u32,
}

impl Default for PassivePolicy {
    fn default() -> Self {
        PassivePolicy {
            consecutive: 5,
            share: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(300),
            max_ejected: 0.5,
            trial: 5,
            flaps: 3,
        }
    }
}

/// How much a backend is given at once.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadPolicy {
    /// No backend has more requests in flight than this times the weighted mean (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing
    /// with Bounded Loads", 2016). Above 1. 0: there is no such bound.
    pub factor: f64,
    /// Up to so many requests in flight the bound does not act.
    pub floor: u32,
    /// Requests in flight at one backend. `None`: no bound.
    pub max_in_flight: Option<u32>,
    /// A bound of each backend's own that follows its latency.
    pub adaptive: bool,
}

impl Default for LoadPolicy {
    fn default() -> Self {
        LoadPolicy { factor: 1.25, floor: 32, max_in_flight: None, adaptive: false }
    }
}

/// One pool, as the fleet needs it.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Virtual nodes per unit of weight.
    pub replicas: u32,
    /// Its backends.
    pub members: Vec<MemberPolicy>,
    /// How many results in a row change a backend's standing. `None`: there are no health checks.
    pub thresholds: Option<Thresholds>,
    /// What requests tell about backends.
    pub passive: PassivePolicy,
    /// How much a backend is given at once.
    pub load: LoadPolicy,
    /// How long a backend that is new, comes back or has another weight takes to get its keys. 0: it gets them at once.
    pub ramp: Duration,
    /// The share of hits among a returning backend's answers with which its ramp goes on, above 0. 0: it goes by time alone.
    pub ramp_hits: f64,
    /// How its backends are reached, in words that differ where that differs: connections of another kind are not used again.
    pub reached: Arc<str>,
    /// A change of the configuration that leaves fewer backends with a weight is refused.
    pub min_backends: usize,
    /// The share of the keys that a change of the configuration may move in a minute; it takes longer if it moves more. 0: no bound.
    pub max_moved_per_minute: f64,
}

impl PoolPlan {
    /// A pool without health checks, with defaults for the rest.
    pub fn new(name: &str, replicas: u32, members: Vec<MemberPolicy>) -> PoolPlan {
        PoolPlan {
            name: name.into(),
            replicas,
            members,
            thresholds: None,
            passive: PassivePolicy::default(),
            load: LoadPolicy::default(),
            ramp: Duration::ZERO,
            ramp_hits: 0.0,
            reached: "".into(),
            min_backends: 0,
            max_moved_per_minute: 0.0,
        }
    }
}
