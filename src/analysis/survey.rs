//! Is this a good key? What recorded requests say about the key of their pool.
//!
//! Owns the counting and the judgement. Bounded memory, whatever the log's length. Start at [`Surveyor::see`].

use serde::Serialize;

use super::{
    chart::{Chart, Charted},
    distinct::Distinct,
    heavy::{Counter, Heavy},
    records::{Asked, BadLine, LogFormat, Record, Tale},
    traffic::greatest_to_mean,
};
use crate::{limits::HEAVY_KEYS, ring::Place};

mod verdict;

pub use verdict::{Grade, Verdict};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// The format that was read.
    pub format: String,
    /// Lines, without empty ones.
    pub lines: u64,
    /// Those of them that were not understood.
    pub bad: u64,
    /// The first of these.
    pub bad_lines: Vec<BadLine>,
    /// Requests.
    pub requests: u64,
    /// Those of them that no route leads anywhere.
    pub nowhere: u64,
    /// By pool, those with requests, in the order of the configuration.
    pub pools: Vec<PoolSurvey>,
}

/// What was found about a pool's key.
#[derive(Debug, Serialize)]
pub struct PoolSurvey {
    /// The pool.
    pub name: String,
    /// The key's sources; empty if the keys were given as such.
    pub sources: Vec<String>,
    /// Sources that this log does not tell.
    pub untold: Vec<String>,
    /// Requests.
    pub requests: u64,
    /// Those of them in which no source is present.
    pub keyless: u64,
    /// The same as a share, from 0 to 1.
    pub share_keyless: f64,
    /// What becomes of those.
    pub on_missing_key: String,
    /// Different keys.
    pub distinct: f64,
    /// The standard error of that number, as a share of it. 0: it is exact.
    pub distinct_error: f64,
    /// The heaviest keys, the heaviest first; without those whose count may be wrong by more than half.
    pub heaviest: Vec<HeavyKey>,
    /// The entropy of the requests' keys, in bits: so many evenly used keys as two to the power of that would be as hard to guess.
    pub entropy: f64,
    /// The entropy as a share of what the same number of evenly used keys would have, from 0 to 1.
    pub evenness: f64,
    /// How the entropy is known: `exact`, or `estimated` from the heaviest keys and a sample of the others.
    pub entropy_is: &'static str,
    /// How the load lies on the pool's ring.
    pub balance: KeyBalance,
    /// Whether it is a good key.
    pub verdict: Verdict,
}

/// A heavy key.
#[derive(Debug, PartialEq, Serialize)]
pub struct HeavyKey {
    /// How it begins; bytes that are not UTF-8 are U+FFFD.
    pub key: String,
    /// The bytes in hexadecimal digits, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_hex: Option<String>,
    /// How often it came.
    pub requests: u64,
    /// How much less often it may have been. 0: the count is exact.
    pub error: u64,
    /// Its share of the requests that have a key, from 0 to 1.
    pub share: f64,
}

/// How the load of requests with a key lies on the ring. Loads are multiples of what a backend's weight asks for.
#[derive(Debug, Serialize)]
pub struct KeyBalance {
    /// Backends with a weight.
    pub backends: usize,
    /// The greatest load cannot be less, on any ring: somebody has the heaviest key.
    pub least_possible: f64,
    /// The ring's own imbalance.
    pub imbalance: f64,
    /// The greatest load that these requests would have made.
    pub greatest_to_mean: f64,
    /// The bound on load, as a factor of the mean; 0 if there is none.
    pub load_factor: f64,
    /// With that bound, the share of the requests that has to go to others at least: more, where requests come in bursts.
    pub share_spilled: f64,
}

/// Takes in recorded requests.
#[derive(Debug)]
pub struct Surveyor<'a> {
    chart: &'a Chart,
    given: Option<usize>,
    pools: Vec<Tally>,
    /// Keys of all pools, each with its pool's number as the tag.
    keys: Distinct,
    requests: u64,
    nowhere: u64,
    key: Vec<u8>,
    /// The log holds keys, not requests.
    are_given: bool,
}

#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    keyless: u64,
    keyed: u64,
    heavy: Heavy,
    /// By member of the ring.
    loads: Vec<u64>,
    /// By key source, the requests of which the log does not tell it.
    untold: Vec<u64>,
}

