//! The short way: a request that one write takes, and an answer that one read brings.
//!
//! Owns what nearly all exchanges with small messages need: two writes, two reads, one wait, no state that outlives the
//! wait but what is passed in. Whatever does not fit goes on, as far as it has come, on the long way
//! ([`Attempt::long`](super::attempt::Attempt)), which alone knows about errors, interim answers, streams and reading ahead.

use std::{
    cell::Cell,
    mem,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use super::{
    answer::{Answered, Cut},
    attempt::{Attempt, Driven},
    client_end::ClientEnd,
    request_body::RequestBody,
    waits::{Slow, Waits},
};
use crate::{
    http1::{AnswerHead, Framing, Parsed},
    limits::{ANSWER_HEAD_BYTES, BUFFER_BYTES},
    upstream::Connection,
};

/// Bytes that an answer's head can gain on its way to the client.
const HEAD_GROWTH: usize = 128;

/// Where the short way ended.
pub(super) enum Short {
    /// At the end of the exchange.
    Driven(Driven),
    /// Nowhere yet: the answer has not begun, and another attempt is to be made beside this one.
    Late,
    /// Before it. The answer's head with its length, if it was read.
    Partly(Option<(AnswerHead, usize)>),
}

/// Why an answer is not passed on at once.
enum Apart {
    /// It is for the long way.
    Long(Option<(AnswerHead, usize)>),
    /// Its status has the request sent elsewhere, and all of it has been read.
    PassedOver { keeps_backend: bool },
}

/// What a request that was sent is waiting for.
enum Woken {
    Backend,
    Client,
    Clock(Slow),
    /// It is time for another attempt beside this one.
    Hedge,
}

impl Attempt<'_> {
    /// Goes the short way. `out` holds the request's head and what was at hand of its body; if the request did not leave as a
    /// whole, `out` holds the rest. `begun` is now, or a moment ago.
    pub(super) async fn short(
        &self,
        connection: &mut Connection,
        client: &mut ClientEnd,
        body: &RequestBody,
        out: &mut Vec<u8>,
        begun: Instant,
        sent: &Cell<bool>,
    ) -> Short {
        let stream = &mut connection.stream;
        if !body.is_over() || !written(stream.try_write(out), out) || !stream.is_flushed() {
            return Short::Partly(None);
        }
        sent.set(true);
        self.onward.sent(body.can_be_sent_again());
        let buffers = &self.gateway.buffers;
        // A request that waits for its backend holds no buffer.
        buffers.recycle(mem::take(out));
        buffers.take_back(&mut client.input);
        let due = begun + self.plan.forward.response_head_timeout;
        let (due, slow) = match self.total {
            Some(total) if total < due => (total, Slow::Total),
            _ => (due, Slow::BackendBegins),
        };
        let mut per_try = self.onward.per_try().map(|limit| begun + limit);
        let mut hedge = self.hedge_after(body).map(|after| begun + after);
        let woken = std::future::poll_fn(|cx| {
            if connection.stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(Woken::Backend);
            }
            if client.stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(Woken::Client);
            }
            while let Some(early) = earlier(per_try, hedge).filter(|early| *early < due) {
                ready!(client.timer.poll(cx, early));
                if hedge == Some(early) {
                    hedge = None;
                    if self.onward.hedges() {
                        return Poll::Ready(Woken::Hedge);
                    }
                } else {
                    per_try = None;
                    if self.onward.leaves_late() {
                        return Poll::Ready(Woken::Clock(Slow::PerTry));
                    }
                }
            }
            client.timer.poll(cx, due).map(|()| Woken::Clock(slow))
        });
        match woken.await {
            Woken::Backend => {}
            Woken::Client => return Short::Partly(None),
            Woken::Hedge => return Short::Late,
            Woken::Clock(slow) => return Short::Driven(Driven::Slow(slow)),
        }
        buffers.lend(&mut connection.input);
        let read = std::future::poll_fn(|cx| {
            Poll::Ready(connection.input.poll_fill(&mut connection.stream, cx, ANSWER_HEAD_BYTES))
        });
        // What an end or an error at this point means, the long way finds out by reading again.
        let Poll::Ready(Ok(1..)) = read.await else {
            return Short::Partly(None);
        };
        let (answered, data) = match self.answer_at_once(connection, out, sent) {
            Ok(answer) => answer,
            Err(Apart::Long(head)) => return Short::Partly(head),
            Err(Apart::PassedOver { keeps_backend }) => {
                return Short::Driven(Driven::Received(Err(Cut::PassedOver { keeps_backend })));
            }
        };
        let stream = &mut client.stream;
        if !(written(stream.try_write(out), out) && stream.is_flushed())
            && let Err(driven) = Box::pin(self.write_rest(client, out)).await
        {
            return Short::Driven(driven);
        }
        self.terms(sent).passed(data);
        buffers.recycle(mem::take(out));
        Short::Driven(Driven::Received(Ok(answered)))
    }

    /// How long the answer may take to begin before another attempt is made beside this one: of a request whose body is empty,
    /// however that was framed.
    fn hedge_after(&self, body: &RequestBody) -> Option<Duration> {
        let is_empty = body.is_over() && body.received() == 0 && self.forwarding.upgrade.is_none();
        self.onward.hedge_after().filter(|_| is_empty)
    }

    /// Turns an answer that has come as a whole into what the client is to read, and tells how much of that is body.
    fn answer_at_once(
        &self,
        connection: &mut Connection,
        out: &mut Vec<u8>,
        sent: &Cell<bool>,
    ) -> Result<(Answered, usize), Apart> {
        let scratch = &self.gateway.answer_head;
        let mut head = scratch.take();
        let input = connection.input.filled();
        let parsed = head.parse(input);
        let (Ok(Parsed::Complete(length)), false) = (parsed, head.is_interim()) else {
            scratch.replace(head);
            return Err(Apart::Long(None));
        };
        let (Ok(framing), false) =
            (head.framing(self.head.method), self.terms(sent).is_taken_for_switch(&head))
        else {
            return Err(Apart::Long(Some((head, length))));
        };
        let data = match framing {
            Framing::None => 0,
            Framing::Length(data) => data,
            Framing::Chunked | Framing::Close => return Err(Apart::Long(Some((head, length)))),
        };
        // Bytes beyond the answer belong to nobody: the long way leaves them where they show.
        if data != (input.len() - length) as u64 || input.len() + HEAD_GROWTH > BUFFER_BYTES {
            return Err(Apart::Long(Some((head, length))));
        }
        if self.onward.leaves_for(head.status) {
            self.progress.passed_over.set(Some(head.status));
            connection.input.consume(input.len());
            let keeps_backend = head.keep_alive;
            scratch.replace(head);
            return Err(Apart::PassedOver { keeps_backend });
        }
        *out = self.gateway.buffers.output();
        let client = self.terms(sent).begin(out, input, &head, framing);
        if data > 0 {
            client.carriage().write_before(data as usize, true, out);
        }
        out.extend_from_slice(&input[length..]);
        connection.input.consume(input.len());
        let answered = Answered {
            keeps_backend: head.keep_alive,
            is_bare: framing == Framing::None,
            keeps_client: client.keep_alive,
            has_switched: false,
        };
        scratch.replace(head);
        Ok((answered, data as usize))
    }

    /// For a client that did not take all at once.
    async fn write_rest(&self, client: &mut ClientEnd, out: &[u8]) -> Result<(), Driven> {
        let waits = Waits::default();
        waits.set(Slow::Total, self.total);
        let ClientEnd { stream, timer, idle_body_timeout, .. } = client;
        let mut write = std::pin::pin!(waits.write_all(Slow::ClientTakes, *idle_body_timeout, stream, out));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = write.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|_| Driven::Received(Err(Cut::Client))));
            }
            waits.poll_late(timer, cx).map(|slow| Err(Driven::Slow(slow)))
        })
        .await
    }
}

/// The earlier of two times.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

/// Whether all was taken. If not, `out` holds the rest. An error shows again when the rest is written.
fn written(taken: std::io::Result<usize>, out: &mut Vec<u8>) -> bool {
    let taken = taken.unwrap_or(0);
    if taken < out.len() {
        out.drain(..taken);
        return false;
    }
    true
}
