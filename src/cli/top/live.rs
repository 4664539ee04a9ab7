//! `/api/live` and `/api/live/history` as this command reads them.
//!
//! Owns what is taken from there, and nothing that is drawn. Fields that a proxy of another version has more are ignored; of those that it does
//! not have, a name alone is needed.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

/// One sample. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Live {
    pub(super) time: String,
    pub(super) version: String,
    pub(super) revision: u64,
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) can_change: bool,
    pub(super) totals: Totals,
    pub(super) pools: Vec<Pool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) in_flight: u64,
    pub(super) off_owner_per_second: f64,
    pub(super) spill_per_second: f64,
    pub(super) repeats_per_second: f64,
    pub(super) connections: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) serving: usize,
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) in_flight: u64,
    pub(super) off_owner_per_second: HashMap<String, f64>,
    pub(super) spill_per_second: f64,
    pub(super) repeats_per_second: f64,
    pub(super) first_byte_p50: Option<f64>,
    pub(super) first_byte_p99: Option<f64>,
    pub(super) ramp: Option<f64>,
    pub(super) backends: Vec<Backend>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) share: f64,
    pub(super) weight: String,
    pub(super) configured_weight: String,
    pub(super) order: String,
    pub(super) standing: String,
    pub(super) since: String,
    pub(super) reason: String,
    pub(super) in_flight: u64,
    pub(super) limit: Option<u32>,
    pub(super) waiting: u32,
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) first_byte_p50: Option<f64>,
    pub(super) first_byte_p99: Option<f64>,
    pub(super) ramp: Option<f64>,
}

/// The samples before.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    pub(super) totals: Columns,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Columns {
    pub(super) requests_per_second: Vec<f64>,
    pub(super) errors_per_second: Vec<f64>,
    pub(super) spill_per_second: Vec<f64>,
}

impl Live {
    /// When it was taken, by the proxy's clock.
    pub(super) fn at(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(&self.time).ok()
    }

    /// The time of day of that, in UTC.
    pub(super) fn clock(&self) -> &str {
        super::news::clock_of(&self.time)
    }

    /// How long ago that was when the sample was taken.
    pub(super) fn since(&self, time: &str) -> Option<Duration> {
        let then = humantime::parse_rfc3339(time).ok()?;
        Some(self.at()?.duration_since(then).unwrap_or_default())
    }
}

impl Pool {
    /// Requests that did not go to their key's owner.
    pub(super) fn off_owner(&self) -> f64 {
        self.off_owner_per_second.values().sum()
    }
}

impl Backend {
    /// Whether it takes its part of the requests.
    pub(super) fn is_serving(&self) -> bool {
        self.standing == "serving"
    }
}
