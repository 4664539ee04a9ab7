//! A bound on a backend's requests in flight that follows its latency.
//!
//! Owns the arithmetic, after Netflix's gradient limiter (<https://github.com/Netflix/concurrency-limits>) and Envoy's gradient controller: the
//! bound is multiplied by how much faster answers came at best than they come now, and gets room for a short queue on top. While answers
//! come as fast as ever, it grows by that room; when they take longer, requests queue at the backend, and it shrinks. Once a minute the best
//! is measured anew, with a few requests at once, as Envoy does: a best that was measured under load would let the bound creep up. Knows no
//! clock: time is an argument.

use std::time::{Duration, Instant};

/// Where a bound begins, once the best latency is known.
const FIRST: f64 = 32.0;
/// The least, and the bound while the best latency is measured: with so few at once hardly anything waits.
const LEAST: f64 = 4.0;
/// The most.
const MOST: f64 = 10_000.0;
/// Answers may take so much longer than at best before the bound shrinks: latency varies for other reasons than load.
const TOLERANCE: f64 = 1.5;
/// The part of each step that is taken: one odd sample must not halve the bound.
const STEP: f64 = 0.3;
/// Answers that a sample must stand for.
const ANSWERS: u64 = 10;
/// How long the best latency is believed: a backend may become slower or faster for good.
const BEST_FOR: Duration = Duration::from_secs(60);

/// The bound of one backend.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    limit: f64,
    /// Nanoseconds of latency, and answers, counted when the sample began.
    since: (u64, u64),
    best: Best,
    /// How long the best latency is believed: not as long for all, so that not all measure at one moment.
    best_for: Duration,
}

/// The best mean latency.
#[derive(Clone, Copy, Debug)]
enum Best {
    /// It is being measured. The first sample still holds answers to requests from before.
    Measuring {
        /// A sample has gone by.
        begun: bool,
    },
    /// It is this many nanoseconds.
    Known {
        nanos: f64,
        /// Until it is measured again.
        until: Instant,
    },
}

impl Limiter {
    /// One that begins to measure, with what has been counted so far. `number` tells it from others.
    pub(super) fn new(counts: (u64, u64), number: usize) -> Limiter {
        let best_for = BEST_FOR + BEST_FOR.mul_f64((number % 16) as f64 / 16.0);
        Limiter { limit: FIRST, since: counts, best: Best::Measuring { begun: false }, best_for }
    }

    /// Takes in the counts so far and the requests in flight, and returns the bound.
    pub(super) fn observe(&mut self, now: Instant, counts: (u64, u64), in_flight: u32) -> u32 {
        let answers = counts.1.saturating_sub(self.since.1);
        if answers >= ANSWERS {
            let mean = counts.0.saturating_sub(self.since.0) as f64 / answers as f64;
            self.since = counts;
            self.step(now, mean.max(1.0), in_flight);
        }
        match self.best {
            Best::Measuring { .. } => LEAST as u32,
            Best::Known { .. } => self.limit as u32,
        }
    }

    fn step(&mut self, now: Instant, mean: f64, in_flight: u32) {
        let nanos = match self.best {
            Best::Measuring { begun: false } => {
                self.best = Best::Measuring { begun: true };
                return;
            }
            Best::Measuring { begun: true } => {
                self.best = Best::Known { nanos: mean, until: now + self.best_for };
                return;
            }
            Best::Known { until, .. } if until <= now => {
                self.best = Best::Measuring { begun: false };
                return;
            }
            Best::Known { nanos, .. } => nanos,
        };
        let gradient = (TOLERANCE * nanos / mean).clamp(0.5, 1.0);
        // A bound that nobody comes near says nothing: it must not grow without end.
        if gradient == 1.0 && f64::from(in_flight) < self.limit / 2.0 {
            return;
        }
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit = (self.limit + STEP * (wanted - self.limit)).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend with so many workers, each taking 10 ms: what is above them waits. Offered as much as is let through.
    fn settle(workers: f64, ticks: u32) -> u32 {
        let began = Instant::now();
        let mut limiter = Limiter::new((0, 0), 0);
        let (mut counts, mut limit, mut highest) = ((0, 0), LEAST as u32, 0);
        for tick in 0..ticks {
            let latency = 10e6 * (f64::from(limit) / workers).max(1.0);
            let answers = (100e6 / latency * f64::from(limit)) as u64;
            counts = (counts.0 + (answers as f64 * latency) as u64, counts.1 + answers);
            limit = limiter.observe(began + tick * Duration::from_millis(100), counts, limit);
            if tick > ticks / 2 {
                highest = highest.max(limit);
            }
        }
        highest
    }

    #[test]
    fn it_finds_what_a_backend_can_do_at_once() {
        // With the tolerance it settles above the number of workers, with a queue of a few on top.
        let few = settle(16.0, 3000);
        assert!((16..40).contains(&few), "{few}");
        let many = settle(200.0, 3000);
        assert!((200..400).contains(&many), "{many}");
    }

    #[test]
    fn it_does_not_grow_where_nobody_needs_it() {
        let began = Instant::now();
        let mut limiter = Limiter::new((0, 0), 0);
        for tick in 0..3_u32 {
            limiter.observe(began, (u64::from(tick) * 20_000_000, u64::from(tick) * 20), 2);
        }
        for tick in 3..500_u32 {
            let counts = (u64::from(tick) * 20_000_000, u64::from(tick) * 20);
            assert_eq!(limiter.observe(began + tick * Duration::from_millis(100), counts, 2), FIRST as u32);
        }
    }
}
