//! What follows an attempt: whether another may, what that costs, and how long it has to wait.
//!
//! Owns the spending of a pool's budget for repeats, and the wait before the only backend that is left is tried again. Which requests can be
//! sent again at all stands in [`super::repeat`], who gets them in [`super::choose`]. Never sends anything.

use std::{
    cell::Cell,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    Gateway, PoolPlan,
    budget::{Budget, Rates},
    choose::Candidates,
    client_end::ClientEnd,
    policy::RepeatPolicy,
    repeat::backoff,
};
use crate::{
    fleet::PoolView,
    http1::Method,
    io::{Buffer, BufferPool, Stream},
    limits::BUFFER_BYTES,
    tally::AttemptEnd,
};

/// The repeats of one pool.
#[derive(Clone, Copy)]
pub(super) struct Repeats<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) view: &'a PoolView,
    pub(super) plan: &'a PoolPlan,
}

impl<'a> Repeats<'a> {
    fn policy(&self) -> &'a RepeatPolicy {
        &self.plan.forward.repeats
    }

    /// A request has come that was not sent before.
    pub(super) fn bring(&self, now: Instant) {
        if self.plan.repeat_rates.share > 0 {
            self.budget(now, |budget, rates| budget.bring(now, rates));
        }
    }

    /// Whether the budget allows one more repeat, after an attempt that ended like this. If so, that is paid for; if not, counted.
    pub(super) fn pay(&self, end: AttemptEnd) -> bool {
        let now = Instant::now();
        let is_paid = self.budget(now, |budget, rates| budget.take(now, rates));
        if !is_paid {
            let cells = self.view.pool.cells(self.gateway.worker);
            cells.repeats_denied.at(end as usize).bump();
        }
        is_paid
    }

    fn budget<T>(&self, now: Instant, spend: impl FnOnce(&mut Budget, Rates) -> T) -> T {
        let rates = self.plan.repeat_rates;
        self.gateway.budgets.with(self.view.pool.id, now, rates, |budget| spend(budget, rates))
    }

    /// Waits before the same backend is tried again for the `nth` time, from 1, and not past `total`. `false`: the client has gone.
    pub(super) async fn pause(&self, client: &mut ClientEnd, nth: u32, total: Option<Instant>) -> bool {
        let chance = self.gateway.random() as u64 as f64 / u64::MAX as f64;
        let wait = backoff(self.policy().backoff.unwrap_or(Duration::ZERO), nth, chance);
        let due = Instant::now() + wait;
        let due = total.map_or(due, |total| due.min(total));
        let buffers = &self.gateway.buffers;
        std::future::poll_fn(|cx| match poll_gone(client, buffers, cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => client.timer.poll(cx, due).map(|()| true),
        })
        .await
    }
}

/// What an attempt must know about those that could follow it.
pub(super) struct Onward<'a> {
    /// `None`: nobody.
    next: Option<(Repeats<'a>, &'a Candidates<'a>)>,
    is_idempotent: bool,
    /// The request has been sent as a whole, and can be sent again.
    can_be_sent_again: Cell<bool>,
    /// The budget has been asked whether this attempt may end before its time, and has answered.
    asked: Cell<Option<bool>>,
}

impl<'a> Onward<'a> {
    /// For an attempt at the latest of these candidates.
    pub(super) fn new(repeats: Repeats<'a>, candidates: &'a Candidates<'a>, method: Method) -> Onward<'a> {
        Onward {
            next: Some((repeats, candidates)),
            is_idempotent: method.is_idempotent(),
            can_be_sent_again: Cell::new(false),
            asked: Cell::new(None),
        }
    }

    /// For an attempt that nothing follows any more.
    pub(super) fn nobody() -> Onward<'a> {
        let (can_be_sent_again, asked) = (Cell::new(false), Cell::new(None));
        Onward { next: None, is_idempotent: false, can_be_sent_again, asked }
    }

    fn repeats(&self) -> Option<Repeats<'a>> {
        self.next.map(|(repeats, _)| repeats)
    }

    /// The request has been sent as a whole.
    pub(super) fn sent(&self, can_be_sent_again: bool) {
        self.can_be_sent_again.set(can_be_sent_again);
    }

    /// How long this attempt may take until its answer begins, if the request can then go elsewhere. Asked once the request has been sent.
    pub(super) fn per_try(&self) -> Option<Duration> {
        self.repeats()?.policy().per_try.filter(|_| self.asked.get().is_none() && self.has_next())
    }

    /// How long this attempt may take until its answer begins before another is made beside it, if one can be. Asked once the request has
    /// been sent.
    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.repeats()?.policy().hedge_after.filter(|_| self.has_next())
    }

    /// That time is over. Whether another attempt could be made. It is paid for by whoever makes it.
    pub(super) fn hedges(&self) -> bool {
        self.has_next()
    }

    /// That time is over. Whether the request goes elsewhere.
    pub(super) fn leaves_late(&self) -> bool {
        self.leaves(AttemptEnd::PerTry)
    }

    /// The head of an answer of this status has come. Whether the request goes elsewhere for a better one.
    pub(super) fn leaves_for(&self, status: u16) -> bool {
        self.repeats().is_some_and(|repeats| repeats.policy().wants_another_for(status))
            && self.leaves(AttemptEnd::Status)
    }

    /// Whether the repeat after this attempt has been paid for.
    pub(super) fn is_paid(&self) -> bool {
        self.asked.get() == Some(true)
    }

    /// The budget is asked once: the answer that it did not let go late is not thrown away either.
    fn leaves(&self, end: AttemptEnd) -> bool {
        if !self.has_next() || self.asked.get().is_some() {
            return false;
        }
        let is_paid = self.repeats().is_some_and(|repeats| repeats.pay(end));
        self.asked.set(Some(is_paid));
        is_paid
    }

    fn has_next(&self) -> bool {
        self.is_idempotent
            && self.can_be_sent_again.get()
            && self.next.is_some_and(|(_, candidates)| candidates.has_next())
    }
}

/// Ready when the client has closed its connection. What it sends meanwhile is read ahead, as far as there is room: its end shows in no other
/// way.
pub(super) fn poll_gone(client: &mut ClientEnd, buffers: &BufferPool, cx: &mut Context<'_>) -> Poll<()> {
    let ClientEnd { stream, input, .. } = client;
    poll_end(stream, input, buffers, cx)
}

/// The same while the client's timer is somebody else's.
pub(super) fn poll_end(
    stream: &mut Stream,
    input: &mut Buffer,
    buffers: &BufferPool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while !input.is_full(BUFFER_BYTES) && stream.poll_read_ready(cx).is_ready() {
        buffers.lend(input);
        let read = input.poll_fill(stream, cx, BUFFER_BYTES);
        buffers.take_back(input);
        match read {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Pending
}
