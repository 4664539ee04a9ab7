//! Which cells each metric is read from.
//!
//! Owns that table. The names stand in [`super::families`], the cells in [`crate::tally`]; this changes neither.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, UNIX_EPOCH},
};

use super::{
    families::{self as names, Family},
    lines::Lines,
    metrics::{ListenerSource, Sources},
};
use crate::{
    fleet::{Backend, MemberView, PoolView, Standing, View},
    tally::{
        AttemptEnd, BackendCells, ByReason, Class, Closed, HandshakeEnd, Http2Fault, MoveCause, OffOwner,
        PoolCells, Refusal, Rejected, Tally, WorkerCells,
    },
    tls::ListenerTls,
};

/// Where the values of one metric come from. What it has no values of is `None`.
pub(super) struct Reading {
    pub(super) family: Family,
    /// Those of the process.
    pub(super) process: Option<fn(&Sources, &View, &mut Lines)>,
    /// Those of a pool. The label `pool` is given already.
    pub(super) pool: Option<fn(&PoolView, &mut Lines)>,
    /// Those of a backend. The labels `pool` and `backend` are given already.
    pub(super) member: Option<fn(&MemberView, &mut Lines)>,
}

impl Reading {
    const fn of(family: Family) -> Reading {
        Reading { family, process: None, pool: None, member: None }
    }

    const fn process(self, process: fn(&Sources, &View, &mut Lines)) -> Reading {
        Reading { process: Some(process), ..self }
    }

    const fn pool(self, pool: fn(&PoolView, &mut Lines)) -> Reading {
        Reading { pool: Some(pool), ..self }
    }

    const fn member(self, member: fn(&MemberView, &mut Lines)) -> Reading {
        Reading { member: Some(member), ..self }
    }
}

