//! One attempt at one backend: a connection, the request, the answer.
//!
//! Owns the connection while the attempt lasts, and its fate afterwards. Never decides whether there is another attempt.

use std::{
    cell::Cell,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    Gateway, PoolPlan,
    answer::{Answered, Cut, Progress, Receiving},
    exchange::ClientEnd,
    request_body::RequestBody,
    send::{ClientFault, Sending},
    waits::{Slow, Waits},
};
use crate::{
    fleet::{Backend, MemberView, Pool},
    http1::RequestHead,
    io::Deadline,
    tally::{AttemptEnd, BackendCells, Closed},
    upstream::{Care, Connection},
};

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The answer was passed on. Whether the client's connection stays open.
    Answered { keeps_client: bool },
    /// Nothing of an answer has reached the client.
    Failed(AttemptEnd),
    /// The answer broke off in the middle.
    Truncated,
    /// The client's side failed.
    Client(ClientFault),
    /// The client was too slow.
    ClientSlow,
}

/// What an attempt is made with.
pub(super) struct Attempt<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) pool: &'a Pool,
    pub(super) plan: &'a PoolPlan,
    pub(super) member: &'a MemberView,
    pub(super) head: &'a RequestHead,
    pub(super) progress: &'a Progress,
    /// When the whole exchange must be over.
    pub(super) total: Option<Instant>,
}

/// What the two halves of an attempt came to.
enum Driven {
    Received(Result<Answered, Cut>),
    Client(ClientFault),
    Slow(Slow),
}

