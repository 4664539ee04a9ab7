//! What a change of the configuration would have moved of recorded requests.
//!
//! Owns the counting: each request is sent through both charts. Bounded memory, whatever the log's length. Never judges what is too much.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    chart::{Chart, Charted},
    distinct::Distinct,
    records::{Asked, Asking, BadLine, LogFormat, Record, Tale},
};
use crate::{
    limits::NOTES_TOLD,
    ring::{Place, Ring},
};

/// What moves of recorded traffic.
#[derive(Debug, Default, Serialize)]
pub struct Traffic {
    /// The format that was read.
    pub format: String,
    /// Lines, without empty ones.
    pub lines: u64,
    /// Those of them that were not understood; they count nowhere else.
    pub bad: u64,
    /// The first of these.
    pub bad_lines: Vec<BadLine>,
    /// Requests.
    pub requests: u64,
    /// Those that go to another backend or another pool.
    pub moved: u64,
    /// The same as a share, from 0 to 1.
    pub share_moved: f64,
    /// Those of them that go to another pool, or come from nowhere or go there.
    pub to_another_pool: u64,
    /// Requests that no route leads anywhere, before and after.
    pub nowhere: [u64; 2],
    /// Requests without a key, before and after.
    pub keyless: [u64; 2],
    /// Different keys, and those that move.
    pub keys: Keys,
    /// By pool, those of the old configuration first.
    pub pools: Vec<PoolTraffic>,
    /// What the log can't tell.
    pub notes: Vec<String>,
}

/// Different keys. A key that is found in the requests of two pools is two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Keys {
    /// How many.
    pub distinct: f64,
    /// How many of them move.
    pub moved: f64,
    /// The same as a share, from 0 to 1.
    pub share_moved: f64,
    /// The standard error of the numbers, as a share of them: 0 if they are exact, else they come from a sample of the keys.
    pub error: f64,
}

/// The same for a pool.
#[derive(Debug, Default, Serialize)]
pub struct PoolTraffic {
    /// Its name.
    pub name: String,
    /// Requests before and after.
    pub requests: [u64; 2],
    /// Requests that went to one of its backends, and go to another or to another pool.
    pub moved: u64,
    /// The same as a share of its requests before.
    pub share_moved: f64,
    /// Different keys before.
    pub keys: Keys,
    /// The greatest load of a backend before and after, as a multiple of what its weight asks for. 0 if there is none.
    pub greatest_to_mean: [f64; 2],
    /// By backend, in order of the name.
    pub backends: Vec<BackendTraffic>,
}

/// The same for a backend.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct BackendTraffic {
    /// Its name.
    pub name: String,
    /// Requests whose key it owns, before and after.
    pub requests: [u64; 2],
}

/// Sends recorded requests through two charts.
#[derive(Debug)]
pub struct Passage<'a> {
    sides: [Side<'a>; 2],
    pools: Vec<PoolTraffic>,
    distinct: Distinct,
    traffic: Traffic,
    key: Vec<u8>,
}

/// One of the charts, with the numbers that pools and backends have here.
#[derive(Debug)]
struct Side<'a> {
    chart: &'a Chart,
    /// Where plain keys go.
    given: Option<usize>,
    pools: Vec<Lane>,
}

/// A pool of one side.
#[derive(Debug)]
struct Lane {
    /// Its number, which is the same on both sides.
    pool: u32,
    /// Lanes of one number find the same keys.
    policy: u32,
    /// By member of its ring, the backend's number in the pool.
    owners: Vec<u32>,
    /// By key source, the requests of which the log does not tell it.
    untold: Vec<u64>,
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq)]
struct Landing {
    pool: u32,
    owner: u32,
    place: Option<Place>,
}

/// No pool, no backend.
const NONE: u32 = u32::MAX;

impl Landing {
    const NOWHERE: Landing = Landing { pool: NONE, owner: NONE, place: None };
}

