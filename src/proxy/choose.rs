//! Which backend a request goes to: its key's owners in ring order, those that can't be used left out.
//!
//! Owns the order of attempts and the reasons for leaving an owner out. Pure: it reads one view. The first choice is the hot
//! path: it allocates nothing and, with the owner serving, looks at one virtual node.

use crate::{
    fleet::{OnAllDown, PoolView, Standing},
    ring::{MemberIndex, NodesFrom, Place},
    tally::OffOwner,
};

/// Attempts that one request can have, whatever the configuration says.
pub const ATTEMPTS_MAX: usize = 16;

/// A request's way along the ring.
pub struct Candidates<'v> {
    pool: &'v PoolView,
    nodes: NodesFrom<'v>,
    owner: Option<MemberIndex>,
    tried: [MemberIndex; ATTEMPTS_MAX],
    tried_count: usize,
    limit: usize,
    /// Nobody is serving, and the pool tries anyway.
    anyway: bool,
}

impl<'v> Candidates<'v> {
    /// The way from this place, with at most `limit` attempts.
    pub fn new(pool: &'v PoolView, place: Place, limit: usize, on_all_down: OnAllDown) -> Candidates<'v> {
        Candidates {
            pool,
            nodes: pool.ring.nodes_from(place),
            owner: pool.ring.owner(place),
            tried: [MemberIndex(0); ATTEMPTS_MAX],
            tried_count: 0,
            limit: limit.min(ATTEMPTS_MAX),
            anyway: pool.serving == 0 && on_all_down == OnAllDown::TryAnyway,
        }
    }

    /// The key's owner, whatever its standing. `None` only for a ring without virtual nodes.
    pub fn owner(&self) -> Option<MemberIndex> {
        self.owner
    }

    /// The backend that was tried last.
    pub fn latest(&self) -> Option<MemberIndex> {
        self.tried[..self.tried_count].last().copied()
    }

    /// Why the request is at `member` and not at the owner. `None`: it is there.
    pub fn off_owner(&self, member: MemberIndex) -> Option<OffOwner> {
        let owner = self.owner.filter(|owner| *owner != member)?;
        Some(match self.pool.member(owner).standing {
            _ if self.tried[..self.tried_count].contains(&owner) => OffOwner::Repeat,
            Standing::Unresolved => OffOwner::OwnerUnresolved,
            _ => OffOwner::OwnerDown,
        })
    }
}

impl Iterator for Candidates<'_> {
    type Item = MemberIndex;

    /// The next backend to try: distinct from all before it.
    fn next(&mut self) -> Option<MemberIndex> {
        // All that could be tried have been: the rest of the ring need not be looked at.
        let spent = self.tried_count >= if self.anyway { self.pool.usable } else { self.pool.serving };
        if self.tried_count == self.limit || spent {
            return None;
        }
        let tried = &self.tried[..self.tried_count];
        let (pool, anyway) = (self.pool, self.anyway);
        let next = self
            .nodes
            .by_ref()
            .find(|&member| is_usable(pool, anyway, member) && !tried.contains(&member))?;
        self.tried[self.tried_count] = next;
        self.tried_count += 1;
        Some(next)
    }
}

fn is_usable(pool: &PoolView, anyway: bool, member: MemberIndex) -> bool {
    match pool.member(member).standing {
        Standing::Serving => true,
        Standing::Down | Standing::Unproven => anyway,
        Standing::Unresolved | Standing::Drained => false,
    }
}
