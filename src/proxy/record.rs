//! What is remembered about a request until it ends, and counted then: once, however it ends.
//!
//! Owns the counting of requests and the making of access lines. The count happens when the record is dropped, so a
//! request whose task is thrown away is counted too.

use std::{fmt::Display, net::IpAddr, rc::Rc, sync::Arc, time::Instant};

use super::{
    Gateway, Held,
    choose::Candidates,
    key::BY_ADDRESS,
    rewrite::{FieldChanges, Rewrite},
    terms::Progress,
    trail::{self, Trail},
};
use crate::{
    fleet::{Backend, Pool, PoolView},
    http1::{RequestHead, Version},
    ring::{MemberIndex, Place},
    tally::{AttemptEnd, Class, OffOwner, Refusal},
    telemetry::access::{AccessLine, KeyFound},
};

/// One request's record.
pub(super) struct Record<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) head: &'a RequestHead,
    pub(super) begun: Instant,
    pub(super) client: IpAddr,
    pub(super) request_id: &'a [u8],
    pub(super) routed: Option<Routed>,
    pub(super) ended: Ended,
    pub(super) first_byte: Option<Instant>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) attempts: u32,
    /// How the attempts ended that were followed by another.
    pub(super) repeated: Vec<AttemptEnd>,
    /// The client is told where its request goes, and why.
    pub(super) tells: bool,
}

/// What is known once the pool is.
pub(super) struct Routed {
    /// Where names and cells are found.
    pub(super) by: By,
    /// Which of the pool's sources it came from, itself, and its place.
    pub(super) key: Option<(usize, Vec<u8>, Place)>,
    pub(super) owner: Option<MemberIndex>,
    pub(super) member: Option<MemberIndex>,
    pub(super) off_owner: Option<OffOwner>,
}

/// Where the names and cells of a request's pool and backends are found.
pub(super) enum By {
    /// In the picture that it came by, at the pool of this index.
    Picture(Rc<Held>, usize),
    /// Here, as they were there.
    Apart(Box<Apart>),
}

/// What a record needs of a picture.
pub(super) struct Apart {
    pool: Arc<Pool>,
    backend: Option<Arc<Backend>>,
    owner: Option<Arc<str>>,
    source: Option<String>,
}

impl Routed {
    /// The pool, while the picture is there.
    fn view(&self) -> Option<&PoolView> {
        match &self.by {
            By::Picture(picture, pool) => Some(&picture.view.pools[*pool]),
            By::Apart(_) => None,
        }
    }

    fn pool(&self) -> &Arc<Pool> {
        match &self.by {
            By::Picture(picture, pool) => &picture.view.pools[*pool].pool,
            By::Apart(apart) => &apart.pool,
        }
    }

    /// The backend that was tried last.
    fn backend(&self) -> Option<&Arc<Backend>> {
        match &self.by {
            By::Picture(picture, pool) => Some(&picture.view.pools[*pool].member(self.member?).backend),
            By::Apart(apart) => apart.backend.as_ref(),
        }
    }

    /// The name of the owner that is told.
    fn owner(&self) -> Option<&Arc<str>> {
        match &self.by {
            By::Picture(picture, pool) => Some(&picture.view.pools[*pool].member(self.owner?).backend.name),
            By::Apart(apart) => apart.owner.as_ref(),
        }
    }

    /// The source of the key.
    fn source(&self) -> Option<&dyn Display> {
        let (at, ..) = self.key.as_ref()?;
        match &self.by {
            By::Picture(picture, pool) => Some(&picture.plan.pools[*pool].forward.key.sources[*at]),
            By::Apart(apart) => apart.source.as_ref().map(|source| source as &dyn Display),
        }
    }

