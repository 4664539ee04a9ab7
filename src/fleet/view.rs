//! The picture of the fleet that requests read: immutable, numbered, whole.
//!
//! Owns nothing that changes. A request takes one view and works with it to the end.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Backend, Bound, Health, LoadPolicy, Order, Orders, Pool, Ramp, Turn};
use crate::{
    endpoint::Endpoint,
    ring::{Fingerprint, MemberIndex, Place, Ring, Weight},
    tally::{Durations, OffOwner},
};

/// Whether a backend takes requests, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It takes requests.
    Serving,
    /// It was ejected, and takes a few requests, which decide whether it is serving again.
    Trial,
    /// Its first probe has not ended yet.
    Unproven,
    /// Requests failed at it, or it goes up and down too often: it takes none for a time.
    Ejected,
    /// Its health checks failed.
    Down,
    /// Its host name has no address yet.
    Unresolved,
    /// Its weight is 0, by configuration or by an operator's order: it has no place on the ring.
    Drained,
}

impl Standing {
    /// The word for logs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Serving => "serving",
            Standing::Trial => "trial",
            Standing::Unproven => "unproven",
            Standing::Ejected => "ejected",
            Standing::Down => "down",
            Standing::Unresolved => "unresolved",
            Standing::Drained => "drained",
        }
    }
}

/// What requests say about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing against it.
    Whole,
    /// It is kept out.
    Ejected {
        /// Until then.
        until: Instant,
    },
    /// A few requests decide; or, where none come, time.
    Trial {
        /// The end of that time.
        until: Instant,
    },
}

impl Trust {
    /// The word for the API.
    pub fn word(self) -> &'static str {
        match self {
            Trust::Whole => "good",
            Trust::Ejected { .. } => "ejected",
            Trust::Trial { .. } => "trial",
        }
    }
}

/// Whom requests can go to, by how things stand. The first that holds anybody counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Backends that are serving, and those on trial for some requests.
    Good,
    /// Nobody is serving: those that were ejected but pass their probes, and those that have not been probed yet. Better a doubtful
    /// backend than none.
    Doubtful,
    /// All are down.
    Bad,
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
    /// The weight that the ring goes by.
    pub weight: Weight,
    /// The weight in the configuration.
    pub configured: Weight,
    /// What an operator ordered.
    pub order: Order,
    /// What the probes say.
    pub health: Health,
    /// And why.
    pub health_reason: Arc<str>,
    /// What requests say.
    pub trust: Trust,
    /// And why.
    pub trust_reason: Arc<str>,
    /// How often it went away lately.
    pub penalty: u32,
    /// It takes its keys one after the other. `None`: it has them all.
    pub ramp: Option<Ramp>,
    /// The bound on its requests in flight.
    pub bound: Bound,
}

/// One pool in a view. `members` has the order of the ring's members.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Its ring: shared by all views in which the membership is the same.
    pub ring: Arc<Ring>,
    /// The ring takes the place of another one key by key.
    pub turn: Option<Turn>,
    /// The ring of the weights in the configuration, while operators' orders make another one.
    pub configured: Option<Arc<Ring>>,
    /// Its backends.
    pub members: Box<[MemberView]>,
    /// How many of them are serving.
    pub serving: usize,
    /// Whom requests can go to.
    pub tier: Tier,
    /// How many backends of that tier there are.
    pub usable: usize,
    /// Fingerprint of the backends that are serving.
    pub serving_fingerprint: Fingerprint,
}

impl PoolView {
    pub(super) fn new(
        pool: Arc<Pool>,
        (ring, turn, configured): (Arc<Ring>, Option<Turn>, Option<Arc<Ring>>),
        mut members: Box<[MemberView]>,
        load: &LoadPolicy,
    ) -> PoolView {
        assert_eq!(members.len(), ring.members().len(), "a view has the members of its ring");
        let is_serving = |member: MemberIndex| members[member.as_usize()].standing == Standing::Serving;
        let serving_fingerprint = ring.serving_fingerprint(is_serving);
        let count =
            |wanted: &[Standing]| members.iter().filter(|member| wanted.contains(&member.standing)).count();
        let serving = count(&[Standing::Serving]);
        let (good, doubtful) = (count(GOOD), count(DOUBTFUL));
        let (tier, usable) = match (serving, doubtful) {
            (1.., _) => (Tier::Good, good),
            (0, 1..) => (Tier::Doubtful, doubtful),
            (0, 0) => (Tier::Bad, count(&[Standing::Down])),
        };
        bounds(&mut members, load);
        PoolView { pool, ring, turn, configured, members, serving, tier, usable, serving_fingerprint }
    }

