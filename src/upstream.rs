//! The only way out: connections to backends, and the idle ones that a worker keeps.
//!
//! Owns opening, keeping and closing. Not shared between workers, so nothing is locked. Never reads or writes a
//! message: that is [`crate::proxy`].

mod connection;
mod idle;
mod shared;

use std::time::Duration;

pub use connection::{Approach, ConnectError, Connection, Protocol, connect, is_local};
pub use idle::{Care, Upstreams};
pub use shared::Opening;

/// How connections to the backends of a pool are used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReusePolicy {
    /// Idle connections kept for each worker and backend.
    pub max_idle: usize,
    /// One that has been idle for this long is closed.
    pub keep_alive: Duration,
    /// One that is older is not used again.
    pub max_age: Duration,
}
