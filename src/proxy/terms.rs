//! What an answer depends on beside itself, and how far it has come.
//!
//! Owns what is noted and written when an answer's head is there, on the short way and on the long one. Never reads or waits.

use std::{cell::Cell, time::Instant};

use super::{
    dates::Dates,
    head::{ClientFraming, write_final_answer},
    onward::Onward,
    own_fields::OwnFields,
    policy::{Failures, Verdict},
    rewrite::FieldChanges,
    warmth,
};
use crate::{
    http1::{AnswerHead, Framing, RequestHead, Version},
    tally::{AttemptEnd, BackendCells},
};

/// How far an answer has come, for whoever has to judge an attempt that was cut off.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The final answer's status, once its head has come.
    pub(super) status: Cell<Option<u16>>,
    /// The same of an answer that was not passed on, for another one's sake.
    pub(super) passed_over: Cell<Option<u16>>,
    /// An interim answer has been written in part: nothing else can be written now.
    pub(super) within_interim: Cell<bool>,
    /// The backend has asked for the body with `100 Continue`.
    pub(super) continued: Cell<bool>,
    /// When the head came.
    pub(super) first_byte: Cell<Option<Instant>>,
    /// Body bytes handed on to the client.
    pub(super) passed: Cell<u64>,
    /// Whether the answer's latency is counted, where the backend's bound follows it.
    pub(super) latency: Cell<Latency>,
}

/// Whether the latency of an answer is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Latency {
    /// It is not.
    #[default]
    Uncounted,
    /// It will be, from this time on.
    Since(Instant),
    /// It has been, and the answer has not ended.
    Counted,
}

/// What the client's side of an answer depends on, beside the answer.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// The request.
    pub(super) request: &'a RequestHead,
    /// The proxy keeps no connection: asked when the answer's head is written, which may be long after the request came.
    pub(super) draining: &'a Cell<bool>,
    /// Where answers without a date get one from.
    pub(super) dates: &'a Dates,
    /// The request has been handed on as a whole. If not, the client's connection ends with this answer, and the client must
    /// be told: it may be waiting for a `100 Continue` and would send its next request instead of the body.
    pub(super) sent: &'a Cell<bool>,
    pub(super) progress: &'a Progress,
    /// The protocol that the backend was asked to change to.
    pub(super) upgrade: Option<&'a [u8]>,
    /// Where the request could go instead.
    pub(super) onward: &'a Onward<'a>,
    /// What changes in the answer's fields.
    pub(super) changes: Option<&'a FieldChanges>,
    /// What the answer says about the use of TLS (RFC 6797), whatever the backend says.
    pub(super) hsts: Option<&'a str>,
    /// Where is counted how warm the backend is, and by which header, while that decides about its ramp.
    pub(super) warmth: Option<(&'a str, &'a BackendCells)>,
    /// Where its latency is counted, and which answers are none worth counting, while the backend's bound follows it.
    pub(super) latency: Option<(&'a BackendCells, &'a Failures)>,
}

impl Terms<'_> {
    /// The final answer's head is there, at the front of `input`: notes that, and writes it for the client.
    pub(super) fn begin(
        &self,
        out: &mut Vec<u8>,
        input: &[u8],
        head: &AnswerHead,
        framing: Framing,
    ) -> ClientFraming {
        let now = self.note(head.status);
        if let Some((header, cells)) = self.warmth {
            warmth::count(header, cells, input, head);
        }
        let client = self.client_framing(framing);
        let date = if head.has_date { None } else { Some(self.dates.at(now)) };
        let own = OwnFields { date: date.as_ref(), hsts: self.hsts };
        write_final_answer(out, input, head, (client, own), self.changes);
        client
    }

    /// Notes that the final answer begins, now. Its latency is known now, however long the answer becomes.
    pub(super) fn note(&self, status: u16) -> Instant {
        let now = Instant::now();
        self.progress.status.set(Some(status));
        self.progress.first_byte.set(Some(now));
        if let (Some((cells, failures)), Latency::Since(begun)) = (self.latency, self.progress.latency.get())
        {
            self.progress.latency.set(Latency::Counted);
            cells.answers_begun.bump();
            if failures.judge(AttemptEnd::Answered, Some(status)) == Verdict::Success {
                let nanos = now.saturating_duration_since(begun).as_nanos();
                cells.latency_nanos.add(u64::try_from(nanos).unwrap_or(u64::MAX));
                cells.latency_count.bump();
            }
        }
        now
    }

    /// Whether an HTTP/2 client that asked for a change of protocol would take this answer for one, which it is not (RFC 8441 section 5).
    pub(super) fn is_taken_for_switch(&self, head: &AnswerHead) -> bool {
        self.upgrade.is_some() && self.request.version == Version::Http2 && matches!(head.status, 200..300)
    }

    /// Body bytes were handed on.
    pub(super) fn passed(&self, n: usize) {
        self.progress.passed.set(self.progress.passed.get() + n as u64);
    }

    fn client_framing(&self, framing: Framing) -> ClientFraming {
        let version = self.request.version;
        let old = version == Version::Http10;
        let body = match framing {
            Framing::Chunked | Framing::Close if old => Framing::Close,
            Framing::Close => Framing::Chunked,
            framing => framing,
        };
        let keep_alive =
            self.request.keep_alive && self.sent.get() && !self.draining.get() && body != Framing::Close;
        ClientFraming { body, keep_alive, version }
    }
}
