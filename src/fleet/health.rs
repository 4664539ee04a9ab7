//! A backend's health as a state machine over the results of its probes.
//!
//! Owns what the next state is. Knows neither probes nor time.

use std::sync::Arc;

/// How many results in a row change a standing. Each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passes until a backend that is down is up.
    pub rise: u32,
    /// Failures until a backend that is up is down.
    pub fall: u32,
}

/// How one probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the pool's policy wants.
    Pass,
    /// Otherwise, and why.
    Fail(Arc<str>),
}

impl Outcome {
    /// A failure for this reason.
    pub fn fail(reason: &str) -> Outcome {
        Outcome::Fail(reason.into())
    }

    /// Whether it passed.
    pub fn is_pass(&self) -> bool {
        matches!(self, Outcome::Pass)
    }

    pub(super) fn reason(&self) -> Arc<str> {
        match self {
            Outcome::Pass => "its health check passed".into(),
            Outcome::Fail(reason) => reason.clone(),
        }
    }
}

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There are no health checks.
    Unwatched,
    /// No result yet. The first one decides alone: a proxy that starts knows nothing to be careful about.
    Unproven,
    /// Serving; so many failures in a row.
    Up {
        /// Failures since the last pass.
        misses: u32,
    },
    /// Not serving; so many passes in a row.
    Down {
        /// Passes since the last failure.
        passes: u32,
    },
}

impl Health {
    /// The word for the API.
    pub fn word(self) -> &'static str {
        match self {
            Health::Unwatched => "none",
            Health::Unproven => "unproven",
            Health::Up { .. } => "up",
            Health::Down { .. } => "down",
        }
    }

    /// The state after one more result.
    #[must_use]
    pub fn after(self, passed: bool, thresholds: Thresholds) -> Health {
        match (self, passed) {
            (Health::Unwatched, _) => Health::Unwatched,
            (Health::Unproven | Health::Up { .. }, true) => Health::Up { misses: 0 },
            (Health::Unproven | Health::Down { .. }, false) => Health::Down { passes: 0 },
            (Health::Up { misses }, false) if misses + 1 >= thresholds.fall => Health::Down { passes: 0 },
            (Health::Up { misses }, false) => Health::Up { misses: misses + 1 },
            (Health::Down { passes }, true) if passes + 1 >= thresholds.rise => Health::Up { misses: 0 },
            (Health::Down { passes }, true) => Health::Down { passes: passes + 1 },
        }
    }
}
