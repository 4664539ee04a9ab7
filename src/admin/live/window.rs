//! What a histogram has counted in the last seconds, and the quantiles of that.
//!
//! Owns the differences between looks at a histogram that only grows. Pure.

use crate::tally::BUCKETS;

/// Counts per bucket; the last one is above all bounds.
pub(super) type Counts = [u64; BUCKETS.len() + 1];

/// Samples that a window spans: with one each second, ten seconds.
const SAMPLES: usize = 10;

/// The last seconds of one histogram.
#[derive(Debug)]
pub(super) struct Window {
    last: Counts,
    /// What came between two looks. Small numbers: there is one such table for each backend.
    came: [[u32; BUCKETS.len() + 1]; SAMPLES],
    next: usize,
}

impl Window {
    /// Begins with what has been counted so far, which is none of its own.
    pub(super) fn since(counted: Counts) -> Window {
        Window { last: counted, came: Default::default(), next: 0 }
    }

    /// Looks again.
    pub(super) fn look(&mut self, counted: Counts) {
        for ((came, now), last) in self.came[self.next].iter_mut().zip(counted).zip(&mut self.last) {
            *came = u32::try_from(now.saturating_sub(*last)).unwrap_or(u32::MAX);
            *last = now;
        }
        self.next = (self.next + 1) % SAMPLES;
    }

    /// Adds what came within it to `all`.
    pub(super) fn add_to(&self, all: &mut Counts) {
        for came in &self.came {
            all.iter_mut().zip(came).for_each(|(all, came)| *all += u64::from(*came));
        }
    }

    /// What came within it.
    pub(super) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.add_to(&mut all);
        all
    }
}

/// The duration in seconds that this part of all stays below, as far as buckets can tell: evenly spread within one. `None`: nothing
/// was counted. What is above all bounds is told as the last bound.
pub(super) fn quantile(counts: &Counts, part: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = part * total as f64;
    let mut below = 0.0;
    for (at, &count) in counts.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && below + count >= wanted {
            let Some(&upper) = BUCKETS.get(at) else { break };
            let lower = at.checked_sub(1).map_or(0.0, |before| BUCKETS[before]);
            return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    BUCKETS.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(usize, u64)]) -> Counts {
        let mut counts = Counts::default();
        of.iter().for_each(|&(at, count)| counts[at] = count);
        counts
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        assert_eq!(quantile(&Counts::default(), 0.5), None);
        assert_eq!(quantile(&counts(&[(0, 10)]), 0.5), Some(0.00025));
        let mixed = counts(&[(1, 90), (4, 10)]);
        assert!((quantile(&mixed, 0.5).unwrap() - 0.000_777).abs() < 1e-5);
        assert!((quantile(&mixed, 0.99).unwrap() - 0.0095).abs() < 1e-9);
        assert_eq!(quantile(&counts(&[(16, 3)]), 0.5), Some(60.0));
    }

    #[test]
    fn a_window_forgets_after_ten_samples() {
        let mut window = Window::since(counts(&[(3, 5)]));
        window.look(counts(&[(3, 7), (4, 1)]));
        assert_eq!(window.counts(), counts(&[(3, 2), (4, 1)]));
        for _ in 0..9 {
            window.look(counts(&[(3, 7), (4, 1)]));
            assert_eq!(window.counts(), counts(&[(3, 2), (4, 1)]));
        }
        window.look(counts(&[(3, 8), (4, 1)]));
        assert_eq!(window.counts(), counts(&[(3, 1)]));
    }
}
