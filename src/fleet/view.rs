//! The picture of the fleet that requests read: immutable, numbered, whole.
//!
//! Owns nothing that changes. A request takes one view and works with it to the end.

use std::{sync::Arc, time::SystemTime};

use serde::Serialize;

use super::{Backend, Pool};
use crate::{
    endpoint::Endpoint,
    ring::{Fingerprint, MemberIndex, Ring},
};

/// Whether a backend takes requests, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It takes requests.
    Serving,
    /// Its first probe has not ended yet.
    Unproven,
    /// Its health checks failed.
    Down,
    /// Its host name has no address yet.
    Unresolved,
    /// Its weight is 0: it has no place on the ring.
    Drained,
}

impl Standing {
    /// The word for logs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Serving => "serving",
            Standing::Unproven => "unproven",
            Standing::Down => "down",
            Standing::Unresolved => "unresolved",
            Standing::Drained => "drained",
        }
    }
}

/// One backend in a view.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Where it is now. Empty only if it is unresolved.
    pub addresses: Arc<[Endpoint]>,
    /// Whether it takes requests.
    pub standing: Standing,
    /// Since when it stands so.
    pub since: SystemTime,
    /// Why it stands so.
    pub reason: Arc<str>,
}

/// One pool in a view. `members` has the order of the ring's members.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Its ring: shared by all views in which the membership is the same.
    pub ring: Arc<Ring>,
    /// Its backends.
    pub members: Box<[MemberView]>,
    /// How many of them are serving.
    pub serving: usize,
    /// How many have a place on the ring and an address: those that can be tried when nobody is serving.
    pub usable: usize,
    /// Fingerprint of the backends that are serving.
    pub serving_fingerprint: Fingerprint,
}

impl PoolView {
    pub(super) fn new(pool: Arc<Pool>, ring: Arc<Ring>, members: Box<[MemberView]>) -> PoolView {
        assert_eq!(members.len(), ring.members().len(), "a view has the members of its ring");
        let is_serving = |member: MemberIndex| members[member.as_usize()].standing == Standing::Serving;
        let serving_fingerprint = ring.serving_fingerprint(is_serving);
        let serving = members.iter().filter(|member| member.standing == Standing::Serving).count();
        let can_be_tried = |standing| !matches!(standing, Standing::Unresolved | Standing::Drained);
        let usable = members.iter().filter(|member| can_be_tried(member.standing)).count();
        PoolView { pool, ring, members, serving, usable, serving_fingerprint }
    }

    /// The backend with this index.
    pub fn member(&self, index: MemberIndex) -> &MemberView {
        &self.members[index.as_usize()]
    }
}

/// The whole picture.
#[derive(Clone, Debug)]
pub struct View {
    /// Grows by one with each view that is made.
    pub revision: u64,
    /// The pools, in the order of the configuration.
    pub pools: Box<[PoolView]>,
}

impl View {
    pub(super) fn new(revision: u64, pools: Box<[PoolView]>) -> View {
        View { revision, pools }
    }
}
