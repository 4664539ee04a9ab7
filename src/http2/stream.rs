//! One stream, as an exchange sees it: like a connection of its own.
//!
//! Owns how a body reads (as HTTP/1.1 would frame it) and how what is written becomes frames (of a size and at a time that suit the peer
//! and the other streams). When its owner has done with it, the peer is told how it ended.

use std::{
    fmt, io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use super::{
    ErrorCode, Mux,
    frame::{FrameHead, HEAD, MAX_PAYLOAD, flag, kind, write_head, write_headers},
    state::{Loss, One, State},
};
use crate::{http1::write_chunk_size, limits::HTTP2_OUTPUT_BYTES};

/// What a reader gets beside the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReaderFraming {
    /// Nothing: the body's length is known, or there is none. After the end there is silence, as behind a request of HTTP/1.1.
    #[default]
    Plain,
    /// Chunks.
    Chunked(Chunk),
    /// Nothing, and the end of the stream when it comes.
    Raw,
}

/// How far a reader of chunks is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Between two of them.
    #[default]
    Between,
    /// Within one: bytes that are still to come of it.
    Within(usize),
    /// The last one has been read.
    Over,
}

/// What a writer is in the middle of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sink {
    /// Nothing: a frame's head comes next.
    #[default]
    Between,
    /// Payload: bytes that are still to come, and whether they are the last.
    Payload { rest: usize, ends: bool },
    /// Payload without end.
    Raw,
}