    /// The key, as the access line tells it.
    fn key(&self) -> Option<KeyFound<'_>> {
        let (_, key, place) = self.key.as_ref()?;
        Some(KeyFound { source: self.source()?, key, place: *place })
    }

    /// Lets go of the picture.
    fn leave_picture(&mut self) {
        let apart = Apart {
            pool: self.pool().clone(),
            backend: self.backend().cloned(),
            owner: self.owner().cloned(),
            source: self.source().map(ToString::to_string),
        };
        self.by = By::Apart(Box::new(apart));
    }
}

/// How the request ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It has not, or the client went away.
    Cancelled,
    /// With a backend's answer.
    Answered(u16),
    /// With a change of protocol, which has come to its end.
    Upgraded,
    /// With the beginning of one.
    Truncated(u16),
    /// With one of ours.
    Refused(Refusal),
}

/// Notes down what has passed, also if the task is thrown away in the middle, as happens to what outlives a drain.
pub(super) struct Noted<'r, 'a> {
    pub(super) record: &'r mut Record<'a>,
    pub(super) progress: &'r Progress,
}

impl Drop for Noted<'_, '_> {
    fn drop(&mut self) {
        let Noted { record, progress } = self;
        record.sent = progress.passed.get();
        record.first_byte = progress.first_byte.get();
        if progress.status.get() == Some(101) {
            record.ended = Ended::Upgraded;
        }
    }
}

