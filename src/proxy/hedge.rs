//! A second attempt beside one that is late: the first answer that can be passed on is the answer.
//!
//! Owns both attempts until then, and the end of the one that is given up. When it comes to that, and who is asked, is decided elsewhere
//! ([`super::onward`], [`super::choose`]); how an answer is passed on, too ([`super::attempt`]).

use std::{
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::AsyncWriteExt;

use super::{
    Gateway,
    attempt::{Attempt, Late, Outcome},
    choose::{Candidates, Next},
    client_end::ClientEnd,
    head::Forwarding,
    onward::{Onward, Repeats, poll_gone},
    policy::HostHeader,
    record::{Noted, Record},
    request_body::RequestBody,
    send::ClientFault,
    under_way::UnderWay,
};
use crate::{
    fleet::Slot,
    http1::{AnswerHead, Framing, Parsed, has_head_end},
    io::Deadline,
    limits::ANSWER_HEAD_BYTES,
    tally::{AttemptEnd, Closed},
    upstream::Connection,
};

/// Has the next of `candidates` make an attempt beside the first one, which is late. What both came to, and whether the repeat after that has
/// been paid for.
pub(super) async fn hedge(
    first: &Attempt<'_>,
    late: Box<Late<'_>>,
    candidates: &mut Candidates<'_>,
    repeats: Repeats<'_>,
    record: &mut Record<'_>,
    client: &mut ClientEnd,
    body: &mut RequestBody,
) -> (Outcome, bool) {
    let at_first = candidates.latest();
    let before = candidates.clone();
    let found = match candidates.next_backend() {
        // Asked for last, as it costs something: that there is nobody must not.
        Next::Try(member, slot) if repeats.pay(AttemptEnd::Hedged) => Some((member, slot)),
        _ => None,
    };
    let Some((member, slot)) = found else {
        *candidates = before;
        let _noted = Noted { record, progress: first.progress };
        return (first.go_on(*late, client, body).await, first.onward.is_paid());
    };
    let view = repeats.view;
    view.pool.cells(first.gateway.worker).repeats.at(AttemptEnd::Hedged as usize).bump();
    record.repeated.push(AttemptEnd::Hedged);
    record.attempts += 1;
    // Of the two answers, the one that passes says where it is from.
    let told_first = record.changes(first.forwarding.rewrite);
    record.is_at(member, candidates);
    let onward = Onward::new(repeats, candidates, first.head.method);
    onward.sent(true);
    let told = record.changes(first.forwarding.rewrite);
    let changes = told.as_ref().or(first.changes);
    let changes_first = told_first.as_ref().or(first.changes);
    let member = view.member(member);
    let own_host = first.plan.forward.host_header == HostHeader::Backend || first.head.authority().is_empty();
    let host = own_host.then(|| member.backend.address.authority());
    let first = Attempt { onward: &onward, changes: changes_first, ..*first };
    let forwarding = Forwarding { host: host.as_deref().map(str::as_bytes), ..first.forwarding };
    let second = Attempt { member, forwarding, changes, fresh: false, ..first };
    let noted = Noted { record, progress: first.progress };
    let (outcome, by_second) = Beside { first: &first, second: &second }.run(*late, slot, client, body).await;
    drop(noted);
    if let (Some(member), false) = (at_first, by_second) {
        record.is_at(member, candidates);
    }
    (outcome, onward.is_paid())
}

/// Two attempts side by side.
struct Beside<'a> {
    first: &'a Attempt<'a>,
    second: &'a Attempt<'a>,
}

/// What ended the time of two.
enum Event {
    /// The first one is left, as its answer has begun or the other one has failed.
    First,
    /// The same of the second.
    Second,
    /// Neither is left, and this is how the last one ended.
    Neither(AttemptEnd),
    /// The client has gone.
    Gone,
    /// The time for the whole exchange is over.
    Late,
}

/// A request that has been sent, and what was seen of its answer.
struct Awaited<'a> {
    late: Late<'a>,
    /// Bytes of interim answers, behind which the final one begins.
    interim: usize,
    /// Parsing begins at the front each time, so it waits for so many bytes, or for the head's end.
    look_again_at: usize,
    /// Bytes behind the interim answers that the head's end was looked for in.
    scanned: usize,
}

/// What was seen of an answer.
enum Seen {
    /// Too little.
    Part,
    /// A final answer that may be passed on.
    Answer,
    /// One that is to be had from another backend; all of it is there, and the connection can be used again, or not.
    Unwanted { status: u16, is_whole: bool },
    /// None that could be passed on.
    Wrong,
}