/// All of them, each metric once.
pub(super) const ALL: &[Reading] = &[
    Reading::of(names::REQUESTS)
        .process(|sources, _, lines| {
            for class in Class::ALL {
                let counts = |(at, _): (usize, _)| refused(sources, at);
                let of_class = |(_, refusal): &(usize, &Refusal)| Class::of(refusal.status()) == *class;
                let count = Refusal::ALL.iter().enumerate().filter(of_class).map(counts).sum();
                lines.count(&["", "", class.word()], count);
            }
        })
        .pool(|view, lines| {
            for (at, class) in Class::ALL.iter().enumerate() {
                lines.count(&["", class.word()], in_pool(view, |cells| &cells.unanswered, at));
            }
        })
        .member(|member, lines| {
            by_reason(member, lines, Class::ALL, |class| class.word(), |cells| &cells.requests);
        }),
    Reading::of(names::DURATION)
        .pool(|view, lines| lines.histogram(view.pool.all_cells().iter().map(|cells| cells.whole.read()))),
    Reading::of(names::FIRST_BYTE).pool(|view, lines| lines.histogram([view.first_byte()].into_iter())),
    Reading::of(names::CONNECT)
        .pool(|view, lines| lines.histogram(view.pool.all_cells().iter().map(|cells| cells.connect.read()))),
    Reading::of(names::IN_FLIGHT).member(|member, lines| lines.count(&[], member.backend.in_flight())),
    Reading::of(names::UPGRADED).member(|member, lines| lines.count(&[], member.backend.upgraded())),
    Reading::of(names::UPGRADES).member(|member, lines| sum(member, lines, |cells| &cells.upgrades)),
    Reading::of(names::AFFINITY).pool(|view, lines| {
        lines.count(&[OffOwner::AT_OWNER], by_cell(view, |cells| &cells.at_owner));
        for (at, reason) in OffOwner::ALL.iter().enumerate() {
            lines.count(&[reason.word()], in_pool(view, |cells| &cells.off_owner, at));
        }
    }),
    Reading::of(names::ATTEMPTS).member(|member, lines| {
        by_reason(member, lines, AttemptEnd::ALL, |end| end.word(), |cells| &cells.attempts);
    }),
    Reading::of(names::REPEATS).pool(|view, lines| {
        for (at, reason) in AttemptEnd::ALL.iter().enumerate() {
            lines.count(&[reason.word()], in_pool(view, |cells| &cells.repeats, at));
        }
    }),
    Reading::of(names::REPEATS_DENIED).pool(|view, lines| {
        for (at, reason) in AttemptEnd::ALL.iter().enumerate() {
            lines.count(&[reason.word()], in_pool(view, |cells| &cells.repeats_denied, at));
        }
    }),
    Reading::of(names::REFUSALS)
        .process(|sources, _, lines| {
            for (at, refusal) in Refusal::ALL.iter().enumerate() {
                lines.count(&["", refusal.word()], refused(sources, at));
            }
        })
        .pool(|view, lines| {
            for (at, refusal) in Refusal::ALL.iter().enumerate() {
                lines.count(&[refusal.word()], in_pool(view, |cells| &cells.refusals, at));
            }
        }),
    Reading::of(names::RECEIVED)
        .pool(|view, lines| lines.count(&[], by_cell(view, |cells| &cells.received_bytes))),
    Reading::of(names::SENT).pool(|view, lines| lines.count(&[], by_cell(view, |cells| &cells.sent_bytes))),
    Reading::of(names::CONNECTIONS_OPEN).process(|sources, _, lines| {
        for ListenerSource { name, cells, .. } in (sources.listeners)() {
            lines.count(&[&name], cells.open.load(Relaxed));
        }
    }),
    Reading::of(names::CONNECTIONS_ACCEPTED).process(|sources, _, lines| {
        for ListenerSource { name, cells, .. } in (sources.listeners)() {
            lines.count(&[&name], cells.accepted.load(Relaxed));
        }
    }),
    Reading::of(names::CONNECTIONS_REJECTED).process(|sources, _, lines| {
        for ListenerSource { name, cells, .. } in (sources.listeners)() {
            for (reason, count) in Rejected::ALL.iter().zip(&cells.rejected) {
                lines.count(&[&name, reason.word()], count.load(Relaxed));
            }
        }
    }),
    Reading::of(names::TLS_HANDSHAKES).process(|sources, _, lines| {
        for (name, tls) in secured(sources) {
            for (end, count) in HandshakeEnd::ALL.iter().zip(&tls.cells.handshakes) {
                lines.count(&[&name, end.word()], count.load(Relaxed));
            }
        }
    }),
    Reading::of(names::TLS_RELOADS).process(|sources, _, lines| {
        for (name, tls) in secured(sources) {
            lines.count(&[&name, "success"], tls.cells.reloads.load(Relaxed));
            lines.count(&[&name, "refused"], tls.cells.refused.load(Relaxed));
        }
    }),
    Reading::of(names::TLS_EXPIRY).process(|sources, _, lines| {
        for (name, tls) in secured(sources) {
            for certificate in tls.certificates() {
                let ends = certificate.ends.duration_since(UNIX_EPOCH).unwrap_or_default();
                lines.count(&[&name, &certificate.file.to_string_lossy()], ends.as_secs());
            }
        }
    }),
    Reading::of(names::HTTP2_CONNECTIONS)
        .process(|sources, _, lines| lines.count(&[], by_workers(sources, |cells| &cells.http2_connections))),
    Reading::of(names::HTTP2_ENDED).process(|sources, _, lines| {
        for (at, fault) in Http2Fault::ALL.iter().enumerate() {
            let count = sources.workers.iter().map(|cells| cells.http2_faults.at(at).get()).sum();
            lines.count(&[fault.word()], count);
        }
    }),
    Reading::of(names::HTTP2_RESETS)
        .process(|sources, _, lines| lines.count(&[], by_workers(sources, |cells| &cells.http2_resets))),
    Reading::of(names::UPSTREAM_OPENED).member(|member, lines| sum(member, lines, |cells| &cells.opened)),
    Reading::of(names::UPSTREAM_REUSED).member(|member, lines| sum(member, lines, |cells| &cells.reused)),
    Reading::of(names::UPSTREAM_CLOSED).member(|member, lines| {
        by_reason(member, lines, Closed::ALL, |reason| reason.word(), |cells| &cells.closed);
    }),
    Reading::of(names::BACKEND_SERVING)
        .member(|member, lines| lines.count(&[], u64::from(member.standing == Standing::Serving))),
    Reading::of(names::FAILURES).member(|member, lines| sum(member, lines, |cells| &cells.failed)),
    Reading::of(names::EJECTED).member(|member, lines| {
        lines.count(&[], u64::from(matches!(member.standing, Standing::Ejected | Standing::Trial)));
    }),
    Reading::of(names::DRAINED)
        .member(|member, lines| lines.count(&[], u64::from(member.standing == Standing::Drained))),
    Reading::of(names::WAITING)
        .member(|member, lines| lines.count(&[], member.backend.load.waiting().into())),
    Reading::of(names::RAMP).pool(|view, lines| {
        let progress = view.turn.as_ref().map_or(1.0, |turn| turn.ramp.progress(Instant::now()));
        lines.number(&[], progress);
    }),
    Reading::of(names::MOVED).pool(|view, lines| {
        for &cause in MoveCause::ALL {
            lines.number(&[cause.word()], view.pool.moved_by(cause));
        }
    }),
    Reading::of(names::AWAY).pool(|view, lines| lines.number(&[], view.away(Instant::now()))),
    Reading::of(names::TRANSITIONS)
        .member(|member, lines| lines.count(&[], member.backend.probes.transitions.get())),
    Reading::of(names::PROBES).member(|member, lines| {
        lines.count(&["passed"], member.backend.probes.passed.get());
        lines.count(&["failed"], member.backend.probes.failed.get());
    }),
    Reading::of(names::PROBE_DURATION)
        .member(|member, lines| lines.histogram([member.backend.probes.took.read()].into_iter())),
    Reading::of(names::VIRTUAL_NODES).pool(|view, lines| lines.count(&[], view.ring.node_count() as u64)),
    Reading::of(names::SHARE).pool(|view, lines| {
        for (member, share) in view.ring.members().iter().zip(view.ring.shares()) {
            lines.number(&[&member.name], share);
        }
    }),
    Reading::of(names::IMBALANCE).pool(|view, lines| lines.number(&[], view.ring.imbalance())),
    Reading::of(names::EXPECTED_IMBALANCE)
        .pool(|view, lines| lines.number(&[], view.ring.expected_imbalance())),
    Reading::of(names::FINGERPRINT)
        .pool(|view, lines| lines.count(&[], view.ring.fingerprint().short().into())),
    Reading::of(names::SERVING_FINGERPRINT)
        .pool(|view, lines| lines.count(&[], view.serving_fingerprint.short().into())),
    Reading::of(names::REVISION).process(|_, view, lines| lines.count(&[], view.revision)),
    Reading::of(names::CONFIG_LOADS).process(|sources, _, lines| {
        let (done, refused) = (sources.config_loads)();
        lines.count(&["success"], done);
        lines.count(&["failure"], refused);
    }),
    Reading::of(names::CONFIG_SUCCESSFUL)
        .process(|sources, _, lines| lines.count(&[], u64::from(!(sources.config_behind)()))),
    Reading::of(names::CONFIG_LOADED).process(|sources, _, lines| {
        let loaded = (sources.config_loaded)().duration_since(UNIX_EPOCH).unwrap_or_default();
        lines.number(&[], loaded.as_secs_f64());
    }),
    Reading::of(names::TAKEOVERS).process(|sources, _, lines| {
        let (done, failed) = (sources.takeovers)();
        lines.count(&["success"], done);
        lines.count(&["failure"], failed);
    }),
    Reading::of(names::READY).process(|sources, _, lines| lines.count(&[], u64::from((sources.ready)()))),
    Reading::of(names::ACCESS_DROPPED).process(|sources, _, lines| {
        lines.count(&[], (sources.access_dropped)());
    }),
    Reading::of(names::BUILD).process(|_, _, lines| lines.count(&[env!("CARGO_PKG_VERSION")], 1)),
];

