//! One client connection: request after request, until one side has had enough.
//!
//! Owns the reading of heads and the limits on them, idle time and the manner of closing. A connection that idles holds a
//! socket and a timer: no buffer, no head.

use std::{
    net::IpAddr,
    rc::Rc,
    task::{Poll, Waker, ready},
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt;

use super::{
    ClientPolicy, Http2,
    admission::Permit,
    introduction::introduce,
    multiplex,
    worker::{House, Room},
};
use crate::{
    http1::{HeadError, Parsed, RequestHead, Version, has_head_end},
    http2,
    io::Stream,
    limits::{BUFFER_BYTES, DRAIN_IDLE, LINGER, TLS_GOODBYE},
    proxy::{
        claims::RequestId,
        client_end::ClientEnd,
        exchange::{After, exchange},
        refuse::{Asked, write_bounded, write_refusal},
    },
    tally::Refusal,
};

/// Serves a connection to its end.
pub(super) async fn serve(house: Rc<House>, stream: Stream, peer: IpAddr, mut permit: Permit) {
    let (doorway, room) = (permit.doorway().clone(), house.room(permit.site()));
    let is_plain = doorway.tls.is_none() && !doorway.begins_with_preface(peer);
    let mut client = if is_plain {
        ClientEnd::new(stream, peer, None, house.policy().idle_body_timeout)
    } else {
        // On the heap while it lasts: a connection that idles does not carry room for it.
        let number = house.check_in();
        let introduced = tokio::select! {
            biased;
            introduced = Box::pin(introduce(&house, stream, peer, &mut permit)) => introduced,
            () = Box::pin(left(&house, &room, number)) => None,
        };
        house.check_out(number);
        match introduced {
            Some(client) => client,
            None => return,
        }
    };
    client.redirect = doorway.redirect();
    // When the wait for the next request began: bytes of TLS that bring none of it do not begin it anew.
    let mut begun = None;
    let is_http2 = match doorway.http2() {
        Http2::PriorKnowledge if !client.stream.is_secure() => {
            let number = house.check_in();
            begun = Some(Instant::now());
            let begins = tokio::select! {
                biased;
                begins = Box::pin(begins_with_http2(&house, &mut client, &mut begun)) => Some(begins),
                () = Box::pin(left(&house, &room, number)) => None,
            };
            house.check_out(number);
            match begins {
                Some(begins) => begins,
                None => return,
            }
        }
        Http2::Auto | Http2::PriorKnowledge => {
            client.stream.agreed_protocol().is_some_and(|protocol| protocol == b"h2")
        }
        Http2::Off => false,
    };
    if is_http2 {
        Box::pin(multiplex::serve(&house, &room, &mut client)).await;
        client.stream.say_goodbye(TLS_GOODBYE).await;
        return;
    }
    let number = house.check_in();
    // A new connection must speak up as fast as a begun head must end.
    let mut patience = house.policy().request_head_timeout;
    // Of what was looked at already, the time goes on.
    let mut first = begun.filter(|_| !client.input.is_empty());
    let mut is_known = false;
    let mut make_known = |waker: &Waker| {
        if !std::mem::replace(&mut is_known, true) {
            house.wake_when_leaving(number, waker);
        }
    };
    while idle(&room, &mut client, patience, &mut begun, &mut make_known).await {
        // A request that was there at once may turn into a connection that stays for days.
        std::future::poll_fn(|cx| {
            make_known(cx.waker());
            Poll::Ready(())
        })
        .await;
        house.gate.enter().await;
        let goes_on = match first_bytes(&house, &mut client).await {
            // On the heap while it lasts: a connection that idles does not carry room for a turn.
            Some(true) => Box::pin(turn(&house, &room, &mut client, first.take())).await,
            Some(false) => false,
            None => {
                house.gate.leave();
                continue;
            }
        };
        house.gate.leave();
        if !goes_on {
            break;
        }
        patience = house.policy().keep_alive_timeout;
        begun = None;
    }
    house.check_out(number);
    house.gateway.buffers.take_back(&mut client.input);
    client.stream.say_goodbye(TLS_GOODBYE).await;
}

/// Whether what a client says first is HTTP/2. `begun` is when it could have begun, and then when it did.
async fn begins_with_http2(house: &House, client: &mut ClientEnd, begun: &mut Option<Instant>) -> bool {
    let (limit, buffers) = (house.policy().request_head_timeout, &house.gateway.buffers);
    let ClientEnd { stream, input, timer, .. } = &mut *client;
    // Who says nothing holds no buffer.
    let first = std::future::poll_fn(|cx| {
        ready!(stream.poll_read_ready(cx))?;
        buffers.lend(input);
        let read = input.poll_fill(stream, cx, BUFFER_BYTES);
        if read.is_pending() {
            buffers.take_back(input);
        }
        read
    });
    if !matches!(timer.within(limit, first).await, Some(Ok(1..))) {
        return false;
    }
    let since = *begun.insert(Instant::now());
    loop {
        let filled = client.input.filled();
        // The whole of it: a method may begin with the same letters.
        let seen = filled.len().min(http2::PREFACE.len());
        if filled[..seen] != http2::PREFACE[..seen] {
            return false;
        }
        if seen == http2::PREFACE.len() {
            return true;
        }
        if fill(client, since + limit, BUFFER_BYTES).await != Some(true) {
            return false;
        }
    }
}

/// Waits until connections are to end, and then as long as for any connection that has said nothing.
async fn left(house: &House, room: &Room, number: u64) {
    std::future::poll_fn(|cx| match room.leaving.get() {
        Some(_) => Poll::Ready(()),
        None => {
            house.wake_when_leaving(number, cx.waker());
            Poll::Pending
        }
    })
    .await;
    tokio::time::sleep(DRAIN_IDLE).await;
}

/// Reads what the connection is ready for. `Some(false)`: its end. `None`: nothing, because the runtime takes a new connection for
/// ready until it has been tried.
async fn first_bytes(house: &House, client: &mut ClientEnd) -> Option<bool> {
    if !client.input.is_empty() {
        return Some(true);
    }
    house.gateway.buffers.lend(&mut client.input);
    let read =
        std::future::poll_fn(|cx| Poll::Ready(client.input.poll_fill(&mut client.stream, cx, BUFFER_BYTES)));
    match read.await {
        Poll::Ready(read) => Some(matches!(read, Ok(1..))),
        Poll::Pending => {
            house.gateway.buffers.take_back(&mut client.input);
            None
        }
    }
}

/// From a request's first bytes to the end of its answer. Whether another request may follow.
async fn turn(house: &House, room: &Room, client: &mut ClientEnd, begun: Option<Instant>) -> bool {
    let begun = begun.unwrap_or_else(Instant::now);
    let mut head = house.gateway.take_head();
    let policy = house.policy();
    client.idle_body_timeout = policy.idle_body_timeout;
    let after = match read_head(&policy, client, &mut head, begun).await {
        Ok(()) => {
            // The listener is closed: this request is the connection's last.
            head.keep_alive &= room.leaving.get().is_none();
            exchange(&house.gateway, client, &head, begun).await
        }
        Err(End::Silent) => After::Close,
        Err(End::Refused(refusal)) => refuse(house, client, refusal, begun).await,
    };
    house.gateway.give_head(head);
    match after {
        After::Next => house.gateway.buffers.take_back(&mut client.input),
        After::Close => {}
        After::Linger => linger(client).await,
    }
    after == After::Next
}

/// Waits for the next request's first byte. `false`: there will be none.
async fn idle(
    room: &Room,
    client: &mut ClientEnd,
    patience: Duration,
    begun: &mut Option<Instant>,
    make_known: &mut impl FnMut(&Waker),
) -> bool {
    if !client.input.is_empty() {
        return true;
    }
    std::future::poll_fn(|cx| {
        match client.stream.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(true),
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            Poll::Pending => {}
        }
        make_known(cx.waker());
        let begun = *begun.get_or_insert_with(Instant::now);
        let mut due = begun + patience;
        // The last answer may have left before draining began, without a word about closing: a request that follows it is
        // waited for from whichever came later.
        if let Some(since) = room.leaving.get() {
            due = due.min(since.max(begun) + DRAIN_IDLE);
        }
        client.timer.poll(cx, due).map(|()| false)
    })
    .await
}

