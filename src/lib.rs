//! **Ringway**: a consistent-hash routing reverse proxy. Here: its ring, and HTTP/1.1 on the wire.

pub mod http1;
pub mod io;
pub mod limits;
pub mod ring;