impl<'a> Beside<'a> {
    /// Runs both until one is left, and that one to its end. Whether that is the second.
    async fn run(
        &self,
        late: Late<'a>,
        slot: Slot<'a>,
        client: &mut ClientEnd,
        body: &mut RequestBody,
    ) -> (Outcome, bool) {
        let (mut first, mut second) = (Some(Awaited::new(late)), None);
        let event = self.race(slot, (&mut first, &mut second), client, body).await;
        match (event, first, second) {
            (Event::First, Some(first), second) => {
                second.into_iter().for_each(|one| self.second.give_up(one.late, AttemptEnd::Hedged));
                (self.first.go_on(first.late, client, body).await, false)
            }
            (Event::Second, first, Some(second)) => {
                first.into_iter().for_each(|one| self.first.give_up(one.late, AttemptEnd::Hedged));
                (self.second.go_on(second.late, client, body).await, true)
            }
            (event, first, second) => {
                let (end, outcome) = match event {
                    Event::Gone => (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone)),
                    Event::Neither(end) => (end, Outcome::Failed(end)),
                    _ => (AttemptEnd::Timeout, Outcome::Failed(AttemptEnd::Timeout)),
                };
                first.into_iter().for_each(|one| self.first.give_up(one.late, end));
                second.into_iter().for_each(|one| self.second.give_up(one.late, end));
                (outcome, true)
            }
        }
    }

    /// Sends the second request, and waits until the answer to one of the two is one to pass on, or only one is left. Those that fail are
    /// taken away, each in its time. All that can end the exchange is looked at meanwhile, also while the second one gets its connection.
    async fn race(
        &self,
        slot: Slot<'a>,
        (first, second): (&mut Option<Awaited<'a>>, &mut Option<Awaited<'a>>),
        client: &mut ClientEnd,
        body: &mut RequestBody,
    ) -> Event {
        // The client's timer is for what concerns both.
        let mut connecting = Deadline::default();
        let mut start = pin!(self.second.start(slot, &mut connecting, body));
        let mut is_starting = true;
        let mut last = AttemptEnd::Broken;
        std::future::poll_fn(|cx| {
            loop {
                if is_starting && let Poll::Ready(started) = start.as_mut().poll(cx) {
                    is_starting = false;
                    match started {
                        Ok(late) => *second = Some(Awaited::new(late)),
                        Err(end) => last = end,
                    }
                }
                for (attempt, one, event) in
                    [(self.first, &mut *first, Event::First), (self.second, &mut *second, Event::Second)]
                {
                    match poll_left(attempt, one, cx) {
                        Poll::Ready(Ok(())) => return Poll::Ready(event),
                        Poll::Ready(Err(end)) => last = end,
                        Poll::Pending => {}
                    }
                }
                match (&first, is_starting, &second) {
                    (Some(_), false, None) => return Poll::Ready(Event::First),
                    (None, false, Some(_)) => return Poll::Ready(Event::Second),
                    (None, false, None) => return Poll::Ready(Event::Neither(last)),
                    _ => {}
                }
                if poll_gone(client, &self.first.gateway.buffers, cx).is_ready() {
                    return Poll::Ready(Event::Gone);
                }
                let dues = [self.first.due(first), self.second.due(second), self.first.total];
                let Some(due) = dues.into_iter().flatten().min() else { return Poll::Pending };
                ready!(client.timer.poll(cx, due));
                if self.first.total == Some(due) {
                    return Poll::Ready(Event::Late);
                }
                last = AttemptEnd::Timeout;
                let (attempt, one) = if dues[0] == Some(due) {
                    (self.first, &mut *first)
                } else {
                    (self.second, &mut *second)
                };
                one.take().into_iter().for_each(|one| attempt.give_up(one.late, last));
            }
        })
        .await
    }
}

impl<'a> Awaited<'a> {
    fn new(late: Late<'a>) -> Awaited<'a> {
        Awaited { late, interim: 0, look_again_at: 0, scanned: 0 }
    }
}

/// Ready when an attempt's answer is there and can be passed on, or when the attempt has ended in another way and is taken away.
fn poll_left<'a>(
    attempt: &Attempt<'a>,
    slot: &mut Option<Awaited<'a>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), AttemptEnd>> {
    let Some(one) = slot else { return Poll::Pending };
    let (seen, end) = loop {
        let read = ready!(poll_reads(&mut one.late.connection, attempt.gateway, cx));
        if matches!(read, Ok(1..)) {
            match attempt.look(one) {
                Seen::Part => {}
                Seen::Answer => return Poll::Ready(Ok(())),
                seen @ Seen::Unwanted { .. } => break (seen, AttemptEnd::Status),
                Seen::Wrong => break (Seen::Wrong, AttemptEnd::Protocol),
            }
            continue;
        }
        let connection = &one.late.connection;
        let end = match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => AttemptEnd::Refused,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => AttemptEnd::Protocol,
            _ if connection.reused && connection.input.is_empty() && !connection.is_stream() => {
                AttemptEnd::Stale
            }
            _ => AttemptEnd::Broken,
        };
        break (Seen::Part, end);
    };
    if let Some(one) = slot.take() {
        match seen {
            Seen::Unwanted { status, is_whole } => attempt.pass_over(one.late, status, is_whole),
            _ => attempt.give_up(one.late, end),
        }
    }
    Poll::Ready(Err(end))
}

