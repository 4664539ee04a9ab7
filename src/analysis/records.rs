//! Recorded traffic, one request after the other: from a list of keys or from a log.
//!
//! Owns the formats and the reading by blocks. Nothing is allocated for a line, and memory does not grow with the file. Never judges a request: which
//! pool and which backend it would go to is for others to say. Start at [`Records::each`].

mod combined;
mod figures;
mod format;
mod haproxy;
mod lines;
mod object;

use std::io::{self, Read};
use std::{net::IpAddr, time::Duration};

pub use self::{
    format::{LogFormat, LogFormatError},
    object::Field,
};

use self::lines::{Line, Lines};
use crate::{
    limits::{BAD_LINE_SHOWN_BYTES, BAD_LINES_SHOWN},
    proxy::key::{Facts, Fields},
    ring::Place,
};

/// One request of the past. It borrows from the reader's block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record<'a> {
    /// What was asked.
    pub asked: Asked<'a>,
    /// How long the answer took, if the log tells.
    pub took: Option<Duration>,
    /// Bytes sent to the client, if the log tells.
    pub bytes: Option<u64>,
    /// The answer's status, if the log tells.
    pub status: Option<u16>,
    /// The time as written.
    time: &'a [u8],
}

/// What a record tells about the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked<'a> {
    /// The key itself, empty if there was none.
    Key(&'a [u8]),
    /// The request, in which keys are found as the proxy finds them.
    Request(Asking<'a>),
}

/// A request as a log tells it. What it does not tell is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asking<'a> {
    /// The method's name.
    pub method: &'a [u8],
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// The path as sent.
    pub path: &'a [u8],
    /// The query without its question mark.
    pub query: Option<&'a [u8]>,
    /// Whose request it was. `None`: the log does not tell, or has a name in this place.
    pub client: Option<IpAddr>,
    /// `referer` and `user-agent`.
    pub fields: [(&'static str, &'a [u8]); 2],
    /// Ringway wrote it: there are no queries and no fields in it.
    pub is_ours: bool,
    /// What Ringway wrote about the key.
    pub found: Option<Found<'a>>,
}

/// The key that Ringway found in a request, as its own log tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// The source it came from, in its written form.
    pub source: &'a [u8],
    /// The key.
    pub key: Shown<'a>,
}

/// How a key stands in Ringway's log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown<'a> {
    /// As it is.
    Plain(&'a [u8]),
    /// By its place alone. Sixteen hexadecimal digits in lower case are taken for that, unless the line says that its key is plain.
    Place(Place),
    /// Not at all.
    Omitted,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Asked::Key(b"")
    }
}

impl Record<'_> {
    /// When, in nanoseconds since 1970 UTC. `None`: the log does not tell. Times without a zone are taken for UTC.
    pub fn at(&self) -> Option<i64> {
        figures::time(self.time)
    }
}