impl Attempt<'_> {
    /// Makes the attempt. `out` holds the request's head.
    pub(super) async fn run(
        &self,
        client: &mut ClientEnd<'_>,
        body: &mut RequestBody,
        out: Vec<u8>,
    ) -> Outcome {
        let backend = &self.member.backend;
        let guard = InFlight::begin(backend.cells(self.gateway.worker));
        let connection = match self.connection(client.timer).await {
            Ok(connection) => connection,
            Err(end) => {
                self.gateway.buffers.recycle(out);
                return guard.end(end, Outcome::Failed(end));
            }
        };
        self.exchange_on(connection, client, body, out, guard).await
    }

    async fn connection(&self, timer: &mut Deadline) -> Result<Connection, AttemptEnd> {
        let MemberView { backend, addresses, .. } = self.member;
        let care = if self.head.method.is_idempotent() { Care::Usual } else { Care::Full };
        let begun = Instant::now();
        if let Some(connection) = self.gateway.upstreams.take(backend, addresses, care, begun) {
            return Ok(connection);
        }
        let limit = self.plan.forward.connect_timeout;
        let limit = self.total.map_or(limit, |total| limit.min(total.saturating_duration_since(begun)));
        match timer.within(limit, Connection::open(addresses)).await {
            Some(Ok(connection)) => {
                backend.cells(self.gateway.worker).opened.bump();
                self.pool.cells(self.gateway.worker).connect.observe(begun.elapsed());
                Ok(connection)
            }
            Some(Err(error)) => {
                tracing::debug!(pool = &*self.pool.name, backend = &*backend.name, %error, "connect failed");
                Err(AttemptEnd::ConnectFailed)
            }
            None => Err(AttemptEnd::ConnectTimeout),
        }
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        client: &mut ClientEnd<'_>,
        body: &mut RequestBody,
        mut out: Vec<u8>,
        guard: InFlight<'_>,
    ) -> Outcome {
        body.write_again(&mut out);
        if let Err(fault) = body.take(client.input, &mut out) {
            self.keep(connection);
            return guard.end(AttemptEnd::Cancelled, Outcome::Client(ClientFault::Body(fault)));
        }
        let (waits, sent) = (Waits::default(), Cell::new(false));
        waits.set(Slow::Total, self.total);
        let driven = self.drive(&mut connection, client, body, out, &waits, &sent).await;
        let whole = matches!(driven, Driven::Received(Ok(answered)) if answered.keeps_backend);
        // A backend that answered before it had read the request is left with an unfinished one.
        let clean = matches!(driven, Driven::Received(Ok(_))) && sent.get() && connection.input.is_empty();
        if clean && whole {
            self.keep(connection);
        } else {
            let reason = if clean { Closed::NotKept } else { Closed::Aborted };
            self.gateway.upstreams.close(&self.member.backend, connection, reason);
        }
        self.judge(driven, sent.get(), guard)
    }

    /// Lets both halves run until one of them, or the clock, ends the attempt.
    async fn drive(
        &self,
        connection: &mut Connection,
        client: &mut ClientEnd<'_>,
        body: &mut RequestBody,
        out: Vec<u8>,
        waits: &Waits,
        sent: &Cell<bool>,
    ) -> Driven {
        let forward = &self.plan.forward;
        let client_limit: Duration = client.idle_body_timeout;
        let backend_limit = forward.idle_body_timeout;
        let reused = connection.reused;
        let (reader, writer) = connection.stream.split();
        let sending = Sending {
            reader: &mut client.reader,
            input: client.input,
            writer,
            out,
            body,
            waits,
            client_limit,
            backend_limit,
            head_limit: forward.response_head_timeout,
            buffers: &self.gateway.buffers,
            sent,
        };
        let receiving = Receiving {
            reader,
            input: &mut connection.input,
            writer: &mut client.writer,
            buffers: &self.gateway.buffers,
            out: Vec::new(),
            waits,
            progress: self.progress,
            client_limit,
            backend_limit,
            reused,
            method: self.head.method,
            version: self.head.version,
            client_keeps: self.head.keep_alive,
            draining: &self.gateway.draining,
        };
        let mut sending = pin!(sending.run());
        let mut receiving = pin!(receiving.run());
        let timer = &mut *client.timer;
        std::future::poll_fn(|cx| {
            let client = sending.as_mut().poll(cx);
            // An answer that is complete counts, even if the client closed at the same moment.
            if let Poll::Ready(result) = receiving.as_mut().poll(cx) {
                return Poll::Ready(Driven::Received(result));
            }
            if let Poll::Ready(fault) = client {
                return Poll::Ready(Driven::Client(fault));
            }
            match waits.first() {
                Some((due, slow)) => timer.poll(cx, due).map(|()| Driven::Slow(slow)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn keep(&self, mut connection: Connection) {
        self.gateway.buffers.take_back(&mut connection.input);
        let backend: &Arc<Backend> = &self.member.backend;
        self.gateway.upstreams.give_back(backend, &self.plan.reuse, connection, Instant::now());
    }

    fn judge(&self, driven: Driven, sent: bool, guard: InFlight<'_>) -> Outcome {
        let begun = self.progress.status.get().is_some();
        let cut_off = |end| {
            if begun { (AttemptEnd::Truncated, Outcome::Truncated) } else { (end, Outcome::Failed(end)) }
        };
        let (end, outcome) = match driven {
            Driven::Received(Ok(answered)) => {
                (AttemptEnd::Answered, Outcome::Answered { keeps_client: answered.keeps_client && sent })
            }
            Driven::Received(Err(Cut::Backend(end))) => cut_off(end),
            Driven::Received(Err(Cut::Client)) => (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone)),
            Driven::Client(fault) => (AttemptEnd::Cancelled, Outcome::Client(fault)),
            Driven::Slow(Slow::ClientSends | Slow::ClientTakes) if begun => {
                (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone))
            }
            Driven::Slow(Slow::ClientSends | Slow::ClientTakes) => {
                (AttemptEnd::Cancelled, Outcome::ClientSlow)
            }
            Driven::Slow(_) => cut_off(AttemptEnd::Timeout),
        };
        guard.end(end, outcome)
    }
}

/// Counts an attempt while it is under way, and how it ended, also if the task is dropped.
struct InFlight<'a> {
    cells: &'a BackendCells,
    end: AttemptEnd,
}

impl<'a> InFlight<'a> {
    fn begin(cells: &'a BackendCells) -> InFlight<'a> {
        cells.begun.bump();
        InFlight { cells, end: AttemptEnd::Cancelled }
    }

    fn end(mut self, end: AttemptEnd, outcome: Outcome) -> Outcome {
        self.end = end;
        outcome
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.cells.attempts.at(self.end as usize).bump();
        self.cells.ended.bump();
    }
}
