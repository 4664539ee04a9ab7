//! What a peer's frames can do wrong and what that costs, and the frames that carry nothing themselves: settings, windows, given up streams.
//!
//! Owns what these do to the connection's state, and what a fault costs.

use std::time::Instant;

use super::{
    ErrorCode, Fault,
    frame::{FrameHead, MAX_PAYLOAD, MAX_WINDOW, flag, kind, read_u31, setting, write_head},
    state::{Loss, State},
};
use crate::{limits::HPACK_TABLE_BYTES, tally::Http2Fault};

pub(super) fn broken(why: &'static str) -> Fault {
    Fault { code: ErrorCode::Protocol, kind: Http2Fault::Protocol, why }
}

pub(super) fn wrong_size() -> Fault {
    Fault { code: ErrorCode::FrameSize, kind: Http2Fault::Protocol, why: "a frame of the wrong size" }
}

pub(super) fn out_of_window(why: &'static str) -> Fault {
    Fault { code: ErrorCode::FlowControl, kind: Http2Fault::FlowControl, why }
}

/// The peer broke a rule that concerns one stream. Doing so again and again is its way to have us begin and throw away work.
pub(super) fn fault_of_stream(
    state: &mut State,
    id: u32,
    code: ErrorCode,
    now: Instant,
) -> Result<(), Fault> {
    // A backend whose answers are bad costs its own requests; a client could have us begin and throw away work.
    if state.is_server {
        state.patience.try_one(Http2Fault::Resets, now)?;
    } else if let Some(one) = state.find(id) {
        one.lost = Some(Loss::Malformed);
    }
    state.reset(id, code);
    Ok(())
}

/// A frame for a stream that is over.
pub(super) fn after_the_end(state: &mut State, id: u32, now: Instant) -> Result<(), Fault> {
    match state.ending_of(id) {
        // It was on its way when we ended the stream, or that is long ago.
        Some(true) | None => Ok(()),
        Some(false) => fault_of_stream(state, id, ErrorCode::StreamClosed, now),
    }
}

pub(super) fn reset(state: &mut State, head: FrameHead, payload: &[u8], now: Instant) -> Result<(), Fault> {
    if payload.len() != 4 {
        return Err(wrong_size());
    }
    if !state.was_opened(head.stream) {
        return Err(broken("a stream that was never opened is given up"));
    }
    let code = read_u31(payload);
    let is_server = state.is_server;
    let one = state.find(head.stream).filter(|one| one.lost.is_none());
    let was_open = one.is_some();
    if let Some(one) = one
        && !is_server
    {
        if one.has_ended {
            // The answer is whole; the rest of the request is not wanted (section 8.1).
            one.has_answered = true;
            one.wake();
            return Ok(());
        }
        if code == ErrorCode::RefusedStream as u32 {
            one.lost = Some(Loss::Refused);
        }
    }
    if was_open {
        state.resets += 1;
        state.remember(head.stream, false);
        state.give_up(head.stream);
    }
    // To have our requests refused costs us little.
    if is_server { state.patience.try_one(Http2Fault::Resets, now) } else { Ok(()) }
}

pub(super) fn settings(
    state: &mut State,
    head: FrameHead,
    payload: &[u8],
    now: Instant,
) -> Result<(), Fault> {
    if !payload.len().is_multiple_of(6) || head.has(flag::ACK) && !payload.is_empty() {
        return Err(wrong_size());
    }
    state.patience.try_one(Http2Fault::Settings, now)?;
    if head.has(flag::ACK) {
        return Ok(());
    }
    state.has_settings = true;
    if let Some(waiter) = state.settings_waiter.take() {
        waiter.wake();
    }
    for setting in payload.chunks_exact(6) {
        let name = u16::from_be_bytes([setting[0], setting[1]]);
        let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
        match name {
            setting::ENABLE_PUSH if value > 1 => return Err(broken("ENABLE_PUSH is neither 0 nor 1")),
            setting::INITIAL_WINDOW_SIZE => {
                if i64::from(value) > MAX_WINDOW {
                    return Err(out_of_window("a window beyond all bounds"));
                }
                let more = i64::from(value) - state.peer_window;
                state.peer_window = i64::from(value);
                // Section 6.9.2: this may make windows negative.
                for one in state.all() {
                    one.send_window += more;
                    if one.send_window > MAX_WINDOW {
                        return Err(out_of_window("a window beyond all bounds"));
                    }
                    if one.send_window > 0
                        && !one.is_waiting
                        && let Some(writer) = one.writer.take()
                    {
                        writer.wake();
                    }
                }
            }
            setting::HEADER_TABLE_SIZE if value < HPACK_TABLE_BYTES as u32 => state.table_is_cut = true,
            setting::MAX_CONCURRENT_STREAMS => state.peer_streams = value,
            setting::MAX_FRAME_SIZE if !(MAX_PAYLOAD as u32..1 << 24).contains(&value) => {
                return Err(broken("a greatest frame beyond all bounds"));
            }
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(broken("ENABLE_CONNECT_PROTOCOL is neither 0 nor 1"));
            }
            _ => {}
        }
    }
    write_head(&mut state.out, 0, kind::SETTINGS, flag::ACK, 0);
    Ok(())
}

pub(super) fn window_update(
    state: &mut State,
    head: FrameHead,
    payload: &[u8],
    now: Instant,
) -> Result<(), Fault> {
    if payload.len() != 4 {
        return Err(wrong_size());
    }
    state.patience.try_one(Http2Fault::WindowUpdates, now)?;
    let more = i64::from(read_u31(payload));
    if head.stream == 0 {
        if more == 0 {
            return Err(broken("a window grows by nothing"));
        }
        state.send_window += more;
        if state.send_window > MAX_WINDOW {
            return Err(out_of_window("a window beyond all bounds"));
        }
        state.grant();
        return Ok(());
    }
    if !state.was_opened(head.stream) {
        return Err(broken("a window of a stream that was never opened"));
    }
    let Some(one) = state.find(head.stream).filter(|one| one.lost.is_none()) else { return Ok(()) };
    if more == 0 {
        return fault_of_stream(state, head.stream, ErrorCode::Protocol, now);
    }
    one.send_window += more;
    if one.send_window > MAX_WINDOW {
        return fault_of_stream(state, head.stream, ErrorCode::FlowControl, now);
    }
    if !one.is_waiting
        && let Some(writer) = one.writer.take()
    {
        writer.wake();
    }
    Ok(())
}