/// Reads what has come of an answer.
fn poll_reads(
    connection: &mut Connection,
    gateway: &Gateway,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let Connection { stream, input, .. } = connection;
    if stream.poll_read_ready(cx).is_pending() {
        return Poll::Pending;
    }
    gateway.buffers.lend(input);
    let read = input.poll_fill(stream, cx, ANSWER_HEAD_BYTES);
    gateway.buffers.take_back(input);
    read
}

impl Attempt<'_> {
    /// Sends a request whose body is empty, to its end.
    async fn start<'r>(
        &'r self,
        slot: Slot<'r>,
        timer: &mut Deadline,
        body: &mut RequestBody,
    ) -> Result<Late<'r>, AttemptEnd> {
        let guard = UnderWay::begin(self, slot).unless_ended(AttemptEnd::Hedged);
        let (mut connection, begun) = match self.connection(timer).await {
            Ok(connection) => connection,
            Err(end) => return Err(guard.end(end, end)),
        };
        let mut out = self.gateway.buffers.output();
        self.write_head(&connection, body, &mut out);
        // A body of unknown length has an end, and may have trailers, though it is empty.
        body.write_again(&mut out);
        let written = timer.within(self.plan.forward.idle_body_timeout, async {
            connection.stream.write_all(&out).await?;
            connection.stream.flush().await
        });
        let written = written.await;
        self.gateway.buffers.recycle(out);
        let late = Late { connection, begun, guard };
        let end = match written {
            Some(Ok(())) => return Ok(late),
            Some(Err(_)) => AttemptEnd::Broken,
            None => AttemptEnd::Timeout,
        };
        self.give_up(late, end);
        Err(end)
    }

    /// When an answer that is awaited must have begun.
    fn due(&self, one: &Option<Awaited<'_>>) -> Option<Instant> {
        one.as_ref().map(|one| one.late.begun + self.plan.forward.response_head_timeout)
    }

    /// Looks at what has come of an answer. Interim ones decide nothing, and stay where they are.
    fn look(&self, one: &mut Awaited<'_>) -> Seen {
        let input = &one.late.connection.input;
        let scratch = &self.gateway.answer_head;
        let mut head = scratch.take();
        let seen = loop {
            let rest = &input.filled()[one.interim..];
            let is_full = input.is_full(ANSWER_HEAD_BYTES);
            let scanned = std::mem::replace(&mut one.scanned, rest.len());
            let is_due = is_full || rest.len() >= one.look_again_at || has_head_end(rest, scanned);
            if rest.is_empty() || !is_due {
                break if is_full { Seen::Wrong } else { Seen::Part };
            }
            match head.parse(rest) {
                Ok(Parsed::Partial) if !is_full => {
                    one.look_again_at = rest.len() * 2;
                    break Seen::Part;
                }
                Ok(Parsed::Partial) | Err(_) => break Seen::Wrong,
                Ok(Parsed::Complete(_)) if head.status == 101 => break Seen::Wrong,
                Ok(Parsed::Complete(length)) if head.is_interim() => {
                    (one.interim, one.look_again_at, one.scanned) = (one.interim + length, 0, 0);
                }
                Ok(Parsed::Complete(length)) => break self.weigh(&head, rest.len() - length),
            }
        };
        scratch.replace(head);
        seen
    }

    /// What a final answer is worth, of which so many bytes have come behind its head.
    fn weigh(&self, head: &AnswerHead, rest: usize) -> Seen {
        let body = match head.framing(self.head.method) {
            Ok(Framing::Length(length)) => Some(length),
            // Where a body is forbidden, one may follow all the same.
            Ok(Framing::None | Framing::Chunked | Framing::Close) => None,
            Err(_) => return Seen::Wrong,
        };
        if !self.plan.forward.repeats.wants_another_for(head.status) {
            return Seen::Answer;
        }
        let is_whole = body == Some(rest as u64) && head.keep_alive && !self.head.expects;
        Seen::Unwanted { status: head.status, is_whole }
    }

    /// Ends an attempt whose answer is to be had from another backend.
    fn pass_over(&self, late: Late<'_>, status: u16, is_whole: bool) {
        // By this it is judged.
        self.progress.passed_over.set(Some(status));
        if is_whole {
            let Late { mut connection, guard, .. } = late;
            connection.input.consume(connection.input.filled().len());
            connection.suspect = true;
            self.keep(connection, Instant::now());
            guard.end(AttemptEnd::Status, ());
        } else {
            self.give_up(late, AttemptEnd::Status);
        }
        // The other one has an answer of its own.
        self.progress.passed_over.set(None);
    }

    /// Ends an attempt that has no answer.
    fn give_up(&self, late: Late<'_>, end: AttemptEnd) {
        let Late { connection, begun, guard } = late;
        if end == AttemptEnd::Timeout {
            connection.stream.suspect(begun);
        }
        self.gateway.upstreams.close(&self.member.backend, connection, Closed::Aborted);
        guard.end(end, ());
    }
}
