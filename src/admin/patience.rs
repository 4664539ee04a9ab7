//! How long a client of the admin listener may take nothing of what is sent to it, and how long it may take for the whole of an answer.
//!
//! Owns the look at its connection: whether a write waits, since when, and when the answer was ready. What waits for such a client is bounded by the sizes of two
//! buffers, hyper's and, once it watches events, the kernel's; and in time by this.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::limits::{ADMIN_ANSWER, ADMIN_PATIENCE, EVENT_SEND_BUFFER};

/// What is known about one client.
#[derive(Debug)]
pub(super) struct Patience {
    begun: Instant,
    /// Milliseconds after that, since when a write waits. 0: none does.
    waits_since: AtomicU64,
    /// Milliseconds after the beginning, when the answer that it takes was ready.
    ready_at: AtomicU64,
    /// Something of an answer waits, whether the client takes of it or not.
    owes: AtomicBool,
    /// The client watches events.
    watches: AtomicBool,
    /// A question of it is being answered.
    asks: AtomicBool,
    /// Milliseconds after the beginning, when the last one was.
    answered_at: AtomicU64,
}

impl Patience {
    /// With a client that has just come.
    pub(super) fn new() -> Arc<Patience> {
        Arc::new(Patience {
            begun: Instant::now(),
            waits_since: AtomicU64::new(0),
            ready_at: AtomicU64::new(0),
            owes: AtomicBool::new(false),
            watches: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            answered_at: AtomicU64::new(0),
        })
    }

    /// A whole head has come.
    pub(super) fn asks(&self) {
        self.asks.store(true, Relaxed);
    }

    /// Since when the client has no question under way, if that is so: it has said nothing, or half of something, or all was answered.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_busy = [&self.asks, &self.owes, &self.watches].into_iter().any(|flag| flag.load(Relaxed));
        (!is_busy).then(|| self.begun + Duration::from_millis(self.answered_at.load(Relaxed)))
    }

    /// Since when a write to the client waits. Of those who watch events this is not asked: they have their usual time.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        let since = self.waits_since.load(Relaxed);
        (since > 0 && !self.watches.load(Relaxed)).then(|| self.begun + Duration::from_millis(since))
    }

    /// An answer is ready. Who still takes the one before gets no more time by asking on.
    pub(super) fn answers(&self) {
        let now = self.now();
        self.answers_at(now);
        self.answered_at.store(now, Relaxed);
        self.asks.store(false, Relaxed);
    }

    fn answers_at(&self, now: u64) {
        if !self.owes.load(Relaxed) {
            self.ready_at.store(now, Relaxed);
        }
    }

    /// The client watches events, as long as what is returned is there: it is to have no more on its way than it takes.
    pub(super) fn watches(self: &Arc<Self>) -> Watches {
        self.watches.store(true, Relaxed);
        Watches(self.clone())
    }

    /// Returns when the client has taken nothing for too long, or has taken too long for an answer.
    pub(super) async fn ended(&self) {
        loop {
            let left = self.left(self.now());
            if left.is_zero() {
                return;
            }
            // What begins to wait in the meantime is found then, and given the rest of its time.
            tokio::time::sleep(left).await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long to wait before the next look. Zero: the client's time is over.
    fn left(&self, now: u64) -> Duration {
        let after = |since: u64, limit: Duration| {
            (Duration::from_millis(since) + limit).saturating_sub(Duration::from_millis(now))
        };
        let next = match self.waits_since.load(Relaxed) {
            0 => ADMIN_PATIENCE,
            since => after(since, ADMIN_PATIENCE),
        };
        match self.owes.load(Relaxed) && !self.watches.load(Relaxed) {
            true => next.min(after(self.ready_at.load(Relaxed), ADMIN_ANSWER)),
            false => next,
        }
    }

    fn note<T>(&self, wrote: Poll<T>) -> Poll<T> {
        self.note_at(wrote.is_ready(), self.now());
        wrote
    }

    fn note_at(&self, is_taken: bool, now: u64) {
        if is_taken {
            self.waits_since.store(0, Relaxed);
            return;
        }
        self.owes.store(true, Relaxed);
        if self.waits_since.load(Relaxed) == 0 {
            self.waits_since.store(now.max(1), Relaxed);
        }
    }

    /// All that was written is on its way.
    fn sent(&self) {
        self.owes.store(false, Relaxed);
    }
}

/// A client watches events.
#[derive(Debug)]
pub(super) struct Watches(Arc<Patience>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.watches.store(false, Relaxed);
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    patience: Arc<Patience>,
    is_narrow: bool,
}

impl Watched {
    /// The connection of the client that this is known about.
    pub(super) fn new(stream: TcpStream, patience: Arc<Patience>) -> Watched {
        Watched { stream, patience, is_narrow: false }
    }

    fn narrow(&mut self) {
        if !self.is_narrow && self.patience.watches.load(Relaxed) {
            self.is_narrow = true;
            let socket = socket2::SockRef::from(&self.stream);
            if let Err(error) = socket.set_send_buffer_size(EVENT_SEND_BUFFER) {
                tracing::debug!(%error, "an admin client's buffer can't be bounded");
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.narrow();
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience.note(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.narrow();
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.patience.note(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is asked for when nothing is left to write.
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.patience.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: u64 = ADMIN_ANSWER.as_millis() as u64;

    /// Takes a little every five seconds, for as long as an answer may take.
    fn drips(patience: &Patience) {
        for now in (0..ANSWER).step_by(5000) {
            patience.note_at(true, now);
            patience.note_at(false, now + 1);
            assert!(!patience.left(now + 2).is_zero());
        }
    }

    #[test]
    fn an_answer_that_is_taken_in_drips_has_an_end() {
        let patience = Patience::new();
        patience.answers_at(1);
        drips(&patience);
        // Another question, sent in the meantime, gives no more time.
        patience.answers_at(ANSWER);
        patience.note_at(true, ANSWER);
        assert!(!patience.left(ANSWER).is_zero());
        assert!(patience.left(ANSWER + 1).is_zero());
        // Who has taken it all is given as long for the next one.
        patience.sent();
        patience.answers_at(ANSWER);
        patience.note_at(false, ANSWER);
        assert_eq!(patience.left(ANSWER + 1000), ADMIN_PATIENCE - Duration::from_secs(1));
    }

    #[test]
    fn who_watches_may_take_as_long_as_it_takes_something() {
        let patience = Patience::new();
        let watches = patience.watches();
        patience.answers_at(1);
        drips(&patience);
        patience.note_at(true, 2 * ANSWER);
        assert_eq!(patience.left(2 * ANSWER), ADMIN_PATIENCE);
        patience.note_at(false, 2 * ANSWER);
        assert!(patience.left(3 * ANSWER).is_zero());
        patience.sent();
        assert!(patience.idle_since().is_none());
        drop(watches);
        assert!(patience.idle_since().is_some());
    }
}
