//! Everything about a connection that changes, and its streams.
//!
//! Owns the table of open streams, the memory of those that have ended, and whose turn it is to write.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
    time::Instant,
};

use super::{
    ErrorCode,
    decode::Decoder,
    frame::{MAX_PAYLOAD, kind, write_number},
    head::TrailerSection,
    patience::Patience,
    stream::{ReaderFraming, Sink},
};
use crate::{
    http1::{HeadError, RequestHead},
    limits::HTTP2_OUTPUT_BYTES,
};

/// Streams whose end is remembered, so that what is still on its way to them is told from nonsense.
const REMEMBERED: usize = 1024;

/// Everything that changes.
#[derive(Debug)]
pub(super) struct State {
    /// We are the side that is asked.
    pub(super) is_server: bool,
    pub(super) out: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) block: Option<Block>,
    pub(super) patience: Patience,
    /// The peer has said what it must say first.
    pub(super) has_begun: bool,
    pub(super) has_settings: bool,
    /// Who waits for that.
    pub(super) settings_waiter: Option<Waker>,
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    /// Bytes that were taken and for which the peer has no new window yet.
    pub(super) recv_owed: u32,
    /// The window that new streams begin with for us.
    pub(super) peer_window: i64,
    /// Open streams, in the order of their numbers.
    pub(super) streams: Vec<(u32, Box<One>)>,
    /// The highest number that whoever opens streams has used.
    pub(super) highest: u32,
    /// Streams that the peer lets us have open.
    pub(super) peer_streams: u32,
    pub(super) arrivals: VecDeque<(u32, HeadOr, Instant)>,
    #[expect(
        clippy::vec_box,
        reason = "taken and given back for every request: a pointer, not the head, is moved"
    )]
    pub(super) spare_heads: Vec<Box<RequestHead>>,
    /// Streams that have ended, and whether by our will.
    pub(super) ended: VecDeque<(u32, bool)>,
    /// Streams that wait for their turn to write.
    pub(super) waiting: VecDeque<u32>,
    /// Streams whose turn it is, and that have not used it.
    pub(super) granted: usize,
    pub(super) driver: Option<Waker>,
    /// How far we have said that we take no further streams.
    pub(super) leaving: Leaving,
    /// The peer has said so.
    pub(super) peer_leaves: bool,
    pub(super) is_over: bool,
    /// It takes no further stream.
    pub(super) is_retired: bool,
    /// When bytes came last.
    pub(super) received: Option<Instant>,
    /// The peer has cut its table of field compression, and has not heard yet that we know.
    pub(super) table_is_cut: bool,
    /// Streams that were refused or taken away.
    pub(super) resets: u64,
}

/// How far we have taken leave (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Not at all.
    No,
    /// The end is announced; streams that are on their way are taken.
    Announced,
    /// No further stream is taken.
    Settled,
}

/// A request's head; or why it is refused, and whether it asks for a head alone.
pub(super) type HeadOr = Result<Box<RequestHead>, (HeadError, bool)>;

/// A field section of which not all has come.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) end_stream: bool,
    pub(super) frames: u32,
}

/// Why a stream is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// One side has given it up, or the connection is gone.
    GivenUp,
    /// What the peer sent on it is no answer.
    Malformed,
    /// The peer has given it up, and has done nothing about it.
    Refused,
}

/// One stream.
#[derive(Debug)]
pub(super) struct One {
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    pub(super) recv_owed: u32,
    /// Payload that nobody has read.
    pub(super) input: Vec<u8>,
    pub(super) input_start: usize,
    /// What the reader gets before anything else: the heads of an answer, as text.
    pub(super) lead: Vec<u8>,
    /// What the reader gets beside the payload.
    pub(super) framing: ReaderFraming,
    pub(super) trailers: Vec<u8>,
    /// Bytes that are still announced.
    pub(super) declared: Option<u64>,
    /// The peer has said all.
    pub(super) has_ended: bool,
    /// We have.
    pub(super) has_answered: bool,
    /// It is of no use any more, and why.
    pub(super) lost: Option<Loss>,
    /// The request that was sent on it asks for a head alone.
    pub(super) is_for_head: bool,
    /// Its request's head has left.
    pub(super) is_begun: bool,
    /// The final answer's head has come.
    pub(super) has_head: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) sink: Sink,
    pub(super) is_waiting: bool,
    pub(super) is_granted: bool,
}

