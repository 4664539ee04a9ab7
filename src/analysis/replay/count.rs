//! What a replay tells: load, spill and hits, in all, by backend, by window of time, and around each event.
//!
//! Owns the counts and what is made of them. Its memory does not grow with the trace: when there are too many windows, each two become one.

use std::{collections::VecDeque, sync::Arc};

use serde::Serialize;

use super::{Event, ReplayError, SECOND, Settings, stage};
use crate::{
    fleet::PoolView,
    limits::REPLAY_WINDOWS,
    ring::{MemberIndex, Place, Ring},
    tally::OffOwner,
};

/// Requests a backend that a window must have to be counted in a percentile: with fewer, chance alone is what it shows.
const WINDOW_REQUESTS: f64 = 10.0;

/// Pieces of the time before an event in which hits are kept.
const PIECES: u64 = 10;

/// What one scenario came to. Shares and ratios are from 0 to 1, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub settings: Settings,
    /// Requests that a backend had.
    pub requests: u64,
    /// Requests that no backend could have.
    pub refused: u64,
    /// From the first request to the last.
    pub seconds: f64,
    /// The ring's greatest share to its fair part, at the start.
    pub ring_imbalance: f64,
    /// What that is on average for rings of this kind.
    pub ring_expected: f64,
    /// The requests of the backend that had most for its weight, to the mean.
    pub greatest_to_mean: f64,
    /// The same over windows of time: the 99th percentile. `null`: no window has enough requests.
    pub window_p99: Option<f64>,
    /// The width of a window.
    pub window_seconds: f64,
    /// The most that one backend had in flight.
    pub most_in_flight: u32,
    /// The share of requests that left their owner because it had more than its share of the load.
    pub spilled: f64,
    /// The share of requests that were not at their key's owner, for whatever reason.
    pub away: f64,
    /// That, by reason, as in the metric `ringway_affinity_requests_total`.
    pub away_by: Vec<(&'static str, f64)>,
    /// The share of requests that a cache would have answered. `null`: there are no caches.
    pub hits: Option<f64>,
    /// What each event did.
    pub changes: Vec<ChangeOutcome>,
    /// By backend.
    pub backends: Vec<BackendOutcome>,
    /// By window.
    pub windows: Vec<Span>,
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangeOutcome {
    /// The event.
    pub event: String,
    /// When, since the trace began.
    pub at: f64,
    /// The share of the keyspace that has another backend when all keys have moved: exact.
    pub keys_moved: f64,
    /// The share of the requests of the time after it whose key is one of those. `null`: there were none.
    pub requests_moved: Option<f64>,
    /// The share of hits in the time before it.
    pub hits_before: Option<f64>,
    /// The share of hits in the time after it.
    pub hits_after: Option<f64>,
}

/// What one backend had.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackendOutcome {
    /// Its name.
    pub backend: String,
    /// Requests.
    pub requests: u64,
    /// Of those, the ones whose key has another owner.
    pub for_others: u64,
    /// The requests that it would have had by its weight, while it served.
    pub fair: f64,
    /// The share of them that its cache would have answered.
    pub hits: Option<f64>,
    /// The most in flight.
    pub most_in_flight: u32,
    /// In flight on average.
    pub mean_in_flight: f64,
}

/// What happened in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Span {
    /// When it began, since the trace began.
    pub from: f64,
    /// Requests, by backend in the order of [`Outcome::backends`].
    pub requests: Vec<u32>,
    /// Hits, in the same order.
    pub hits: Vec<u32>,
    /// Requests that left their owner because of its load.
    pub spilled: u32,
    /// The greatest load for its weight, to the mean. `null`: too few requests to tell.
    pub greatest_to_mean: Option<f64>,
}

/// A request that a backend had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Had {
    pub(super) at: u64,
    pub(super) place: Place,
    /// The backend's number.
    pub(super) backend: usize,
    pub(super) off_owner: Option<OffOwner>,
    pub(super) hit: bool,
    /// It took so long.
    pub(super) took: u64,
    /// Requests in flight at the backend, this one included.
    pub(super) in_flight: u32,
}

#[derive(Clone, Debug, Default)]
struct OfBackend {
    name: Option<Arc<str>>,
    requests: u64,
    hits: u64,
    for_others: u64,
    most: u32,
    busy: u128,
}

#[derive(Clone, Debug, Default)]
struct Window {
    loads: Vec<u32>,
    hits: Vec<u32>,
    spilled: u32,
    era: usize,
}

/// The time after an event.
#[derive(Debug)]
struct After {
    until: u64,
    before: Ring,
    after: Ring,
    /// By member before, the same one after.
    namesakes: Vec<Option<MemberIndex>>,
    requests: u64,
    hits: u64,
    moved: u64,
}