/// Why no request came of it.
enum End {
    /// The client closed, or broke off.
    Silent,
    /// What it sent is refused.
    Refused(Refusal),
}

/// Reads until a whole head is at hand, and takes it from the input.
async fn read_head(
    policy: &ClientPolicy,
    client: &mut ClientEnd,
    head: &mut RequestHead,
    begun: Instant,
) -> Result<(), End> {
    let (mut scanned, mut look_at) = (0, 0);
    loop {
        let filled = client.input.filled();
        // Parsing begins at the front each time. So it is done when the end has come, and on the way only as often as the
        // size doubles: a head that drips in costs no more than one that comes at once, and nonsense is still seen early.
        let look = !filled.is_empty() && (filled.len() >= look_at || has_head_end(filled, scanned));
        if look {
            match head.parse(filled, policy.max_headers) {
                Ok(Parsed::Complete(length)) if length <= policy.max_head_bytes => {
                    client.input.consume(length);
                    return Ok(());
                }
                Ok(Parsed::Complete(_)) => return Err(End::Refused(Refusal::HeadTooLarge)),
                Ok(Parsed::Partial) => look_at = filled.len() * 2,
                Err(error) => return Err(End::Refused(refusal_of(error))),
            }
        }
        scanned = filled.len();
        if client.input.is_full(policy.max_head_bytes) {
            return Err(End::Refused(Refusal::HeadTooLarge));
        }
        let due = begun + policy.request_head_timeout;
        let bound = policy.max_head_bytes.max(BUFFER_BYTES);
        match fill(client, due, bound).await {
            Some(true) => {}
            Some(false) => return Err(End::Silent),
            // Empty lines before a request are no beginning of one (RFC 9112 section 2.2).
            None if client.input.filled().iter().all(|b| matches!(b, b'\r' | b'\n')) => {
                return Err(End::Silent);
            }
            None => return Err(End::Refused(Refusal::RequestTimeout)),
        }
    }
}

