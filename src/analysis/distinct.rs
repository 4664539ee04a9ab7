//! How many different keys there are, and how often each was asked for, in bounded memory.
//!
//! Owns a table of 64-bit hashes that are spread evenly, as places are: two keys of one place are one key to the ring too. Up to a bound it is exact.
//! Beyond, it keeps a sample of the keys: those whose hash ends in so many zeros, one more each time that the table is full (P. Flajolet, *On
//! adaptive sampling*, Computing 43, 1990). A key is in the sample for all of its requests or for none, so that counts in the sample are exact.

use crate::limits::EXACT_KEYS;

/// Slots to begin with.
const FIRST_SLOTS: usize = 4096;

/// Different keys.
#[derive(Debug)]
pub struct Distinct {
    slots: Vec<Slot>,
    used: usize,
    most: usize,
    /// How many zeros a hash ends in that is in the sample.
    depth: u32,
}

/// One key. A slot is free while its count is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// The key's hash.
    pub hash: u64,
    /// How often it came; 2^32 − 1 also for more.
    pub count: u32,
    /// All tags that it came with.
    pub tag: u32,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::up_to(EXACT_KEYS)
    }
}

impl Distinct {
    /// One that is exact up to so many keys.
    fn up_to(most: usize) -> Distinct {
        Distinct { slots: vec![Slot::default(); FIRST_SLOTS], used: 0, most, depth: 0 }
    }

    /// Takes in a key, with bits that are added to its tag.
    #[inline]
    pub fn see(&mut self, hash: u64, tag: u32) {
        if hash.trailing_zeros() < self.depth {
            return;
        }
        let slot = find(&mut self.slots, hash);
        slot.tag |= tag;
        slot.count = slot.count.saturating_add(1);
        if slot.count > 1 {
            return;
        }
        slot.hash = hash;
        self.used += 1;
        if self.used * 2 > self.slots.len() && self.slots.len() < self.most * 2 {
            self.rebuild(self.slots.len() * 2);
        }
        while self.used > self.most {
            self.depth += 1;
            self.rebuild(self.slots.len());
        }
    }

    /// Puts all keys that are in the sample into a table of so many slots.
    fn rebuild(&mut self, slots: usize) {
        let depth = self.depth;
        let kept: Vec<Slot> =
            self.keys().filter(|slot| slot.hash.trailing_zeros() >= depth).copied().collect();
        self.slots.clear();
        self.slots.resize(slots, Slot::default());
        kept.iter().for_each(|slot| *find(&mut self.slots, slot.hash) = *slot);
        self.used = kept.len();
    }

    /// The keys that are in the table: all of them if it is exact.
    pub fn keys(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.count > 0)
    }

    /// How often a key came. `None`: it did not, or it is not in the sample.
    pub fn count_of(&self, hash: u64) -> Option<u64> {
        let mut at = home(&self.slots, hash);
        while self.slots[at].count > 0 {
            if self.slots[at].hash == hash {
                return Some(self.slots[at].count.into());
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// How many keys one in the table stands for: 1 as long as it is exact, then a power of two.
    pub fn scale(&self) -> f64 {
        2_f64.powi(self.depth as i32)
    }

    /// The standard error of the number of keys, as a share of it. 0: it is exact.
    pub fn error(&self) -> f64 {
        if self.depth == 0 { 0.0 } else { 1.2 / (self.most as f64).sqrt() }
    }

    /// How many different keys came.
    pub fn count(&self) -> f64 {
        self.used as f64 * self.scale()
    }
}

/// The slot of this hash, or the free one where it belongs. At least half of all slots are free.
#[inline]
fn find(slots: &mut [Slot], hash: u64) -> &mut Slot {
    let mut at = home(slots, hash);
    while slots[at].count > 0 && slots[at].hash != hash {
        at = (at + 1) & (slots.len() - 1);
    }
    &mut slots[at]
}

/// Where a hash belongs. The upper bits tell, since the lower ones of all in a sample are alike.
#[inline]
fn home(slots: &[Slot], hash: u64) -> usize {
    (hash >> (u64::BITS - slots.len().trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Place;

    fn hash(key: u32) -> u64 {
        Place::of(&key.to_be_bytes()).0
    }

    #[test]
    fn it_is_exact_up_to_the_bound() {
        let mut distinct = Distinct::up_to(1 << 14);
        for round in 0..3 {
            (0..1 << 14).for_each(|key| distinct.see(hash(key), 1 << round));
        }
        assert_eq!((distinct.count(), distinct.error()), (f64::from(1 << 14), 0.0));
        assert!(distinct.keys().all(|slot| (slot.count, slot.tag) == (3, 7)));
    }

    #[test]
    fn beyond_the_bound_it_is_near_and_its_sample_has_exact_counts() {
        let mut distinct = Distinct::up_to(1 << 14);
        for key in 0..500_000 {
            (0..1 + key % 3).for_each(|_| distinct.see(hash(key), 0));
        }
        assert!(distinct.slots.len() <= 1 << 15);
        let off = distinct.count() / 500_000.0 - 1.0;
        assert!(distinct.error() > 0.0 && off.abs() < 4.0 * distinct.error(), "{off}");
        let sum: f64 = distinct.keys().map(|slot| f64::from(slot.count)).sum();
        assert!((sum * distinct.scale() / 1_000_000.0 - 1.0).abs() < 0.04);
    }
}