/// All that is counted while a scenario is played.
#[derive(Debug)]
pub(super) struct Counts {
    has_cache: bool,
    around: u64,
    width: u64,
    first: Option<u64>,
    last: u64,
    refused: u64,
    by_reason: Vec<u64>,
    backends: Vec<OfBackend>,
    windows: Vec<Window>,
    /// Between two changes: each backend's fair part, and the requests of that time.
    eras: Vec<(Vec<f64>, u64)>,
    ring: (f64, f64),
    /// Before now: the number of the piece, requests, hits.
    recent: VecDeque<(u64, u64, u64)>,
    after: Option<After>,
    changes: Vec<ChangeOutcome>,
}

impl Counts {
    pub(super) fn new(pool: &PoolView, has_cache: bool, window: u64, around: u64) -> Counts {
        let ring = (pool.ring.imbalance(), pool.ring.expected_imbalance());
        let mut counts = Counts {
            has_cache,
            around: around.max(PIECES),
            width: window.max(1),
            first: None,
            last: 0,
            refused: 0,
            by_reason: vec![0; OffOwner::ALL.len()],
            backends: vec![],
            windows: vec![],
            eras: vec![],
            ring,
            recent: VecDeque::new(),
            after: None,
            changes: vec![],
        };
        counts.turn(pool);
        counts
    }

    /// The pool is another one from now on.
    pub(super) fn turn(&mut self, pool: &PoolView) {
        for member in &pool.members {
            let id = member.backend.id;
            if self.backends.len() <= id {
                self.backends.resize_with(id + 1, OfBackend::default);
            }
            self.backends[id].name.get_or_insert_with(|| member.backend.name.clone());
        }
        let parts = stage::fair_parts(pool);
        if self.eras.last().is_none_or(|(present, _)| *present != parts) {
            self.eras.push((parts, 0));
        }
    }

    /// An event has made the pool of `before` that of `after`.
    pub(super) fn changed(
        &mut self,
        event: &Event,
        before: &PoolView,
        after: &PoolView,
    ) -> Result<(), ReplayError> {
        self.end_after();
        let (before, after) = (stage::serving_ring(before)?, stage::serving_ring(after)?);
        let oldest = (event.at / self.piece()).saturating_sub(PIECES);
        let recent = self.recent.iter().filter(|(piece, ..)| *piece >= oldest);
        let (requests, hits) =
            recent.fold((0, 0), |sum, (_, requests, hits)| (sum.0 + requests, sum.1 + hits));
        self.changes.push(ChangeOutcome {
            event: event.to_string(),
            at: event.at as f64 / SECOND as f64,
            keys_moved: before.share_moved(&after),
            requests_moved: None,
            hits_before: self.has_cache.then(|| share(hits, requests)).flatten(),
            hits_after: None,
        });
        let namesakes = before.members().iter().map(|member| after.index_of(&member.name)).collect();
        let until = event.at.saturating_add(self.around);
        self.after = Some(After { until, before, after, namesakes, requests: 0, hits: 0, moved: 0 });
        Ok(())
    }

