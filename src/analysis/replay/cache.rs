//! A cache at a backend: what was used last stays, what was not used for longest goes.
//!
//! Owns that list and its size in objects or bytes. It holds no answers, only what they are known by, and knows no time: an object never gets stale.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// So many objects, whatever their size.
    Objects(u32),
    /// So many bytes.
    Bytes(u64),
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheSize::Objects(objects) => write!(f, "{objects}"),
            CacheSize::Bytes(bytes) => {
                let units: [(_, u64); 6] = [
                    ("GiB", 1 << 30),
                    ("MiB", 1 << 20),
                    ("KiB", 1 << 10),
                    ("GB", 1_000_000_000),
                    ("MB", 1_000_000),
                    ("kB", 1_000),
                ];
                let fits = |(_, size): &&(&str, u64)| *bytes >= *size && bytes % size == 0;
                let unit = units.iter().filter(fits).max_by_key(|(_, size)| *size);
                match unit {
                    Some((unit, size)) => write!(f, "{}{unit}", bytes / size),
                    None => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

/// The bits are spread already: they are a SHA-1 digest's.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

/// Nobody, where a neighbour is named.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    object: u64,
    bytes: u64,
    newer: u32,
    older: u32,
}

/// A cache that drops what was not used for longest.
#[derive(Debug)]
pub struct Lru {
    size: CacheSize,
    /// Entries at most, whatever the size in bytes.
    most: usize,
    index: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    bytes: u64,
}

impl Lru {
    /// An empty one. It never has more than `most` objects, also where its size is in bytes.
    pub fn new(size: CacheSize, most: usize) -> Lru {
        let most = match size {
            CacheSize::Objects(objects) => most.min(objects as usize),
            CacheSize::Bytes(_) => most,
        };
        Lru {
            size,
            most: most.clamp(1, NONE as usize - 1),
            index: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        }
    }

    /// Asks for an object. Whether it was there; it is afterwards, unless it is larger than the cache.
    pub fn ask(&mut self, object: u64, bytes: u64) -> bool {
        if let Some(&at) = self.index.get(&object) {
            if at != self.newest {
                self.unlink(at);
                self.link(at);
            }
            return true;
        }
        if let CacheSize::Bytes(size) = self.size {
            if bytes > size {
                return false;
            }
            // What is in it may be as large as a number holds: not a sum, which has no room.
            while self.bytes > size - bytes {
                self.drop_oldest();
            }
        }
        while self.index.len() >= self.most {
            self.drop_oldest();
        }
        let entry = Entry { object, bytes, newer: NONE, older: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.link(at);
        self.index.insert(object, at);
        // Where the size is in objects, nobody asks how many bytes these are.
        self.bytes = self.bytes.saturating_add(bytes);
        false
    }

    /// Objects in it.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Makes it as it was in the beginning.
    pub fn clear(&mut self) {
        *self = Lru::new(self.size, self.most);
    }

    fn drop_oldest(&mut self) {
        let at = self.oldest;
        let Entry { object, bytes, .. } = self.entries[at as usize];
        self.unlink(at);
        self.index.remove(&object);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.free.push(at);
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }

    fn link(&mut self, at: u32) {
        let before = self.newest;
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, before);
        match before {
            NONE => self.oldest = at,
            before => self.entries[before as usize].newer = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use fastrand::Rng;

    use super::*;

    #[test]
    fn it_agrees_with_a_list_that_is_searched() {
        let mut rng = Rng::with_seed(1);
        for size in [CacheSize::Objects(1), CacheSize::Objects(7), CacheSize::Bytes(100)] {
            let (mut cache, mut list) = (Lru::new(size, 50), VecDeque::<(u64, u64)>::new());
            for _ in 0..5000 {
                let object = rng.u64(..20);
                // An object's size is its own.
                let bytes = 1 + object * 7 % 120;
                let found = list.iter().position(|(other, _)| *other == object);
                assert_eq!(cache.ask(object, bytes), found.is_some());
                if let Some(at) = found {
                    list.remove(at);
                }
                let fits = |list: &VecDeque<(u64, u64)>| match size {
                    CacheSize::Objects(most) => list.len() < most as usize,
                    CacheSize::Bytes(most) => {
                        list.iter().map(|(_, bytes)| bytes).sum::<u64>() + bytes <= most
                    }
                };
                if matches!(size, CacheSize::Bytes(most) if bytes > most) {
                    continue;
                }
                while !fits(&list) {
                    list.pop_front();
                }
                list.push_back((object, bytes));
                assert_eq!(cache.len(), list.len());
            }
        }
    }

    #[test]
    fn a_size_is_told_in_the_unit_that_it_was_given_in() {
        let sizes = [
            (1 << 30, "1GiB"),
            (1536 << 20, "1536MiB"),
            (100_000_000, "100MB"),
            (2_000_000_000, "2GB"),
            (7, "7B"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(CacheSize::Bytes(bytes).to_string(), text);
        }
        assert_eq!(CacheSize::Objects(5000).to_string(), "5000");
    }

    #[test]
    fn a_size_in_bytes_has_a_bound_in_objects_too() {
        let mut cache = Lru::new(CacheSize::Bytes(u64::MAX), 3);
        assert!((0..10).all(|object| !cache.ask(object, 0)));
        assert_eq!(cache.len(), 3);
        assert!(cache.ask(9, 0) && !cache.ask(0, 0));
        cache.clear();
        assert!(cache.is_empty() && !cache.ask(9, 0));
    }

    #[test]
    fn answers_as_large_as_a_number_holds_do_no_harm() {
        for size in [CacheSize::Objects(10), CacheSize::Bytes(u64::MAX)] {
            let mut cache = Lru::new(size, 10);
            for object in 0..4 {
                assert!(!cache.ask(object, u64::MAX));
                assert!(cache.ask(object, u64::MAX));
            }
        }
    }
}
