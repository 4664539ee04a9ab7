//! Whether a failed attempt may be followed by another.
//!
//! Owns one table. Pure.

use crate::{http1::Method, tally::AttemptEnd};

/// Whether the request may go to another backend after an attempt that ended like this.
///
/// | had bytes left for the backend? | method idempotent | body can be sent again | repeat? |
/// |---|---|---|---|
/// | no: no connection came about | any | yes | yes |
/// | no: the backend said that it has done nothing (HTTP/2) | any | yes | yes |
/// | maybe: the connection broke before the answer's head | yes | yes | yes |
/// | anything else, or the answer's head has come | | | no |
///
/// A kept connection that is found closed before anything is written counts as no attempt: another is taken. If it shows only
/// afterwards ([`AttemptEnd::Stale`]), the same backend gets the request again, on a new connection: that its backend had
/// enough of an idle connection is no reason to send a key away from its owner.
pub fn may_repeat(end: AttemptEnd, method: Method, body_can_be_sent_again: bool) -> bool {
    let reached = match end {
        AttemptEnd::ConnectFailed | AttemptEnd::ConnectTimeout | AttemptEnd::Refused => false,
        AttemptEnd::Stale | AttemptEnd::Broken => true,
        AttemptEnd::Answered
        | AttemptEnd::Timeout
        | AttemptEnd::Protocol
        | AttemptEnd::Truncated
        | AttemptEnd::Cancelled => return false,
    };
    body_can_be_sent_again && (!reached || method.is_idempotent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        for (end, method, again, repeat) in [
            (AttemptEnd::ConnectFailed, Method::Post, true, true),
            (AttemptEnd::ConnectTimeout, Method::Other, true, true),
            (AttemptEnd::ConnectFailed, Method::Post, false, false),
            (AttemptEnd::Refused, Method::Post, true, true),
            (AttemptEnd::Refused, Method::Post, false, false),
            (AttemptEnd::Broken, Method::Get, true, true),
            (AttemptEnd::Stale, Method::Put, true, true),
            (AttemptEnd::Stale, Method::Put, false, false),
            (AttemptEnd::Broken, Method::Post, true, false),
            (AttemptEnd::Stale, Method::Other, true, false),
            (AttemptEnd::Timeout, Method::Get, true, false),
            (AttemptEnd::Protocol, Method::Get, true, false),
            (AttemptEnd::Truncated, Method::Get, true, false),
        ] {
            assert_eq!(may_repeat(end, method, again), repeat, "{end:?} {method:?} {again}");
        }
    }
}
