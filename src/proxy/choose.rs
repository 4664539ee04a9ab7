//! Which backend a request goes to: its key's owners in ring order, those that can't have it left out.
//!
//! Owns the order of attempts and the reasons for leaving an owner out. Pure: it reads one view, and takes places at backends. The first
//! choice is the hot path: it allocates nothing and, with the owner serving, looks at one virtual node.

use std::time::Instant;

use super::policy::WhenFull;
use crate::{
    fleet::{Backend, Bound, Busy, MemberView, OnAllDown, PoolView, Slot, Standing, Tier},
    ring::{MemberIndex, NodesFrom, Place, Ring},
    tally::{OffOwner, Refusal},
};

/// Attempts that one request can have, whatever the configuration says.
pub const ATTEMPTS_MAX: usize = 16;

/// What a request may do on its way along the ring.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Attempts in all.
    pub attempts: usize,
    /// What happens while all backends are down.
    pub on_all_down: OnAllDown,
    /// Nobody but the owner may have it.
    pub owner_only: bool,
    /// What happens when the owner is full.
    pub when_full: WhenFull,
}

impl Rules {
    /// The same for a request without a key. It is nobody's: that the backend where its way begins can't have it is no reason to refuse it.
    #[must_use]
    pub fn without_key(self) -> Rules {
        let when_full = match self.when_full {
            WhenFull::Refuse => WhenFull::Next,
            other => other,
        };
        Rules { owner_only: false, when_full, ..self }
    }
}

/// What comes next on the way.
#[derive(Debug)]
pub enum Next<P> {
    /// This backend, which has a place for the request.
    Try(MemberIndex, P),
    /// This backend, once it has one.
    Wait(MemberIndex),
    /// Nobody.
    Nobody,
}

/// A request's way along the ring.
#[derive(Clone)]
pub struct Candidates<'v> {
    pool: &'v PoolView,
    ring: &'v Ring,
    place: Place,
    now: Instant,
    nodes: NodesFrom<'v>,
    owner: Option<MemberIndex>,
    tried: Few,
    /// Those that could not have it, for a reason that may pass.
    passed: Seen,
    rules: Rules,
    /// `None`: nobody can have it.
    tier: Option<Tier>,
    round: Round,
    /// Why the owner was left out.
    left_out: Option<OffOwner>,
    /// Somebody was full.
    met_full: bool,
}

/// How much is asked of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// That the key has moved to it, and that it has no more than its share of the load.
    Choosy,
    /// That it may have the request at all.
    Anybody,
}

/// A few members.
#[derive(Clone, Copy, Debug)]
struct Few {
    members: [MemberIndex; ATTEMPTS_MAX],
    count: usize,
}

impl Few {
    const NONE: Few = Few { members: [MemberIndex(0); ATTEMPTS_MAX], count: 0 };

    fn as_slice(&self) -> &[MemberIndex] {
        &self.members[..self.count]
    }

    fn contains(&self, member: MemberIndex) -> bool {
        self.as_slice().contains(&member)
    }

    /// What does not fit is not remembered: then it is looked at again.
    fn add(&mut self, member: MemberIndex) {
        if let Some(free) = self.members.get_mut(self.count) {
            *free = member;
            self.count += 1;
        }
    }
}

/// Members that were looked at. Up to the 128th it allocates nothing.
#[derive(Clone, Debug, Default)]
struct Seen {
    low: u128,
    high: Vec<u64>,
    count: usize,
}

impl Seen {
    fn contains(&self, MemberIndex(member): MemberIndex) -> bool {
        match member.checked_sub(u128::BITS) {
            None => self.low & (1 << member) != 0,
            Some(high) => {
                let word = self.high.get((high / u64::BITS) as usize);
                word.is_some_and(|word| word & (1 << (high % u64::BITS)) != 0)
            }
        }
    }

    fn add(&mut self, member: MemberIndex) {
        if self.contains(member) {
            return;
        }
        self.count += 1;
        match member.0.checked_sub(u128::BITS) {
            None => self.low |= 1 << member.0,
            Some(high) => {
                let word = (high / u64::BITS) as usize;
                self.high.resize(self.high.len().max(word + 1), 0);
                self.high[word] |= 1 << (high % u64::BITS);
            }
        }
    }
}

/// Whether requests wait for this backend already, and further ones have to queue behind them.
fn is_waited_for(rules: &Rules, view: &MemberView) -> bool {
    rules.when_full == WhenFull::Queue && view.backend.load.waiting() > 0
}

impl<'v> Candidates<'v> {
    /// The way from this place, at this time.
    pub fn new(pool: &'v PoolView, place: Place, now: Instant, rules: Rules) -> Candidates<'v> {
        let ring = pool.ring_for(place, now);
        Candidates {
            pool,
            ring,
            place,
            now,
            nodes: ring.nodes_from(place),
            owner: ring.owner(place),
            tried: Few::NONE,
            passed: Seen::default(),
            rules: Rules { attempts: rules.attempts.min(ATTEMPTS_MAX), ..rules },
            tier: Some(pool.tier)
                .filter(|tier| *tier != Tier::Bad || rules.on_all_down == OnAllDown::TryAnyway),
            round: Round::Choosy,
            left_out: None,
            met_full: false,
        }
    }

    /// The same, to know and not to go.
    #[must_use]
    pub fn asking(self) -> Asking<'v> {
        Asking { way: self, looking: Looking::default() }
    }

