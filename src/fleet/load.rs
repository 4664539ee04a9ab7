//! What all workers count together about a backend: requests in flight, failures in a row, requests of a trial.
//!
//! Owns the cells, the bounds on them, and who waits for room. These are the only cells on the request path that several threads
//! write: a bound on a backend's load is one bound, not one for each worker. Never chooses a backend.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll, Waker},
};

use super::Backend;

/// One backend's cells, on a cache line of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct LoadCells {
    in_flight: AtomicU32,
    /// The most that there may be. `u32::MAX`: any number.
    limit: AtomicU32,
    /// Failures in a row.
    strikes: AtomicU32,
    /// The [`Trial`] that it is on, or was.
    trial: AtomicU64,
    /// Of those that it was given, the ones that succeeded.
    trial_passed: AtomicU32,
    /// As many as there are in `queue`.
    waiting: AtomicU32,
    queue: Mutex<VecDeque<(u64, Waker)>>,
}

impl Default for LoadCells {
    fn default() -> Self {
        LoadCells {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            strikes: AtomicU32::new(0),
            trial: AtomicU64::new(0),
            trial_passed: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
        }
    }
}

impl LoadCells {
    /// Requests in flight, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The most that there may be. `None`: any number.
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit != u32::MAX)
    }

    /// Sets the most that there may be.
    pub(super) fn set_limit(&self, limit: Option<u32>) {
        let limit = limit.unwrap_or(u32::MAX);
        let before = self.limit.swap(limit, SeqCst);
        for _ in before..limit.min(before.saturating_add(self.waiting())) {
            self.wake_next();
        }
    }

    /// Requests that wait for room.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Notes that a request succeeded. On the way of every request: a write only where something changes.
    pub fn succeeded(&self) {
        if self.strikes.load(Relaxed) != 0 {
            self.strikes.store(0, Relaxed);
        }
    }

    /// Notes that a request failed, and returns how many have in a row.
    pub fn failed(&self) -> u32 {
        self.strikes.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Takes one of the requests that a backend on trial may have. The number of the trial, for [`end_of_trial`](Self::end_of_trial).
    fn take_trial(&self) -> Option<u32> {
        let take = |bits| {
            let trial = Trial::of(bits);
            let left = trial.left.checked_sub(1)?;
            Some(Trial { left, out: trial.out.saturating_add(1), ..trial }.bits())
        };
        self.trial.fetch_update(Relaxed, Relaxed, take).ok().map(|before| Trial::of(before).number)
    }

    /// A request of the trial with this number has ended. One of an earlier trial counts no more.
    fn end_of_trial(&self, number: u32) {
        let end = |bits| {
            let trial = Trial::of(bits);
            (trial.number == number).then(|| Trial { out: trial.out.saturating_sub(1), ..trial }.bits())
        };
        // An error is what the number is for.
        let _ = self.trial.fetch_update(Relaxed, Relaxed, end);
    }

    /// Requests that a backend on trial may still have.
    pub fn trial_left(&self) -> u32 {
        Trial::of(self.trial.load(Relaxed)).left.into()
    }

    /// Requests of this trial that have not ended. What was in flight before it began does not count.
    pub fn trial_out(&self) -> u32 {
        Trial::of(self.trial.load(Relaxed)).out.into()
    }

    /// Whether the trial with this number is the present one, or the last one that there was.
    pub fn is_trial(&self, number: u32) -> bool {
        Trial::of(self.trial.load(Relaxed)).number == number
    }

    /// Notes that a request of the present trial succeeded, and returns how many have.
    pub fn trial_succeeded(&self) -> u32 {
        self.trial_passed.fetch_add(1, Relaxed).saturating_add(1)
    }

    pub(super) fn begin_trial(&self, requests: u32) {
        self.strikes.store(0, Relaxed);
        self.trial_passed.store(0, Relaxed);
        let begin = |bits| Some(Trial::of(bits).next(requests).bits());
        // There is nothing that it would not begin from.
        let _ = self.trial.fetch_update(Relaxed, Relaxed, begin);
    }

    /// Requests of a trial whose clients went away say nothing: others take their place. Those under way may still say something.
    pub(super) fn renew_trial(&self, requests: u32) {
        let passed = self.trial_passed.load(Relaxed);
        let renew = |bits| {
            let trial = Trial::of(bits);
            let said = passed.saturating_add(trial.out.into());
            Some(Trial { left: few(requests.saturating_sub(said)), ..trial }.bits())
        };
        // There is nothing that it would not renew.
        let _ = self.trial.fetch_update(Relaxed, Relaxed, renew);
    }

    pub(super) fn forget_strikes(&self) {
        self.strikes.store(0, Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<(u64, Waker)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_next(&self) {
        if self.waiting.load(SeqCst) > 0
            && let Some((_, waker)) = self.take_waiting()
        {
            waker.wake();
        }
    }

    fn take_waiting(&self) -> Option<(u64, Waker)> {
        let mut queue = self.queue();
        let next = queue.pop_front();
        self.waiting.store(queue.len() as u32, SeqCst);
        next
    }
}

/// What is counted of a trial's requests, in one cell: so none is given out twice, and none is counted in another trial.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Which trial of the backend it is.
    number: u32,
    /// Requests that have not ended.
    out: u16,
    /// Requests that it may still be given.
    left: u16,
}

impl Trial {
    fn of(bits: u64) -> Trial {
        Trial { number: (bits >> 32) as u32, out: (bits >> 16) as u16, left: bits as u16 }
    }

    fn bits(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.out) << 16 | u64::from(self.left)
    }

    /// The one after it.
    fn next(self, requests: u32) -> Trial {
        Trial { number: self.number.wrapping_add(1), out: 0, left: few(requests) }
    }
}

