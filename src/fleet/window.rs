//! A sliding window over two counts that only grow: all requests of a backend, and those that failed.
//!
//! Owns a fixed number of samples. Knows no clock: time is an argument.

use std::time::{Duration, Instant};

/// Samples that a window holds. A failure counts for as long as the window is, give or take a tenth of it.
const SAMPLES: usize = 10;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counts: (u64, u64),
}

/// The window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// What had been counted when each tenth of the window began; the oldest is overwritten first.
    samples: [Option<Sample>; SAMPLES],
    next: usize,
}

impl Window {
    /// An empty one that begins to count at these counts.
    pub(super) fn new() -> Window {
        Window { samples: [None; SAMPLES], next: 0 }
    }

    /// Takes in the counts so far, and returns by how much both have grown within the window.
    pub(super) fn observe(&mut self, now: Instant, length: Duration, counts: (u64, u64)) -> (u64, u64) {
        let age = |sample: &Sample| now.saturating_duration_since(sample.at);
        let within = self.samples.iter().flatten().filter(|sample| age(sample) <= length);
        let since = within.max_by_key(|sample| age(sample)).map_or(counts, |sample| sample.counts);
        let latest = self.samples.iter().flatten().map(age).min();
        if latest.is_none_or(|age| age >= length / SAMPLES as u32) {
            self.samples[self.next] = Some(Sample { at: now, counts });
            self.next = (self.next + 1) % SAMPLES;
        }
        // Counts are read from several cells, not all at one moment: a difference can't be below nothing.
        (counts.0.saturating_sub(since.0), counts.1.saturating_sub(since.1))
    }

    /// Forgets: what was before does not count against a backend that is given another chance.
    pub(super) fn clear(&mut self) {
        *self = Window::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let (mut window, begun, second) = (Window::new(), Instant::now(), Duration::from_secs(1));
        let mut at = |seconds: u32, counts| window.observe(begun + seconds * second, 10 * second, counts);
        assert_eq!(at(0, (100, 50)), (0, 0), "what was before does not count");
        assert_eq!(at(1, (110, 60)), (10, 10));
        assert_eq!(at(5, (120, 60)), (20, 10));
        for further in 6..14 {
            at(further, (120, 60));
        }
        assert_eq!(at(14, (121, 60)), (1, 0));
    }
}