impl Record<'_> {
    /// The request is at this backend now.
    pub(super) fn is_at(&mut self, member: MemberIndex, candidates: &Candidates<'_>) {
        if let Some(routed) = &mut self.routed {
            routed.member = Some(member);
            if routed.off_owner != Some(OffOwner::NoKey) {
                routed.owner = candidates.owner_told(member);
                routed.off_owner = candidates.off_owner(member);
            }
        }
    }

    /// What it has to tell of the picture is kept; the picture itself is let go of, and what else is told to clients with it.
    pub(super) fn leave_picture(&mut self) {
        if let Some(routed) = &mut self.routed {
            routed.leave_picture();
        }
    }

    /// What changes in the fields of an answer, where its client is told where its request went.
    pub(super) fn changes(&self, rewrite: Option<&Rewrite>) -> Option<FieldChanges> {
        self.tells.then(|| {
            let changes = rewrite.map(|rewrite| rewrite.response.clone()).unwrap_or_default();
            changes.with(trail::NAMES, &self.told())
        })
    }

    /// What such a client is told.
    pub(super) fn told(&self) -> Vec<(&'static str, String)> {
        let repeated = self.repeated.iter().map(|end| end.word()).collect();
        let mut trail = Trail { attempts: self.attempts, repeated, ..Trail::default() };
        let refusal = match self.ended {
            Ended::Refused(refusal) => Some(refusal.word()),
            _ => None,
        };
        if let Some(routed) = &self.routed
            && let Some(pool) = routed.view()
        {
            let name = |member: MemberIndex| &*pool.member(member).backend.name;
            let place = routed.key.as_ref().map(|(.., place)| *place);
            let owner = || pool.ring_for(place?, self.begun).owner(place?);
            trail.owner = routed.owner.or_else(owner).map(name);
            trail.backend = routed.member.map(name);
            let at_backend =
                routed.member.map(|_| routed.off_owner.map_or(OffOwner::AT_OWNER, OffOwner::word));
            trail.reason = refusal.or(at_backend);
            let is_by_address =
                routed.off_owner != Some(OffOwner::NoKey) && refusal != Some(Refusal::NoKey.word());
            trail.key_source = match routed.source() {
                Some(source) => Some(source.to_string()),
                None => is_by_address.then(|| BY_ADDRESS.to_owned()),
            };
        }
        trail.fields()
    }

    fn count(&self) {
        let worker = self.gateway.worker;
        let class = match self.ended {
            Ended::Cancelled => Class::Cancelled,
            Ended::Answered(status) => Class::of(status),
            Ended::Upgraded => Class::Informational,
            Ended::Truncated(_) => Class::Truncated,
            Ended::Refused(refusal) => Class::of(refusal.status()),
        };
        let Some(routed) = &self.routed else {
            if let Ended::Refused(refusal) = self.ended {
                self.gateway.cells.refusals.at(refusal as usize).bump();
            }
            return;
        };
        let cells = routed.pool().cells(worker);
        if let Ended::Refused(refusal) = self.ended {
            cells.refusals.at(refusal as usize).bump();
        }
        // A refusal is counted where no backend answered, whichever was tried.
        let (requests, first_byte) = match routed.backend() {
            Some(backend) if !matches!(self.ended, Ended::Refused(_)) => {
                let cells = backend.cells(worker);
                (&cells.requests, &cells.first_byte)
            }
            _ => (&cells.unanswered, &cells.first_byte),
        };
        requests.at(class as usize).bump();
        match routed.off_owner {
            // Nobody was asked.
            _ if routed.member.is_none() => {}
            None => cells.at_owner.bump(),
            Some(reason) => cells.off_owner.at(reason as usize).bump(),
        }
        cells.received_bytes.add(self.received);
        cells.sent_bytes.add(self.sent);
        // A whole small answer left together with its head: then no second look at the clock is needed.
        // What comes after a change of protocol is no answer: its days would hide the milliseconds.
        if self.ended != Ended::Upgraded {
            cells.whole.observe(self.begun.elapsed());
        }
        if let Some(head) = self.first_byte {
            first_byte.observe(head - self.begun);
        }
    }

    fn write_access_line(&self) {
        if !self.gateway.logs_access() {
            return;
        }
        let routed = self.routed.as_ref();
        let line = AccessLine {
            client: self.client,
            method: self.head.method_name(),
            authority: self.head.authority(),
            path: self.head.path(),
            version: self.head.version,
            status: match self.ended {
                Ended::Cancelled => None,
                Ended::Answered(status) | Ended::Truncated(status) => Some(status),
                Ended::Upgraded => Some(101),
                Ended::Refused(refusal) => Some(refusal.status()),
            },
            refusal: match self.ended {
                Ended::Refused(refusal) => Some(refusal.word()),
                _ => None,
            },
            truncated: matches!(self.ended, Ended::Truncated(_)),
            pool: routed.map(|routed| &*routed.pool().name),
            backend: routed.and_then(Routed::backend).map(|backend| &*backend.name),
            owner: routed.and_then(Routed::owner).map(|name| &**name),
            off_owner: routed.and_then(|routed| routed.off_owner).map(OffOwner::word),
            key: routed.and_then(Routed::key),
            attempts: self.attempts,
            repeated: &self.repeated,
            whole: self.begun.elapsed(),
            first_byte: self.first_byte.map(|first_byte| first_byte - self.begun),
            received: self.received,
            sent: self.sent,
            request_id: self.request_id,
        };
        self.gateway.log_access(&line);
    }
}

impl Gateway {
    /// Writes the access line of a request whose head was refused: there is little to say about it.
    pub fn log_refused_head(
        &self,
        client: IpAddr,
        version: Version,
        refusal: Refusal,
        request_id: &[u8],
        begun: Instant,
    ) {
        if !self.logs_access() {
            return;
        }
        self.log_access(&AccessLine {
            client,
            method: b"-",
            authority: b"-",
            path: b"-",
            version,
            status: Some(refusal.status()),
            refusal: Some(refusal.word()),
            truncated: false,
            pool: None,
            backend: None,
            owner: None,
            off_owner: None,
            key: None,
            attempts: 0,
            repeated: &[],
            whole: begun.elapsed(),
            first_byte: None,
            received: 0,
            sent: 0,
            request_id,
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.count();
        self.write_access_line();
        if let Some((_, key, _)) = self.routed.as_mut().and_then(|routed| routed.key.take()) {
            self.gateway.give_key_buffer(key);
        }
    }
}
