//! The client's side of an attempt: passes the request on, then watches whether the client is still there.
//!
//! Owns reading from the client and writing to the backend while an attempt lasts. Never ends by itself as long as all is well:
//! the attempt ends when the answer does.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    onward::Onward,
    request_body::{BodyFault, RequestBody},
    waits::{Slow, Waits},
};
use crate::{
    io::{Buffer, BufferPool, Pipe, Pipes, ReadHalf, WriteHalf},
    limits::{BUFFER_BYTES, BULK_BUFFER_BYTES, PIPE_BYTES, SPLICE_FROM},
};

/// What went wrong on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientFault {
    /// It closed its connection, or broke it.
    Gone,
    /// Its body is not acceptable.
    Body(BodyFault),
}

/// Everything that sending needs.
pub(super) struct Sending<'a> {
    pub(super) reader: ReadHalf<'a>,
    pub(super) input: &'a mut Buffer,
    pub(super) writer: WriteHalf<'a>,
    /// The head and what was at hand of the body.
    pub(super) out: Vec<u8>,
    /// The client may wait until the backend asks for the body.
    pub(super) expects: bool,
    pub(super) body: &'a mut RequestBody,
    pub(super) waits: &'a Waits,
    pub(super) client_limit: Duration,
    pub(super) backend_limit: Duration,
    pub(super) head_limit: Duration,
    /// Where buffers go while there is nothing but waiting.
    pub(super) buffers: &'a BufferPool,
    pub(super) pipes: &'a Pipes,
    /// Set once the whole request has been handed to the kernel, by whomever.
    pub(super) sent: &'a Cell<bool>,
    /// Told that it has been.
    pub(super) onward: &'a Onward<'a>,
}

impl Sending<'_> {
    /// Sends the request, and returns only when the client fails.
    pub(super) async fn run(mut self) -> ClientFault {
        if !self.sent.get() {
            match self.pass_on().await {
                Err(Fault::Client(fault)) => return fault,
                // The backend may have answered before it closed: that answer is on its way to the other half. One that reads no more and
                // says nothing has no longer for it than one that has read everything.
                Err(Fault::Backend) => self.answer_is_due(Instant::now()),
                Ok(()) => {
                    self.sent.set(true);
                    self.onward.sent(self.body.can_be_sent_again());
                    let now = Instant::now();
                    self.answer_is_due(now);
                    self.waits.set(Slow::PerTry, self.onward.per_try().map(|limit| now + limit));
                }
            }
            self.buffers.recycle(std::mem::take(&mut self.out));
        }
        self.watch().await
    }

    fn answer_is_due(&self, now: Instant) {
        self.waits.set(Slow::BackendBegins, Some(now + self.head_limit));
    }

    async fn pass_on(&mut self) -> Result<(), Fault> {
        self.write_out().await?;
        if self.expects && !self.body.is_over() && self.body.received() == 0 && self.input.is_empty() {
            // Now it is the backend's turn: to a client that waits for its word, its silence is no fault of the client.
            self.answer_is_due(Instant::now());
            let _ = std::future::poll_fn(|cx| self.reader.poll_read_ready(cx)).await;
            self.waits.set(Slow::BackendBegins, None);
        }
        if self.body.passes_directly() {
            return self.pass_directly().await;
        }
        while !self.body.is_over() {
            self.read().await?;
            let taken = self.body.take(self.input, &mut self.out);
            if let Err(fault) = taken {
                return Err(Fault::Client(ClientFault::Body(fault)));
            }
            self.write_out().await?;
        }
        Ok(())
    }

    async fn pass_directly(&mut self) -> Result<(), Fault> {
        loop {
            if self.input.is_empty()
                && self.body.passes_unseen()
                && self.body.known_rest() >= SPLICE_FROM
                && let (Some(from), Some(to)) = (self.reader.bare(), self.writer.bare())
                && let Some(mut pipe) = self.pipes.take()
            {
                self.buffers.take_back(self.input);
                let limits = (self.client_limit, self.backend_limit);
                splice(self.body, &mut pipe, (from, to), self.waits, limits).await?;
                self.pipes.give_back(pipe);
                return Ok(());
            }
            if self.body.known_rest() > BUFFER_BYTES as u64 {
                self.input.grow(BULK_BUFFER_BYTES);
            }
            if !self.input.is_empty() {
                let n = self.body.direct(self.input);
                self.body.write_before_direct(n, &mut self.out);
                let (before, bytes) = (&self.out, &self.input.filled()[..n]);
                let limit = self.backend_limit;
                let written =
                    self.waits.write_both(Slow::BackendTakes, limit, &mut self.writer, before, bytes);
                written.await.map_err(|_| Fault::Backend)?;
                self.out.clear();
                let passed = self.body.passed_directly(n, self.input);
                passed.map_err(|fault| Fault::Client(ClientFault::Body(fault)))?;
            }
            if self.body.is_over() {
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn write_out(&mut self) -> Result<(), Fault> {
        let written =
            self.waits.write_all(Slow::BackendTakes, self.backend_limit, &mut self.writer, &self.out);
        written.await.map_err(|_| Fault::Backend)?;
        self.out.clear();
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Fault> {
        let read = self.waits.fill(
            Slow::ClientSends,
            self.client_limit,
            &mut self.reader,
            self.input,
            BULK_BUFFER_BYTES,
        );
        match read.await {
            Ok(0) | Err(_) => Err(Fault::Client(ClientFault::Gone)),
            Ok(_) => Ok(()),
        }
    }

    /// Reads ahead, for clients that pipeline, until the client closes. A client that closes its sending half only is taken to
    /// be gone, as nginx and others do: it can't be told from one that vanished.
    async fn watch(&mut self) -> ClientFault {
        while !self.input.is_full(BUFFER_BYTES) {
            self.buffers.take_back(self.input);
            if std::future::poll_fn(|cx| self.reader.poll_read_ready(cx)).await.is_err() {
                return ClientFault::Gone;
            }
            self.buffers.lend(self.input);
            let read = std::future::poll_fn(|cx| self.input.poll_fill(&mut self.reader, cx, BUFFER_BYTES));
            if matches!(read.await, Ok(0) | Err(_)) {
                return ClientFault::Gone;
            }
        }
        std::future::pending().await
    }
}

/// Passes the rest of a long body on, which nobody here needs to see. `limits` are the client's and the backend's.
async fn splice(
    body: &mut RequestBody,
    pipe: &mut Pipe,
    (from, to): (&TcpStream, &TcpStream),
    waits: &Waits,
    limits: (Duration, Duration),
) -> Result<(), Fault> {
    while !body.is_over() {
        let most = body.known_rest().min(PIPE_BYTES as u64) as usize;
        let Ok(n @ 1..) = waits.take_in(Slow::ClientSends, limits.0, from, pipe, most).await else {
            return Err(Fault::Client(ClientFault::Gone));
        };
        // They are gone from the client's socket, whatever becomes of them.
        body.passed_unseen(n).map_err(|fault| Fault::Client(ClientFault::Body(fault)))?;
        waits.give_out(Slow::BackendTakes, limits.1, pipe, to).await.map_err(|_| Fault::Backend)?;
        if !body.is_over() {
            // Two fast ends could keep the worker to themselves.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

enum Fault {
    Client(ClientFault),
    Backend,
}