    /// A request comes.
    pub(super) fn came(&mut self, at: u64) {
        self.first.get_or_insert(at);
        self.last = at;
        if self.after.as_ref().is_some_and(|after| at >= after.until) {
            self.end_after();
        }
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// A backend had a request.
    pub(super) fn had(&mut self, had: Had) {
        let hit = u64::from(had.hit);
        let backend = &mut self.backends[had.backend];
        backend.requests += 1;
        backend.hits += hit;
        backend.most = backend.most.max(had.in_flight);
        backend.busy += u128::from(had.took);
        if let Some(reason) = had.off_owner {
            backend.for_others += 1;
            self.by_reason[reason as usize] += 1;
        }
        let era = self.eras.len() - 1;
        self.eras[era].1 += 1;
        let window = self.window(had.at);
        for counts in [&mut window.loads, &mut window.hits] {
            if counts.len() <= had.backend {
                counts.resize(had.backend + 1, 0);
            }
        }
        window.era = era;
        window.loads[had.backend] += 1;
        window.hits[had.backend] += u32::from(had.hit);
        window.spilled += u32::from(had.off_owner == Some(OffOwner::Spill));
        self.note_recent(had.at, hit);
        if let Some(after) = &mut self.after {
            let (before, now) = (after.before.owner(had.place), after.after.owner(had.place));
            after.requests += 1;
            after.hits += hit;
            after.moved += u64::from(before.and_then(|before| after.namesakes[before.as_usize()]) != now);
        }
    }

    fn piece(&self) -> u64 {
        self.around / PIECES
    }

    fn note_recent(&mut self, at: u64, hit: u64) {
        let piece = at / self.piece();
        match self.recent.back_mut() {
            Some((last, requests, hits)) if *last == piece => {
                *requests += 1;
                *hits += hit;
            }
            _ => {
                self.recent.push_back((piece, 1, hit));
                if self.recent.len() as u64 > PIECES {
                    self.recent.pop_front();
                }
            }
        }
    }

    fn end_after(&mut self) {
        let (Some(after), Some(change)) = (self.after.take(), self.changes.last_mut()) else { return };
        change.requests_moved = share(after.moved, after.requests);
        change.hits_after = self.has_cache.then(|| share(after.hits, after.requests)).flatten();
    }

    fn window(&mut self, at: u64) -> &mut Window {
        let since = at - self.first.unwrap_or(at);
        while since / self.width >= REPLAY_WINDOWS as u64 {
            self.width *= 2;
            self.windows =
                self.windows.chunks(2).map(|pair| pair.iter().fold(Window::default(), both)).collect();
        }
        let number = (since / self.width) as usize;
        if self.windows.len() <= number {
            self.windows.resize_with(number + 1, Window::default);
        }
        &mut self.windows[number]
    }

    /// What it all came to.
    pub(super) fn outcome(mut self, settings: Settings) -> Outcome {
        self.end_after();
        let requests: u64 = self.backends.iter().map(|backend| backend.requests).sum();
        let length = self.last - self.first.unwrap_or(self.last);
        let spans: Vec<Span> = (0..self.windows.len()).map(|number| self.span(number)).collect();
        let mut ratios: Vec<f64> = spans.iter().filter_map(|span| span.greatest_to_mean).collect();
        ratios.sort_by(f64::total_cmp);
        let rank = (0.99 * ratios.len() as f64).ceil() as usize;
        let part = |count: u64| share(count, requests).unwrap_or(0.0);
        let backends: Vec<_> = (0..self.backends.len()).map(|id| self.backend(id, length)).collect();
        let ratio = |backend: &BackendOutcome| match backend.fair {
            0.0 => 0.0,
            fair => backend.requests as f64 / fair,
        };
        let reasons = OffOwner::ALL.iter().filter(|reason| self.by_reason[**reason as usize] > 0);
        Outcome {
            settings,
            requests,
            refused: self.refused,
            seconds: length as f64 / SECOND as f64,
            ring_imbalance: self.ring.0,
            ring_expected: self.ring.1,
            greatest_to_mean: backends.iter().map(ratio).fold(0.0, f64::max),
            window_p99: rank.checked_sub(1).map(|at| ratios[at]),
            window_seconds: self.width as f64 / SECOND as f64,
            most_in_flight: self.backends.iter().map(|backend| backend.most).max().unwrap_or(0),
            spilled: part(self.by_reason[OffOwner::Spill as usize]),
            away: part(self.by_reason.iter().sum()),
            away_by: reasons.map(|reason| (reason.word(), part(self.by_reason[*reason as usize]))).collect(),
            hits: self.has_cache.then(|| part(self.backends.iter().map(|backend| backend.hits).sum())),
            changes: self.changes,
            backends,
            windows: spans,
        }
    }

    fn backend(&self, id: usize, length: u64) -> BackendOutcome {
        let backend = &self.backends[id];
        let part = |parts: &Vec<f64>| parts.get(id).copied().unwrap_or(0.0);
        BackendOutcome {
            backend: backend.name.as_deref().unwrap_or_default().to_owned(),
            requests: backend.requests,
            for_others: backend.for_others,
            fair: self.eras.iter().map(|(parts, requests)| part(parts) * *requests as f64).sum(),
            hits: self.has_cache.then(|| share(backend.hits, backend.requests)).flatten(),
            most_in_flight: backend.most,
            mean_in_flight: backend.busy as f64 / length.max(1) as f64,
        }
    }

    fn span(&self, number: usize) -> Span {
        let window = &self.windows[number];
        let filled = |counts: &[u32]| {
            let mut counts = counts.to_vec();
            counts.resize(self.backends.len(), 0);
            counts
        };
        let parts = &self.eras[window.era].0;
        let total: f64 = window.loads.iter().map(|load| f64::from(*load)).sum();
        let serving = parts.iter().filter(|part| **part > 0.0).count();
        // The last one ends with the trace, and may be short.
        let is_whole = number + 1 < self.windows.len() || number == 0;
        let ratio = |(load, part): (&u32, &f64)| f64::from(*load) / (part * total);
        let tells = is_whole && serving > 0 && total >= WINDOW_REQUESTS * serving as f64;
        let ratios = window.loads.iter().zip(parts).filter(|(_, part)| **part > 0.0).map(ratio);
        Span {
            from: number as f64 * self.width as f64 / SECOND as f64,
            requests: filled(&window.loads),
            hits: filled(&window.hits),
            spilled: window.spilled,
            greatest_to_mean: tells.then(|| ratios.fold(0.0, f64::max)),
        }
    }
}

fn both(a: Window, b: &Window) -> Window {
    let add = |a: &[u32], b: &[u32]| {
        let at = |counts: &[u32], i: usize| counts.get(i).copied().unwrap_or(0);
        (0..a.len().max(b.len())).map(|i| at(a, i) + at(b, i)).collect()
    };
    let era = if b.loads.is_empty() { a.era } else { b.era };
    Window {
        loads: add(&a.loads, &b.loads),
        hits: add(&a.hits, &b.hits),
        spilled: a.spilled + b.spilled,
        era,
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}
