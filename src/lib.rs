//! **Ringway**: a consistent-hash routing reverse proxy. Here: its ring, HTTP/1.1 on the wire, and the fleet.

pub mod fleet;
pub mod http1;
pub mod io;
pub mod limits;
pub mod ring;
pub mod tally;
