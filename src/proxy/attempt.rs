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
    answer::{Answered, Cut, Receiving},
    client_end::ClientEnd,
    head::{Forwarding, write_request, write_request_section},
    onward::{Onward, poll_end},
    policy::Failures,
    request_body::RequestBody,
    rest::{Leave, Rest},
    rewrite::FieldChanges,
    send::{ClientFault, Sending},
    short::Short,
    terms::{Progress, Terms},
    tunnel::Open,
    under_way::{HandedOn, UnderWay},
    waits::{Slow, Waits},
};
use crate::{
    fleet::{Backend, MemberView, Pool, Slot},
    http1::{AnswerHead, RequestHead},
    preface::Ends,
    ring::Place,
    tally::{AttemptEnd, BackendCells, Closed},
    upstream::Connection,
};

/// How an attempt ended.
#[derive(Debug)]
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
    /// Both sides change to another protocol.
    Upgraded(Box<Open>),
}

/// How far an attempt has come.
pub(super) enum Ran<'a> {
    /// To its end.
    Ended(Outcome),
    /// Its answer takes so long that another is to be made beside it.
    Late(Box<Late<'a>>),
    /// The beginning of its answer has been passed on, and there is more to come.
    Begun(Box<Begun>),
}

/// An attempt whose request has been sent, and whose answer has not begun.
pub(super) struct Late<'a> {
    pub(super) connection: Connection,
    /// When the request was sent.
    pub(super) begun: Instant,
    pub(super) guard: UnderWay<'a>,
}

/// An attempt of whose answer the beginning has been passed on.
#[derive(Debug)]
pub(super) struct Begun {
    connection: Connection,
    rest: Rest,
    /// When the request was sent, or a moment before.
    at: Instant,
    under_way: HandedOn,
}

/// What an attempt is made with.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) pool: &'a Pool,
    pub(super) plan: &'a PoolPlan,
    pub(super) member: &'a MemberView,
    pub(super) head: &'a RequestHead,
    pub(super) progress: &'a Progress,
    /// The request's place on the ring. `None`: any would do.
    pub(super) place: Option<Place>,
    /// What could follow.
    pub(super) onward: &'a Onward<'a>,
    /// When the whole exchange must be over.
    pub(super) total: Option<Instant>,
    /// Only a new connection will do.
    pub(super) fresh: bool,
    /// What the request's new head is made from.
    pub(super) forwarding: Forwarding<'a>,
    /// What changes in the answer's fields.
    pub(super) changes: Option<&'a FieldChanges>,
    /// What the answer says about the use of TLS (RFC 6797), whatever the backend says.
    pub(super) hsts: Option<&'a str>,
    /// Both ends of the client's connection, for backends that want to know.
    pub(super) ends: Option<Ends>,
}

/// What the exchange on a connection came to.
pub(super) enum Driven {
    Received(Result<Answered, Cut>),
    Client(ClientFault),
    Slow(Slow),
}

