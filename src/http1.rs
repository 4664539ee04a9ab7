//! HTTP/1.1 on the wire (RFC 9112): heads, body framing and chunks, for both sides of the proxy.
//!
//! Owns what bytes mean and which bytes are refused. Pure: no sockets, no tasks, no clock. It is stricter than the
//! specification's "may be lenient" clauses: what two readers could read differently is refused, never repaired.
//! Start at [`RequestHead::parse`].

mod assemble;
mod body;
mod chunked;
mod field;
mod request;
mod response;

pub use assemble::Parts;
pub use body::{BodyError, BodyReader, Framing, Piece};
pub use chunked::write_chunk_size;
pub use field::{Field, Known, Span, is_token, list_items, may_trail, write_address};
pub use request::{HeadError, Method, RequestHead, Target, Version, valid_authority};
pub use response::{AnswerError, AnswerHead};

/// Whether the end of a head has come since `scanned` bytes of it were there. For a head that drips in: looking for its end
/// costs little, parsing it from the front for each byte would not.
pub fn has_head_end(bytes: &[u8], scanned: usize) -> bool {
    memchr::memmem::find(&bytes[scanned.saturating_sub(3)..], b"\r\n\r\n").is_some()
}

/// What came of looking at the bytes that have arrived so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole head, this many bytes long.
    Complete(usize),
    /// Nothing wrong so far, and not all there.
    Partial,
}
