//! The last minutes, sample by sample: what a chart shows before its first second has passed.
//!
//! Owns rings of numbers, as long as [`LIVE_HISTORY`] says: one for the whole proxy, one for each pool that there is. A pool that goes is
//! forgotten with its numbers. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use hyper::body::Bytes;
use serde::Serialize;

use super::sample::Sample;
use crate::limits::LIVE_HISTORY;

/// The figures of all samples, as columns of the same length.
#[derive(Default, Serialize)]
struct Columns {
    requests_per_second: VecDeque<f32>,
    errors_per_second: VecDeque<f32>,
    off_owner_per_second: VecDeque<f32>,
    spill_per_second: VecDeque<f32>,
    repeats_per_second: VecDeque<f32>,
    in_flight: VecDeque<f32>,
}

impl Columns {
    /// Those of something that has not been there for the last `missing` samples.
    fn after(missing: usize) -> Columns {
        let mut columns = Columns::default();
        columns.all().into_iter().for_each(|column| column.resize(missing, 0.0));
        columns
    }

    fn all(&mut self) -> [&mut VecDeque<f32>; 6] {
        [
            &mut self.requests_per_second,
            &mut self.errors_per_second,
            &mut self.off_owner_per_second,
            &mut self.spill_per_second,
            &mut self.repeats_per_second,
            &mut self.in_flight,
        ]
    }

    fn add(&mut self, figures: [f64; 6]) {
        for (column, figure) in self.all().into_iter().zip(figures) {
            push(column, (figure * 1e3).round() as f32 / 1e3);
        }
    }
}

fn push<T>(column: &mut VecDeque<T>, value: T) {
    if column.len() == LIVE_HISTORY {
        column.pop_front();
    }
    column.push_back(value);
}

/// The last minutes.
pub(super) struct History {
    /// When each sample was taken, in milliseconds since 1970.
    times: VecDeque<u64>,
    /// How long a time it covers: about a second, and more where the machine was busy.
    seconds: VecDeque<f32>,
    totals: Columns,
    pools: HashMap<Arc<str>, Columns>,
    /// All that as JSON, once somebody has asked: the same for all until the next sample.
    written: Option<Bytes>,
}

#[derive(Serialize)]
struct Shown<'a> {
    times: &'a VecDeque<u64>,
    seconds: &'a VecDeque<f32>,
    totals: &'a Columns,
    pools: HashMap<&'a str, &'a Columns>,
}

impl History {
    /// None yet.
    pub(super) fn new() -> History {
        let (times, seconds) = (VecDeque::new(), VecDeque::new());
        History { times, seconds, totals: Columns::default(), pools: HashMap::new(), written: None }
    }

    /// Takes in a sample.
    pub(super) fn add(&mut self, sample: &Sample) {
        self.written = None;
        let before = self.times.len().min(LIVE_HISTORY - 1);
        push(&mut self.times, sample.millis());
        push(&mut self.seconds, sample.seconds as f32);
        let totals = &sample.totals;
        self.totals.add([
            totals.requests,
            totals.errors,
            totals.off_owner,
            totals.spill,
            totals.repeats,
            totals.in_flight as f64,
        ]);
        for (name, pool) in sample.named() {
            if !self.pools.contains_key(name) {
                self.pools.insert(name.clone(), Columns::after(before));
            }
            let off_owner: f64 = pool.off_owner.iter().sum();
            let figures =
                [pool.requests, pool.errors, off_owner, pool.spill(), pool.repeats, pool.in_flight as f64];
            if let Some(columns) = self.pools.get_mut(name) {
                columns.add(figures);
            }
        }
        // One that is not in this sample has gone.
        let there: HashSet<&Arc<str>> = sample.named().map(|(name, _)| name).collect();
        self.pools.retain(|name, _| there.contains(name));
    }

    /// As JSON.
    pub(super) fn json(&mut self) -> Bytes {
        if let Some(written) = &self.written {
            return written.clone();
        }
        let pools = self.pools.iter().map(|(name, columns)| (&**name, columns)).collect();
        let shown = Shown { times: &self.times, seconds: &self.seconds, totals: &self.totals, pools };
        let written: Bytes = serde_json::to_vec(&shown).expect("the answers' types are all JSON").into();
        self.written = Some(written.clone());
        written
    }
}
