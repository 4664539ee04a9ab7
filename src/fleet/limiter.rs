//! A bound on a backend's requests in flight that follows its latency.
//!
//! Owns the arithmetic, after Netflix's gradient limiter (<https://github.com/Netflix/concurrency-limits>) and Envoy's gradient controller: the
//! bound is multiplied by how much faster answers came at best than they come now, and gets room for a short queue on top. While answers
//! come as fast as ever, it grows by that room; when they take longer, requests queue at the backend, and it shrinks. Once a minute the best
//! is measured anew, with a few requests at once, as Envoy does: a best that was measured under load would let the bound creep up. Requests
//! whose answers have begun wait for nothing that is measured here, and have room beside the bound: long answers keep nobody out. Knows no
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
/// The longest that measuring it takes: where answers come so slowly or seldom, those that came must do.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// What is counted of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Nanoseconds of latency so far.
    pub(super) nanos: u64,
    /// In so many answers.
    pub(super) answers: u64,
    /// Requests in flight now.
    pub(super) in_flight: u32,
    /// Of these, those whose answers have begun.
    pub(super) answering: u32,
}

/// The bound of one backend.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    limit: f64,
    /// What was counted when the sample began.
    since: Counts,
    /// The best mean latency, in nanoseconds. `None`: not known yet.
    best: Option<f64>,
    phase: Phase,
    /// How long the best latency is believed: not as long for all, so that not all measure at one moment.
    best_for: Duration,
}

/// What answers are taken for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// To measure the best latency. The first sample still holds answers to requests from before.
    Measuring {
        /// A sample has gone by.
        begun: bool,
        /// The end of that, whatever has come.
        until: Instant,
    },
    /// To follow the latency, until the best is measured again.
    Following { until: Instant },
}

impl Limiter {
    /// One that begins to measure, with what has been counted so far. `number` tells it from others.
    pub(super) fn new(now: Instant, counts: Counts, number: usize) -> Limiter {
        let best_for = BEST_FOR + BEST_FOR.mul_f64((number % 16) as f64 / 16.0);
        let phase = Phase::Measuring { begun: false, until: now + MEASURED_FOR };
        Limiter { limit: FIRST, since: counts, best: None, phase, best_for }
    }

    /// Takes in what is counted now, and returns the bound.
    pub(super) fn observe(&mut self, now: Instant, counts: Counts) -> u32 {
        if self.answers(counts) >= ANSWERS {
            let mean = self.mean(counts);
            self.since = counts;
            self.step(now, mean, counts);
        }
        if let Phase::Measuring { until, .. } = self.phase
            && until <= now
        {
            if self.answers(counts) > 0 {
                self.best = Some(self.mean(counts));
                self.since = counts;
            }
            self.phase = Phase::Following { until: now + self.best_for };
        }
        let waiting = match self.phase {
            Phase::Measuring { .. } => LEAST,
            Phase::Following { .. } => self.limit,
        };
        (waiting as u32).saturating_add(counts.answering)
    }

    /// Answers in the sample.
    fn answers(&self, counts: Counts) -> u64 {
        counts.answers.saturating_sub(self.since.answers)
    }

    /// Their mean latency.
    fn mean(&self, counts: Counts) -> f64 {
        (counts.nanos.saturating_sub(self.since.nanos) as f64 / self.answers(counts) as f64).max(1.0)
    }

