//! The body of a message as it comes: how it is framed, and which of the bytes at hand are payload.
//!
//! Owns the count of what is still to come. Never holds bytes: it is shown a buffer and says what its front is.

use super::chunked::Chunked;

/// How a body's end is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// All until the connection ends. Answers only.
    Close,
}

/// A body that breaks the framing rules, and which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub &'static str);

/// What the front of the buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The first `n` bytes are payload.
    Data(usize),
    /// The first `n` bytes are framing: to be consumed, not passed on.
    Framing(usize),
    /// Nothing to tell before more bytes have come.
    More,
    /// The trailer section with its empty line is the first `n` bytes, and the body is over. Zero: no trailers.
    End(usize),
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

impl BodyReader {
    /// A reader for a body that is framed like this.
    pub fn new(framing: Framing) -> BodyReader {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Over,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::Close => State::UntilClose,
        };
        BodyReader { state }
    }

    /// Whether the end has been seen.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// That many bytes of a body of known length have gone by unseen.
    pub fn skip(&mut self, n: u64) {
        if let State::Length(rest) = &mut self.state {
            debug_assert!(n <= *rest, "more has gone by than there is");
            *rest = rest.saturating_sub(n);
            if *rest == 0 {
                self.state = State::Over;
            }
        }
    }

    /// Its length is known, and some of it is still to come.
    pub fn is_counted(&self) -> bool {
        matches!(self.state, State::Length(_))
    }

    /// Payload bytes that are known to be still to come.
    pub fn known_rest(&self) -> u64 {
        match &self.state {
            State::Length(n) => *n,
            State::Chunked(chunked) => chunked.rest_of_chunk(),
            State::UntilClose => u64::MAX,
            State::Over => 0,
        }
    }

    /// Says what the front of `input` is. What it names as data or framing must be consumed before the next call.
    ///
    /// # Errors
    /// The bytes are not a body: the connection can't be used for anything after that.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match &mut self.state {
            State::Over => Ok(Piece::End(0)),
            _ if input.is_empty() => Ok(Piece::More),
            State::UntilClose => Ok(Piece::Data(input.len())),
            State::Length(rest) => {
                let n = input.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= n as u64;
                if *rest == 0 {
                    self.state = State::Over;
                }
                Ok(Piece::Data(n))
            }
            State::Chunked(chunked) => {
                let piece = chunked.next(input)?;
                if matches!(piece, Piece::End(_)) {
                    self.state = State::Over;
                }
                Ok(piece)
            }
        }
    }

    /// The connection has ended. Whether that was the body's proper end.
    pub fn end_of_stream(&mut self) -> bool {
        let proper = matches!(self.state, State::Over | State::UntilClose);
        if proper {
            self.state = State::Over;
        }
        proper
    }
}
