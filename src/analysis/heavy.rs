//! The keys that come most often, in bounded memory.
//!
//! Owns the Space-Saving sketch (A. Metwally, D. Agrawal and A. El Abbadi, *Efficient computation of frequent and top-k elements*, ICDT 2005): a
//! fixed number of counters. A key without one takes over the smallest, with its count, which is how much too high its own may be. No count is too
//! low, and with `m` counters none is too high by more than the `m`th part of all requests; a key that has more than that is never missing.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::limits::{HEAVY_KEY_BYTES, HEAVY_KEYS};

/// Heavy keys.
#[derive(Debug, Default)]
pub struct Heavy {
    counters: Vec<Counter>,
    /// Numbers of counters, those of small counts first: no parent has more than its children at `2n + 1` and `2n + 2`.
    heap: Vec<u32>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<Spread>>,
}

/// A key with its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// How the key begins.
    pub key: Box<[u8]>,
    /// Its hash.
    pub hash: u64,
    /// How often it came, at most.
    pub count: u64,
    /// How much less often it may have been.
    pub error: u64,
    /// Its place in the heap.
    at: u32,
}

/// Hashes are spread evenly already.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Heavy {
    /// Takes in a key with its hash.
    #[inline]
    pub fn see(&mut self, hash: u64, key: &[u8]) {
        let number = match self.by_hash.get(&hash) {
            Some(&number) => number,
            None => self.counter_for(hash, key),
        };
        let counter = &mut self.counters[number as usize];
        counter.count += 1;
        let at = counter.at as usize;
        self.sink(at);
    }

    /// A counter for a key that has none.
    fn counter_for(&mut self, hash: u64, key: &[u8]) -> u32 {
        let key = key[..key.len().min(HEAVY_KEY_BYTES)].into();
        let number = if self.counters.len() < HEAVY_KEYS {
            let number = self.counters.len() as u32;
            self.counters.push(Counter { key, hash, count: 0, error: 0, at: number });
            self.heap.push(number);
            // It has the smallest count of all: upwards to the top.
            let mut at = number as usize;
            while at > 0 {
                self.swap(at, (at - 1) / 2);
                at = (at - 1) / 2;
            }
            number
        } else {
            let number = self.heap[0];
            let counter = &mut self.counters[number as usize];
            self.by_hash.remove(&counter.hash);
            (counter.key, counter.hash, counter.error) = (key, hash, counter.count);
            number
        };
        self.by_hash.insert(hash, number);
        number
    }

    /// Puts what has become larger where it belongs.
    fn sink(&mut self, mut at: usize) {
        let count = |heavy: &Heavy, at: usize| heavy.counters[heavy.heap[at] as usize].count;
        loop {
            let children = [2 * at + 1, 2 * at + 2].into_iter().filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| count(self, *child)) else { return };
            if count(self, least) >= count(self, at) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for at in [a, b] {
            self.counters[self.heap[at] as usize].at = at as u32;
        }
    }

    /// All counters, the heaviest first.
    pub fn keys(&self) -> Vec<&Counter> {
        let mut keys: Vec<_> = self.counters.iter().collect();
        keys.sort_by(|a, b| b.count.cmp(&a.count).then(a.hash.cmp(&b.hash)));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Place;

    #[test]
    fn heavy_keys_are_found_and_errors_are_bounded() {
        let mut heavy = Heavy::default();
        let mut true_counts: HashMap<u64, u64> = HashMap::new();
        let mut requests = 0;
        let mut see = |key: u64| {
            let hash = Place::of(&key.to_be_bytes()).0;
            heavy.see(hash, key.to_string().as_bytes());
            *true_counts.entry(hash).or_default() += 1;
            requests += 1;
        };
        // Ten heavy keys among sixty thousand light ones.
        for light in 0..60_000 {
            see(1000 + light);
            (0..10).filter(|key| light % (key + 2) == 0).for_each(&mut see);
        }
        let keys = heavy.keys();
        assert_eq!(keys.len(), HEAVY_KEYS);
        let most = requests / HEAVY_KEYS as u64;
        for counter in &keys {
            let truth = true_counts[&counter.hash];
            assert!(counter.count >= truth && counter.count - counter.error <= truth, "{counter:?} {truth}");
            assert!(counter.error <= most);
        }
        for (key, counter) in keys.iter().take(10).enumerate() {
            assert_eq!((&*counter.key, counter.error), (key.to_string().as_bytes(), 0));
        }
        for (at, number) in heavy.heap.iter().enumerate() {
            assert_eq!(heavy.counters[*number as usize].at as usize, at);
        }
    }
}