impl One {
    /// A stream on which nothing has happened.
    pub(super) fn new(send_window: i64, recv_window: i64) -> One {
        One {
            send_window,
            recv_window,
            recv_owed: 0,
            input: Vec::new(),
            input_start: 0,
            lead: Vec::new(),
            framing: ReaderFraming::Plain,
            trailers: Vec::new(),
            declared: None,
            has_ended: false,
            has_answered: false,
            lost: None,
            is_for_head: false,
            is_begun: false,
            has_head: false,
            reader: None,
            writer: None,
            sink: Sink::Between,
            is_waiting: false,
            is_granted: false,
        }
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Nothing more comes.
    pub(super) fn end_input(&mut self) {
        self.has_ended = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes the trailers that end the body. `false`: they do not, or it is too short, or they are none.
    pub(super) fn end_with(&mut self, trailers: TrailerSection, end_stream: bool) -> bool {
        let is_short = self.declared.is_some_and(|declared| declared > 0);
        if !end_stream || trailers.is_malformed || is_short {
            return false;
        }
        self.trailers = trailers.lines;
        self.end_input();
        true
    }

    pub(super) fn unread(&self) -> usize {
        self.input.len() - self.input_start
    }
}

impl State {
    /// Whether there is or was a stream of this number. Even ones are a server's, which we never have and never let anybody have.
    pub(super) fn was_opened(&self, id: u32) -> bool {
        id % 2 == 1 && id <= self.highest
    }

    /// The stream of this number, if somebody works on it.
    pub(super) fn find(&mut self, id: u32) -> Option<&mut One> {
        let at = self.streams.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&mut self.streams[at].1)
    }

    /// All of them.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut One> {
        self.streams.iter_mut().map(|(_, one)| &mut **one)
    }

    /// Those that the peer has not given up, and those that it has.
    pub(super) fn count(&self) -> (usize, usize) {
        let given_up = self.streams.iter().filter(|(_, one)| one.lost.is_some()).count();
        (self.streams.len() - given_up, given_up)
    }

    /// Opens a stream whose number is above all others.
    pub(super) fn open(&mut self, id: u32, one: One) {
        self.streams.push((id, Box::new(one)));
    }

    /// A head to put together.
    pub(super) fn take_head(&mut self) -> Box<RequestHead> {
        self.spare_heads.pop().unwrap_or_default()
    }

    /// Takes the stream out of the table. `with`: the peer is told why.
    pub(super) fn close(&mut self, id: u32, with: Option<ErrorCode>) {
        let Ok(at) = self.streams.binary_search_by_key(&id, |(id, _)| *id) else { return };
        let (_, one) = self.streams.remove(at);
        if one.is_granted {
            self.granted -= 1;
        }
        if one.is_waiting {
            self.waiting.retain(|waiting| *waiting != id);
        }
        let unread = one.unread();
        let (is_lost, has_ended) = (one.lost.is_some(), one.has_ended);
        drop(one);
        self.took(unread as u32);
        if !self.is_over && !is_lost {
            if let Some(code) = with {
                write_number(&mut self.out, kind::RST_STREAM, id, code as u32);
            }
            // What the peer still sends on it was on its way.
            self.remember(id, with.is_some() || !has_ended);
        }
        self.grant();
        self.wake_driver();
    }

    /// Ends a stream that nobody works on, or for whose worker it is over now.
    pub(super) fn reset(&mut self, id: u32, code: ErrorCode) {
        self.resets += 1;
        write_number(&mut self.out, kind::RST_STREAM, id, code as u32);
        self.remember(id, true);
        self.give_up(id);
        self.wake_driver();
    }

