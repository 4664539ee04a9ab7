//! What a peer's frames do (RFC 9113 sections 5 and 6).
//!
//! Owns the difference between a fault of a stream, which ends that stream, and one of the connection, which ends them all.

use std::time::Instant;

use super::{
    ErrorCode, Fault, Mux,
    faults::{
        after_the_end, broken, fault_of_stream, out_of_window, reset, settings, window_update, wrong_size,
    },
    frame::{FrameHead, HEAD, MAX_PAYLOAD, PREFACE, flag, kind, read_u31, write_head},
    head::{RequestSection, ResponseSection, TrailerSection},
    state::{Block, Leaving, One, State},
    stream::{Chunk, ReaderFraming},
    table::Entry,
};
use crate::{
    http1::{Framing, HeadError},
    limits::HTTP2_CONTINUATIONS,
    tally::Http2Fault,
};

impl Mux {
    /// Takes what has come: as many whole frames as there are. Tells how many bytes those were.
    ///
    /// # Errors
    /// The connection can't go on: [`Mux::leave`] says why to the peer, [`Mux::end`] to the streams.
    pub fn receive(&self, bytes: &[u8], now: Instant) -> Result<usize, Fault> {
        let state = &mut *self.state.borrow_mut();
        state.received = Some(now);
        let mut used = 0;
        if !state.has_begun {
            let seen = bytes.len().min(PREFACE.len());
            if bytes[..seen] != PREFACE[..seen] {
                return Err(broken("the connection does not begin as HTTP/2"));
            }
            if seen < PREFACE.len() {
                return Ok(0);
            }
            state.has_begun = true;
            used = seen;
        }
        while let Some(head) = FrameHead::read(&bytes[used..]) {
            if head.length > MAX_PAYLOAD {
                return Err(wrong_size());
            }
            let start = used + HEAD;
            let Some(payload) = bytes.get(start..start + head.length) else { break };
            self.take_frame(state, head, payload, now)?;
            used = start + head.length;
        }
        Ok(used)
    }