    /// The key's owner, whatever its standing. `None` only for a ring without virtual nodes.
    pub fn owner(&self) -> Option<MemberIndex> {
        self.owner
    }

    /// The backend that was tried last.
    pub fn latest(&self) -> Option<MemberIndex> {
        self.tried.as_slice().last().copied()
    }

    /// Whether there is a further backend that would take the request now.
    pub fn has_next(&self) -> bool {
        matches!(self.clone().asking().next_backend(), Next::Try(..))
    }

    /// The only backend that could be tried, once more: if nobody else can have the request, and further attempts are allowed. Tells how often
    /// it has been tried already, too.
    pub fn once_more(&mut self) -> Option<(MemberIndex, u32)> {
        let tried = self.tried.as_slice();
        let only = *tried.first()?;
        let times = tried.len();
        if times >= self.rules.attempts || self.met_full || tried.iter().any(|&member| member != only) {
            return None;
        }
        self.tried.add(only);
        Some((only, times as u32))
    }

    /// Why the request is at `member` and not at the owner. `None`: it is there, and nobody else would be the owner but for a drain or a ramp.
    pub fn off_owner(&self, member: MemberIndex) -> Option<OffOwner> {
        let Some(owner) = self.owner.filter(|owner| *owner != member) else {
            return self.displaced(member).map(|(_, reason)| reason);
        };
        if self.tried.contains(owner) {
            return Some(OffOwner::Repeat);
        }
        Some(match (self.left_out, self.pool.member(owner).standing) {
            (Some(reason), _) => reason,
            (None, Standing::Unresolved) => OffOwner::OwnerUnresolved,
            (None, Standing::Ejected | Standing::Trial) => OffOwner::OwnerEjected,
            (None, _) => OffOwner::OwnerDown,
        })
    }

    /// The owner that [`off_owner`](Self::off_owner) speaks of.
    pub fn owner_told(&self, member: MemberIndex) -> Option<MemberIndex> {
        self.displaced(member).map(|(owner, _)| owner).or(self.owner)
    }

    fn displaced(&self, member: MemberIndex) -> Option<(MemberIndex, OffOwner)> {
        if !self.pool.is_displaced() || self.owner != Some(member) {
            return None;
        }
        self.pool.displaced(self.place, member)
    }

    /// The refusal where nobody can have it.
    pub fn refusal(&self) -> Refusal {
        match (self.met_full, self.rules.owner_only) {
            (true, _) => Refusal::Full,
            (false, true) if self.pool.serving > 0 => Refusal::OwnerDown,
            (false, _) => Refusal::NoBackend,
        }
    }

    /// A place at `member` came free for the request.
    pub fn waited_for(&mut self, member: MemberIndex) {
        self.tried.add(member);
    }

    /// The next backend to try: distinct from all before it.
    pub fn next_backend(&mut self) -> Next<Slot<'v>> {
        self.next_by(&mut Going)
    }

    fn next_by<M: Manner<'v>>(&mut self, manner: &mut M) -> Next<M::Place> {
        // All that could be tried have been: the rest of the ring need not be looked at.
        let Some(tier) = self.tier.filter(|_| self.tried.count < self.pool.usable) else {
            return Next::Nobody;
        };
        if self.tried.count == self.rules.attempts {
            return Next::Nobody;
        }
        loop {
            while let Some(member) = self.nodes.next() {
                if self.rules.owner_only && Some(member) != self.owner {
                    break;
                }
                let view = self.pool.member(member);
                if !tier.takes(view.standing) {
                    manner.skips(member, Skip::Standing(view.standing));
                    continue;
                }
                if self.tried.contains(member) || self.passed.contains(member) {
                    continue;
                }
                if is_waited_for(&self.rules, view) {
                    // Who came first goes first.
                    manner.skips(member, Skip::Full);
                    self.passed.add(member);
                    self.left_out.get_or_insert(OffOwner::OwnerFull);
                    self.met_full = true;
                    return Next::Wait(member);
                }
                let skip = match self.admit(view, manner) {
                    Ok(place) => {
                        self.tried.add(member);
                        return Next::Try(member, place);
                    }
                    Err(skip) => skip,
                };
                manner.skips(member, skip);
                let reason = skip.off_owner();
                self.passed.add(member);
                let all_seen = self.tried.count + self.passed.count >= self.pool.usable;
                if Some(member) == self.owner {
                    self.left_out.get_or_insert(reason);
                }
                if reason == OffOwner::OwnerFull {
                    self.met_full = true;
                    match self.rules.when_full {
                        WhenFull::Next => {}
                        WhenFull::Queue => return Next::Wait(member),
                        WhenFull::Refuse => return Next::Nobody,
                    }
                }
                // Whoever else is on the ring can't be had, or has been looked at.
                if all_seen {
                    break;
                }
            }
            // Whoever was left out for the sake of others is better than nobody, and so is one that has no place on the ring before.
            let is_turning = !std::ptr::eq(self.ring, &*self.pool.ring);
            if self.round == Round::Anybody || self.passed.count == 0 && !is_turning {
                return Next::Nobody;
            }
            self.round = Round::Anybody;
            self.passed = Seen::default();
            self.nodes = self.pool.ring.nodes_from(self.place);
        }
    }

    fn admit<M: Manner<'v>>(&self, view: &'v MemberView, manner: &M) -> Result<M::Place, Skip> {
        let (backend, is_choosy) = (&*view.backend, self.round == Round::Choosy && !self.rules.owner_only);
        let on_trial = view.standing == Standing::Trial && self.pool.tier == Tier::Good;
        if is_choosy && view.ramp.is_some_and(|ramp| !ramp.has_moved(self.place, self.now)) {
            return Err(Skip::Ramp);
        }
        let bound = if is_choosy { view.bound } else { Bound::NONE };
        manner.place((backend, on_trial), bound, || self.pool.pool.in_flight()).map_err(|busy| match busy {
            Busy::Loaded => Skip::Loaded,
            Busy::Full => Skip::Full,
            Busy::Tried => Skip::Trial,
        })
    }
}

