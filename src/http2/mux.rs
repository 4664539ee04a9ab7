//! What the streams of one connection share: its windows, its output, the table of what is open.
//!
//! Owns the order in which streams may write when they can't all: each a frame in turn. Owned itself by the task that carries the bytes,
//! with which it talks through [`Mux::receive`], [`Mux::take_output`] and a waker.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    task::{Poll, Waker},
};

use super::{
    Arrival, ErrorCode, Stream,
    decode::Decoder,
    frame::{DEFAULT_WINDOW, PREFACE, kind, setting, write_goaway, write_number, write_settings},
    patience::Patience,
    state::{Leaving, Loss, One, State},
};
use crate::{http1::RequestHead, limits::HTTP2_OUTPUT_MOST};

/// Numbers from here on are not given to streams: 2^31 is the end of them (RFC 9113 section 5.1.1).
const LAST_STREAM: u32 = (1 << 31) - 3;

/// Heads that wait for the next request.
const SPARE_HEADS: usize = 8;

/// What a peer may do on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams open at one time.
    pub streams: u32,
    /// Bytes of payload on one stream that have not been taken.
    pub stream_window: u32,
    /// Bytes of payload on all of them that have not been taken.
    pub connection_window: u32,
    /// Bytes in a head.
    pub head_bytes: usize,
    /// Fields in a head.
    pub head_fields: usize,
}

/// One connection's streams.
///
/// The side that asks opens streams ([`Mux::open`]), the side that is asked finds them ([`Mux::next_arrival`]).
#[derive(Debug)]
pub struct Mux {
    pub(super) limits: Limits,
    is_secure: bool,
    ends: Option<(SocketAddr, SocketAddr)>,
    pub(super) state: RefCell<State>,
}

impl Mux {
    /// The side that is asked, on a stream that nothing has been read from.
    pub fn server(limits: Limits, is_secure: bool, ends: Option<(SocketAddr, SocketAddr)>) -> Rc<Mux> {
        let settings =
            [(setting::MAX_CONCURRENT_STREAMS, limits.streams), (setting::ENABLE_CONNECT_PROTOCOL, 1)];
        Mux::new(true, limits, is_secure, ends, &settings)
    }

    /// The side that asks, on a stream that nothing has been written to.
    pub fn client(limits: Limits) -> Rc<Mux> {
        Mux::new(false, limits, false, None, &[(setting::ENABLE_PUSH, 0)])
    }

    fn new(
        is_server: bool,
        limits: Limits,
        is_secure: bool,
        ends: Option<(SocketAddr, SocketAddr)>,
        own: &[(u16, u32)],
    ) -> Rc<Mux> {
        let mut out = if is_server { Vec::new() } else { PREFACE.to_vec() };
        let both = [
            (setting::INITIAL_WINDOW_SIZE, limits.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, limits.head_bytes as u32),
        ];
        write_settings(&mut out, &[own, &both].concat());
        let connection_window = i64::from(limits.connection_window).max(DEFAULT_WINDOW);
        if connection_window > DEFAULT_WINDOW {
            write_number(&mut out, kind::WINDOW_UPDATE, 0, (connection_window - DEFAULT_WINDOW) as u32);
        }
        Rc::new(Mux {
            limits,
            is_secure,
            ends,
            state: RefCell::new(State {
                is_server,
                out,
                decoder: Decoder::default(),
                block: None,
                patience: Patience::default(),
                has_begun: !is_server,
                has_settings: false,
                settings_waiter: None,
                send_window: DEFAULT_WINDOW,
                recv_window: connection_window,
                recv_owed: 0,
                peer_window: DEFAULT_WINDOW,
                streams: Vec::new(),
                highest: 0,
                // Until the peer has said: what RFC 9113 section 6.5.2 calls the least that should be.
                peer_streams: 100,
                arrivals: VecDeque::new(),
                spare_heads: Vec::new(),
                ended: VecDeque::new(),
                waiting: VecDeque::new(),
                granted: 0,
                driver: None,
                leaving: Leaving::No,
                peer_leaves: false,
                is_over: false,
                is_retired: false,
                received: None,
                table_is_cut: false,
                resets: 0,
            }),
        })
    }

    /// Whether others on the way can neither read nor change it.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The other end's address and our own.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// Opens a stream to send a request on. `None`: the connection takes no further one, or no further one now.
    pub fn open(self: &Rc<Self>, is_for_head: bool) -> Option<Stream> {
        let mut state = self.state.borrow_mut();
        let most = state.peer_streams.min(self.limits.streams) as usize;
        if state.is_over
            || state.is_retired
            || state.peer_leaves
            || state.streams.len() >= most
            || state.highest >= LAST_STREAM
        {
            return None;
        }
        let id = if state.highest == 0 { 1 } else { state.highest + 2 };
        state.highest = id;
        let one = One { is_for_head, ..One::new(state.peer_window, i64::from(self.limits.stream_window)) };
        state.open(id, one);
        state.patience.stream_opened();
        drop(state);
        Some(Stream::new(self.clone(), id))
    }