impl<'a> Surveyor<'a> {
    /// Begins. Plain keys go to the pool of this name, or to the only one there is.
    pub fn new(chart: &'a Chart, pool: Option<&str>) -> Surveyor<'a> {
        let tally = |pool: &Charted| Tally {
            loads: vec![0; pool.ring.members().len()],
            untold: vec![0; pool.sources().len()],
            ..Tally::default()
        };
        Surveyor {
            chart,
            given: pool.map_or((chart.pools.len() == 1).then_some(0), |name| chart.position(name)),
            pools: chart.pools.iter().map(tally).collect(),
            keys: Distinct::default(),
            requests: 0,
            nowhere: 0,
            key: Vec::new(),
            are_given: false,
        }
    }

    /// Takes in a request.
    pub fn see(&mut self, record: &Record<'_>) {
        self.requests += 1;
        let pool = match &record.asked {
            Asked::Key(_) => self.given,
            Asked::Request(asking) => self.chart.pool_of(asking),
        };
        let Some(pool) = pool else {
            self.nowhere += 1;
            return;
        };
        let (charted, tally) = (&self.chart.pools[pool], &mut self.pools[pool]);
        tally.requests += 1;
        let place = match &record.asked {
            Asked::Key(key) => {
                self.are_given = true;
                self.key.clear();
                self.key.extend_from_slice(key);
                (!key.is_empty()).then(|| Place::of(key))
            }
            Asked::Request(asking) => {
                let own = charted.seek(asking, &mut self.key);
                let (own, by) = (own.map(|(place, _)| place), own.map(|(_, at)| at));
                charted.count_untold(asking, by, Some(charted), &mut tally.untold);
                tally.keyless += u64::from(own.is_none());
                own.or_else(|| charted.find_instead(asking, &mut self.key))
            }
        };
        let Some(place) = place else {
            tally.keyless += u64::from(matches!(record.asked, Asked::Key(_)));
            return;
        };
        tally.keyed += 1;
        let hash = place.0 ^ (pool as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.keys.see(hash, pool as u32);
        tally.heavy.see(hash, &self.key);
        if let Some(owner) = charted.ring.owner(place) {
            tally.loads[owner.as_usize()] += 1;
        }
    }

    /// The end: what was found, with so many of the heaviest keys.
    pub fn finish(self, format: LogFormat, tale: Tale, heaviest: usize) -> Survey {
        let pools = self.pools.iter().enumerate().filter(|(_, tally)| tally.requests > 0);
        let pools = pools.map(|(at, _)| self.describe(at, heaviest)).collect();
        Survey {
            format: format.to_string(),
            lines: tale.lines,
            bad: tale.bad,
            bad_lines: tale.bad_lines,
            requests: self.requests,
            nowhere: self.nowhere,
            pools,
        }
    }

    fn describe(&self, at: usize, heaviest: usize) -> PoolSurvey {
        let (charted, tally) = (&self.chart.pools[at], &self.pools[at]);
        let counted = tally.heavy.keys().into_iter().map(|counter| self.counted(counter));
        let mut counted: Vec<Counter> = counted.collect();
        counted.sort_by_key(|counter| std::cmp::Reverse(counter.count));
        let share = |count: u64| count as f64 / tally.keyed.max(1) as f64;
        let heavy = |counter: &Counter| HeavyKey {
            key: String::from_utf8_lossy(&counter.key).into_owned(),
            key_hex: digits(&counter.key),
            requests: counter.count,
            error: counter.error,
            share: share(counter.count),
        };
        // A counter that may be all error says that the key is one of many, also if the sample happens to know its count.
        let is_exact = self.keys.error() == 0.0;
        let doubtful = tally.heavy.keys().into_iter().filter(|counter| counter.error * 2 > counter.count);
        let doubtful: std::collections::HashSet<u64> = doubtful.map(|counter| counter.hash).collect();
        let is_known = |counter: &&Counter| is_exact || !doubtful.contains(&counter.hash);
        let of_pool = self.keys.keys().filter(|slot| slot.tag as usize == at);
        let distinct = of_pool.count() as f64 * self.keys.scale();
        let entropy = self.entropy(at, &counted);
        // What is known for certain: counts may be too high.
        let top = counted.iter().map(|counter| share(counter.count - counter.error)).fold(0.0, f64::max);
        let balance = balance(charted, tally, top);
        let mut survey = PoolSurvey {
            name: charted.name.to_string(),
            sources: if self.are_given { Vec::new() } else { charted.sources().to_vec() },
            untold: charted.untold(&tally.untold).map(|(source, _)| source.to_owned()).collect(),
            requests: tally.requests,
            keyless: tally.keyless,
            share_keyless: tally.keyless as f64 / tally.requests.max(1) as f64,
            on_missing_key: charted.on_missing().to_string(),
            distinct,
            distinct_error: self.keys.error(),
            heaviest: counted.iter().filter(is_known).take(heaviest).map(heavy).collect(),
            entropy,
            evenness: if distinct > 1.0 { (entropy / distinct.log2()).min(1.0) } else { 0.0 },
            entropy_is: if self.keys.error() == 0.0 { "exact" } else { "estimated" },
            balance,
            verdict: Verdict::default(),
        };
        survey.verdict = Verdict::of(&survey, top);
        survey
    }

    /// A counter with the exact count, if that is known.
    fn counted(&self, counter: &Counter) -> Counter {
        let mut counter = counter.clone();
        if let Some(count) = self.keys.count_of(counter.hash) {
            (counter.count, counter.error) = (count, 0);
        }
        counter
    }

    /// The sum of `p log2(1/p)` over the keys of a pool. Where the keys in the table are a sample, the heavy ones count by themselves and the
    /// sample stands for the others.
    fn entropy(&self, at: usize, heavy: &[Counter]) -> f64 {
        let requests = self.pools[at].keyed as f64;
        if requests == 0.0 {
            return 0.0;
        }
        let weighed = |count: f64| if count > 0.0 { count * count.log2() } else { 0.0 };
        let scale = self.keys.scale();
        let is_sure = |counter: &&Counter| scale > 1.0 && counter.error * 20 <= counter.count;
        let sure: std::collections::HashSet<u64> =
            heavy.iter().filter(is_sure).map(|counter| counter.hash).collect();
        let of_heavy: f64 = heavy.iter().filter(is_sure).map(|counter| weighed(counter.count as f64)).sum();
        let others = self.keys.keys().filter(|slot| slot.tag as usize == at && !sure.contains(&slot.hash));
        let of_others: f64 = others.map(|slot| weighed(f64::from(slot.count))).sum();
        (requests.log2() - (of_heavy + of_others * scale) / requests).max(0.0)
    }
}

/// The digits of bytes that are no text. A text that was cut off within a character is one.
fn digits(key: &[u8]) -> Option<String> {
    let error = std::str::from_utf8(key).err()?;
    error.error_len()?;
    Some(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How many of a pool's requests a heavy key that is missing may have had, at most.
pub fn greatest_error(requests: u64) -> u64 {
    requests / HEAVY_KEYS as u64
}

fn balance(charted: &Charted, tally: &Tally, top: f64) -> KeyBalance {
    let weights: Vec<f64> =
        charted.ring.members().iter().map(|member| member.weight.millionths() as f64).collect();
    let (all, greatest) = (weights.iter().sum::<f64>(), weights.iter().copied().fold(0.0, f64::max));
    let total = tally.keyed.max(1) as f64;
    let factor = charted.load_factor;
    let excess = |(load, weight): (&u64, &f64)| (*load as f64 / total - factor * weight / all).max(0.0);
    let spilled: f64 = tally.loads.iter().zip(&weights).map(excess).sum();
    KeyBalance {
        backends: weights.iter().filter(|weight| **weight > 0.0).count(),
        least_possible: if greatest > 0.0 { (top * all / greatest).max(1.0) } else { 1.0 },
        imbalance: charted.ring.imbalance(),
        greatest_to_mean: greatest_to_mean(&charted.ring, &tally.loads),
        load_factor: factor,
        share_spilled: if factor > 0.0 && all > 0.0 { spilled } else { 0.0 },
    }
}
