//! Recorded traffic played against a pool, or a grid of them, in virtual time: load, spill and hits before there is a load test.
//!
//! Owns the simulation and its bounds. Where a request goes is decided by the code that decides it in the proxy: [`crate::ring`] for owners,
//! [`crate::fleet`] for standing, ramps and bounds, [`crate::proxy::choose`] for the choice. What is a model is the rest: a request is in
//! flight for as long as it took, and a cache is a list of what was used last. Time is an argument; nothing here waits.
//!
//! Start at [`play`], which reads a trace once and plays it to all [`Scenario`]s at the same time. `player` is one of them, `stage` its pool,
//! `count` what is told about it.

mod cache;
mod change;
mod count;
mod generate;
mod grid;
mod pace;
mod parallel;
mod player;
mod plot;
mod recorded;
mod scenario;
mod stage;

use std::sync::Arc;

use crate::ring::Place;

pub use cache::{CacheSize, Lru};
pub use change::{Deed, Event};
pub use count::{BackendOutcome, ChangeOutcome, Outcome, Span};
pub use generate::{Generator, Popularity, Synthetic};
pub use grid::{Base, Grid};
pub use pace::Pace;
pub use parallel::{Trace, play};
pub use player::{Admitted, Watcher, play_one};
pub use plot::{Drawing, Line, draw_grid, draw_load};
pub use recorded::{Recorded, RecordedTale};
pub use scenario::{Scenario, Service, Settings};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it came, in nanoseconds since the trace began. Never before the one before it.
    pub at: u64,
    /// Where its key lies.
    pub place: Place,
    /// What a cache knows its answer by: evenly spread bits, such as the first of a SHA-1 digest.
    pub object: u64,
    /// How long it took, in nanoseconds, if the trace tells.
    pub took: Option<u64>,
    /// The bytes of its answer, if the trace tells; else 0.
    pub bytes: u64,
}

/// Why a replay can't be played, or not to its end.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The grid has too many cells.
    #[error("the grid has {cells} cells, and {most} is the most: give fewer values, or play it in parts")]
    GridTooLarge {
        /// How many it has.
        cells: usize,
        /// The most.
        most: usize,
    },
    /// The rings of all cells together are too large.
    #[error(
        "the rings of all cells have {nodes} virtual nodes together, and {most} is the most: give fewer replicas, or play it in parts"
    )]
    RingsTooLarge {
        /// How many they have.
        nodes: u64,
        /// The most.
        most: u64,
    },
    /// The caches of all cells together are too large.
    #[error(
        "the caches of all cells hold {objects} objects together, and {most} is the most: give smaller ones, or play it in parts"
    )]
    CachesTooLarge {
        /// How many they hold.
        objects: u64,
        /// The most.
        most: u64,
    },
    /// An event is about a backend that is not there then.
    #[error("the event `{event}` is for a backend that is not there: {there}")]
    NotThere {
        /// The event.
        event: String,
        /// Who is.
        there: String,
    },
    /// An event brings a backend that is there already.
    #[error("the event `{event}` adds a backend that is there already: choose another name")]
    ThereAlready {
        /// The event.
        event: String,
    },
    /// Weights are given to a backend that the cell does not have.
    #[error("the weights name {backend:?}, which is not there: {there}")]
    NoSuchWeight {
        /// The backend.
        backend: String,
        /// Who is.
        there: String,
    },
    /// The ring can't be built, or a change is refused.
    #[error("{0}")]
    Fleet(String),
    /// More requests are in flight than can be.
    #[error(
        "at {at} s more than {most} requests are in flight: by the rate and the time that a request takes, the pool never keeps up"
    )]
    TooManyInFlight {
        /// Seconds since the trace began.
        at: u64,
        /// The most.
        most: usize,
    },
    /// The trace can't be read any further.
    #[error("{0}")]
    Trace(String),
    /// There was nothing to play.
    #[error("{0}")]
    Empty(String),
}

/// A piece of a trace that all cells read.
type Batch = Arc<[Arrival]>;