impl Attempt<'_> {
    /// Makes the attempt.
    pub(super) async fn run<'r>(
        &'r self,
        slot: Slot<'r>,
        client: &mut ClientEnd,
        body: &mut RequestBody,
    ) -> Ran<'r> {
        let guard = UnderWay::begin(self, slot);
        let (mut connection, now) = match self.connected(client).await {
            Some(Ok(connection)) => connection,
            Some(Err(end)) => return Ran::Ended(guard.end(end, Outcome::Failed(end))),
            None => {
                let gone = Outcome::Client(ClientFault::Gone);
                return Ran::Ended(guard.end(AttemptEnd::Cancelled, gone));
            }
        };
        let mut out = self.gateway.buffers.output();
        self.write_head(&connection, body, &mut out);
        body.write_again(&mut out);
        if let Err(fault) = body.take(&mut client.input, &mut out) {
            self.keep(connection, now);
            let outcome = Outcome::Client(ClientFault::Body(fault));
            return Ran::Ended(guard.end(AttemptEnd::Cancelled, outcome));
        }
        let (sent, begun) = (Cell::new(false), now);
        let (driven, now) = match self.short(&mut connection, client, body, &mut out, now, &sent).await {
            // The answer's first byte was its last one too.
            Short::Driven(driven) => (driven, self.progress.first_byte.get().unwrap_or(now)),
            Short::Late => return Ran::Late(Box::new(Late { connection, begun, guard })),
            // On the heap while it lasts: what goes the short way does not carry room for it.
            Short::Partly(head) => {
                let long = Box::pin(async {
                    let mut rest = None;
                    let leave = Leave::To(&mut rest);
                    let driven =
                        self.long(&mut connection, client, body, out, now, &sent, (head, leave)).await;
                    (driven, rest)
                });
                let (driven, rest) = long.await;
                if let Some(rest) = rest {
                    let under_way = guard.hand_on();
                    return Ran::Begun(Box::new(Begun { connection, rest, at: begun, under_way }));
                }
                (driven, Instant::now())
            }
        };
        Ran::Ended(self.settle((connection, guard), driven, (begun, now), sent.get()))
    }

    /// A connection to the backend. `None`: the client has gone before there was one, and with it what bounds those who connect for it.
    async fn connected(&self, client: &mut ClientEnd) -> Option<Result<(Connection, Instant), AttemptEnd>> {
        let ClientEnd { stream, input, timer, .. } = client;
        let mut connecting = pin!(self.connection(timer));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Some(connected));
            }
            poll_end(stream, input, &self.gateway.buffers, cx).map(|()| None)
        })
        .await
    }

    /// Goes on with a request that has been sent, once its answer has begun, or nobody else is asked any more.
    pub(super) async fn go_on(
        &self,
        late: Late<'_>,
        client: &mut ClientEnd,
        body: &mut RequestBody,
    ) -> Outcome {
        let Late { mut connection, begun, guard } = late;
        guard.goes_on();
        let sent = Cell::new(true);
        let long = self.long(&mut connection, client, body, Vec::new(), begun, &sent, (None, Leave::Nothing));
        let driven = Box::pin(long).await;
        self.settle((connection, guard), driven, (begun, Instant::now()), true)
    }

    /// Passes on what is still to come of an answer that has begun.
    pub(super) async fn finish(
        &self,
        answer: Begun,
        client: &mut ClientEnd,
        body: &mut RequestBody,
    ) -> Outcome {
        let Begun { mut connection, rest, at, under_way } = answer;
        let guard = UnderWay::go_on(self, &under_way);
        let sent = Cell::new(true);
        let rest = (None, Leave::From(rest));
        let driven = self.long(&mut connection, client, body, Vec::new(), at, &sent, rest).await;
        self.settle((connection, guard), driven, (at, Instant::now()), true)
    }

    /// Writes the request's head as this backend is to read it.
    pub(super) fn write_head(&self, connection: &Connection, body: &mut RequestBody, out: &mut Vec<u8>) {
        let in_frames = connection.is_stream();
        body.begin(in_frames);
        if in_frames {
            write_request_section(out, self.head, &self.forwarding, self.plan.approach.tls.is_some());
        } else {
            write_request(out, self.head, &self.forwarding);
        }
    }

    /// Decides about the connection, and what the attempt has come to. `begun` is when the request was sent, or a moment before.
    fn settle(
        &self,
        (mut connection, guard): (Connection, UnderWay<'_>),
        driven: Driven,
        (begun, now): (Instant, Instant),
        sent: bool,
    ) -> Outcome {
        if matches!(driven, Driven::Received(Ok(Answered { has_switched: true, .. }))) {
            // Not in flight any more: such a connection can stay for days.
            return guard.end(AttemptEnd::Answered, Outcome::Upgraded(Box::new(Open::new(self, connection))));
        }
        if matches!(driven, Driven::Slow(slow) if slow.is_of_backend()) {
            connection.stream.suspect(begun);
        }
        let (ended, whole) = match driven {
            Driven::Received(Ok(answered)) => (true, answered.keeps_backend),
            Driven::Received(Err(Cut::PassedOver { keeps_backend })) => (keeps_backend, keeps_backend),
            _ => (false, false),
        };
        connection.suspect = !matches!(driven, Driven::Received(Ok(Answered { is_bare: false, .. })));
        // A backend that answered before it had read the request is left with an unfinished one.
        // One that was told of an expectation and answered without `100 Continue` may have left the body unread, for its next request.
        let unasked = self.head.expects && !self.progress.continued.take();
        let clean = ended && sent && connection.input.is_empty() && !unasked;
        if clean && whole {
            self.keep(connection, now);
        } else {
            let reason = if clean { Closed::NotKept } else { Closed::Aborted };
            self.gateway.upstreams.close(&self.member.backend, connection, reason);
        }
        self.judge(driven, sent, guard)
    }

    /// What the client's side of an answer depends on.
    pub(super) fn terms<'t>(&'t self, sent: &'t Cell<bool>) -> Terms<'t> {
        Terms {
            request: self.head,
            draining: &self.gateway.draining,
            dates: &self.gateway.dates,
            sent,
            progress: self.progress,
            upgrade: self.forwarding.upgrade,
            onward: self.onward,
            changes: self.changes,
            hsts: self.hsts,
            warmth: self.warmth(),
            latency: self.latency(),
        }
    }

    fn warmth(&self) -> Option<(&str, &BackendCells)> {
        let header = self.plan.forward.warmth_header.as_deref()?;
        self.member.ramp.as_ref()?;
        Some((header, self.member.backend.cells(self.gateway.worker)))
    }

    fn latency(&self) -> Option<(&BackendCells, &Failures)> {
        let forward = &self.plan.forward;
        forward.adaptive.then(|| (self.member.backend.cells(self.gateway.worker), &forward.failures))
    }

    /// Lets both halves run until one of them, or the clock, ends the attempt. They begin where the short way ended.
    #[expect(clippy::too_many_arguments, reason = "the state of one exchange, named once, where it begins")]
    async fn long(
        &self,
        connection: &mut Connection,
        client: &mut ClientEnd,
        body: &mut RequestBody,
        out: Vec<u8>,
        begun: Instant,
        sent: &Cell<bool>,
        (head, rest): (Option<(AnswerHead, usize)>, Leave<'_>),
    ) -> Driven {
        let forward = &self.plan.forward;
        let client_limit: Duration = client.idle_body_timeout;
        let backend_limit = forward.idle_body_timeout;
        let reused = connection.reused;
        let waits = Waits::default();
        waits.set(Slow::Total, self.total);
        if matches!(rest, Leave::From(_)) {
            waits.answer_begins();
        }
        if sent.get() {
            waits.set(Slow::BackendBegins, Some(begun + forward.response_head_timeout));
            waits.set(Slow::PerTry, self.onward.per_try().map(|limit| begun + limit));
        }
        let (reader, writer) = connection.stream.split();
        let (client_reader, client_writer) = client.stream.split();
        let sending = Sending {
            reader: client_reader,
            input: &mut client.input,
            writer,
            out,
            expects: self.head.expects,
            body,
            waits: &waits,
            client_limit,
            backend_limit,
            head_limit: forward.response_head_timeout,
            buffers: &self.gateway.buffers,
            pipes: &self.gateway.pipes,
            sent,
            onward: self.onward,
        };
        let receiving = Receiving {
            reader,
            input: &mut connection.input,
            writer: client_writer,
            buffers: &self.gateway.buffers,
            pipes: &self.gateway.pipes,
            out: Vec::new(),
            head,
            rest,
            waits: &waits,
            terms: self.terms(sent),
            client_limit,
            backend_limit,
            reused,
        };
        let mut sending = pin!(sending.run());
        let mut receiving = pin!(receiving.run());
        let timer = &mut client.timer;
        std::future::poll_fn(|cx| {
            let client = sending.as_mut().poll(cx);
            // An answer that is complete counts, even if the client closed at the same moment.
            if let Poll::Ready(result) = receiving.as_mut().poll(cx) {
                return Poll::Ready(Driven::Received(result));
            }
            if let Poll::Ready(fault) = client {
                return Poll::Ready(Driven::Client(fault));
            }
            loop {
                match waits.poll_late(timer, cx) {
                    Poll::Ready(Slow::PerTry) if !self.onward.leaves_late() => waits.set(Slow::PerTry, None),
                    late => return late.map(Driven::Slow),
                }
            }
        })
        .await
    }

    /// Keeps the connection for other requests.
    pub(super) fn keep(&self, mut connection: Connection, now: Instant) {
        // It has been introduced as this client's: nobody else's requests may go over it.
        if self.plan.approach.preface.is_some() {
            return self.gateway.upstreams.close(&self.member.backend, connection, Closed::Personal);
        }
        self.gateway.buffers.take_back(&mut connection.input);
        let backend: &Arc<Backend> = &self.member.backend;
        self.gateway.upstreams.give_back(backend, &self.plan.reuse, connection, now);
    }

    fn judge(&self, driven: Driven, sent: bool, guard: UnderWay<'_>) -> Outcome {
        let begun = self.progress.status.get().is_some();
        let cut_off = |end| {
            if begun { (AttemptEnd::Truncated, Outcome::Truncated) } else { (end, Outcome::Failed(end)) }
        };
        let (end, outcome) = match driven {
            Driven::Received(Ok(answered)) => {
                (AttemptEnd::Answered, Outcome::Answered { keeps_client: answered.keeps_client && sent })
            }
            Driven::Received(Err(Cut::Backend(end))) => cut_off(end),
            Driven::Received(Err(Cut::PassedOver { .. })) => {
                (AttemptEnd::Status, Outcome::Failed(AttemptEnd::Status))
            }
            Driven::Received(Err(Cut::Client | Cut::ForNow)) => {
                (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone))
            }
            Driven::Client(fault) => (AttemptEnd::Cancelled, Outcome::Client(fault)),
            Driven::Slow(Slow::ClientSends | Slow::ClientTakes) if begun => {
                (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone))
            }
            Driven::Slow(Slow::ClientSends | Slow::ClientTakes) => {
                (AttemptEnd::Cancelled, Outcome::ClientSlow)
            }
            Driven::Slow(Slow::PerTry) => cut_off(AttemptEnd::PerTry),
            Driven::Slow(_) => cut_off(AttemptEnd::Timeout),
        };
        guard.end(end, outcome)
    }
}