impl<'a> Passage<'a> {
    /// Begins. Plain keys go to the pool of this name, or to the only one there is.
    pub fn new(old: &'a Chart, new: &'a Chart, pool: Option<&str>) -> Passage<'a> {
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut pools: Vec<PoolTraffic> = Vec::new();
        let mut number = |charted: &Charted| {
            *names.entry(charted.name.to_string()).or_insert_with(|| {
                pools.push(PoolTraffic { name: charted.name.to_string(), ..PoolTraffic::default() });
                pools.len() as u32 - 1
            })
        };
        let numbers = [old, new].map(|chart| chart.pools.iter().map(&mut number).collect::<Vec<_>>());
        for (chart, numbers) in [old, new].into_iter().zip(&numbers) {
            for (charted, &number) in chart.pools.iter().zip(numbers) {
                let backends = charted.ring.members().iter();
                let fresh =
                    backends.map(|member| BackendTraffic { name: member.name.to_string(), requests: [0; 2] });
                pools[number as usize].backends.extend(fresh);
            }
        }
        for pool in &mut pools {
            pool.backends.sort_by(|a, b| a.name.cmp(&b.name));
            pool.backends.dedup_by(|a, b| a.name == b.name);
        }
        let [old_numbers, new_numbers] = numbers;
        let mut policies: HashMap<String, u32> = HashMap::new();
        let mut policy = |charted: &Charted| {
            let (words, fresh) = (charted.policy(), policies.len() as u32);
            *policies.entry(words).or_insert(fresh)
        };
        let mut side = |chart: &'a Chart, numbers: Vec<u32>| Side {
            chart,
            given: match pool {
                Some(name) => chart.position(name),
                None => (chart.pools.len() == 1).then_some(0),
            },
            pools: chart
                .pools
                .iter()
                .zip(numbers)
                .map(|(charted, pool)| Lane {
                    pool,
                    policy: policy(charted),
                    owners: owners(charted, &pools[pool as usize]),
                    untold: vec![0; charted.sources().len()],
                })
                .collect(),
        };
        let sides = [side(old, old_numbers), side(new, new_numbers)];
        let (distinct, traffic) = (Distinct::default(), Traffic::default());
        Passage { sides, pools, distinct, traffic, key: Vec::new() }
    }

    /// Takes in a request.
    #[inline]
    pub fn see(&mut self, record: &Record<'_>) {
        let [before, after] = self.landings(record);
        self.count(before, after);
    }

    fn landings(&mut self, record: &Record<'_>) -> [Landing; 2] {
        let asking = match &record.asked {
            Asked::Key(key) => {
                let place = (!key.is_empty()).then(|| Place::of(key));
                return [0, 1].map(|side| self.sides[side].land(self.sides[side].given, place));
            }
            Asked::Request(asking) => asking,
        };
        let [old, new] = &mut self.sides;
        let before = old.chart.pool_of(asking);
        let after = new.chart.pool_of(asking);
        let recorder = before.map(|pool| &old.chart.pools[pool]);
        let place = before.and_then(|pool| old.find(pool, asking, recorder, &mut self.key));
        let place_after = match (before, after) {
            (Some(before), Some(after)) if old.pools[before].policy == new.pools[after].policy => place,
            _ => after.and_then(|pool| new.find(pool, asking, recorder, &mut self.key)),
        };
        [old.land(before, place), new.land(after, place_after)]
    }

    fn count(&mut self, before: Landing, after: Landing) {
        let traffic = &mut self.traffic;
        traffic.requests += 1;
        for (at, landing) in [before, after].into_iter().enumerate() {
            if landing.pool == NONE {
                traffic.nowhere[at] += 1;
                continue;
            }
            let pool = &mut self.pools[landing.pool as usize];
            pool.requests[at] += 1;
            if landing.owner != NONE {
                pool.backends[landing.owner as usize].requests[at] += 1;
            }
            traffic.keyless[at] += u64::from(landing.place.is_none());
        }
        let elsewhere = before.pool != after.pool;
        let moved = elsewhere || before.owner != after.owner;
        traffic.moved += u64::from(moved);
        traffic.to_another_pool += u64::from(elsewhere);
        if moved && before.pool != NONE {
            self.pools[before.pool as usize].moved += 1;
        }
        // A key belongs to the pool where it is found first.
        let first = if before.place.is_some() { before } else { after };
        if let Some(place) = first.place {
            self.distinct.see(place.0 ^ spread(first.pool), first.pool << 1 | u32::from(moved));
        }
    }

    /// The end: what was counted.
    pub fn finish(mut self, format: LogFormat, tale: Tale) -> Traffic {
        let (scale, error) = (self.distinct.scale(), self.distinct.error());
        let mut all = Keys { error, ..Keys::default() };
        for pool in &mut self.pools {
            pool.keys.error = error;
        }
        for slot in self.distinct.keys() {
            let Some(pool) = self.pools.get_mut((slot.tag >> 1) as usize) else { continue };
            for keys in [&mut pool.keys, &mut all] {
                keys.distinct += scale;
                keys.moved += f64::from(slot.tag & 1) * scale;
            }
        }
        all.share_moved = part(all.moved, all.distinct);
        for pool in &mut self.pools {
            pool.keys.share_moved = part(pool.keys.moved, pool.keys.distinct);
            pool.share_moved = part(pool.moved as f64, pool.requests[0] as f64);
        }
        for (at, side) in self.sides.iter().enumerate() {
            for (charted, Lane { pool, owners, .. }) in side.chart.pools.iter().zip(&side.pools) {
                let pool = &mut self.pools[*pool as usize];
                let counts: Vec<u64> =
                    owners.iter().map(|&owner| pool.backends[owner as usize].requests[at]).collect();
                pool.greatest_to_mean[at] = greatest_to_mean(&charted.ring, &counts);
            }
        }
        let notes = self.notes();
        let traffic = self.traffic;
        Traffic {
            format: format.to_string(),
            lines: tale.lines,
            bad: tale.bad,
            bad_lines: tale.bad_lines,
            share_moved: part(traffic.moved as f64, traffic.requests as f64),
            keys: all,
            pools: self.pools,
            notes,
            ..traffic
        }
    }

    /// What the log does not tell, by side and pool. Where both sides find keys alike, the old one speaks for both.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (side, of) in self.sides.iter().zip(["", " of the new configuration"]) {
            for (pool, lane) in side.chart.pools.iter().zip(&side.pools) {
                let untold = pool.untold(&lane.untold);
                let untold: Vec<String> =
                    untold.map(|(source, count)| format!("`{source}` (requests: {count})")).collect();
                if !untold.is_empty() {
                    notes.push(format!(
                        "pool {}{of}: this log does not tell {}; what is found is what the other sources give, so the figures may be wrong for these",
                        pool.name,
                        untold.join(", ")
                    ));
                }
            }
        }
        bound_notes(&mut notes);
        notes
    }
}

