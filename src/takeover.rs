//! A new process in the place of this one, without a gap: it is started with the listening sockets, and takes over once it is ready.
//!
//! Owns the conversation between the two: [`give`] is the side of the process that is there, [`take`] the side of the one that comes,
//! `wire` what passes between them. Never touches a listener itself: sockets come from [`crate::server`] and go there.
//!
//! ```text
//!     old ── "ringway-takeover 1", sockets ──►  new     (its standard input is the other end)
//!     old ◄── "ready" or "error TEXT" ────────  new     it has bound, started and probed everything
//!     old ── "go" ───────────────────────────►  new     which accepts from now on, beside the old one
//!     old ◄── "taken" ────────────────────────  new     the old one accepts no more, and drains
//! ```
//!
//! Until `taken`, the old process goes on as if nothing had happened, whatever becomes of the new one. All sockets listen the whole time,
//! and belong to both: no connection is refused, and none that waits is lost.

pub mod give;
pub mod take;
mod wire;

pub use give::{Program, Succession};
pub use take::Predecessor;

/// The environment variable that tells a process that its standard input is such a conversation.
const SIGN: &str = "RINGWAY_TAKEOVER";