/// A trial's requests: the configuration allows far fewer than fit.
fn few(requests: u32) -> u16 {
    u16::try_from(requests).unwrap_or(u16::MAX)
}

/// The bound of one backend by the load of its pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Its share of the serving weight times the factor. 0: there is no bound.
    pub share: f64,
    /// Up to so many requests in flight it does not act.
    pub floor: u32,
}

impl Bound {
    /// No bound.
    pub const NONE: Bound = Bound { share: 0.0, floor: 0 };

    /// The most requests in flight while the pool has `total`, this one included.
    pub fn most(self, total: u64) -> u64 {
        if self.share == 0.0 {
            return u64::MAX;
        }
        ((self.share * total as f64).ceil() as u64).max(self.floor.into())
    }
}

/// Why a backend can't have a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// It has more than its share of the pool's load.
    Loaded,
    /// It has as many requests as it may have.
    Full,
    /// It is on trial, and has been given the requests that decide.
    Tried,
}

/// Which bound does not allow a request beside so many.
#[inline]
fn is_busy((now, limit): (u32, u32), bound: Bound, total: impl Fn() -> u64) -> Option<Busy> {
    if now >= limit {
        Some(Busy::Full)
    } else if bound.share > 0.0 && now >= bound.floor && u64::from(now) >= bound.most(total() + 1) {
        Some(Busy::Loaded)
    } else {
        None
    }
}

/// One request's place at a backend. Given back when dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    backend: &'a Backend,
    /// The trial that the request is one of.
    trial: Option<u32>,
}