    fn take_frame(
        &self,
        state: &mut State,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Fault> {
        if !state.has_settings && head.kind != kind::SETTINGS {
            return Err(broken("the first frame is not SETTINGS"));
        }
        let is_continuation = head.kind == kind::CONTINUATION
            && state.block.as_ref().is_some_and(|block| block.stream == head.stream);
        if state.block.is_some() && !is_continuation {
            return Err(broken("a field section is broken into"));
        }
        let on_connection = matches!(head.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        let on_stream = matches!(
            head.kind,
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION
        );
        if on_connection && head.stream != 0 || on_stream && head.stream == 0 {
            return Err(broken("a frame on a stream that it can't be on"));
        }
        match head.kind {
            kind::DATA => self.data(state, head, payload, now),
            kind::HEADERS => self.headers(state, head, payload, now),
            kind::CONTINUATION => self.continuation(state, head, payload, now),
            kind::PRIORITY if payload.len() != 5 && head.stream > state.highest => Err(wrong_size()),
            kind::PRIORITY if payload.len() != 5 => {
                fault_of_stream(state, head.stream, ErrorCode::FrameSize, now)
            }
            kind::PRIORITY if read_u31(payload) == head.stream && head.stream > state.highest => {
                Err(broken("a stream that depends on itself"))
            }
            kind::PRIORITY if read_u31(payload) == head.stream => {
                fault_of_stream(state, head.stream, ErrorCode::Protocol, now)
            }
            kind::PRIORITY => state.patience.try_one(Http2Fault::IdleTalk, now),
            kind::RST_STREAM => reset(state, head, payload, now),
            kind::SETTINGS => settings(state, head, payload, now),
            kind::PUSH_PROMISE => Err(broken("a promise that nobody wants")),
            kind::PING => {
                if payload.len() != 8 {
                    return Err(wrong_size());
                }
                state.patience.try_one(Http2Fault::Pings, now)?;
                if !head.has(flag::ACK) {
                    write_head(&mut state.out, 8, kind::PING, flag::ACK, 0);
                    state.out.extend_from_slice(payload);
                }
                Ok(())
            }
            kind::GOAWAY => {
                if payload.len() < 8 {
                    return Err(wrong_size());
                }
                state.peer_leaves = true;
                if !state.is_server {
                    let last = read_u31(payload);
                    // Section 6.8: what is above has not been looked at.
                    state.refuse_above(last);
                }
                state.patience.try_one(Http2Fault::IdleTalk, now)
            }
            kind::WINDOW_UPDATE => window_update(state, head, payload, now),
            // Section 4.1: what is not known is passed over.
            _ => state.patience.try_one(Http2Fault::IdleTalk, now),
        }
    }

    fn data(&self, state: &mut State, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Fault> {
        let whole = payload.len() as i64;
        let ends = head.has(flag::END_STREAM);
        let payload = unpadded(head, payload)?;
        state.recv_window -= whole;
        if state.recv_window < 0 {
            return Err(out_of_window("more was sent than the connection's window allows"));
        }
        if payload.is_empty() && !ends {
            state.patience.try_one(Http2Fault::EmptyFrames, now)?;
        }
        if !state.was_opened(head.stream) {
            return Err(broken("payload on a stream that was never opened"));
        }
        let is_server = state.is_server;
        // Whether somebody still works on it makes no difference to the peer.
        let Some(one) = state.find(head.stream).filter(|one| one.lost.is_none()) else {
            state.took(whole as u32);
            return after_the_end(state, head.stream, now);
        };
        if one.has_ended {
            state.took(whole as u32);
            return fault_of_stream(state, head.stream, ErrorCode::StreamClosed, now);
        }
        // An answer begins with its head.
        if !is_server && !one.has_head {
            state.took(whole as u32);
            return fault_of_stream(state, head.stream, ErrorCode::Protocol, now);
        }
        one.recv_window -= whole;
        if one.recv_window < 0 {
            state.took(whole as u32);
            return fault_of_stream(state, head.stream, ErrorCode::FlowControl, now);
        }
        let length = payload.len() as u64;
        let is_short = match &mut one.declared {
            Some(declared) if *declared < length || ends && *declared > length => true,
            Some(declared) => {
                *declared -= length;
                false
            }
            None => false,
        };
        if is_short {
            state.took(whole as u32);
            return fault_of_stream(state, head.stream, ErrorCode::Protocol, now);
        }
        // Padding is read as soon as it comes.
        let padding = whole as u32 - payload.len() as u32;
        one.input.extend_from_slice(payload);
        one.has_ended = ends;
        if let Some(reader) = one.reader.take() {
            reader.wake();
        }
        if padding > 0 {
            state.took_of(head.stream, padding);
        }
        Ok(())
    }

    fn headers(&self, state: &mut State, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Fault> {
        let mut block = unpadded(head, payload)?;
        if head.has(flag::PRIORITY) {
            let Some((priority, rest)) = block.split_at_checked(5) else { return Err(wrong_size()) };
            if read_u31(priority) == head.stream {
                return Err(broken("a stream that depends on itself"));
            }
            block = rest;
        }
        if head.stream.is_multiple_of(2) || !state.is_server && head.stream > state.highest {
            return Err(broken("a stream's number that is not the peer's to give"));
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.section(state, head.stream, block, end_stream, now);
        }
        let mut bytes = Vec::with_capacity(2 * block.len());
        bytes.extend_from_slice(block);
        state.block = Some(Block { stream: head.stream, bytes, end_stream, frames: 0 });
        Ok(())
    }

    fn continuation(
        &self,
        state: &mut State,
        head: FrameHead,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Fault> {
        let Some(mut block) = state.block.take() else {
            return Err(broken("a continuation of nothing"));
        };
        block.frames += 1;
        // Compressed, a section that is within bounds is hardly ever larger than as text. One that is not much larger is refused alone.
        let most = self.limits.head_bytes + 8 * MAX_PAYLOAD;
        let frames = HTTP2_CONTINUATIONS + (most / MAX_PAYLOAD) as u32;
        if block.frames > frames || block.bytes.len() + payload.len() > most {
            let why = "a field section in too many pieces, or too long";
            return Err(Fault { code: ErrorCode::EnhanceYourCalm, kind: Http2Fault::FieldSection, why });
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            state.block = Some(block);
            return Ok(());
        }
        self.section(state, block.stream, &block.bytes, block.end_stream, now)
    }

    /// A whole field section. Whatever becomes of it, it is decoded: the table must stay what the peer thinks it is.
    fn section(
        &self,
        state: &mut State,
        id: u32,
        block: &[u8],
        end_stream: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        if !state.is_server {
            return self.response(state, id, block, end_stream, now);
        }
        if id > state.highest {
            state.highest = id;
            return self.request(state, id, block, end_stream, now);
        }
        let mut trailers = TrailerSection::default();
        decode(state, block, |entry| trailers.take(entry))?;
        let is_there = state.find(id).is_some();
        let Some(one) = state.find(id).filter(|one| one.lost.is_none()) else {
            return match state.ending_of(id) {
                Some(true) => for_nothing(state, block, now),
                None if is_there => for_nothing(state, block, now),
                Some(false) => Err(Fault {
                    code: ErrorCode::StreamClosed,
                    kind: Http2Fault::Protocol,
                    why: "a field section on a stream that is over",
                }),
                None => Err(broken("a stream's number that is not above those before")),
            };
        };
        if one.has_ended {
            return fault_of_stream(state, id, ErrorCode::StreamClosed, now);
        }
        if one.end_with(trailers, end_stream) {
            return Ok(());
        }
        fault_of_stream(state, id, ErrorCode::Protocol, now)
    }

    /// A head of an answer, or the trailers behind one.
    fn response(
        &self,
        state: &mut State,
        id: u32,
        block: &[u8],
        end_stream: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        let (is_open, has_head) =
            state.find(id).map_or((false, false), |one| (one.lost.is_none() && !one.has_ended, one.has_head));
        if !is_open {
            // It was on its way when we ended the stream.
            return decode(state, block, |_| {});
        }
        if has_head {
            let mut trailers = TrailerSection::default();
            decode(state, block, |entry| trailers.take(entry))?;
            if state.find(id).is_some_and(|one| one.end_with(trailers, end_stream)) {
                return Ok(());
            }
            return fault_of_stream(state, id, ErrorCode::Protocol, now);
        }
        let mut section = ResponseSection::new(self.limits.head_bytes, self.limits.head_fields);
        decode(state, block, |entry| section.take(entry))?;
        let Some(one) = state.find(id) else { return Ok(()) };
        if section.finish(one, end_stream).is_err() {
            return fault_of_stream(state, id, ErrorCode::Protocol, now);
        }
        Ok(())
    }

    fn request(
        &self,
        state: &mut State,
        id: u32,
        block: &[u8],
        end_stream: bool,
        now: Instant,
    ) -> Result<(), Fault> {
        let (open, given_up) = state.count();
        let most = self.limits.streams as usize;
        if state.leaving == Leaving::Settled {
            decode(state, block, |_| {})?;
            state.reset(id, ErrorCode::RefusedStream);
            return Ok(());
        }
        // Work for a stream that was given up ends soon, but not at once: who opens and gives up must not have more of it going on.
        if open >= most || given_up >= most {
            decode(state, block, |_| {})?;
            return fault_of_stream(state, id, ErrorCode::RefusedStream, now);
        }
        let mut head = state.take_head();
        let mut section = RequestSection::new(&mut head, self.limits.head_bytes, self.limits.head_fields);
        decode(state, block, |entry| section.take(entry))?;
        let is_for_head = section.is_for_head();
        let finished = section.finish(end_stream);
        if let Err(error @ HeadError::Malformed(_)) = finished {
            tracing::debug!(%error, "a request's head is refused");
            return fault_of_stream(state, id, ErrorCode::Protocol, now);
        }
        let framing = if finished.is_ok() { head.framing } else { Framing::None };
        let mut one = One::new(state.peer_window, i64::from(self.limits.stream_window));
        if framing == Framing::Chunked {
            one.framing = ReaderFraming::Chunked(Chunk::Between);
        }
        if let Framing::Length(length) = framing {
            one.declared = Some(length);
        }
        one.has_ended = end_stream;
        state.open(id, one);
        state.patience.stream_opened();
        let head = finished.map_err(|error| (error, is_for_head)).map(|()| head);
        state.arrivals.push_back((id, head, now));
        Ok(())
    }
}

fn decode(state: &mut State, block: &[u8], take: impl FnMut(Entry<'_>)) -> Result<(), Fault> {
    state.decoder.decode(block, take).map_err(|unreadable| Fault {
        code: ErrorCode::Compression,
        kind: Http2Fault::Compression,
        why: unreadable.0,
    })
}

/// Section 6.1.
fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let Some((&padding, rest)) = payload.split_first() else { return Err(wrong_size()) };
    let length = rest.len().checked_sub(padding.into()).ok_or(broken("more padding than there is frame"))?;
    Ok(&rest[..length])
}

/// A field section on a stream that we have ended may have been on its way, once. It is read all the same, for the sake of the table, and so
/// counts by its length.
fn for_nothing(state: &mut State, block: &[u8], now: Instant) -> Result<(), Fault> {
    (0..=block.len() / MAX_PAYLOAD).try_for_each(|_| state.patience.try_one(Http2Fault::IdleTalk, now))
}
