//! Bytes between a socket and the streams of HTTP/2 that share it, for either side.
//!
//! Owns what is on its way out, and since when it has not moved. Never decides when a connection has lived long enough.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::AsyncWrite;

use super::{Buffer, Stream};
use crate::{
    http2::{Fault, Mux},
    limits::BULK_BUFFER_BYTES,
};

/// Carries for one connection.
#[derive(Debug)]
pub struct Carrier {
    mux: Rc<Mux>,
    writing: Vec<u8>,
    written: usize,
    /// Since when the peer has taken nothing of what is to be written.
    pub stalled_since: Option<Instant>,
    has_looked: bool,
}

/// Why there is no going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The connection is gone.
    Gone,
    /// The peer broke a rule, or asked too much.
    Fault(Fault),
}

impl Carrier {
    /// For this connection.
    pub fn new(mux: Rc<Mux>) -> Carrier {
        Carrier { mux, writing: Vec::new(), written: 0, stalled_since: None, has_looked: false }
    }

    /// Whether something has not been written yet.
    pub fn has_output(&self) -> bool {
        !self.writing.is_empty() || self.stalled_since.is_some() || self.mux.has_output()
    }

    /// Gives memory back while there is nothing to carry.
    pub fn rest(&mut self) {
        if self.writing.is_empty() {
            self.writing = Vec::new();
        }
    }

    /// Writes and reads until neither goes on. `taken` is told each time that something was taken in.
    ///
    /// # Errors
    /// The connection can't go on.
    pub fn run(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        input: &mut Buffer,
        taken: &mut dyn FnMut(Instant),
    ) -> Result<(), Stopped> {
        self.mux.set_driver(cx.waker());
        loop {
            if let Poll::Ready(Err(_)) = self.poll_write(cx, stream) {
                return Err(Stopped::Gone);
            }
            if self.mux.is_crowded() {
                return Ok(());
            }
            // What was read before we were there comes first.
            if self.has_looked || input.is_empty() {
                let Poll::Ready(read) = input.poll_fill(stream, cx, BULK_BUFFER_BYTES) else { return Ok(()) };
                if !matches!(read, Ok(1..)) {
                    return Err(Stopped::Gone);
                }
            }
            self.has_looked = true;
            let now = Instant::now();
            let used = self.mux.receive(input.filled(), now).map_err(Stopped::Fault)?;
            input.consume(used);
            taken(now);
        }
    }

    /// Writes until nothing is left, or the socket takes no more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.writing.len() {
                let Poll::Ready(taken) =
                    Pin::new(&mut *stream).poll_write(cx, &self.writing[self.written..])?
                else {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                };
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += taken;
                self.stalled_since = None;
            }
            self.writing.clear();
            self.written = 0;
            self.mux.take_output(&mut self.writing);
            if self.writing.is_empty() {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                if flushed.is_pending() {
                    self.stalled_since.get_or_insert_with(Instant::now);
                } else {
                    self.stalled_since = None;
                }
                return flushed;
            }
        }
    }
}