/// The listeners that speak TLS.
fn secured(sources: &Sources) -> impl Iterator<Item = (String, Arc<ListenerTls>)> {
    (sources.listeners)().into_iter().filter_map(|listener| Some((listener.name, listener.tls?)))
}

/// Refusals with this number that belong to no pool.
fn refused(sources: &Sources, refusal: usize) -> u64 {
    sources.workers.iter().map(|cells| cells.refusals.at(refusal).get()).sum()
}

fn by_workers(sources: &Sources, cell: fn(&WorkerCells) -> &Tally) -> u64 {
    sources.workers.iter().map(|cells| cell(cells).get()).sum()
}

fn in_pool<const N: usize>(view: &PoolView, cells: fn(&PoolCells) -> &ByReason<N>, reason: usize) -> u64 {
    view.pool.all_cells().iter().map(|worker| cells(worker).at(reason).get()).sum()
}

fn by_cell(view: &PoolView, cell: fn(&PoolCells) -> &Tally) -> u64 {
    view.pool.all_cells().iter().map(|worker| cell(worker).get()).sum()
}

fn sum(member: &MemberView, lines: &mut Lines, cell: fn(&BackendCells) -> &Tally) {
    lines.count(&[], member.backend.sum(|worker| cell(worker).get()));
}

fn by_reason<R: Copy, const N: usize>(
    member: &MemberView,
    lines: &mut Lines,
    reasons: &[R],
    word: fn(R) -> &'static str,
    cells: fn(&BackendCells) -> &ByReason<N>,
) {
    let backend: &Backend = &member.backend;
    for (at, &reason) in reasons.iter().enumerate() {
        lines.count(&[word(reason)], backend.sum(|worker| cells(worker).at(at).get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_read_once() {
        let read: Vec<&str> = ALL.iter().map(|reading| reading.family.name).collect();
        let listed: Vec<&str> = names::ALL.iter().map(|family| family.name).collect();
        assert_eq!(read, listed);
    }
}
