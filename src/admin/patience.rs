//! How long a client of the admin listener may take nothing of what is sent to it.
//!
//! Owns the look at its connection: whether a write waits, and since when. What waits for such a client is bounded by the sizes of two
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

use crate::limits::{ADMIN_PATIENCE, EVENT_SEND_BUFFER};

/// What is known about one client.
#[derive(Debug)]
pub(super) struct Patience {
    begun: Instant,
    /// Milliseconds after that, since when a write waits. 0: none does.
    waits_since: AtomicU64,
    /// The client watches events.
    watches: AtomicBool,
}

impl Patience {
    /// With a client that has just come.
    pub(super) fn new() -> Arc<Patience> {
        let (waits_since, watches) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Patience { begun: Instant::now(), waits_since, watches })
    }

    /// The client watches events: it is to have no more on its way than it takes.
    pub(super) fn watches(&self) {
        self.watches.store(true, Relaxed);
    }

    /// Returns when the client has taken nothing for too long.
    pub(super) async fn ended(&self) {
        loop {
            let left = match self.waits_since.load(Relaxed) {
                0 => ADMIN_PATIENCE,
                since => (Duration::from_millis(since) + ADMIN_PATIENCE).saturating_sub(self.begun.elapsed()),
            };
            if left.is_zero() {
                return;
            }
            // What begins to wait in the meantime is found then, and given the rest of its time.
            tokio::time::sleep(left).await;
        }
    }

    fn note<T>(&self, wrote: Poll<T>) -> Poll<T> {
        match &wrote {
            Poll::Ready(_) => self.waits_since.store(0, Relaxed),
            Poll::Pending if self.waits_since.load(Relaxed) == 0 => {
                let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.waits_since.store(now.max(1), Relaxed);
            }
            Poll::Pending => {}
        }
        wrote
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
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
