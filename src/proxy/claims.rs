//! What a request says of itself that is taken, or left: its id, and the time that gRPC gives it.
//!
//! Owns the reading of both. Pure.

use std::time::Duration;

use super::refuse::is_grpc;
use crate::http1::RequestHead;

/// The time that a client of gRPC gives its call (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(super) fn grpc_timeout(head: &RequestHead) -> Option<Duration> {
    if !is_grpc(head) {
        return None;
    }
    let (unit, digits) = head.value_of(b"grpc-timeout")?.split_last()?;
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let n: u64 = std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// 128 random bits in hexadecimal.
pub struct RequestId(pub [u8; 32]);

impl RequestId {
    /// From these bits.
    pub fn new(bits: u128) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        RequestId(std::array::from_fn(|i| DIGITS[(bits >> (i * 4)) as usize & 0xf]))
    }
}

/// An id from a trusted proxy that can stand in a header, a log and a terminal.
pub(super) fn is_sane_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}
