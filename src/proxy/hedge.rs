//! A second attempt beside one that is late: the first answer that begins is the answer.
//!
//! Owns both attempts until then, and the end of the one that is given up. When it comes to that, and who is asked, is decided elsewhere
//! ([`super::onward`], [`super::choose`]); how an answer is passed on, too ([`super::attempt`]).

use std::{
    io,
    pin::pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::AsyncWriteExt;

use super::{
    Gateway,
    attempt::{Attempt, Late, Outcome},
    choose::{Candidates, Next},
    exchange::ClientEnd,
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
    let Next::Try(member, slot) = candidates.next_backend() else {
        return (first.go_on(*late, client, body).await, false);
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
    /// The client has gone.
    Gone,
    /// Neither has begun its answer in time.
    Slow,
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
        let mut first = Some(late);
        // The first one may still answer while the second one gets its connection.
        let second = {
            let mut start = pin!(self.second.start(slot, &mut client.timer, body));
            std::future::poll_fn(|cx| match poll_left(self.first, &mut first, cx) {
                Poll::Ready(true) => Poll::Ready(Err(None)),
                _ => start.as_mut().poll(cx).map_err(Some),
            })
            .await
        };
        let mut second = match second {
            Ok(late) => Some(late),
            Err(failed) => {
                return match (first, failed) {
                    (Some(first), _) => (self.first.go_on(first, client, body).await, false),
                    (None, failed) => (Outcome::Failed(failed.unwrap_or(AttemptEnd::Broken)), true),
                };
            }
        };
        let event = match first {
            Some(_) => self.race(&mut first, &mut second, client).await,
            None => Event::Second,
        };
        match (event, first, second) {
            (Event::First, Some(first), second) => {
                second.into_iter().for_each(|late| self.second.give_up(late, AttemptEnd::Hedged));
                (self.first.go_on(first, client, body).await, false)
            }
            (Event::Second, first, Some(second)) => {
                first.into_iter().for_each(|late| self.first.give_up(late, AttemptEnd::Hedged));
                (self.second.go_on(second, client, body).await, true)
            }
            (event, first, second) => {
                let (end, outcome) = match event {
                    Event::Gone => (AttemptEnd::Cancelled, Outcome::Client(ClientFault::Gone)),
                    _ => (AttemptEnd::Timeout, Outcome::Failed(AttemptEnd::Timeout)),
                };
                first.into_iter().for_each(|late| self.first.give_up(late, end));
                second.into_iter().for_each(|late| self.second.give_up(late, end));
                (outcome, true)
            }
        }
    }

    /// Waits until the answer to one of two requests begins, or one fails, which is then taken away.
    async fn race(
        &self,
        first: &mut Option<Late<'a>>,
        second: &mut Option<Late<'a>>,
        client: &mut ClientEnd,
    ) -> Event {
        let begun = second.as_ref().map_or_else(Instant::now, |late| late.begun);
        let due = begun + self.second.plan.forward.response_head_timeout;
        let due = self.second.total.map_or(due, |total| due.min(total));
        let buffers = &self.second.gateway.buffers;
        std::future::poll_fn(|cx| {
            match poll_left(self.first, first, cx) {
                Poll::Ready(true) => return Poll::Ready(Event::First),
                Poll::Ready(false) => return Poll::Ready(Event::Second),
                Poll::Pending => {}
            }
            match poll_left(self.second, second, cx) {
                Poll::Ready(true) => return Poll::Ready(Event::Second),
                Poll::Ready(false) => return Poll::Ready(Event::First),
                Poll::Pending => {}
            }
            if poll_gone(client, buffers, cx).is_ready() {
                return Poll::Ready(Event::Gone);
            }
            client.timer.poll(cx, due).map(|()| Event::Slow)
        })
        .await
    }
}

/// Ready when an attempt's answer begins (`true`), or it has failed and is taken away.
fn poll_left<'a>(attempt: &Attempt<'a>, slot: &mut Option<Late<'a>>, cx: &mut Context<'_>) -> Poll<bool> {
    let Some(late) = slot else { return Poll::Pending };
    let Poll::Ready(read) = poll_begins(&mut late.connection, attempt.gateway, cx) else {
        return Poll::Pending;
    };
    if matches!(read, Ok(1..)) {
        return Poll::Ready(true);
    }
    if let Some(late) = slot.take() {
        let end = match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => AttemptEnd::Refused,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => AttemptEnd::Protocol,
            _ if late.connection.reused && !late.connection.is_stream() => AttemptEnd::Stale,
            _ => AttemptEnd::Broken,
        };
        attempt.give_up(late, end);
    }
    Poll::Ready(false)
}

/// Reads the first bytes of an answer.
fn poll_begins(
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