    /// The peer says that it has not looked at streams above this one, and will not.
    pub(super) fn refuse_above(&mut self, last: u32) {
        for (id, one) in &mut self.streams {
            if *id > last && !one.has_ended {
                one.lost = Some(Loss::Refused);
                one.wake();
            }
        }
    }

    /// It is of no use any more: whoever works on it finds out.
    pub(super) fn give_up(&mut self, id: u32) {
        if let Some(one) = self.find(id) {
            one.lost.get_or_insert(Loss::GivenUp);
            one.wake();
        }
    }

    pub(super) fn remember(&mut self, id: u32, by_us: bool) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((id, by_us));
    }

    /// How a stream ended: `Some(true)` by our will. `None`: it never was, or that is too long ago.
    pub(super) fn ending_of(&self, id: u32) -> Option<bool> {
        self.ended.iter().rev().find(|(ended, _)| *ended == id).map(|(_, by_us)| *by_us)
    }

    /// Bytes of payload were taken: the peer may send as many more on the connection.
    pub(super) fn took(&mut self, n: u32) {
        self.recv_owed += n;
        if is_due(self.recv_owed, self.recv_window) {
            let owed = std::mem::take(&mut self.recv_owed);
            self.recv_window += i64::from(owed);
            write_number(&mut self.out, kind::WINDOW_UPDATE, 0, owed);
            self.wake_driver();
        }
    }

    /// The same for those of one stream.
    pub(super) fn took_of(&mut self, id: u32, n: u32) {
        if let Some(one) = self.find(id).filter(|one| !one.has_ended && one.lost.is_none()) {
            one.recv_owed += n;
            if is_due(one.recv_owed, one.recv_window) {
                let owed = std::mem::take(&mut one.recv_owed);
                one.recv_window += i64::from(owed);
                write_number(&mut self.out, kind::WINDOW_UPDATE, id, owed);
                self.wake_driver();
            }
        }
        self.took(n);
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// Whether somebody can still work on the stream.
    pub(super) fn is_alive(&mut self, id: u32) -> bool {
        self.find(id).is_some_and(|one| one.lost.is_none())
    }

    /// Whether a stream may write payload now. If not, it is woken when it may.
    pub(super) fn poll_turn(&mut self, id: u32, waker: &Waker) -> Poll<()> {
        let may = self.out.len() < HTTP2_OUTPUT_BYTES && self.send_window > 0;
        let others = !self.waiting.is_empty() || self.granted > 0;
        let Some(one) = self.find(id) else { return Poll::Ready(()) };
        if may && (one.is_granted || !others) {
            return Poll::Ready(());
        }
        one.writer = Some(waker.clone());
        let was_granted = std::mem::take(&mut one.is_granted);
        if !std::mem::replace(&mut one.is_waiting, true) {
            self.waiting.push_back(id);
        }
        self.granted -= usize::from(was_granted);
        self.grant();
        Poll::Pending
    }

    /// The stream has had its turn, or can't use it.
    pub(super) fn end_turn(&mut self, id: u32) {
        let Some(one) = self.find(id) else { return };
        if std::mem::take(&mut one.is_granted) {
            self.granted -= 1;
            self.grant();
        }
    }

    /// Lets as many of those that wait write as there is room for.
    pub(super) fn grant(&mut self) {
        while !self.waiting.is_empty()
            && self.send_window > 0
            && self.out.len() + self.granted * MAX_PAYLOAD < HTTP2_OUTPUT_BYTES
        {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(one) = self.find(id) else { continue };
            (one.is_waiting, one.is_granted) = (false, true);
            if let Some(writer) = one.writer.take() {
                writer.wake();
            }
            self.granted += 1;
        }
    }
}

/// Whether the peer is told that `owed` more bytes may come: when that makes its window half as large again. So few frames say so, and
/// still those who are not held up go on, however much others hold.
fn is_due(owed: u32, window: i64) -> bool {
    owed > 0 && i64::from(owed) * 2 >= window
}
