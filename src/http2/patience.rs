//! How much of what costs us and moves nothing a peer may do.
//!
//! Owns one bucket for each kind. A bucket holds a burst and fills again with time, so that a long life with a rare oddity is no fault.

use std::time::Instant;

use super::{ErrorCode, Fault};
use crate::{
    limits::{HTTP2_PATIENCE, HTTP2_RESETS, HTTP2_WINDOW_UPDATES},
    tally::Http2Fault,
};

/// The buckets of a connection.
#[derive(Debug)]
pub(super) struct Patience {
    resets: Bucket,
    settings: Bucket,
    pings: Bucket,
    empty: Bucket,
    idle_talk: Bucket,
    window_updates: Bucket,
}

impl Default for Patience {
    fn default() -> Patience {
        let usual = Bucket::new(HTTP2_PATIENCE);
        Patience {
            resets: Bucket::new(HTTP2_RESETS),
            settings: usual,
            pings: usual,
            empty: usual,
            idle_talk: usual,
            window_updates: Bucket::new(HTTP2_WINDOW_UPDATES),
        }
    }
}

impl Patience {
    /// Counts one of this kind.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn try_one(&mut self, kind: Http2Fault, now: Instant) -> Result<(), Fault> {
        let is_left = match kind {
            Http2Fault::Resets => self.resets.take(now),
            Http2Fault::Settings => self.settings.take(now),
            Http2Fault::Pings => self.pings.take(now),
            Http2Fault::EmptyFrames => self.empty.take(now),
            Http2Fault::WindowUpdates => self.window_updates.take(now),
            _ => self.idle_talk.take(now),
        };
        if is_left {
            return Ok(());
        }
        Err(Fault {
            code: ErrorCode::EnhanceYourCalm,
            kind,
            why: "too many frames of a kind that moves nothing",
        })
    }

    /// A frame of payload has left. The peer may say that it took it; some measure the way with a `PING` each time (gRPC).
    pub(super) fn payload_left(&mut self, bytes: usize) {
        self.window_updates.add(4.0 + bytes as f64 / 512.0);
        self.pings.add(1.0);
    }

    /// A stream was opened, for which the peer may open a window, and measure the way.
    pub(super) fn stream_opened(&mut self) {
        self.window_updates.add(4.0);
        self.pings.add(2.0);
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    burst: u32,
    each_second: u32,
    left: f64,
    filled: Option<Instant>,
}

impl Bucket {
    fn new((burst, each_second): (u32, u32)) -> Bucket {
        Bucket { burst, each_second, left: f64::from(burst), filled: None }
    }

    fn add(&mut self, more: f64) {
        self.left = (self.left + more).min(f64::from(self.burst));
    }

    fn take(&mut self, now: Instant) -> bool {
        if let Some(filled) = self.filled.replace(now) {
            let gained = now.saturating_duration_since(filled).as_secs_f64() * f64::from(self.each_second);
            self.left = (self.left + gained).min(f64::from(self.burst));
        }
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn patience_ends_and_comes_back() {
        let mut patience = Patience::default();
        let now = Instant::now();
        for _ in 0..HTTP2_RESETS.0 {
            patience.try_one(Http2Fault::Resets, now).unwrap();
        }
        let fault = patience.try_one(Http2Fault::Resets, now).unwrap_err();
        assert_eq!((fault.code, fault.kind), (ErrorCode::EnhanceYourCalm, Http2Fault::Resets));
        patience.try_one(Http2Fault::Pings, now).unwrap();
        patience.try_one(Http2Fault::Resets, now + Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn window_updates_are_earned() {
        let mut patience = Patience::default();
        let now = Instant::now();
        for _ in 0..HTTP2_WINDOW_UPDATES.0 {
            patience.try_one(Http2Fault::WindowUpdates, now).unwrap();
        }
        assert!(patience.try_one(Http2Fault::WindowUpdates, now).is_err());
        patience.payload_left(100);
        patience.try_one(Http2Fault::WindowUpdates, now).unwrap();
    }
}
