//! The order of work on a worker: what was begun is finished before more is begun.
//!
//! Owns the waiting of requests that have arrived and not begun. Under load, readiness comes in batches in which answers and new
//! requests are mixed. Answers go first: each gives back a connection to a backend that the next request then finds warm, so
//! that fewer are in use, and fewer are requests that wait inside. Never refuses, never reorders requests among themselves, and
//! does nothing while there is little to do.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Poll, Waker},
};

use tokio::sync::Notify;

use crate::limits::REQUESTS_AT_ONCE;

/// Where requests wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Begun since the last look at what is ready, less those that ended.
    begun: Cell<usize>,
    waiting: RefCell<VecDeque<Waker>>,
    is_wanted: Notify,
}

impl Gate {
    /// Waits until a request may begin.
    pub(super) async fn enter(&self) {
        let mut has_waited = false;
        std::future::poll_fn(|cx| {
            if has_waited || (self.waiting.borrow().is_empty() && self.begun.get() < REQUESTS_AT_ONCE) {
                self.begun.set(self.begun.get() + 1);
                return Poll::Ready(());
            }
            has_waited = true;
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                self.is_wanted.notify_one();
            }
            waiting.push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A request has ended.
    pub(super) fn leave(&self) {
        self.begun.set(self.begun.get().saturating_sub(1));
    }

    /// Lets waiting requests in, some at a time. Never ends.
    pub(super) async fn keep(&self) {
        loop {
            self.is_wanted.notified().await;
            while !self.waiting.borrow().is_empty() {
                // Comes back when all that is ready has been run, and the kernel asked for more, which then comes first.
                tokio::task::yield_now().await;
                self.begun.set(0);
                let mut waiting = self.waiting.borrow_mut();
                let some = waiting.len().min(REQUESTS_AT_ONCE);
                waiting.drain(..some).for_each(Waker::wake);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Lets `count` requests come at the same moment, of which none ends, and returns the order in which they began, with the
    /// number of looks at what is ready before each.
    fn begin(count: usize) -> Vec<(usize, usize)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let (gate, order, looks) =
                (Rc::new(Gate::default()), Rc::new(RefCell::default()), Rc::new(Cell::new(0)));
            let keeper = gate.clone();
            tokio::task::spawn_local(async move { keeper.keep().await });
            let looker = looks.clone();
            tokio::task::spawn_local(async move {
                loop {
                    tokio::task::yield_now().await;
                    looker.set(looker.get() + 1);
                }
            });
            let requests = (0..count).map(|i| {
                let (gate, order, looks) = (gate.clone(), Rc::clone(&order), looks.clone());
                tokio::task::spawn_local(async move {
                    gate.enter().await;
                    let order: &RefCell<Vec<(usize, usize)>> = &order;
                    order.borrow_mut().push((i, looks.get()));
                })
            });
            for request in requests.collect::<Vec<_>>() {
                request.await.unwrap();
            }
            order.take()
        })
    }

    #[test]
    fn few_begin_at_once() {
        let order = begin(REQUESTS_AT_ONCE);
        assert!(order.iter().all(|(_, looks)| *looks == order[0].1), "{order:?}");
    }

    #[test]
    fn many_begin_in_order_some_between_one_look_and_the_next() {
        let order = begin(10 * REQUESTS_AT_ONCE + 3);
        assert!(order.iter().map(|(i, _)| *i).eq(0..order.len()), "{order:?}");
        for group in order.chunk_by(|a, b| a.1 == b.1) {
            assert!(group.len() <= 2 * REQUESTS_AT_ONCE, "{} began without a look in between", group.len());
        }
    }
}
