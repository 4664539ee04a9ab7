//! Coming back warm: a backend that is new, comes back or has another weight gets its keys one after the other.
//!
//! Owns the order in which keys move. It is a second hash of the key, so it is the same for every request and in every proxy: a key moves
//! once, and does not go back and forth as it does where each request throws dice. Knows no clock: time is an argument.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ring::{Place, Ring};

/// How far something is that takes time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// When it began.
    pub began: Instant,
    /// How long it takes.
    pub length: Duration,
    /// The share of the keys that has moved, where that goes by how warm the backend is. It takes `length` at the longest.
    pub steered: Option<f64>,
}

impl Ramp {
    /// Whether a key at this place has moved by `now`.
    pub fn has_moved(&self, place: Place, now: Instant) -> bool {
        turn_of(place) < self.progress(now)
    }

    /// The share of the keys that has moved by `now`, from 0 to 1.
    pub fn progress(&self, now: Instant) -> f64 {
        if self.is_over(now) {
            return 1.0;
        }
        if let Some(steered) = self.steered {
            return steered;
        }
        (now.saturating_duration_since(self.began).as_secs_f64() / self.length.as_secs_f64()).min(1.0)
    }

    /// Whether all keys have moved by `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= self.length
    }
}

/// A ring that takes the place of another one key by key.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The ring before, over the members of the present one.
    pub before: Arc<Ring>,
    /// How far it is.
    pub ramp: Ramp,
    /// The share of the keys that it moves, from 0 to 1.
    pub share: f64,
    /// The ring before was still taking the place of another one: keys that have not moved in that turn either are there.
    pub earlier: Option<Arc<Turn>>,
}

impl Turn {
    /// The ring of a key that has not moved to the present one. `None`: it has.
    pub fn ring_for(&self, place: Place, now: Instant) -> Option<&Ring> {
        if self.ramp.has_moved(place, now) {
            return None;
        }
        Some(self.earlier.as_ref().and_then(|earlier| earlier.ring_for(place, now)).unwrap_or(&self.before))
    }

    /// The share of the keys that it and those before it have still to move, from 0 on.
    pub(super) fn left(&self, now: Instant) -> f64 {
        let earlier = self.earlier.as_ref().map_or(0.0, |earlier| earlier.left(now));
        earlier + self.share * (1.0 - self.ramp.progress(now))
    }

    /// The same, to end in so much time together with one that begins now: what each moves in a time adds up to what all have left, spread
    /// over that time. No key moves back: all are as far as they were.
    pub(super) fn ends_within(&mut self, within: Duration, now: Instant) {
        let progress = self.ramp.progress(now);
        let rest = 1.0 - progress;
        if let (None, Ok(length)) =
            (self.ramp.steered, Duration::try_from_secs_f64(within.as_secs_f64() / rest))
            && let Some(began) = now.checked_sub(length.saturating_sub(within))
            && length > self.ramp.length
        {
            self.ramp = Ramp { began, length, steered: None };
        }
        if let Some(earlier) = &self.earlier {
            let mut earlier = Turn::clone(earlier);
            earlier.ends_within(within, now);
            self.earlier = Some(Arc::new(earlier));
        }
    }

    /// The same without turns that are over, and with at most so many: the oldest ends early if there are more. Its rings are made anew
    /// by `ring`; where that is not possible it ends there.
    pub(super) fn renewed(
        &self,
        now: Instant,
        most: usize,
        ring: &dyn Fn(&Arc<Ring>) -> Option<Arc<Ring>>,
    ) -> Option<Turn> {
        if most == 0 || self.ramp.is_over(now) {
            return None;
        }
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.renewed(now, most - 1, ring));
        Some(Turn { before: ring(&self.before)?, earlier: earlier.map(Arc::new), ..*self })
    }
}

/// When the key at this place moves: from 0, among the first, to below 1. It does not depend on where on the ring the place lies:
/// the bits of the place are mixed by the finalizer of MurmurHash3, a bijection.
fn turn_of(Place(place): Place) -> f64 {
    let mut bits = place;
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^= bits >> 33;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_evenly_and_each_once() {
        let began = Instant::now();
        let ramp = Ramp { began, length: Duration::from_secs(10), steered: None };
        let mut moves = [0_u32; 1000];
        let mut was = [false; 1000];
        for tenth in 0..=100 {
            let now = began + Duration::from_millis(tenth * 100);
            for key in 0..1000 {
                let has = ramp.has_moved(Place::of(key.to_string().as_bytes()), now);
                moves[key] += u32::from(has != was[key]);
                was[key] = has;
            }
            let share = was.iter().filter(|has| **has).count() as f64 / 1000.0;
            assert!((share - ramp.progress(now)).abs() < 0.05, "{share} at {tenth}");
        }
        assert!(moves.iter().all(|&moves| moves == 1));
        assert!(ramp.is_over(began + Duration::from_secs(10)));
    }

    #[test]
    fn the_turn_does_not_depend_on_the_arc() {
        // The keys of one narrow arc move as evenly as all others.
        let early = (0..1000_u64).filter(|i| turn_of(Place((5 << 40) + i)) < 0.5).count();
        assert!((400..600).contains(&early), "{early}");
    }
}
