//! **Ringway**: a consistent-hash routing reverse proxy. Here: its ring.

pub mod ring;