    /// Waits until the peer has said what it allows. `false`: the connection is gone.
    pub async fn ready(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.has_settings || state.is_over {
                return Poll::Ready(!state.is_over);
            }
            state.settings_waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether no further stream can be opened, ever.
    pub fn is_spent(&self) -> bool {
        let state = self.state.borrow();
        let admits_none = state.has_settings && state.peer_streams == 0;
        state.is_over || state.is_retired || state.peer_leaves || admits_none || state.highest >= LAST_STREAM
    }

    /// The next request, if one has come.
    pub fn next_arrival(self: &Rc<Self>) -> Option<Arrival> {
        let (id, head, begun) = self.state.borrow_mut().arrivals.pop_front()?;
        Some(Arrival { stream: Stream::new(self.clone(), id), head, begun })
    }

    /// Requests that nobody has taken yet.
    pub fn arrivals(&self) -> usize {
        self.state.borrow().arrivals.len()
    }

    /// Takes a head back that is not needed any more.
    pub fn give_head(&self, head: Box<RequestHead>) {
        let mut state = self.state.borrow_mut();
        if state.spare_heads.len() < SPARE_HEADS && head.bytes().len() <= self.limits.head_bytes {
            state.spare_heads.push(head);
        }
    }

    /// Gives memory back that a connection without streams does not need.
    pub fn rest(&self) {
        let mut state = self.state.borrow_mut();
        state.spare_heads = Vec::new();
        if state.streams.is_empty() {
            (state.streams, state.arrivals, state.waiting) = Default::default();
        }
        if state.out.is_empty() {
            state.out = Vec::new();
        }
    }

    /// Has this woken when there is something to write.
    pub fn set_driver(&self, waker: &Waker) {
        let mut state = self.state.borrow_mut();
        if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
    }

    /// Has whoever carries the bytes look again.
    pub fn wake(&self) {
        self.state.borrow_mut().wake_driver();
    }

    /// Moves what is to be written to `into`, which is empty, and lets streams write that had to wait.
    pub fn take_output(&self, into: &mut Vec<u8>) {
        debug_assert!(into.is_empty(), "what was taken before has been written");
        let mut state = self.state.borrow_mut();
        std::mem::swap(&mut state.out, into);
        state.grant();
    }

    /// Has everybody who works on a stream look up.
    pub fn wake_streams(&self) {
        self.state.borrow_mut().all().for_each(One::wake);
    }

    /// Whether something waits to be written.
    pub fn has_output(&self) -> bool {
        !self.state.borrow().out.is_empty()
    }

    /// Whether so much waits to be written that nothing more should be read.
    pub fn is_crowded(&self) -> bool {
        self.state.borrow().out.len() > HTTP2_OUTPUT_MOST
    }

    /// Streams that somebody works on.
    pub fn open_streams(&self) -> usize {
        self.state.borrow().streams.len()
    }

    /// The peer has begun a field section and not ended it.
    pub fn is_within_section(&self) -> bool {
        self.state.borrow().block.is_some()
    }

    /// The peer is going to open no further stream.
    pub fn peer_leaves(&self) -> bool {
        self.state.borrow().peer_leaves
    }

    /// Streams that were given up, refused or taken away since this was asked last.
    pub fn take_resets(&self) -> u64 {
        std::mem::take(&mut self.state.borrow_mut().resets)
    }

    /// Says that the connection will end, but takes what the peer has sent before it knows (RFC 9113 section 6.8).
    pub fn announce_leaving(&self) {
        let mut state = self.state.borrow_mut();
        if state.leaving == Leaving::No {
            state.leaving = Leaving::Announced;
            write_goaway(&mut state.out, (1 << 31) - 1, ErrorCode::NoError);
        }
    }

    /// Whether that has been said.
    pub fn has_left(&self) -> bool {
        self.state.borrow().leaving == Leaving::Settled
    }

    /// Says that no further stream is taken.
    pub fn leave(&self, code: ErrorCode) {
        let mut state = self.state.borrow_mut();
        if state.leaving != Leaving::Settled {
            // Of the streams that the peer has opened.
            let last = if state.is_server { state.highest } else { 0 };
            state.leaving = Leaving::Settled;
            write_goaway(&mut state.out, last, code);
        }
    }

    /// The connection is gone: so are all streams.
    pub fn end(&self) {
        let mut state = self.state.borrow_mut();
        state.is_over = true;
        state.arrivals.clear();
        state.waiting.clear();
        if let Some(waiter) = state.settings_waiter.take() {
            waiter.wake();
        }
        let is_server = state.is_server;
        for (_, one) in &mut state.streams {
            // An answer that has come whole can still be read.
            if is_server || !one.has_ended {
                one.lost.get_or_insert(Loss::GivenUp);
            }
            one.has_answered |= !is_server;
            one.wake();
        }
    }
}
