//! Why the proxy itself ends a connection that has changed its protocol: it drains, or the connection's key has another owner now.
//!
//! Owns those two reasons. Of the connections through a pool only those whose key has moved are closed, and not all at one moment.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::{
    Gateway, PoolPlan,
    policy::{OnDrain, OnMove},
    tunnel::Ends,
};
use crate::{limits::MOVE_LOOK, ring::Place};

/// What one connection looks at.
#[derive(Debug)]
pub(super) struct Leaving {
    closes_on_drain: bool,
    /// `None`: it stays wherever its key goes.
    moves: Option<Moves>,
}

#[derive(Debug)]
struct Moves {
    place: Place,
    pool: usize,
    backend: usize,
    spread: Duration,
    /// Where the key was at home when the connection came: it may have come elsewhere, for the load, say.
    home: Option<usize>,
    /// The revision that was looked at last.
    seen: Cell<u64>,
    /// Its key has another owner: it is closed then.
    due: Cell<Option<Instant>>,
}

impl Leaving {
    /// Of a connection to the backend of this number that a request made with its key at this place. `None`: any place would have done.
    pub(super) fn new(
        gateway: &Gateway,
        plan: &PoolPlan,
        (pool, backend): (usize, usize),
        place: Option<Place>,
    ) -> Leaving {
        let forward = &plan.forward;
        let moves = place.filter(|_| forward.on_move == OnMove::Close).map(|place| Moves {
            place,
            pool,
            backend,
            spread: forward.move_spread,
            home: home(gateway, pool, place, Instant::now()),
            seen: Cell::new(0),
            due: Cell::new(None),
        });
        Leaving { closes_on_drain: forward.upgraded_on_drain == OnDrain::Close, moves }
    }
}

/// What it looks at, by the picture that the worker has now.
impl Ends for (&Gateway, &Leaving) {
    fn is_due(&self, now: Instant) -> bool {
        let (gateway, leaving) = self;
        if leaving.closes_on_drain && gateway.draining.get() {
            return true;
        }
        leaving.moves.as_ref().is_some_and(|moves| {
            moves.look(gateway, now);
            moves.due.get().is_some_and(|due| due <= now)
        })
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let moves = self.1.moves.as_ref()?;
        Some(moves.due.get().unwrap_or(now + MOVE_LOOK).min(now + MOVE_LOOK))
    }
}

/// The backend where a key is at home now.
fn home(gateway: &Gateway, pool: usize, place: Place, now: Instant) -> Option<usize> {
    let picture = gateway.picture();
    let pool = picture.view.pools.iter().find(|found| found.pool.id == pool)?;
    Some(pool.member(pool.home(place, now)?).backend.id)
}

impl Moves {
    fn look(&self, gateway: &Gateway, now: Instant) {
        let picture = gateway.picture();
        let pool = picture.view.pools.iter().find(|pool| pool.pool.id == self.pool);
        // While keys move one after the other, time alone moves them.
        let is_ramping = pool.is_some_and(|pool| {
            pool.turn.is_some() || pool.members.iter().any(|member| member.ramp.is_some())
        });
        if self.seen.replace(picture.view.revision) == picture.view.revision && !is_ramping {
            return;
        }
        let home = home(gateway, self.pool, self.place, now);
        // With nobody to go to, it stays; a pool that is gone has no owners.
        let has_moved =
            pool.is_none() || home.is_some_and(|home| home != self.backend && Some(home) != self.home);
        if !has_moved {
            self.due.set(None);
        } else if self.due.get().is_none() {
            let part = gateway.random() as u32 as f64 / f64::from(u32::MAX);
            self.due.set(Some(now + self.spread.mul_f64(part)));
        }
    }
}