impl<'a> Slot<'a> {
    /// Takes a place, if the bounds allow it. `total` counts the pool's requests in flight; it is asked only where it matters.
    ///
    /// # Errors
    /// Which bound does not.
    pub fn take(backend: &'a Backend, bound: Bound, total: impl Fn() -> u64) -> Result<Slot<'a>, Busy> {
        let cells = &backend.load;
        let limit = cells.limit.load(Relaxed);
        let mut busy = None;
        // In one step: two workers that look before they take could both take the last place, and one that takes before it looks could
        // make another believe that there is none.
        let taken = cells.in_flight.fetch_update(SeqCst, SeqCst, |now| {
            busy = is_busy((now, limit), bound, &total);
            busy.is_none().then_some(now + 1)
        });
        match (taken, busy) {
            (Err(_), Some(busy)) => Err(busy),
            _ => Ok(Slot { backend, trial: None }),
        }
    }

    /// Takes a place for one of the few requests of a trial, if there is one left, and the bounds allow it.
    ///
    /// # Errors
    /// There is none left, or which bound does not.
    pub fn take_on_trial(
        backend: &'a Backend,
        bound: Bound,
        total: impl Fn() -> u64,
    ) -> Result<Slot<'a>, Busy> {
        let Some(number) = backend.load.take_trial() else { return Err(Busy::Tried) };
        match Slot::take(backend, bound, total) {
            Ok(mut slot) => {
                slot.trial = Some(number);
                Ok(slot)
            }
            Err(busy) => {
                // Given anew with the next look at the clock.
                backend.load.end_of_trial(number);
                Err(busy)
            }
        }
    }

    /// Whether a place could be taken now. Takes none.
    ///
    /// # Errors
    /// Which bound does not allow it.
    pub fn look(backend: &Backend, bound: Bound, total: impl Fn() -> u64) -> Result<(), Busy> {
        let cells = &backend.load;
        match is_busy((cells.in_flight(), cells.limit.load(Relaxed)), bound, total) {
            Some(busy) => Err(busy),
            None => Ok(()),
        }
    }

    /// Takes a place whatever the bounds say: for a request that had one already.
    pub fn keep(backend: &'a Backend) -> Slot<'a> {
        backend.load.in_flight.fetch_add(1, SeqCst);
        Slot { backend, trial: None }
    }

    /// The number of the trial that the request is one of.
    pub fn trial(&self) -> Option<u32> {
        self.trial
    }

    /// The same place, for longer than the view lasts that it was taken by. `backend` is the one that it is at.
    #[expect(
        clippy::disallowed_methods,
        reason = "the place is not given back: another guard counts it from here on"
    )]
    pub fn kept(self, backend: &Arc<Backend>) -> KeptSlot {
        let kept = KeptSlot { backend: backend.clone(), trial: self.trial };
        std::mem::forget(self);
        kept
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        give_back(self.backend, self.trial);
    }
}

/// A [`Slot`] that does not depend on a view.
#[derive(Debug)]
pub struct KeptSlot {
    backend: Arc<Backend>,
    trial: Option<u32>,
}

impl Drop for KeptSlot {
    fn drop(&mut self) {
        give_back(&self.backend, self.trial);
    }
}

fn give_back(backend: &Backend, trial: Option<u32>) {
    let cells = &backend.load;
    if let Some(number) = trial {
        cells.end_of_trial(number);
    }
    cells.in_flight.fetch_sub(1, SeqCst);
    cells.wake_next();
}

/// Waits for a place at a backend that is full. Ready when there is one.
#[derive(Debug)]
pub struct Room<'a> {
    backend: &'a Backend,
    number: u64,
    /// The most that may wait.
    most: u32,
    registered: bool,
}

impl<'a> Room<'a> {
    /// Begins to wait. `number` tells this request from all others that wait; `most` may wait at once.
    pub fn at(backend: &'a Backend, number: u64, most: u32) -> Room<'a> {
        Room { backend, number, most, registered: false }
    }

    fn try_take(&self) -> Option<Slot<'a>> {
        Slot::take(self.backend, Bound::NONE, || 0).ok()
    }
}

