//! Which backend a request goes to: its key's owners in ring order, those that can't have it left out.
//!
//! Owns the order of attempts and the reasons for leaving an owner out. Pure: it reads one view, and takes places at backends. The first
//! choice is the hot path: it allocates nothing and, with the owner serving, looks at one virtual node.

use std::time::Instant;

use super::policy::WhenFull;
use crate::{
    fleet::{Bound, Busy, MemberView, OnAllDown, PoolView, Slot, Standing, Tier},
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

/// What comes next on the way.
#[derive(Debug)]
pub enum Next<'v> {
    /// This backend, which has a place for the request.
    Try(MemberIndex, Slot<'v>),
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
    /// Nothing is taken: it is only a question.
    asks: bool,
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
            asks: false,
        }
    }

    /// The same, to know and not to go.
    #[must_use]
    pub fn asking(mut self) -> Candidates<'v> {
        self.asks = true;
        self
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

    /// Why the request is at `member` and not at the owner. `None`: it is there.
    pub fn off_owner(&self, member: MemberIndex) -> Option<OffOwner> {
        let owner = self.owner.filter(|owner| *owner != member)?;
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
    pub fn next_backend(&mut self) -> Next<'v> {
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
                if !tier.takes(view.standing) || self.tried.contains(member) || self.passed.contains(member) {
                    continue;
                }
                if is_waited_for(&self.rules, view) {
                    // Who came first goes first.
                    self.passed.add(member);
                    self.left_out.get_or_insert(OffOwner::OwnerFull);
                    self.met_full = true;
                    return Next::Wait(member);
                }
                let reason = match self.admit(view) {
                    Ok(slot) => {
                        self.tried.add(member);
                        return Next::Try(member, slot);
                    }
                    Err(reason) => reason,
                };
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

    fn admit(&self, view: &'v MemberView) -> Result<Slot<'v>, OffOwner> {
        let (backend, is_choosy) = (&*view.backend, self.round == Round::Choosy && !self.rules.owner_only);
        if view.standing == Standing::Trial && self.pool.tier == Tier::Good {
            let has_place = if self.asks { backend.load.trial_left() > 0 } else { backend.load.take_trial() };
            if !has_place {
                return Err(OffOwner::OwnerEjected);
            }
        }
        if is_choosy && view.ramp.is_some_and(|ramp| !ramp.has_moved(self.place, self.now)) {
            return Err(OffOwner::Ramp);
        }
        let bound = if is_choosy { view.bound } else { Bound::NONE };
        Slot::take(backend, bound, || self.pool.pool.in_flight()).map_err(|busy| match busy {
            Busy::Loaded => OffOwner::Spill,
            Busy::Full => OffOwner::OwnerFull,
        })
    }
}