/// Why a backend is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// How it stands.
    Standing(Standing),
    /// It is on trial, and has been given the requests that decide.
    Trial,
    /// It takes its keys one after the other, and this one comes later.
    Ramp,
    /// It has more than its share of the pool's requests in flight.
    Loaded,
    /// It has as many requests as it may have.
    Full,
    /// It is not the owner, and nobody else may serve the key.
    Affinity,
}

impl Skip {
    /// The word for the API.
    pub fn word(self) -> &'static str {
        match self {
            Skip::Standing(standing) => standing.word(),
            Skip::Trial => "trial",
            Skip::Ramp => "ramp",
            Skip::Loaded => "spill",
            Skip::Full => "full",
            Skip::Affinity => "affinity",
        }
    }

    /// The same as what it means for a request when it is the owner that is passed over.
    fn off_owner(self) -> OffOwner {
        match self {
            Skip::Trial => OffOwner::OwnerEjected,
            Skip::Ramp => OffOwner::Ramp,
            Skip::Loaded => OffOwner::Spill,
            Skip::Full => OffOwner::OwnerFull,
            Skip::Standing(_) | Skip::Affinity => OffOwner::OwnerDown,
        }
    }
}

/// Whether places are taken or only looked at.
trait Manner<'v> {
    /// A place at a backend.
    type Place;

    /// A place, if the bounds allow it; at a backend on trial, for one of the requests that decide.
    fn place(
        &self,
        at: (&'v Backend, bool),
        bound: Bound,
        total: impl Fn() -> u64,
    ) -> Result<Self::Place, Busy>;

    /// A backend is passed over.
    fn skips(&mut self, _member: MemberIndex, _why: Skip) {}
}

/// A request that goes there.
struct Going;

impl<'v> Manner<'v> for Going {
    type Place = Slot<'v>;

    fn place(
        &self,
        (backend, on_trial): (&'v Backend, bool),
        bound: Bound,
        total: impl Fn() -> u64,
    ) -> Result<Slot<'v>, Busy> {
        if on_trial {
            return Slot::take_on_trial(backend, bound, total);
        }
        Slot::take(backend, bound, total)
    }
}

/// Somebody who wants to know.
#[derive(Clone, Default)]
struct Looking {
    told: Seen,
    skipped: Option<Vec<(MemberIndex, Skip)>>,
}

impl Manner<'_> for Looking {
    type Place = ();

    fn place(
        &self,
        (backend, on_trial): (&Backend, bool),
        bound: Bound,
        total: impl Fn() -> u64,
    ) -> Result<(), Busy> {
        if on_trial && backend.load.trial_left() == 0 {
            return Err(Busy::Tried);
        }
        Slot::look(backend, bound, total)
    }

    fn skips(&mut self, member: MemberIndex, why: Skip) {
        if let Some(skipped) = &mut self.skipped
            && !self.told.contains(member)
        {
            self.told.add(member);
            skipped.push((member, why));
        }
    }
}

/// A way along the ring that nobody goes: nothing is taken, and nothing changes.
#[derive(Clone)]
pub struct Asking<'v> {
    way: Candidates<'v>,
    looking: Looking,
}

impl<'v> Asking<'v> {
    /// Has those noted down that are passed over.
    #[must_use]
    pub fn noting(mut self) -> Asking<'v> {
        self.looking.skipped = Some(Vec::new());
        self
    }

    /// What comes next: see [`Candidates::next_backend`].
    pub fn next_backend(&mut self) -> Next<()> {
        self.way.next_by(&mut self.looking)
    }

    /// The way so far.
    pub fn way(&self) -> &Candidates<'v> {
        &self.way
    }

    /// Who was passed over so far, each with the first reason, in their order. Nobody, if that is not noted down.
    pub fn skipped(&self) -> &[(MemberIndex, Skip)] {
        self.looking.skipped.as_deref().unwrap_or_default()
    }
}
