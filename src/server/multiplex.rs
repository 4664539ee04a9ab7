//! One client connection that speaks HTTP/2: many requests at a time.
//!
//! Owns the connection's bytes and time, and the tasks that work on its streams. Each stream is an exchange like any other, with its own key
//! and its own backend. Those who have finished one stream take the next: a busy connection begins no task for each request, and an idle one
//! holds none.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use super::{
    connection::{linger, refusal_of, refuse_head},
    worker::{House, Room},
};
use crate::{
    http1::Version,
    http2::{self, Arrival, ErrorCode, Fault, Limits, Mux},
    io::{Carrier, Deadline, Stopped, Stream},
    limits::{DRAIN_IDLE, HTTP2_CONNECTION_WINDOW, HTTP2_STREAM_WINDOW, HTTP2_STREAMS, LINGER},
    proxy::{
        client_end::{ClientEnd, Told},
        exchange::exchange,
    },
    tally::Http2Fault,
};

/// How long somebody without a stream waits for one.
const PARKED: Duration = Duration::from_secs(2);

/// What those who work on a connection's streams share.
struct Line {
    house: Rc<House>,
    room: Rc<Room>,
    mux: Rc<Mux>,
    peer: IpAddr,
    told: Option<Rc<Told>>,
    redirect: Option<u16>,
    /// Those who wait for a stream, the latest last.
    parked: RefCell<Vec<(u64, Waker)>>,
    numbers: Cell<u64>,
    /// Those who have been called for a stream and have not come yet.
    called: Cell<usize>,
    is_over: Cell<bool>,
}

/// Why a connection ends.
enum End {
    /// One side has had enough, and nothing is under way.
    Quiet,
    /// The client broke a rule, or asked too much.
    Fault(Fault),
    /// It is gone.
    Gone,
}

/// Serves a connection to its end.
pub(super) async fn serve(house: &Rc<House>, room: &Rc<Room>, client: &mut ClientEnd) {
    let policy = house.policy();
    let limits = Limits {
        streams: HTTP2_STREAMS,
        stream_window: HTTP2_STREAM_WINDOW,
        connection_window: HTTP2_CONNECTION_WINDOW,
        head_bytes: policy.max_head_bytes,
        head_fields: policy.max_headers,
    };
    let ends = client.ends().map(|ends| (ends.source, ends.destination));
    let mux = Mux::server(limits, client.stream.is_secure(), ends);
    let line = Rc::new(Line {
        house: house.clone(),
        room: room.clone(),
        mux: mux.clone(),
        peer: client.peer,
        told: client.take_told(),
        redirect: client.redirect,
        parked: RefCell::default(),
        numbers: Cell::new(0),
        called: Cell::new(0),
        is_over: Cell::new(false),
    });
    house.gateway.cells.http2_connections.bump();
    let number = house.check_in();
    let mut trunk = Trunk::new(&line, client);
    let end = std::future::poll_fn(|cx| {
        house.wake_when_leaving(number, cx.waker());
        trunk.poll(cx)
    })
    .await;
    house.check_out(number);
    let code = match &end {
        End::Fault(fault) => {
            tracing::debug!(peer = %line.peer, kind = fault.kind.word(), "an HTTP/2 connection ends: {}", fault.why);
            house.gateway.cells.http2_faults.at(fault.kind as usize).bump();
            fault.code
        }
        End::Quiet | End::Gone => ErrorCode::NoError,
    };
    mux.leave(code);
    mux.end();
    line.close();
    house.gateway.cells.http2_resets.add(mux.take_resets());
    if !matches!(end, End::Gone) && trunk.write_last_words().await {
        linger(client).await;
    }
    house.gateway.buffers.take_back(&mut client.input);
}

/// The connection of the streams.
struct Trunk<'a> {
    line: &'a Rc<Line>,
    client: &'a mut ClientEnd,
    carrier: Carrier,
    /// Since when there has been no stream. `None`: there is one.
    idle_since: Option<Instant>,
    has_served: bool,
    /// Its streams have been told that the proxy drains.
    has_heard: bool,
    /// Since when a field section has not been complete.
    section_since: Option<Instant>,
}

impl<'a> Trunk<'a> {
    fn new(line: &'a Rc<Line>, client: &'a mut ClientEnd) -> Trunk<'a> {
        Trunk {
            line,
            client,
            carrier: Carrier::new(line.mux.clone()),
            idle_since: Some(Instant::now()),
            has_served: false,
            has_heard: false,
            section_since: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Trunk { line, client, section_since, has_served, has_heard, .. } = self;
        if let Some(since) = line.room.leaving.get() {
            line.mux.announce_leaving();
            // Some of them end at once.
            if !std::mem::replace(has_heard, true) {
                line.mux.wake_streams();
            }
            if Instant::now() >= since + DRAIN_IDLE {
                line.mux.leave(ErrorCode::NoError);
            }
        }
        let mut taken = |now| {
            line.house.gateway.cells.http2_resets.add(line.mux.take_resets());
            if !line.mux.is_within_section() {
                *section_since = None;
            } else if section_since.is_none() {
                *section_since = Some(now);
            }
            *has_served |= line.mux.arrivals() > 0;
            call(line);
        };
        match self.carrier.run(cx, &mut client.stream, &mut client.input, &mut taken) {
            Ok(()) => {}
            Err(Stopped::Gone) => return Poll::Ready(End::Gone),
            Err(Stopped::Fault(fault)) => return Poll::Ready(End::Fault(fault)),
        }
        // An empty one gives its memory back.
        line.house.gateway.buffers.take_back(&mut client.input);
        self.poll_time(cx)
    }

