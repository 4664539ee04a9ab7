//! Frames (RFC 9113 sections 4 to 6): their heads, kinds, flags and error codes.
//!
//! Owns numbers and their layout. Decides nothing.

/// What a client says first (section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;

/// The largest payload that is taken, and sent: what everybody must take.
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// The largest window (section 6.9.1).
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

/// The window that both sides begin with.
pub(super) const DEFAULT_WINDOW: i64 = 65_535;

pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// RFC 8441.
    pub(in super::super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Why a stream or a connection ends (section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Nothing is wrong.
    NoError = 0,
    /// The rules were broken.
    Protocol = 1,
    /// Our fault, or our backend's.
    Internal = 2,
    /// More was sent than the window allows.
    FlowControl = 3,
    /// A frame for a stream that is over.
    StreamClosed = 5,
    /// A frame of the wrong size.
    FrameSize = 6,
    /// Nothing was done about the stream: it may be sent again.
    RefusedStream = 7,
    /// It is not wanted any more.
    Cancel = 8,
    /// The field compression broke.
    Compression = 9,
    /// The peer asks for too much.
    EnhanceYourCalm = 11,
    /// HTTP/1.1 is wanted.
    Http11Required = 13,
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    /// Reads one. `None`: not all of it is there.
    pub(super) fn read(bytes: &[u8]) -> Option<FrameHead> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        Some(FrameHead {
            length: u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize,
            kind: head[3],
            flags: head[4],
            stream: read_u31(&head[5..]),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The first 31 of 32 bits.
pub(super) fn read_u31(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// Writes a frame's head.
pub(super) fn write_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = (length as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, a, b, c, d]);
}

/// Writes a frame that holds one number.
pub(super) fn write_number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    write_head(out, 4, kind, 0, stream);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Writes a `SETTINGS` frame.
pub(super) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    write_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes a `GOAWAY` frame.
pub(super) fn write_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode) {
    write_head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// Writes a field section that stands in `block` as one frame, or as several if it is long.
pub(super) fn write_headers(out: &mut Vec<u8>, mut block: &[u8], end_stream: bool, stream: u32) {
    let mut kind = kind::HEADERS;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    loop {
        let (part, rest) = block.split_at(block.len().min(MAX_PAYLOAD));
        if rest.is_empty() {
            flags |= flag::END_HEADERS;
        }
        write_head(out, part.len(), kind, flags, stream);
        out.extend_from_slice(part);
        if rest.is_empty() {
            return;
        }
        (block, kind, flags) = (rest, kind::CONTINUATION, 0);
    }
}
