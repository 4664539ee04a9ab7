//! A request's body on its way to a backend, and the copy of it that allows it to be sent again.
//!
//! Owns the bound of that copy and of the body. Never waits: it turns bytes at hand into bytes to send.

use super::form::{Carriage, write_trailers};
use crate::{
    http1::{BodyError, BodyReader, Framing, Piece},
    io::Buffer,
};

/// Why a body can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// It breaks the framing rules.
    Malformed(BodyError),
    /// It is over the limit.
    TooLarge,
}

/// One request's body, over all attempts.
#[derive(Debug)]
pub(super) struct RequestBody {
    reader: BodyReader,
    framing: Framing,
    /// How the present attempt writes it.
    carriage: Carriage,
    /// The payload so far, as long as all of it fits.
    kept: Vec<u8>,
    trailers: Vec<u8>,
    keep_bound: usize,
    keeps_all: bool,
    received: u64,
    max: Option<u64>,
}

impl RequestBody {
    /// A body that nothing has been read of.
    pub(super) fn new(framing: Framing, keep_bound: usize, max: Option<u64>) -> RequestBody {
        let too_long = matches!(framing, Framing::Length(length) if length > keep_bound as u64);
        RequestBody {
            reader: BodyReader::new(framing),
            framing,
            carriage: Carriage::of(framing),
            kept: Vec::new(),
            trailers: Vec::new(),
            keep_bound,
            // A body that is known to be too long is never copied at all.
            keeps_all: !too_long,
            received: 0,
            max,
        }
    }

    /// Begins an attempt that writes it like this.
    pub(super) fn begin(&mut self, in_frames: bool) {
        self.carriage = if in_frames { Carriage::Frames } else { Carriage::of(self.framing) };
    }

    /// Whether the announced length alone is over the limit.
    pub(super) fn announces_too_much(&self) -> bool {
        matches!((self.framing, self.max), (Framing::Length(length), Some(max)) if length > max)
    }

    /// Whether all of it has been read from the client.
    pub(super) fn is_over(&self) -> bool {
        self.reader.is_over()
    }

    /// Whether everything that was read so far is still there.
    pub(super) fn can_be_sent_again(&self) -> bool {
        self.keeps_all || self.received == 0
    }

    /// Payload bytes read so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Payload that passes from the client's buffer to the backend as it is: its length is known.
    pub(super) fn passes_directly(&self) -> bool {
        matches!(self.framing, Framing::Length(_))
    }

    /// Payload that nobody here needs to see: it passes directly and is not kept.
    pub(super) fn passes_unseen(&self) -> bool {
        !self.keeps_all && self.passes_directly()
    }

    /// The number of bytes at the front of `input` that are payload, for a body that passes directly.
    pub(super) fn direct(&self, input: &Buffer) -> usize {
        self.reader.known_rest().min(input.filled().len() as u64) as usize
    }

    /// Bytes that are still to come, for a body that passes directly.
    pub(super) fn known_rest(&self) -> u64 {
        self.reader.known_rest()
    }

    /// That many of them have been taken from the client, past its buffer.
    pub(super) fn passed_unseen(&mut self, n: usize) -> Result<(), BodyFault> {
        self.reader.skip(n as u64);
        self.count(n)
    }

    /// That many of them have been passed on. Only now, because an attempt may end in between: what was not passed on must
    /// still be known as body, or it would be read as the next request.
    pub(super) fn passed_directly(&mut self, n: usize, input: &mut Buffer) -> Result<(), BodyFault> {
        let piece = self.reader.next(&input.filled()[..n]).map_err(BodyFault::Malformed)?;
        debug_assert_eq!(piece, Piece::Data(n), "payload of known length is whatever comes");
        self.keep(&input.filled()[..n]);
        input.consume(n);
        self.count(n)
    }

    /// Moves what `input` holds of the body to `out`, as the backend is to read it.
    pub(super) fn take(&mut self, input: &mut Buffer, out: &mut Vec<u8>) -> Result<(), BodyFault> {
        while !self.reader.is_over() {
            match self.reader.next(input.filled()).map_err(BodyFault::Malformed)? {
                Piece::More => return Ok(()),
                Piece::Framing(n) => input.consume(n),
                Piece::Data(n) => {
                    self.count(n)?;
                    let data = &input.filled()[..n];
                    self.carriage.write_before(n, self.is_last(), out);
                    self.carriage.write_payload(data, out);
                    self.keep(data);
                    input.consume(n);
                }
                Piece::End(n) => {
                    write_trailers(&mut self.trailers, &input.filled()[..n]).map_err(BodyFault::Malformed)?;
                    input.consume(n);
                    self.write_end(out);
                }
            }
        }
        Ok(())
    }

    /// Keeps payload for another attempt, as long as all of it fits.
    fn keep(&mut self, data: &[u8]) {
        if !self.keeps_all || self.kept.len() + data.len() > self.keep_bound {
            self.keeps_all = false;
            self.kept = Vec::new();
            return;
        }
        // Once, for a body of known length: growing would copy it again and again.
        if let (0, Framing::Length(length)) = (self.kept.len(), self.framing) {
            self.kept.reserve_exact(length as usize);
        }
        self.kept.extend_from_slice(data);
    }

    /// Writes what was read before, for another attempt.
    pub(super) fn write_again(&self, out: &mut Vec<u8>) {
        debug_assert!(self.can_be_sent_again(), "a body that began to stream is never sent again");
        if !self.kept.is_empty() {
            // A frame's length has 24 bits.
            let mut parts = self.kept.chunks(1 << 20).peekable();
            while let Some(part) = parts.next() {
                self.carriage.write_before(part.len(), self.is_last() && parts.peek().is_none(), out);
                self.carriage.write_payload(part, out);
            }
        }
        if self.framing == Framing::Chunked && self.is_over() {
            self.write_end(out);
        }
    }

    /// Whether the payload that was read last is known to be the end.
    fn is_last(&self) -> bool {
        self.passes_directly() && self.is_over()
    }

    /// Writes what stands in front of `n` bytes that pass directly, and are to be passed on next.
    pub(super) fn write_before_direct(&self, n: usize, out: &mut Vec<u8>) {
        self.carriage.write_before(n, n as u64 == self.reader.known_rest(), out);
    }

    fn write_end(&self, out: &mut Vec<u8>) {
        let section = [&self.trailers[..], b"\r\n"].concat();
        let written = self.carriage.write_end(&section, out);
        debug_assert!(written.is_ok(), "the section has been read before");
    }

    fn count(&mut self, n: usize) -> Result<(), BodyFault> {
        self.received += n as u64;
        match self.max {
            Some(max) if self.received > max => Err(BodyFault::TooLarge),
            _ => Ok(()),
        }
    }
}