    /// The backend with this index.
    pub fn member(&self, index: MemberIndex) -> &MemberView {
        &self.members[index.as_usize()]
    }

    /// The time to the answer's head of all the pool's requests, those of backends that have left it too.
    pub fn first_byte(&self) -> Durations {
        self.pool.first_byte(&self.members)
    }

    /// Where a key at this place is at home: its first owner that serves and that it has moved to, or the first that serves. Loads do not count.
    pub fn home(&self, place: Place, now: Instant) -> Option<MemberIndex> {
        let serves = |member: &MemberView| match self.tier {
            Tier::Good => member.standing == Standing::Serving,
            tier => tier.takes(member.standing),
        };
        let has_moved = |member: &MemberView| member.ramp.is_none_or(|ramp| ramp.has_moved(place, now));
        let is_home = |index: &MemberIndex| serves(self.member(*index)) && has_moved(self.member(*index));
        let home = self.ring_for(place, now).nodes_from(place).find(is_home);
        home.or_else(|| self.ring.nodes_from(place).find(|index| serves(self.member(*index))))
    }

    /// Whether keys may have another owner for now than the configuration gives them: by an operator's order, or as they move one
    /// after the other.
    pub fn is_displaced(&self) -> bool {
        self.turn.is_some() || self.configured.is_some()
    }

    /// The owner that the configuration gives a key at this place, and why `member`, which is its owner for now, is in its place. `None`: there
    /// is no such reason. An operator's other weight is none: whom it gives a key is that key's owner.
    pub fn displaced(&self, place: Place, member: MemberIndex) -> Option<(MemberIndex, OffOwner)> {
        let configured = self.configured.as_ref().and_then(|ring| ring.owner(place));
        let drained = configured.filter(|owner| self.member(*owner).order.weight(Weight::ONE).is_zero());
        if let Some(owner) = drained {
            return Some((owner, OffOwner::OwnerDrained));
        }
        let next = self.ring.owner(place).filter(|next| *next != member && self.turn.is_some())?;
        Some((next, OffOwner::Ramp))
    }

    /// The ring that decides about a key at this place.
    pub fn ring_for(&self, place: Place, now: Instant) -> &Ring {
        match &self.turn {
            Some(turn) => turn.ring_for(place, now).unwrap_or(&self.ring),
            None => &self.ring,
        }
    }
}

const GOOD: &[Standing] = &[Standing::Serving, Standing::Trial];
/// Those that are not known to be down.
const DOUBTFUL: &[Standing] = &[Standing::Ejected, Standing::Trial, Standing::Unproven];

impl Tier {
    /// Whether requests go to a backend that stands so.
    pub fn takes(self, standing: Standing) -> bool {
        match self {
            Tier::Good => GOOD.contains(&standing),
            Tier::Doubtful => DOUBTFUL.contains(&standing),
            Tier::Bad => standing == Standing::Down,
        }
    }
}

/// Each backend's part in what is in flight. Who takes its keys only by and by does not count: the others carry its part.
fn bounds(members: &mut [MemberView], load: &LoadPolicy) {
    if load.factor == 0.0 {
        return;
    }
    let weight = |member: &MemberView| member.weight.millionths() as f64;
    let serves = |member: &&MemberView| member.standing == Standing::Serving;
    let is_whole = |member: &&MemberView| serves(member) && member.ramp.is_none();
    let whole: f64 = members.iter().filter(is_whole).map(weight).sum();
    // Where most come back at once, the few that have stayed must not carry the load of all.
    let serving = whole.max(members.iter().filter(serves).map(weight).sum::<f64>() / 2.0);
    if serving == 0.0 {
        return;
    }
    for member in members {
        member.bound = Bound { share: load.factor * weight(member) / serving, floor: load.floor };
    }
}

/// The whole picture.
#[derive(Clone, Debug)]
pub struct View {
    /// Grows by one with each view that is made.
    pub revision: u64,
    /// The pools, in the order of the configuration.
    pub pools: Box<[PoolView]>,
    /// What operators ordered, about backends that are not there, too.
    pub orders: Arc<Orders>,
}

impl View {
    pub(super) fn new(revision: u64, pools: Box<[PoolView]>, orders: Arc<Orders>) -> View {
        View { revision, pools, orders }
    }

    /// The orders about backends that are not there: they hold again when those come back.
    pub fn idle_orders(&self) -> impl Iterator<Item = (&str, &str, Order)> {
        let is_there = |pool: &str, backend: &str| {
            let found = self.pools.iter().find(|view| *view.pool.name == *pool);
            found.is_some_and(|view| view.ring.index_of(backend).is_some())
        };
        self.orders.all().filter(move |(pool, backend, _)| !is_there(pool, backend))
    }
}
