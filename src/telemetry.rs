//! What the proxy tells about itself: metrics, the access log, and the set-up of its own log.
//!
//! Owns names and forms. Counts nothing: the cells that others write are in [`crate::tally`].

pub mod access;
pub mod log;
pub mod metrics;
pub mod news;

mod families;
mod lines;
mod readings;

pub use access::{AccessFormat, AccessLogPolicy, KeyInLog};
pub use log::{LogFormat, LogPolicy};