    fn step(&mut self, now: Instant, mean: f64, counts: Counts) {
        match self.phase {
            Phase::Measuring { begun: false, until } => {
                self.phase = Phase::Measuring { begun: true, until };
                return;
            }
            Phase::Measuring { begun: true, .. } => {
                self.best = Some(mean);
                self.phase = Phase::Following { until: now + self.best_for };
                return;
            }
            Phase::Following { until } if until <= now => {
                self.phase = Phase::Measuring { begun: false, until: now + MEASURED_FOR };
                return;
            }
            Phase::Following { .. } => {}
        }
        let gradient = (TOLERANCE * *self.best.get_or_insert(mean) / mean).clamp(0.5, 1.0);
        // A bound that nobody comes near says nothing: it must not grow without end.
        let waiting = counts.in_flight.saturating_sub(counts.answering);
        if gradient == 1.0 && f64::from(waiting) < self.limit / 2.0 {
            return;
        }
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit = (self.limit + STEP * (wanted - self.limit)).clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(nanos: u64, answers: u64, in_flight: u32) -> Counts {
        Counts { nanos, answers, in_flight, answering: 0 }
    }

    /// A backend with so many workers, each taking 10 ms: what is above them waits. Offered as much as is let through, beside so many long
    /// answers.
    fn settle(workers: f64, ticks: u32, answering: u32) -> u32 {
        let began = Instant::now();
        let mut limiter = Limiter::new(began, Counts::default(), 0);
        let (mut now, mut limit, mut highest) = (Counts { answering, ..Counts::default() }, LEAST as u32, 0);
        for tick in 0..ticks {
            let latency = 10e6 * (f64::from(limit) / workers).max(1.0);
            let answers = (100e6 / latency * f64::from(limit)) as u64;
            (now.nanos, now.answers) = (now.nanos + (answers as f64 * latency) as u64, now.answers + answers);
            now.in_flight = limit + answering;
            limit = limiter.observe(began + tick * Duration::from_millis(100), now) - answering;
            if tick > ticks / 2 {
                highest = highest.max(limit);
            }
        }
        highest
    }

    #[test]
    fn it_finds_what_a_backend_can_do_at_once() {
        // With the tolerance it settles above the number of workers, with a queue of a few on top.
        let few = settle(16.0, 3000, 0);
        assert!((16..40).contains(&few), "{few}");
        let many = settle(200.0, 3000, 0);
        assert!((200..400).contains(&many), "{many}");
        assert_eq!(settle(16.0, 3000, 1000), few, "long answers take no room from others");
    }

    #[test]
    fn it_does_not_grow_where_nobody_needs_it() {
        let began = Instant::now();
        let mut limiter = Limiter::new(began, Counts::default(), 0);
        for tick in 0..3_u32 {
            limiter.observe(began, counts(u64::from(tick) * 20_000_000, u64::from(tick) * 20, 2));
        }
        for tick in 3..500_u32 {
            let counts = counts(u64::from(tick) * 20_000_000, u64::from(tick) * 20, 2);
            assert_eq!(limiter.observe(began + tick * Duration::from_millis(100), counts), FIRST as u32);
        }
    }

    /// One that knows that 20 answers a second take 10 ms each, after so many seconds; and what has been counted by then.
    fn following(began: Instant, seconds: u64) -> (Limiter, Counts) {
        let mut limiter = Limiter::new(began, Counts::default(), 0);
        let mut now = counts(0, 0, 2);
        for second in 1..=seconds {
            (now.nanos, now.answers) = (now.nanos + 200_000_000, now.answers + 20);
            limiter.observe(began + Duration::from_secs(second), now);
        }
        (limiter, now)
    }

    #[test]
    fn long_answers_keep_nobody_out_while_it_measures() {
        let began = Instant::now();
        let (mut limiter, mut now) = following(began, 62);
        (now.in_flight, now.answering) = (6, 6);
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(limiter.observe(at(62), now), LEAST as u32 + 6, "it measures anew");
        // Four further ones come, and their answers begin, before any ends.
        (now.nanos, now.answers, now.in_flight, now.answering) =
            (now.nanos + 40_000_000, now.answers + 4, 10, 10);
        assert_eq!(limiter.observe(at(63), now), LEAST as u32 + 10);
    }

    #[test]
    fn measuring_ends_in_time_where_no_answer_comes() {
        let began = Instant::now();
        let (mut limiter, mut now) = following(began, 62);
        let at = |seconds| began + Duration::from_secs(seconds);
        now.in_flight = 4;
        assert_eq!(limiter.observe(at(71), now), LEAST as u32);
        assert_eq!(limiter.observe(at(72), now), FIRST as u32);
        assert_eq!(limiter.best, Some(10e6), "what was known holds");
        // Nothing is known at the start, and then what comes first is.
        let mut limiter = Limiter::new(began, Counts::default(), 0);
        assert_eq!(limiter.observe(at(9), counts(0, 0, 4)), LEAST as u32);
        assert_eq!(limiter.observe(at(10), counts(0, 0, 4)), FIRST as u32);
        assert_eq!(limiter.observe(at(11), counts(50_000_000, 10, 4)), FIRST as u32);
        assert_eq!(limiter.best, Some(5e6));
        // A few slow answers are better than none.
        let mut limiter = Limiter::new(began, Counts::default(), 0);
        assert_eq!(limiter.observe(at(10), counts(9_000_000_000, 3, 4)), FIRST as u32);
        assert_eq!(limiter.best, Some(3e9));
    }
}
