//! HTTP/2 on the wire (RFC 9113) and its field compression (RFC 7541), for both sides of the proxy.
//!
//! Owns frames, windows, streams and the bounds on what a peer may ask for. Pure: no sockets, no tasks, no clock. Bytes that came go in
//! at [`Mux::receive`], bytes that are to leave come out of [`Mux::take_output`]. To an exchange, a [`Stream`] looks like a
//! connection of its own: what it reads is a body as HTTP/1.1 frames it, what it writes are frames whose stream and size the
//! connection puts right. So everything that is decided about a request is decided in one place for all versions.

mod decode;
mod encode;
mod faults;
mod frame;
mod head;
mod huffman;
mod mux;
mod patience;
mod receive;
mod state;
mod stream;
mod table;

pub use encode::{begin_headers, finish_headers, write_data, write_field, write_status};
pub use frame::{ErrorCode, PREFACE};
pub use head::Arrival;
pub use mux::{Limits, Mux};
pub use stream::Stream;

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the peer is told.
    pub code: ErrorCode,
    /// How it is counted.
    pub kind: crate::tally::Http2Fault,
    /// What is wrong, for the log.
    pub why: &'static str,
}
