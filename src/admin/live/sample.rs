//! One sample: the figures of one second, and the JSON that everybody gets of them.
//!
//! Owns the shape of `/api/live`, which is an interface: fields are added, not renamed or removed. The figures stand beside the view that
//! they were read with, so that taking a sample that nobody looks at writes no names.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use hyper::body::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    fleet::{MemberView, PoolView, Standing, View},
    server::Phase,
    tally::OffOwner,
};

/// What stands around the JSON in an event. An event without an id leaves the last one's in force.
const BEFORE: &[u8] = b"event: sample\ndata: ";
const AFTER: &[u8] = b"\n\n";

/// One sample. Rates are per second, durations in seconds.
pub(in super::super) struct Sample {
    view: Arc<View>,
    time: SystemTime,
    pub(super) seconds: f64,
    phase: Phase,
    is_ready: bool,
    can_change: bool,
    pub(super) totals: Totals,
    pub(super) pools: Box<[PoolSample]>,
    event: OnceLock<Bytes>,
}

/// Over all pools, and what was refused before a pool was known.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) in_flight: u64,
    pub(super) off_owner: f64,
    pub(super) spill: f64,
    pub(super) repeats: f64,
    pub(super) connections: u64,
}

/// A pool's figures.
pub(super) struct PoolSample {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) in_flight: u64,
    pub(super) off_owner: [f64; OffOwner::ALL.len()],
    pub(super) repeats: f64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) ramp: Option<f64>,
    pub(super) backends: Box<[BackendSample]>,
}

impl PoolSample {
    /// Requests that went past an owner because of its load.
    pub(super) fn spill(&self) -> f64 {
        self.off_owner[OffOwner::Spill as usize] + self.off_owner[OffOwner::OwnerFull as usize]
    }
}

/// A backend's figures.
pub(super) struct BackendSample {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) in_flight: u64,
    pub(super) limit: Option<u32>,
    pub(super) waiting: u32,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) ramp: Option<f64>,
}

impl Sample {
    pub(super) fn new(
        view: Arc<View>,
        time: SystemTime,
        seconds: f64,
        (phase, is_ready, can_change): (Phase, bool, bool),
        totals: Totals,
        pools: Box<[PoolSample]>,
    ) -> Sample {
        Sample { view, time, seconds, phase, is_ready, can_change, totals, pools, event: OnceLock::new() }
    }

    /// As JSON on one line.
    pub(in super::super) fn json(&self) -> Bytes {
        let event = self.event();
        event.slice(BEFORE.len()..event.len() - AFTER.len())
    }

    /// As a server-sent event: written once, however many ask.
    pub(in super::super) fn event(&self) -> Bytes {
        let write = || {
            let mut text = BEFORE.to_vec();
            serde_json::to_writer(&mut text, &self.shown()).expect("the answers' types are all JSON");
            text.extend_from_slice(AFTER);
            text.into()
        };
        self.event.get_or_init(write).clone()
    }

    /// The pools' names and figures.
    pub(super) fn named(&self) -> impl Iterator<Item = (&Arc<str>, &PoolSample)> {
        self.view.pools.iter().map(|pool| &pool.pool.name).zip(&self.pools)
    }

    /// When it was taken, in milliseconds since 1970.
    pub(super) fn millis(&self) -> u64 {
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn shown(&self) -> Shown<'_> {
        let Totals { requests, errors, in_flight, off_owner, spill, repeats, connections } = self.totals;
        let pools = self.view.pools.iter().zip(&self.pools);
        Shown {
            time: humantime::format_rfc3339_millis(self.time).to_string(),
            seconds: Number(self.seconds),
            version: env!("CARGO_PKG_VERSION"),
            revision: self.view.revision,
            ready: self.is_ready,
            draining: self.phase != Phase::Serving,
            can_change: self.can_change,
            totals: ShownTotals {
                requests_per_second: Number(requests),
                errors_per_second: Number(errors),
                in_flight,
                off_owner_per_second: Number(off_owner),
                spill_per_second: Number(spill),
                repeats_per_second: Number(repeats),
                connections,
            },
            pools: pools.map(|(view, figures)| shown_pool(view, figures)).collect(),
        }
    }
}

