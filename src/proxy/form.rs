//! How bodies and heads are written, where versions of HTTP differ.
//!
//! Owns the choice between chunks, frames and bare bytes. Pure: bytes in, bytes out. What the frames of HTTP/2 lack here, their stream adds
//! ([`http2::Stream`]).

use crate::{
    http1::{BodyError, Framing, may_trail, write_chunk_size},
    http2,
    limits::TRAILER_FIELDS,
};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// As it is: its length is known, or the connection's end is its own.
    Bare,
    /// In chunks.
    Chunked,
    /// In frames of HTTP/2.
    Frames,
}

impl Carriage {
    /// What HTTP/1.1 does for this framing.
    pub(super) fn of(framing: Framing) -> Carriage {
        if framing == Framing::Chunked { Carriage::Chunked } else { Carriage::Bare }
    }

    /// Writes what must stand in front of payload. `is_last`: the body is known to end with it.
    pub(super) fn write_before(self, length: usize, is_last: bool, out: &mut Vec<u8>) {
        match self {
            Carriage::Bare => {}
            Carriage::Chunked => write_chunk_size(out, length),
            Carriage::Frames if length > 0 || is_last => http2::write_data(out, length, is_last),
            Carriage::Frames => {}
        }
    }

    /// Writes a piece of a body whose end is not known yet.
    pub(super) fn write_piece(self, data: &[u8], out: &mut Vec<u8>) {
        self.write_before(data.len(), false, out);
        self.write_payload(data, out);
    }

    /// Writes payload, with what must stand behind it.
    pub(super) fn write_payload(self, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(data);
        if self == Carriage::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end of such a body, with the trailers of `section` that may pass, if it has one.
    ///
    /// # Errors
    /// The section is not a list of fields.
    pub(super) fn write_end(self, section: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let has_trailers = section.len() > 2;
        match self {
            Carriage::Bare => {}
            Carriage::Chunked => {
                out.extend_from_slice(b"0\r\n");
                if has_trailers {
                    write_trailers(out, section)?;
                }
                out.extend_from_slice(b"\r\n");
            }
            Carriage::Frames if has_trailers => {
                let start = http2::begin_headers(out);
                each_trailer(section, |name, value| http2::write_field(out, name, value))?;
                http2::finish_headers(out, start, true);
            }
            Carriage::Frames => http2::write_data(out, 0, true),
        }
        Ok(())
    }
}

/// Writes the trailer fields of `section` that may pass, without the empty line after them.
///
/// # Errors
/// The section is not a list of fields.
pub(super) fn write_trailers(out: &mut Vec<u8>, section: &[u8]) -> Result<(), BodyError> {
    each_trailer(section, |name, value| {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    })
}

fn each_trailer(section: &[u8], mut take: impl FnMut(&[u8], &[u8])) -> Result<(), BodyError> {
    let mut room = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut room) else {
        return Err(BodyError("the trailer section is not valid"));
    };
    for field in fields.iter().filter(|field| may_trail(field.name.as_bytes())) {
        take(field.name.as_bytes(), field.value);
    }
    Ok(())
}
