//! What a pool does about backends that fail, come back or have too much to do, as written.
//!
//! Owns the keys of that. What they mean together stands in `meaning`.

use std::time::Duration;

use crate::{
    config::{
        kind::{
            Choice, Flag, Integer, Share,
            list::{HeaderName, List, Status},
            measure::{Decimal, Time},
            text,
        },
        section::{Located, Section},
    },
    fleet::{LoadPolicy, PassivePolicy},
    proxy::policy::{Affinity, FailureKind, Failures, OnMove, WhenFull},
    ring::Weight,
};

/// The keys of a pool beside its tables.
pub(in crate::config) struct Moving {
    pub(in crate::config) affinity: Affinity,
    pub(in crate::config) ramp: Duration,
    pub(in crate::config) ramp_header: Located<Option<String>>,
    pub(in crate::config) ramp_hits: f64,
    pub(in crate::config) on_move: OnMove,
    pub(in crate::config) move_spread: Duration,
    pub(in crate::config) min_backends: Located<usize>,
    pub(in crate::config) max_moved_per_minute: f64,
}

/// `[pools.NAME.load]`
pub(in crate::config) struct Load {
    pub(in crate::config) factor: Located<Weight>,
    pub(in crate::config) policy: LoadPolicy,
    pub(in crate::config) when_full: Located<WhenFull>,
    pub(in crate::config) queue: u32,
    pub(in crate::config) queue_timeout: Duration,
}

/// `[pools.NAME.passive]`
pub(in crate::config) struct Passive {
    pub(in crate::config) policy: PassivePolicy,
    pub(in crate::config) failures: Failures,
    pub(in crate::config) ejection: Located<Duration>,
    pub(in crate::config) max_ejection: Located<Duration>,
}

pub(super) fn moving(section: &mut Section<'_>) -> Moving {
    let doc = "Who may serve a key: preferably its owner, or the next backend when that can't; nobody but the owner (\"strict\"), for \
               state that only one may hold; or nobody but the owner for requests that change something, all methods but GET, HEAD and \
               OPTIONS (\"strict-writes\").";
    let kind = Choice(&[Affinity::Preferred, Affinity::Strict, Affinity::StrictWrites]);
    let affinity = section.key("affinity", kind, Affinity::Preferred, doc).value;
    let doc = "How long a backend that is new, comes back or has another weight takes to get its keys, one after the other, each moving \
               once; 0 gives it all of them at once.";
    let ramp = section.key("ramp", Time::any(), Duration::ZERO, doc).value;
    let doc = "A header in which backends say whether an answer was a hit, as `X-Cache: HIT` does: a returning backend then gets further keys \
               when its answers are hits again, and `ramp` is the longest that this takes; empty to go by time alone.";
    let kind = text::OrEmpty(HeaderName { own: &[] });
    let ramp_header = section.key("ramp_header", kind, None, doc);
    let doc = "The share of hits with which it gets further keys.";
    let ramp_hits = section.key("ramp_hits", Share, 0.8, doc).value;
    let doc = "What becomes of connections that have changed their protocol when their key gets another owner: they stay where they are, \
               or are closed, so that their clients come back to the new one.";
    let on_move = section.key("on_move", Choice(&[OnMove::Keep, OnMove::Close]), OnMove::Keep, doc).value;
    let doc = "The time over which they are closed.";
    let move_spread = section.key("move_spread", Time::any(), Duration::from_secs(10), doc).value;
    let doc = "A reload that leaves the pool with fewer backends that have a weight is refused.";
    let min_backends = section.key("min_backends", Integer::new(0, 65_535), 0_usize, doc);
    let doc = "The share of the pool's keys that a reload or an operator may move in a minute: a larger change takes longer; 0 means no \
               bound.";
    let max_moved_per_minute = section.key("max_moved_per_minute", Share, 0.0, doc).value;
    Moving {
        affinity,
        ramp,
        ramp_header,
        ramp_hits,
        on_move,
        move_spread,
        min_backends,
        max_moved_per_minute,
    }
}

