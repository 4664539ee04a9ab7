//! HTTP/1.1 on the wire (RFC 9112): heads, body framing and chunks, for both sides of the proxy.
//!
//! Owns what bytes mean and which bytes are refused. Pure: no sockets, no tasks, no clock. It is stricter than the
//! specification's "may be lenient" clauses: what two readers could read differently is refused, never repaired.
//! Start at [`RequestHead::parse`].

mod assemble;
mod authority;
mod body;
mod chunked;
mod field;
mod request;
mod response;

pub use assemble::Parts;
pub use authority::valid_authority;
pub use body::{BodyError, BodyReader, Framing, Piece};
pub use chunked::write_chunk_size;
pub use field::{Field, Known, Span, is_token, list_items, may_trail, write_address};
pub use request::{HeadError, Method, RequestHead, Target, Version};
pub use response::{AnswerError, AnswerHead};

/// Whether the end of a head has come since `scanned` bytes of it were there. For a head that drips in: looking for its end
/// costs little, parsing it from the front for each byte would not. Lines may end without a carriage return: whether that is taken is for the
/// parser to say.
pub fn has_head_end(bytes: &[u8], scanned: usize) -> bool {
    let new = &bytes[scanned.saturating_sub(2)..];
    memchr::memchr_iter(b'\n', new).any(|at| matches!(new[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_seen_wherever_it_is_cut() {
        for text in [&b"a\r\n\r\n"[..], b"a\n\n", b"a\n\r\n", b"a\r\n\n"] {
            for scanned in 0..text.len() {
                assert!(!has_head_end(&text[..text.len() - 1], scanned.min(text.len() - 1)));
                assert!(has_head_end(text, scanned), "{text:?} after {scanned}");
            }
        }
    }
}

/// What came of looking at the bytes that have arrived so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole head, this many bytes long.
    Complete(usize),
    /// Nothing wrong so far, and not all there.
    Partial,
}