impl<'a> Asking<'a> {
    /// The same as the proxy's keys and routes want to see it, with this address where the log tells none.
    pub fn facts<'s>(&'s self, unknown: IpAddr) -> Facts<'s> {
        Facts {
            method: self.method,
            authority: self.authority,
            path: self.path,
            query: self.query,
            client: self.client.unwrap_or(unknown),
            fields: Fields::Known(&self.fields),
        }
    }

    /// Takes in a request line: method, target, version.
    fn read_line(&mut self, line: &'a [u8]) -> Result<(), &'static str> {
        const NONE: &str = "there is no request in it";
        let (method, rest) = figures::cut(line, b' ').ok_or(NONE)?;
        let target = memchr::memrchr(b' ', rest).map_or(rest, |end| &rest[..end]);
        if method.is_empty() || target.is_empty() || !method.iter().all(|b| b.is_ascii_graphic()) {
            return Err(NONE);
        }
        self.method = method;
        self.read_target(target);
        Ok(())
    }

    /// Takes in a target, in any of its forms (RFC 9112 section 3.2).
    fn read_target(&mut self, target: &'a [u8]) {
        let mut rest = target;
        let is_absolute =
            |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
        if target.first() != Some(&b'/')
            && let Some(scheme) =
                [&b"http://"[..], b"https://"].into_iter().find(|scheme| is_absolute(scheme))
        {
            let named = &target[scheme.len()..];
            let end = named.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(named.len());
            (self.authority, rest) = named.split_at(end);
        }
        let (path, query) = match memchr::memchr(b'?', rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        self.path = if path.is_empty() { b"/" } else { path };
        self.query = query;
    }
}

/// A line that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub reason: &'static str,
    /// How it begins, made printable.
    pub text: String,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tale {
    /// Lines, without empty ones.
    pub lines: u64,
    /// Those of them that were not understood.
    pub bad: u64,
    /// The first of these.
    pub bad_lines: Vec<BadLine>,
}

/// Reads recorded traffic from a stream.
#[derive(Debug)]
pub struct Records<R> {
    lines: Lines<R>,
    format: LogFormat,
    field: Option<Field>,
    stores: Stores,
}

/// Where texts are put together whose written form has escapes, one vector for each field.
#[derive(Debug, Default)]
struct Stores {
    target: Vec<u8>,
    query: Vec<u8>,
    host: Vec<u8>,
    referer: Vec<u8>,
    agent: Vec<u8>,
    key: Vec<u8>,
    source: Vec<u8>,
}

impl<R: Read> Records<R> {
    /// Begins to read. Without a format, the first lines tell it; a field means JSON.
    ///
    /// # Errors
    /// The stream can't be read.
    pub fn new(source: R, format: Option<LogFormat>, field: Option<Field>) -> io::Result<Records<R>> {
        let mut lines = Lines::new(source);
        let format = match (format, &field) {
            (Some(format), _) => format,
            (None, Some(_)) => LogFormat::Json,
            (None, None) => LogFormat::of(lines.first_block()?),
        };
        Ok(Records { lines, format, field, stores: Stores::default() })
    }

    /// The format, named or found out.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Shows every record in turn.
    ///
    /// # Errors
    /// The stream can't be read further; what was shown stands.
    pub fn each(mut self, mut see: impl FnMut(&Record<'_>)) -> io::Result<Tale> {
        let mut tale = Tale::default();
        while let Some(Line { number, text, is_whole }) = self.lines.next()? {
            if text.is_empty() {
                continue;
            }
            tale.lines += 1;
            let read = match is_whole {
                true => self.format.read(text, self.field.as_ref(), &mut self.stores),
                false => Err("it is too long"),
            };
            match read {
                Ok(record) => see(&record),
                Err(reason) => {
                    tale.bad += 1;
                    if tale.bad_lines.len() < BAD_LINES_SHOWN {
                        let text = text[..text.len().min(BAD_LINE_SHOWN_BYTES)].escape_ascii().to_string();
                        tale.bad_lines.push(BadLine { number, reason, text });
                    }
                }
            }
        }
        Ok(tale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_counted_and_the_first_are_shown() {
        let good = "1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] \"GET /a HTTP/1.1\" 200 1\n";
        let text = format!("{good}what\x1b\n\n{good}{}\n{good}", "\"no\"\n".repeat(5));
        let records = Records::new(text.as_bytes(), None, None).unwrap();
        assert_eq!(records.format(), LogFormat::Combined);
        let mut seen = 0;
        let tale = records.each(|record| seen += usize::from(record.status == Some(200))).unwrap();
        assert_eq!((seen, tale.lines, tale.bad), (3, 9, 6));
        let first = BadLine { number: 2, reason: "there is no [time] in it", text: "what\\x1b".into() };
        assert_eq!((&tale.bad_lines[0], tale.bad_lines.len()), (&first, BAD_LINES_SHOWN));
    }

    #[test]
    fn lines_that_are_too_long_or_not_utf8_harm_nobody() {
        let long =
            [&b"k1\n"[..], &vec![b'x'; 3 * crate::limits::LOG_BLOCK_BYTES], b"\n\xff\xfe\r\nlast"].concat();
        let mut keys = Vec::new();
        let records = Records::new(&long[..], None, None).unwrap();
        let tale = records
            .each(|record| {
                let Asked::Key(key) = record.asked else { panic!() };
                keys.push(key.to_vec());
            })
            .unwrap();
        assert_eq!(keys, [&b"k1"[..], b"\xff\xfe", b"last"]);
        assert_eq!((tale.bad, tale.bad_lines[0].number, tale.bad_lines[0].reason), (1, 2, "it is too long"));
    }
}
