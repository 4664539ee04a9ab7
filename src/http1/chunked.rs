//! The chunked transfer coding (RFC 9112 section 7.1), read strictly.
//!
//! Owns chunk sizes and their bounds. Extensions are read over and never passed on; a line must end in CRLF, a size
//! has hexadecimal digits alone.

use memchr::memchr;

use super::{BodyError, Piece};
use crate::limits::{CHUNK_EXTENSION_BYTES, CHUNK_LINE_BYTES, LENGTH_MOST, TRAILER_BYTES};

/// Where in a chunked body the reader is.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

impl Chunked {
    pub(super) fn rest_of_chunk(&self) -> u64 {
        match self.state {
            State::Data(n) => n,
            _ => 0,
        }
    }

    pub(super) fn next(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match self.state {
            State::Size => self.size_line(input),
            State::Data(rest) => {
                let n = input.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                self.state = if rest == n as u64 { State::DataEnd } else { State::Data(rest - n as u64) };
                Ok(Piece::Data(n))
            }
            State::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Piece::Framing(2))
                }
                [b'\r'] => Ok(Piece::More),
                _ => Err(BodyError("a chunk does not end where its size says")),
            },
            State::Trailers => trailer_section(input),
        }
    }

    fn size_line(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        let window = &input[..input.len().min(CHUNK_LINE_BYTES)];
        let Some(end) = memchr(b'\n', window) else {
            if window.len() == CHUNK_LINE_BYTES {
                return Err(BodyError("a chunk-size line is too long"));
            }
            // What can't become a size is refused now and not when its line ends, if ever it does.
            return if may_begin_size(window) { Ok(Piece::More) } else { Err(BAD_SIZE) };
        };
        let Some((b'\r', line)) = window[..end].split_last() else {
            return Err(BodyError("a chunk-size line does not end in CRLF"));
        };
        let (size, extension) = split_extension(line)?;
        self.extension_bytes += extension;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES {
            return Err(BodyError("too many bytes of chunk extensions"));
        }
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(Piece::Framing(end + 1))
    }
}

const BAD_SIZE: BodyError = BodyError("a chunk size is not a hexadecimal number");

fn may_begin_size(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes[0].is_ascii_hexdigit()
}

/// The size, and how many bytes of extension follow it.
fn split_extension(line: &[u8]) -> Result<(u64, usize), BodyError> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    // Sixteen digits are all that 64 bits hold: more would be zeros in front, which nobody needs.
    if digits == 0 || digits > 16 {
        return Err(BAD_SIZE);
    }
    let rest = &line[digits..];
    let after_space = rest.iter().position(|b| !matches!(b, b' ' | b'\t'));
    match after_space {
        None if rest.is_empty() => {}
        // White space before the semicolon is "bad white space": tolerated by some, so refused when nothing follows.
        Some(at) if rest[at] == b';' => {}
        _ => return Err(BAD_SIZE),
    }
    if rest.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(BodyError("a control character in a chunk extension"));
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| BAD_SIZE)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| BAD_SIZE)?;
    if size > LENGTH_MOST {
        return Err(BodyError("a chunk size is over 2^63 - 1"));
    }
    Ok((size, rest.len()))
}

/// Finds the empty line that ends the trailer section. The fields in it are looked at by whoever passes them on.
fn trailer_section(input: &[u8]) -> Result<Piece, BodyError> {
    let window = &input[..input.len().min(TRAILER_BYTES)];
    let mut line = 0;
    while let Some(length) = memchr(b'\n', &window[line..]) {
        let end = line + length;
        if length == 0 || window[end - 1] != b'\r' {
            return Err(BodyError("a trailer line does not end in CRLF"));
        }
        if length == 1 {
            return Ok(Piece::End(end + 1));
        }
        line = end + 1;
    }
    if window.len() == TRAILER_BYTES {
        return Err(BodyError("the trailer section is too long"));
    }
    Ok(Piece::More)
}

/// Writes a chunk's size line.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for i in (0..nibbles).rev() {
        out.push(DIGITS[(size >> (i * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{super::BodyReader, super::Framing, *};

    /// Reads a body that comes `step` bytes at a time. The payload, and the trailer section.
    fn read(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
        let mut reader = BodyReader::new(Framing::Chunked);
        let (mut have, mut fed, mut data) = (Vec::new(), 0, Vec::new());
        loop {
            match reader.next(&have)? {
                Piece::Data(n) => data.extend(have.drain(..n)),
                Piece::Framing(n) => drop(have.drain(..n)),
                Piece::End(n) => return Ok((data, have[..n].to_vec())),
                Piece::More if fed == input.len() => return Err(BodyError("cut off")),
                Piece::More => {
                    let next = (fed + step).min(input.len());
                    have.extend_from_slice(&input[fed..next]);
                    fed = next;
                }
            }
        }
    }

    #[test]
    fn reads_the_same_in_any_split() {
        let input = b"5\r\nhello\r\n1;ext=\"x\"\r\n \r\nA\r\n0123456789\r\n000\r\nX-T: 1\r\n\r\n";
        for step in 1..=input.len() {
            let (data, trailers) = read(input, step).unwrap();
            assert_eq!(data, b"hello 0123456789");
            assert_eq!(trailers, b"X-T: 1\r\n\r\n");
        }
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for bad in [
            "-5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "g\r\nhello\r\n0\r\n\r\n",
            "8000000000000000\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "0 5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello world\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0z\r\n\r\n",
            "5\r\nhello\r\n0\n\n",
            "5\r\nhel",
        ] {
            for step in [1, 3, 100] {
                assert!(read(bad.as_bytes(), step).is_err(), "{bad:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000));
        assert!(read(long.as_bytes(), 4096).is_err());
        let many = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(2000));
        assert!(read(many.as_bytes(), 4096).is_err());
        let trailer = format!("0\r\nX: {}\r\n\r\n", "a".repeat(300_000));
        assert!(read(trailer.as_bytes(), 4096).is_err());
    }

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        for (size, text) in [(0, "0\r\n"), (5, "5\r\n"), (16, "10\r\n"), (65536, "10000\r\n")] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, size);
            assert_eq!(out, text.as_bytes());
        }
    }
}