/// Reads once. `Some(false)`: the stream is over. `None`: the time is.
async fn fill(client: &mut ClientEnd, due: Instant, bound: usize) -> Option<bool> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(read) = client.input.poll_fill(&mut client.stream, cx, bound) {
            return Poll::Ready(Some(matches!(read, Ok(n) if n > 0)));
        }
        client.timer.poll(cx, due).map(|()| None)
    })
    .await
}

pub(super) fn refusal_of(error: HeadError) -> Refusal {
    tracing::debug!(%error, "a request's head is refused");
    match error {
        HeadError::Malformed(_) => Refusal::Malformed,
        HeadError::TooManyFields | HeadError::TooLarge => Refusal::HeadTooLarge,
        HeadError::TargetTooLong => Refusal::TargetTooLong,
        HeadError::Version => Refusal::Version,
        HeadError::TransferCoding => Refusal::TransferCoding,
        HeadError::Method => Refusal::Method,
        HeadError::Expectation => Refusal::Expectation,
    }
}

/// Answers a head that is not a request. Where the next one would begin is not known, so it is the last.
async fn refuse(house: &House, client: &mut ClientEnd, refusal: Refusal, begun: Instant) -> After {
    let head_only = client.input.filled().starts_with(b"HEAD ");
    let written = refuse_head(house, client, refusal, begun, (Version::Http11, head_only)).await;
    if written { After::Linger } else { After::Close }
}

/// Answers what is not a request, in the client's version. Whether it took the answer.
pub(super) async fn refuse_head(
    house: &House,
    client: &mut ClientEnd,
    refusal: Refusal,
    begun: Instant,
    (version, head_only): (Version, bool),
) -> bool {
    house.gateway.cells.refusals.at(refusal as usize).bump();
    let id = RequestId::new(house.gateway.random());
    let mut out = house.gateway.buffers.output();
    let asked = Asked { version, request_id: &id.0, head_only, by_grpc: false, keep_alive: false };
    write_refusal(&mut out, refusal, &asked, client.hsts().as_slice());
    let written = write_bounded(client, &out).await;
    house.gateway.log_refused_head(client.peer, version, refusal, &id.0, begun);
    house.gateway.buffers.recycle(out);
    written
}

/// Closes so that the last answer arrives: our half first, then what the client still sends is read and thrown away. A close with
/// bytes unread would make the kernel reset the connection, and the answer with it (RFC 9112 section 9.6).
pub(super) async fn linger(client: &mut ClientEnd) {
    let due = Instant::now() + LINGER;
    // Over TLS, what is left of the answer goes first, for as long as the client takes it.
    let ClientEnd { stream, timer, .. } = client;
    if !matches!(timer.within(LINGER, stream.shutdown()).await, Some(Ok(()))) {
        return;
    }
    loop {
        client.input.consume(client.input.filled().len());
        if fill(client, due, BUFFER_BYTES).await != Some(true) || Instant::now() >= due {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_head_has_its_status() {
        assert_eq!(refusal_of(HeadError::Malformed("x")).status(), 400);
        assert_eq!(refusal_of(HeadError::TooManyFields).status(), 431);
        assert_eq!(refusal_of(HeadError::TargetTooLong).status(), 414);
        assert_eq!(refusal_of(HeadError::Method).status(), 405);
        assert_eq!(refusal_of(HeadError::Expectation).status(), 417);
        assert_eq!(refusal_of(HeadError::TransferCoding).status(), 501);
        assert_eq!(refusal_of(HeadError::Version).status(), 505);
    }
}