pub(super) fn load(section: &mut Section<'_>) -> Load {
    let doc = "No backend has more requests in flight than this times the weighted mean; what is above goes on to the next owner. Above \
               1; 0 means no such bound.";
    let factor = "1.25".parse().unwrap_or(Weight::ONE);
    let factor = section.key("factor", Decimal, factor, doc);
    let doc = "Up to so many requests in flight at a backend that bound does not act, so that a quiet pool keeps every key at its owner.";
    let floor = section.key("floor", Integer::new(0, 1_000_000), 32, doc).value;
    let doc = "The most requests in flight at one backend; 0 means no bound.";
    let max_in_flight = section.key("max_in_flight", Integer::new(0, 1_000_000), 0_u32, doc);
    let doc = "A bound of each backend's own on requests in flight, which follows its latency: it grows while answers come as fast as \
               usual, and shrinks when they take longer.";
    let adaptive = section.key("adaptive", Flag, false, doc);
    let doc = "What becomes of a request whose owner is full: it goes to the next owner, waits for a place, or is refused with 503.";
    let kind = Choice(&[WhenFull::Next, WhenFull::Queue, WhenFull::Refuse]);
    let when_full = section.key("when_full", kind, WhenFull::Next, doc);
    let queues = when_full.value == WhenFull::Queue;
    let (queue, queue_timeout) = section.only_if(queues, ("when_full", &when_full), "\"queue\"", |section| {
        let doc = "The most requests that wait for one backend; further ones are refused with 503.";
        let queue = section.key("queue", Integer::new(1, 100_000), 100, doc).value;
        let doc = "How long a request waits before it is refused with 503.";
        let kind = Time::above_zero("no request could wait");
        (queue, section.key("queue_timeout", kind, Duration::from_secs(1), doc).value)
    });
    let policy = LoadPolicy {
        factor: factor.value.millionths() as f64 / 1e6,
        floor,
        max_in_flight: Some(max_in_flight.value).filter(|most| *most > 0),
        adaptive: adaptive.value,
    };
    Load { factor, policy, when_full, queue, queue_timeout }
}

pub(super) fn passive(section: &mut Section<'_>) -> Passive {
    let default = PassivePolicy::default();
    let doc = "Failures in a row after which a backend is ejected; 0 means never.";
    let consecutive = section.key("consecutive", Integer::new(0, 10_000), default.consecutive, doc).value;
    let doc =
        "The share of requests in the window that must fail for a backend to be ejected; 0 means never.";
    let share = section.key("share", Share, default.share, doc).value;
    let doc = "Requests that the window must hold before the share counts.";
    let min_requests =
        section.key("min_requests", Integer::new(1, 1_000_000), default.min_requests, doc).value;
    let doc = "How far back the window reaches.";
    let kind = || Time::above_zero("nothing would be counted");
    let window = section.key("window", kind(), default.window, doc).value;
    let doc = "What counts as a failure: \"connect\" (no connection), \"reset\" (it broke before the answer, or within it), \"timeout\", \
               \"protocol\" (not HTTP), \"status\" (an answer with one of the codes in `status`).";
    let kind = List(Choice(FailureKind::ALL));
    let counts = section.key("counts", kind, FailureKind::ALL.to_vec(), doc).value;
    let doc = "The status codes that count as failures: codes and ranges.";
    let status = section.key("status", List(Status), vec![502..=504], doc).value;
    let doc = "How long the first ejection lasts. Each further one lasts twice as long as the one before, until the backend has behaved \
               for as long as its last one lasted.";
    let kind = Time::above_zero("a backend would be ejected for nothing");
    let ejection = section.key("ejection", kind, default.ejection, doc);
    let doc = "The longest ejection.";
    let kind = Time::above_zero("a backend would be ejected for nothing");
    let max_ejection = section.key("max_ejection", kind, default.max_ejection.max(ejection.value), doc);
    let doc = "The share of the pool's weight that may be ejected at once. The last backend that serves is never ejected.";
    let max_ejected = section.key("max_ejected", Share, default.max_ejected, doc).value;
    let doc = "Requests that must succeed in a row before a backend that was ejected gets all of its keys again; 0 gives them at once.";
    let trial = section.key("trial", Integer::new(0, 1000), default.trial, doc).value;
    let doc = "How often a backend may go away before its coming back is delayed as if it were ejected; 0 means any number.";
    let flaps = section.key("flaps", Integer::new(0, 1000), default.flaps, doc).value;
    let policy = PassivePolicy {
        consecutive,
        share,
        min_requests,
        window,
        ejection: ejection.value,
        max_ejection: max_ejection.value,
        max_ejected,
        trial,
        flaps,
    };
    let failures = Failures::new(&counts, &status, consecutive, trial);
    Passive { policy, failures, ejection, max_ejection }
}