fn shown_pool<'a>(view: &'a PoolView, figures: &'a PoolSample) -> ShownPool<'a> {
    let members = view.members.iter().zip(view.ring.shares()).zip(&figures.backends);
    ShownPool {
        name: &view.pool.name,
        fingerprint: view.ring.fingerprint().to_string(),
        serving: view.serving,
        requests_per_second: Number(figures.requests),
        errors_per_second: Number(figures.errors),
        in_flight: figures.in_flight,
        off_owner_per_second: Reasons(&figures.off_owner),
        spill_per_second: Number(figures.spill()),
        repeats_per_second: Number(figures.repeats),
        first_byte_p50: figures.p50.map(Number),
        first_byte_p99: figures.p99.map(Number),
        ramp: figures.ramp.map(Number),
        backends: members.map(|((member, share), figures)| shown_backend(member, share, figures)).collect(),
    }
}

fn shown_backend<'a>(member: &'a MemberView, share: f64, figures: &BackendSample) -> ShownBackend<'a> {
    ShownBackend {
        name: &member.backend.name,
        share: Number(share),
        weight: member.weight.to_string(),
        configured_weight: member.configured.to_string(),
        order: member.order.word(),
        standing: member.standing,
        since: humantime::format_rfc3339_millis(member.since).to_string(),
        reason: &member.reason,
        in_flight: figures.in_flight,
        limit: figures.limit,
        waiting: figures.waiting,
        requests_per_second: Number(figures.requests),
        errors_per_second: Number(figures.errors),
        first_byte_p50: figures.p50.map(Number),
        first_byte_p99: figures.p99.map(Number),
        ramp: figures.ramp.map(Number),
    }
}

/// A number with six digits after the point: more would be noise, and as much text again.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let rounded = (self.0 * 1e6).round() / 1e6;
        match rounded.fract() == 0.0 && rounded.abs() < 9e15 {
            true => to.serialize_i64(rounded as i64),
            false => to.serialize_f64(rounded),
        }
    }
}

/// Rates by the reason for not going to the owner: those that are not zero.
struct Reasons<'a>(&'a [f64; OffOwner::ALL.len()]);

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (reason, rate) in OffOwner::ALL.iter().zip(self.0).filter(|(_, rate)| **rate > 0.0) {
            map.serialize_entry(reason.word(), &Number(*rate))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    time: String,
    seconds: Number,
    version: &'static str,
    revision: u64,
    ready: bool,
    draining: bool,
    can_change: bool,
    totals: ShownTotals,
    pools: Vec<ShownPool<'a>>,
}

#[derive(Serialize)]
struct ShownTotals {
    requests_per_second: Number,
    errors_per_second: Number,
    in_flight: u64,
    off_owner_per_second: Number,
    spill_per_second: Number,
    repeats_per_second: Number,
    connections: u64,
}

#[derive(Serialize)]
struct ShownPool<'a> {
    name: &'a str,
    fingerprint: String,
    serving: usize,
    requests_per_second: Number,
    errors_per_second: Number,
    in_flight: u64,
    off_owner_per_second: Reasons<'a>,
    spill_per_second: Number,
    repeats_per_second: Number,
    first_byte_p50: Option<Number>,
    first_byte_p99: Option<Number>,
    ramp: Option<Number>,
    backends: Vec<ShownBackend<'a>>,
}

#[derive(Serialize)]
struct ShownBackend<'a> {
    name: &'a str,
    share: Number,
    weight: String,
    configured_weight: String,
    order: &'static str,
    standing: Standing,
    since: String,
    reason: &'a str,
    in_flight: u64,
    limit: Option<u32>,
    waiting: u32,
    requests_per_second: Number,
    errors_per_second: Number,
    first_byte_p50: Option<Number>,
    first_byte_p99: Option<Number>,
    ramp: Option<Number>,
}