impl<'a> Future for Room<'a> {
    /// `None`: too many wait already.
    type Output = Option<Slot<'a>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Slot<'a>>> {
        if let Some(slot) = self.try_take() {
            return Poll::Ready(Some(slot));
        }
        let cells = &self.backend.load;
        let mut queue = cells.queue();
        let own = queue.iter().position(|(number, _)| *number == self.number);
        match own {
            Some(at) => queue[at].1.clone_from(cx.waker()),
            // Woken, and too late: it keeps its turn.
            None if self.registered => queue.push_front((self.number, cx.waker().clone())),
            None if queue.len() >= self.most as usize => return Poll::Ready(None),
            None => queue.push_back((self.number, cx.waker().clone())),
        }
        cells.waiting.store(queue.len() as u32, SeqCst);
        drop(queue);
        self.registered = true;
        // A place that was given back before this one was in the queue has woken nobody.
        match self.try_take() {
            Some(slot) => Poll::Ready(Some(slot)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.registered {
            return;
        }
        let cells = &self.backend.load;
        let mut queue = cells.queue();
        let before = queue.len();
        queue.retain(|(number, _)| *number != self.number);
        cells.waiting.store(queue.len() as u32, SeqCst);
        // It was woken, and may not have taken what it was woken for.
        let was_woken = queue.len() == before;
        drop(queue);
        if was_woken && cells.limit().is_none_or(|limit| cells.in_flight() < limit) {
            cells.wake_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Address;

    fn backend() -> Backend {
        let address: Address = "127.0.0.1:1".parse().unwrap();
        Backend::new(0, "a".into(), address, "".into(), 1)
    }

    #[test]
    fn the_bound_acts_above_the_floor_only() {
        let backend = backend();
        let bound = Bound { share: 1.25 / 4.0, floor: 2 };
        let first = Slot::take(&backend, bound, || 0).unwrap();
        let _second = Slot::take(&backend, bound, || panic!("below the floor nobody counts")).unwrap();
        // A third needs a pool with 1.25 x total / 4 of at least 3.
        assert_eq!(Slot::take(&backend, bound, || 5).unwrap_err(), Busy::Loaded);
        let third = Slot::take(&backend, bound, || 9).unwrap();
        assert_eq!(backend.load.in_flight(), 3);
        drop((first, third));
        assert_eq!(backend.load.in_flight(), 1);
    }

    #[test]
    fn what_is_not_of_a_trial_does_not_count_in_it() {
        let backend = backend();
        let take = || Slot::take_on_trial(&backend, Bound::NONE, || 0);
        let load = &backend.load;
        let _before = [Slot::keep(&backend), Slot::keep(&backend)];
        load.begin_trial(2);
        load.renew_trial(2);
        assert_eq!((load.trial_left(), load.trial_out()), (2, 0));
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!(take().unwrap_err(), Busy::Tried);
        drop(first);
        load.renew_trial(2);
        assert_eq!((load.trial_left(), load.trial_out()), (1, 1));
        // The second one outlives its trial.
        assert!(second.trial().is_some_and(|number| load.is_trial(number)));
        load.begin_trial(2);
        assert!(second.trial().is_some_and(|number| !load.is_trial(number)));
        let third = take().unwrap();
        drop(second);
        assert_eq!((load.trial_left(), load.trial_out()), (1, 1));
        drop(third);
        assert_eq!((load.trial_out(), load.in_flight()), (0, 2));
        // Who is full gives a trial's request back.
        load.set_limit(Some(2));
        assert_eq!(take().unwrap_err(), Busy::Full);
        load.renew_trial(2);
        assert_eq!((load.trial_left(), load.trial_out()), (2, 0));
    }

    #[test]
    fn who_waits_gets_the_place_that_is_given_back() {
        let backend = backend();
        backend.load.set_limit(Some(1));
        let slot = Slot::take(&backend, Bound::NONE, || 0).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = Room::at(&backend, 1, 1);
        assert!(Pin::new(&mut room).poll(&mut cx).is_pending());
        let mut further = Room::at(&backend, 2, 1);
        assert!(matches!(Pin::new(&mut further).poll(&mut cx), Poll::Ready(None)), "one may wait");
        drop(slot);
        let Poll::Ready(Some(slot)) = Pin::new(&mut room).poll(&mut cx) else { panic!("there is room") };
        drop(room);
        assert_eq!((backend.load.waiting(), backend.load.in_flight()), (0, 1));
        drop(slot);
        assert_eq!(backend.load.in_flight(), 0);
    }
}