/// Leaves so many notes as anybody reads, and says how many there were.
pub(super) fn bound_notes(notes: &mut Vec<String>) {
    let more = notes.len().saturating_sub(NOTES_TOLD);
    if more > 0 {
        notes.truncate(NOTES_TOLD);
        notes.push(format!("notes left out: {more}"));
    }
}

impl Side<'_> {
    #[inline]
    fn find(
        &mut self,
        pool: usize,
        asking: &Asking<'_>,
        recorder: Option<&Charted>,
        key: &mut Vec<u8>,
    ) -> Option<Place> {
        let charted = &self.chart.pools[pool];
        let sought = charted.seek(asking, key);
        let by = sought.map(|(_, at)| at);
        charted.count_untold(asking, by, recorder, &mut self.pools[pool].untold);
        sought.map(|(place, _)| place).or_else(|| charted.find_instead(asking, key))
    }

    #[inline]
    fn land(&self, pool: Option<usize>, place: Option<Place>) -> Landing {
        let Some(pool) = pool else { return Landing::NOWHERE };
        let Lane { pool: number, owners, .. } = &self.pools[pool];
        let owner = place.and_then(|place| self.chart.pools[pool].ring.owner(place));
        Landing { pool: *number, owner: owner.map_or(NONE, |owner| owners[owner.as_usize()]), place }
    }
}

/// By member of the pool's ring, where its backend stands.
fn owners(pool: &Charted, traffic: &PoolTraffic) -> Vec<u32> {
    let position = |name: &str| traffic.backends.binary_search_by(|backend| (*backend.name).cmp(name));
    let found = pool.ring.members().iter().map(|member| position(&member.name));
    found.map(|found| found.expect("all backends of both sides are listed") as u32).collect()
}

/// The greatest load, as a multiple of what the backend's weight asks for. 0 if there is no load.
pub fn greatest_to_mean(ring: &Ring, requests: &[u64]) -> f64 {
    let weight = |at: usize| ring.members()[at].weight.millionths() as f64;
    let all: f64 = (0..requests.len()).map(weight).sum();
    let total: f64 = requests.iter().map(|&count| count as f64).sum();
    let loads = requests.iter().enumerate().filter(|(at, _)| weight(*at) > 0.0);
    loads.map(|(at, &count)| part(count as f64 * all, total * weight(at))).fold(0.0, f64::max)
}

/// `a` of `b`; 0 of nothing.
fn part(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// A pool's number, made into 64 bits that look like none other's.
fn spread(pool: u32) -> u64 {
    u64::from(pool).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
