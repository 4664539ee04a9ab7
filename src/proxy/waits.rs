//! What an exchange is waiting for, and until when.
//!
//! Owns one due time for each kind of waiting. An operation that does not have to wait sets none.

use std::{
    cell::Cell,
    io,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::io::{Buffer, Deadline, Pipe};

/// Whose time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    /// The client did not send its body.
    ClientSends,
    /// The client did not take its answer.
    ClientTakes,
    /// The backend did not take the request.
    BackendTakes,
    /// The backend did not begin its answer.
    BackendBegins,
    /// The backend did not begin its answer in the time for one attempt, after which the request can go elsewhere.
    PerTry,
    /// The backend did not go on with its answer.
    BackendSends,
    /// The whole exchange took too long.
    Total,
}

impl Slow {
    /// Whether the backend took too long.
    pub(super) fn is_of_backend(self) -> bool {
        matches!(self, Slow::BackendTakes | Slow::BackendBegins | Slow::PerTry | Slow::BackendSends)
    }
}

/// The due times of one exchange, or of the part of it that is under way.
#[derive(Debug, Default)]
pub(super) struct Waits {
    client_sends: Wait,
    client_takes: Wait,
    backend_takes: Wait,
    backend_begins: Wait,
    per_try: Wait,
    backend_sends: Wait,
    total: Wait,
    /// The answer's head has come: what the request's way takes ends nothing any more, the answer has times of its own.
    answer_begun: Cell<bool>,
}

#[derive(Debug, Default)]
struct Wait(Cell<Option<Instant>>);

impl Waits {
    fn wait(&self, slow: Slow) -> &Wait {
        match slow {
            Slow::ClientSends => &self.client_sends,
            Slow::ClientTakes => &self.client_takes,
            Slow::BackendTakes => &self.backend_takes,
            Slow::BackendBegins => &self.backend_begins,
            Slow::PerTry => &self.per_try,
            Slow::BackendSends => &self.backend_sends,
            Slow::Total => &self.total,
        }
    }

    /// Sets when this must have happened.
    pub(super) fn set(&self, slow: Slow, due: Option<Instant>) {
        self.wait(slow).0.set(due);
    }

    /// The backend has asked for the body: it is the client's turn, which has so much time.
    pub(super) fn body_is_asked_for(&self, limit: Duration) {
        self.set(Slow::BackendBegins, None);
        self.set(Slow::ClientSends, Some(Instant::now() + limit));
    }

    /// The answer's head has come.
    pub(super) fn answer_begins(&self) {
        self.answer_begun.set(true);
    }

    /// What is due first.
    pub(super) fn first(&self) -> Option<(Instant, Slow)> {
        let of_answer: &[Slow] = &[Slow::ClientTakes, Slow::BackendSends, Slow::Total];
        let of_request: &[Slow] = match self.answer_begun.get() {
            true => &[],
            false => &[Slow::ClientSends, Slow::BackendTakes, Slow::BackendBegins, Slow::PerTry],
        };
        of_answer
            .iter()
            .chain(of_request)
            .copied()
            .filter_map(|slow| Some((self.wait(slow).0.get()?, slow)))
            .min_by_key(|(due, _)| *due)
    }

    /// Ready when something is late, and what.
    pub(super) fn poll_late(&self, timer: &mut Deadline, cx: &mut Context<'_>) -> Poll<Slow> {
        match self.first() {
            Some((due, slow)) => timer.poll(cx, due).map(|()| slow),
            None => Poll::Pending,
        }
    }

    /// Lets a poll's outcome set or clear the due time.
    fn note<T>(&self, slow: Slow, limit: Duration, poll: Poll<T>) -> Poll<T> {
        let wait = self.wait(slow);
        match &poll {
            Poll::Ready(_) => wait.0.set(None),
            Poll::Pending if wait.0.get().is_none() => wait.0.set(Some(Instant::now() + limit)),
            Poll::Pending => {}
        }
        poll
    }

    /// Reads once into the buffer. 0 is the end of the stream.
    pub(super) async fn fill<R: AsyncRead + Unpin>(
        &self,
        slow: Slow,
        limit: Duration,
        from: &mut R,
        buffer: &mut Buffer,
        bound: usize,
    ) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let poll = buffer.poll_fill(from, cx, bound);
            self.note(slow, limit, poll)
        })
        .await
    }

    /// Moves bytes that nobody looks at out of a socket into the pipe. 0 is the end of the stream.
    pub(super) async fn take_in(
        &self,
        slow: Slow,
        limit: Duration,
        from: &TcpStream,
        pipe: &mut Pipe,
        most: usize,
    ) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            let poll = pipe.poll_take(from, cx, most);
            self.note(slow, limit, poll)
        })
        .await
    }

    /// Moves all that the pipe holds into a socket. Each part that is taken begins the time anew.
    pub(super) async fn give_out(
        &self,
        slow: Slow,
        limit: Duration,
        pipe: &mut Pipe,
        to: &TcpStream,
    ) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            while !pipe.is_empty() {
                let poll = pipe.poll_give(to, cx);
                ready!(self.note(slow, limit, poll))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Writes all of the bytes. Each part that is taken begins the time anew.
    pub(super) async fn write_all<W: AsyncWrite + Unpin>(
        &self,
        slow: Slow,
        limit: Duration,
        to: &mut W,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.write_both(slow, limit, to, bytes, &[]).await
    }

    /// Writes all of two runs of bytes, together where the kernel takes them.
    pub(super) async fn write_both<W: AsyncWrite + Unpin>(
        &self,
        slow: Slow,
        limit: Duration,
        to: &mut W,
        mut first: &[u8],
        mut second: &[u8],
    ) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            while !(first.is_empty() && second.is_empty()) {
                let poll = if second.is_empty() {
                    std::pin::Pin::new(&mut *to).poll_write(cx, first)
                } else {
                    let parts = [io::IoSlice::new(first), io::IoSlice::new(second)];
                    std::pin::Pin::new(&mut *to).poll_write_vectored(cx, &parts)
                };
                let taken = ready!(self.note(slow, limit, poll))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let of_first = taken.min(first.len());
                first = &first[of_first..];
                second = &second[taken - of_first..];
            }
            // Nothing to do but for TLS, which may have taken bytes that the socket has not.
            self.note(slow, limit, std::pin::Pin::new(&mut *to).poll_flush(cx))
        })
        .await
    }
}