/// A handle on a stream. Dropping it ends the stream.
pub struct Stream {
    mux: Rc<Mux>,
    id: u32,
    is_done: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no going on. Whether a request may be sent again depends on it.
fn gone(state: &mut State, id: u32) -> io::Error {
    let is_over = state.is_over;
    let kind = match state.find(id) {
        // Nothing was done about it.
        Some(one) if one.lost == Some(Loss::Refused) => io::ErrorKind::ConnectionRefused,
        Some(one) if one.lost == Some(Loss::Malformed) => io::ErrorKind::InvalidData,
        // The whole connection is gone.
        _ if is_over => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    kind.into()
}

impl Stream {
    pub(super) fn new(mux: Rc<Mux>, id: u32) -> Stream {
        Stream { mux, id, is_done: false }
    }

    /// Whether others on the way can neither read nor change it.
    pub fn is_secure(&self) -> bool {
        self.mux.is_secure()
    }

    /// The other end's address and our own.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.mux.ends()
    }

    /// Whether the peer has given it up, or the connection is gone.
    pub fn is_reset(&self) -> bool {
        !self.mux.state.borrow_mut().is_alive(self.id)
    }

    /// Nothing came in time since then. If nothing has come on the whole connection, it takes no further stream.
    pub fn suspect(&self, since: Instant) {
        let mut state = self.mux.state.borrow_mut();
        if state.received.is_none_or(|received| received < since) {
            state.is_retired = true;
            state.wake_driver();
        }
    }

    /// From now on bytes are bytes in both directions: what follows a change of protocol (RFC 8441).
    pub fn become_raw(&self) {
        let mut state = self.mux.state.borrow_mut();
        if let Some(one) = state.find(self.id) {
            (one.framing, one.sink) = (ReaderFraming::Raw, Sink::Raw);
        }
    }

    /// Ready when a read may bring something, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.mux.state.borrow_mut();
        if !state.is_alive(self.id) {
            return Poll::Ready(Err(gone(state, self.id)));
        }
        let Some(one) = state.find(self.id) else { return Poll::Pending };
        let has_end = match one.framing {
            ReaderFraming::Plain => false,
            ReaderFraming::Chunked(chunk) => one.has_ended && chunk != Chunk::Over,
            ReaderFraming::Raw => one.has_ended,
        };
        if one.unread() > 0 || !one.lead.is_empty() || has_end {
            return Poll::Ready(Ok(()));
        }
        one.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Reads at most `room` bytes, which is more than nothing, and puts them somewhere. 0 is the end.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        put: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.mux.state.borrow_mut();
        if !state.is_alive(self.id) {
            return Poll::Ready(Err(gone(state, self.id)));
        }
        let Some(one) = state.find(self.id) else { return Poll::Pending };
        let (read, taken) = one.read(room, put);
        if read == 0 && !(one.framing == ReaderFraming::Raw && one.has_ended) {
            one.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if taken > 0 {
            state.took_of(self.id, taken as u32);
        }
        Poll::Ready(Ok(read))
    }

    /// Takes frames as [`super::write_data`] and [`super::finish_headers`] make them, as many as the peer has room for. A field section is
    /// taken as a whole, so it must be handed over as a whole.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.mux.state.borrow_mut();
        let mut taken = 0;
        while taken < bytes.len() {
            match self.write_some(state, cx, &bytes[taken..]) {
                Poll::Ready(Ok(n)) => taken += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        state.wake_driver();
        Poll::Ready(Ok(taken))
    }

    /// The end, where bytes are bytes.
    pub fn shut_down(&self) {
        let state = &mut *self.mux.state.borrow_mut();
        let Some(one) = state.find(self.id) else { return };
        if one.sink == Sink::Raw && !std::mem::replace(&mut one.has_answered, true) && one.lost.is_none() {
            write_head(&mut state.out, 0, kind::DATA, flag::END_STREAM, self.id);
            state.wake_driver();
        }
    }

    fn write_some(&self, state: &mut State, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !state.is_alive(self.id) || state.find(self.id).is_some_and(|one| one.has_answered) {
            return Poll::Ready(Err(gone(state, self.id)));
        }
        let Some(one) = state.find(self.id) else { return Poll::Pending };
        let (rest, ends) = match one.sink {
            Sink::Payload { rest, ends } => (rest, ends),
            Sink::Raw => (bytes.len(), false),
            Sink::Between => {
                let Some(head) = FrameHead::read(bytes) else {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                };
                let ends = head.has(flag::END_STREAM);
                if head.kind == kind::DATA {
                    if head.length == 0 && ends {
                        one.has_answered = true;
                        write_head(&mut state.out, 0, kind::DATA, flag::END_STREAM, self.id);
                    } else if head.length > 0 {
                        one.sink = Sink::Payload { rest: head.length, ends };
                    }
                    return Poll::Ready(Ok(HEAD));
                }
                let Some(block) = bytes.get(HEAD..HEAD + head.length) else {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                };
                // Heads wait for nothing: they need no window, and those of requests must leave in the order of their streams' numbers
                // (section 5.1.1).
                (one.is_begun, one.has_answered) = (true, ends);
                if std::mem::take(&mut state.table_is_cut) {
                    // RFC 7541 section 4.2: the peer wants to hear that its table has no more than it allows. We use none of it.
                    write_headers(&mut state.out, &[&[0x20], block].concat(), ends, self.id);
                } else {
                    write_headers(&mut state.out, block, ends, self.id);
                }
                return Poll::Ready(Ok(HEAD + head.length));
            }
        };
        if one.send_window <= 0 {
            one.writer = Some(cx.waker().clone());
            state.end_turn(self.id);
            return Poll::Pending;
        }
        let window = one.send_window;
        if state.poll_turn(self.id, cx.waker()).is_pending() {
            return Poll::Pending;
        }
        let room = HTTP2_OUTPUT_BYTES.saturating_sub(state.out.len());
        let n = (window.min(state.send_window) as usize)
            .min(rest)
            .min(bytes.len())
            .min(MAX_PAYLOAD)
            .min(room.max(1024));
        let is_last = ends && n == rest;
        state.send_window -= n as i64;
        if let Some(one) = state.find(self.id) {
            one.send_window -= n as i64;
            one.has_answered = is_last;
            if let Sink::Payload { rest, .. } = &mut one.sink {
                *rest -= n;
                if *rest == 0 {
                    one.sink = Sink::Between;
                }
            }
        }
        write_head(&mut state.out, n, kind::DATA, if is_last { flag::END_STREAM } else { 0 }, self.id);
        state.out.extend_from_slice(&bytes[..n]);
        state.patience.payload_left(n);
        state.end_turn(self.id);
        Poll::Ready(Ok(n))
    }

    /// Ends the stream: nothing more is read or written. A peer that was not told the end by then hears of an error.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        let state = &mut *self.mux.state.borrow_mut();
        let is_server = state.is_server;
        let Some(one) = state.find(self.id) else { return };
        let code = match (one.has_answered, one.has_ended) {
            (true, true) => None,
            // Nobody has heard of it, or all has come but the word that it has.
            _ if !is_server && !one.is_begun => None,
            (true, false) if !is_server && one.has_head && one.declared == Some(0) => None,
            _ if !is_server => Some(ErrorCode::Cancel),
            // RFC 9113 section 8.1: the rest of the request is not wanted.
            (true, false) => Some(ErrorCode::NoError),
            (false, _) => Some(ErrorCode::Internal),
        };
        state.close(self.id, code);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.finish();
    }
}

impl One {
    /// Puts as much as there is, in its framing. Tells how many bytes those were, and how many of them payload.
    fn read(&mut self, room: usize, put: &mut dyn FnMut(&[u8])) -> (usize, usize) {
        let mut read = 0;
        let mut taken = 0;
        if !self.lead.is_empty() {
            let n = self.lead.len().min(room);
            put(&self.lead[..n]);
            self.lead.drain(..n);
            if n == room {
                return (n, 0);
            }
            read = n;
        }
        let ReaderFraming::Chunked(mut chunk) = self.framing else {
            let n = self.take_input(room - read, put);
            return (read + n, n);
        };
        let mut line = Vec::new();
        loop {
            match chunk {
                Chunk::Within(rest) => {
                    // With the line's end behind the last byte, which there must be room for.
                    let n = rest.min(room - read);
                    if n == rest && room - read < n + 2 {
                        if n == 1 {
                            break;
                        }
                        let n = self.take_input(n - 1, put);
                        (read, taken, chunk) = (read + n, taken + n, Chunk::Within(rest - n));
                        break;
                    }
                    let n = self.take_input(n, put);
                    (read, taken) = (read + n, taken + n);
                    if n < rest {
                        chunk = Chunk::Within(rest - n);
                        break;
                    }
                    put(b"\r\n");
                    (read, chunk) = (read + 2, Chunk::Between);
                }
                Chunk::Between => {
                    line.clear();
                    let unread = self.unread();
                    if unread > 0 {
                        write_chunk_size(&mut line, unread);
                    } else if self.has_ended {
                        line.extend_from_slice(b"0\r\n");
                        line.extend_from_slice(&self.trailers);
                        line.extend_from_slice(b"\r\n");
                    }
                    if line.is_empty() || room - read < line.len() {
                        break;
                    }
                    put(&line);
                    read += line.len();
                    chunk = if unread > 0 { Chunk::Within(unread) } else { Chunk::Over };
                }
                Chunk::Over => break,
            }
        }
        self.framing = ReaderFraming::Chunked(chunk);
        (read, taken)
    }

    fn take_input(&mut self, most: usize, put: &mut dyn FnMut(&[u8])) -> usize {
        let n = self.unread().min(most);
        put(&self.input[self.input_start..self.input_start + n]);
        self.input_start += n;
        if self.unread() == 0 {
            self.input_start = 0;
            // What a burst needed is not kept.
            if self.input.capacity() > HTTP2_OUTPUT_BYTES {
                self.input = Vec::new()
            } else {
                self.input.clear()
            }
        }
        n
    }
}
