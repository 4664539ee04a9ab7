//! One timer for a connection, armed lazily.
//!
//! Owns one entry in the runtime's timer wheel. A deadline that moves later costs nothing: the entry stays where it is,
//! and is set anew when it fires too early. So a request that is in time touches the wheel not at all.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

/// A connection's timer. It belongs to one task: the waker that it holds is that task's.
#[derive(Debug, Default)]
pub struct Deadline {
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    sleep: Pin<Box<Sleep>>,
    fires: Instant,
}

impl Deadline {
    /// Ready once `due` has passed. Otherwise the task is woken then, or earlier for nothing.
    pub fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let entry = match &mut self.entry {
            Some(entry) => {
                if entry.fires <= due && !entry.sleep.is_elapsed() {
                    return Poll::Pending;
                }
                entry
            }
            none => none.insert(Entry { sleep: Box::pin(tokio::time::sleep_until(due.into())), fires: due }),
        };
        loop {
            if entry.sleep.is_elapsed() || entry.fires > due {
                if Instant::now() >= due {
                    return Poll::Ready(());
                }
                entry.sleep.as_mut().reset(due.into());
                entry.fires = due;
            }
            ready!(entry.sleep.as_mut().poll(cx));
        }
    }

    /// Runs `future` until `limit` from now has passed: `None` then.
    pub async fn within<F: Future>(&mut self, limit: Duration, future: F) -> Option<F::Output> {
        let due = Instant::now() + limit;
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(out) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(out));
            }
            self.poll(cx, due).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // No sockets here, so the paused clock is exact: but it moves tokio's instants only, so the test uses real, short times.
    #[test]
    fn fires_at_the_deadline_that_holds_now() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut deadline = Deadline::default();
            let begin = Instant::now();
            assert!(deadline.within(Duration::from_millis(30), std::future::pending::<()>()).await.is_none());
            assert!(begin.elapsed() >= Duration::from_millis(30));
            // An entry that stands earlier than the new deadline must not end the wait early.
            let begin = Instant::now();
            assert!(deadline.within(Duration::from_millis(5), async { 1 }).await.is_some());
            assert!(deadline.within(Duration::from_millis(40), std::future::pending::<()>()).await.is_none());
            assert!(begin.elapsed() >= Duration::from_millis(40));
        });
    }

    #[test]
    fn an_earlier_deadline_fires_before_a_later_one_that_was_armed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut deadline = Deadline::default();
            assert!(deadline.within(Duration::from_secs(3600), tokio::task::yield_now()).await.is_some());
            assert!(deadline.within(Duration::from_millis(5), std::future::pending::<()>()).await.is_none());
        });
    }
}