    /// Ends what has taken too long, and what has come to its end.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (mux, house) = (&self.line.mux, &self.line.house);
        let policy = house.policy();
        let leaving = self.line.room.leaving.get();
        let is_idle = mux.open_streams() == 0 && !self.carrier.has_output();
        if !is_idle {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(Instant::now());
            mux.rest();
            self.carrier.rest();
        }
        if is_idle && mux.peer_leaves() {
            return Poll::Ready(End::Quiet);
        }
        let patience = if self.has_served { policy.keep_alive_timeout } else { policy.request_head_timeout };
        // A client that has not heard of the end yet may have sent a request: that is waited for, and then no other.
        let farewell = leaving.map(|since| since + DRAIN_IDLE);
        if let Some(farewell) = farewell.filter(|_| !is_idle && !mux.has_left())
            && self.client.timer.poll(cx, farewell).is_ready()
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let dues = [
            self.idle_since.map(|since| since + patience),
            self.idle_since.and(farewell),
            self.section_since.map(|since| since + policy.request_head_timeout),
            self.carrier.stalled_since.map(|since| since + policy.idle_body_timeout),
        ];
        if let Some(due) = dues.into_iter().flatten().min() {
            ready!(self.client.timer.poll(cx, due));
            let now = Instant::now();
            return Poll::Ready(match dues {
                [_, _, _, Some(due)] if due <= now => End::Fault(Fault {
                    code: ErrorCode::NoError,
                    kind: Http2Fault::Stalled,
                    why: "nothing was taken for too long",
                }),
                [_, _, Some(due), _] if due <= now => End::Fault(Fault {
                    code: ErrorCode::EnhanceYourCalm,
                    kind: Http2Fault::FieldSection,
                    why: "a field section took too long",
                }),
                _ => End::Quiet,
            });
        }
        Poll::Pending
    }

    /// Writes what is left, for as long as a client may take for an answer. Whether it took all.
    async fn write_last_words(&mut self) -> bool {
        let due = Instant::now() + LINGER;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(written) = self.carrier.poll_write(cx, &mut self.client.stream) {
                return Poll::Ready(written.is_ok());
            }
            self.client.timer.poll(cx, due).map(|()| false)
        })
        .await
    }
}

impl Line {
    fn client(&self, stream: http2::Stream) -> ClientEnd {
        let stream = Stream::Multiplexed(stream);
        let mut client =
            ClientEnd::new(stream, self.peer, self.told.clone(), self.house.policy().idle_body_timeout);
        client.redirect = self.redirect;
        client
    }

    /// The next stream, if one comes soon.
    async fn next(&self, timer: &mut Deadline) -> Option<Arrival> {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let mut due = None;
        std::future::poll_fn(|cx| {
            let mut parked = self.parked.borrow_mut();
            let place = parked.iter().position(|(parked, _)| *parked == number);
            // Who is not parked has been called, or has just finished.
            if place.is_none() {
                if due.is_some() {
                    self.called.set(self.called.get() - 1);
                }
                if let Some(arrival) = self.mux.next_arrival() {
                    return Poll::Ready(Some(arrival));
                }
            }
            let due = *due.get_or_insert_with(|| Instant::now() + PARKED);
            let is_late = timer.poll(cx, due).is_ready();
            if is_late || self.is_over.get() {
                if let Some(place) = place {
                    parked.remove(place);
                }
                return Poll::Ready(None);
            }
            match place {
                Some(place) => parked[place].1.clone_from(cx.waker()),
                None => parked.push((number, cx.waker().clone())),
            }
            Poll::Pending
        })
        .await
    }

    /// Sends everybody away.
    fn close(&self) {
        self.is_over.set(true);
        self.parked.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }
}

/// Has somebody come for each stream that is new: those who have none, or somebody new.
fn call(line: &Rc<Line>) {
    while line.mux.arrivals() > line.called.get() {
        line.called.set(line.called.get() + 1);
        let parked = line.parked.borrow_mut().pop();
        match parked {
            Some((_, waker)) => waker.wake(),
            None => drop(tokio::task::spawn_local(attend(line.clone()))),
        }
    }
}

/// Works on one stream after the other.
async fn attend(line: Rc<Line>) {
    line.called.set(line.called.get() - 1);
    let Some(arrival) = line.mux.next_arrival() else { return };
    let house = &line.house;
    let mut next = Some(arrival);
    let mut end: Option<ClientEnd> = None;
    while let Some(Arrival { stream, head, begun }) = next {
        let client = match &mut end {
            Some(client) => {
                client.stream = Stream::Multiplexed(stream);
                client.idle_body_timeout = house.policy().idle_body_timeout;
                client
            }
            none => none.insert(line.client(stream)),
        };
        house.gate.enter().await;
        match head {
            // Given up before it began.
            _ if client.stream.is_reset() => {}
            Ok(head) => {
                exchange(&house.gateway, client, &head, begun).await;
                line.mux.give_head(head);
            }
            Err((error, head_only)) => {
                refuse_head(house, client, refusal_of(error), begun, (Version::Http2, head_only)).await;
            }
        }
        house.gate.leave();
        if let Stream::Multiplexed(stream) = &mut client.stream {
            stream.finish();
        }
        client.input.consume(client.input.filled().len());
        house.gateway.buffers.take_back(&mut client.input);
        next = line.next(&mut client.timer).await;
    }
}
