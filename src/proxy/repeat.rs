//! Whether a failed attempt may be followed by another.
//!
//! Owns one table, what a repeat costs, and the times between attempts at one backend. Pure.

use std::time::Duration;

use crate::{http1::Method, limits::BACKOFF_MOST, tally::AttemptEnd};

/// Whether the request may go to another backend after an attempt that ended like this.
///
/// | had bytes left for the backend? | method idempotent | body can be sent again | repeat? |
/// |---|---|---|---|
/// | no: no connection came about | any | yes | yes |
/// | no: the backend said that it has done nothing (HTTP/2) | any | yes | yes |
/// | maybe: the connection broke before the answer's head | yes | yes | yes |
/// | yes: no answer's head in the time for one attempt | yes | yes | yes |
/// | yes: the answer has one of the pool's `repeats.status`, and nothing of it was passed on | yes | yes | yes |
/// | anything else, or the answer's head has come | | | no |
///
/// A kept connection that is found closed before anything is written counts as no attempt: another is taken. If it shows only
/// afterwards ([`AttemptEnd::Stale`]), the same backend gets the request again, on a new connection: that its backend had
/// enough of an idle connection is no reason to send a key away from its owner.
pub fn may_repeat(end: AttemptEnd, method: Method, body_can_be_sent_again: bool) -> bool {
    let reached = match end {
        AttemptEnd::ConnectFailed
        | AttemptEnd::ConnectTimeout
        | AttemptEnd::Shortage
        | AttemptEnd::Refused => false,
        AttemptEnd::Stale | AttemptEnd::Broken | AttemptEnd::PerTry | AttemptEnd::Status => true,
        AttemptEnd::Answered
        | AttemptEnd::Timeout
        | AttemptEnd::Protocol
        | AttemptEnd::Truncated
        | AttemptEnd::Hedged
        | AttemptEnd::Cancelled => return false,
    };
    body_can_be_sent_again && (!reached || method.is_idempotent())
}

/// Whether the repeat after such an attempt takes from the pool's budget, which bounds the work that repeats make for backends.
///
/// A connection that did not come about made none, so the request may go elsewhere for nothing: a backend that has died costs no answer,
/// however large its share of the keys. To try the `same` one again is another matter: it may be about to come back. Nor does a kept
/// connection take anything that its backend had closed.
pub fn is_paid(end: AttemptEnd, same: bool) -> bool {
    match end {
        AttemptEnd::ConnectFailed | AttemptEnd::ConnectTimeout | AttemptEnd::Shortage => same,
        AttemptEnd::Stale => false,
        _ => true,
    }
}

/// How long to wait before the same backend is tried again for the `nth` time, from 1: a part of a time that doubles with each. `chance`,
/// from 0 to 1, says which part, so that those who failed together do not come back together.
pub fn backoff(first: Duration, nth: u32, chance: f64) -> Duration {
    let most = first.saturating_mul(1 << nth.saturating_sub(1).min(16)).min(BACKOFF_MOST);
    most.mul_f64(chance.clamp(0.0, 1.0))
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
            (AttemptEnd::PerTry, Method::Get, true, true),
            (AttemptEnd::PerTry, Method::Post, true, false),
            (AttemptEnd::Status, Method::Put, true, true),
            (AttemptEnd::Status, Method::Put, false, false),
            (AttemptEnd::Status, Method::Post, true, false),
            (AttemptEnd::Timeout, Method::Get, true, false),
            (AttemptEnd::Protocol, Method::Get, true, false),
            (AttemptEnd::Truncated, Method::Get, true, false),
        ] {
            assert_eq!(may_repeat(end, method, again), repeat, "{end:?} {method:?} {again}");
        }
    }

    #[test]
    fn what_made_no_work_for_anybody_is_free_elsewhere() {
        for (end, elsewhere, same) in [
            (AttemptEnd::ConnectFailed, false, true),
            (AttemptEnd::ConnectTimeout, false, true),
            (AttemptEnd::Stale, false, false),
            (AttemptEnd::Refused, true, true),
            (AttemptEnd::Broken, true, true),
            (AttemptEnd::PerTry, true, true),
            (AttemptEnd::Status, true, true),
        ] {
            assert_eq!((is_paid(end, false), is_paid(end, true)), (elsewhere, same), "{end:?}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let first = Duration::from_millis(25);
        let most: Vec<u128> = (1..=8).map(|nth| backoff(first, nth, 1.0).as_millis()).collect();
        assert_eq!(most, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff(first, 3, 0.5).as_millis(), 50);
        assert_eq!(backoff(first, 3, 0.0), Duration::ZERO);
        assert_eq!(backoff(Duration::MAX, u32::MAX, 2.0), BACKOFF_MOST);
    }
}
