//! A line of the access log.
//!
//! Owns what stands in it and its two forms. What a client sent can't break a line or a terminal: all but printable ASCII is escaped. Never
//! writes to a file.

use std::{
    fmt::{Display, Write as _},
    io::Write,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::KeyInLog;
use crate::{
    http1::{Version, write_address},
    limits::LOG_FIELD_BYTES,
    ring::Place,
    tally::AttemptEnd,
};

/// One request, as the log tells it.
pub struct AccessLine<'a> {
    /// The client, behind trusted proxies.
    pub client: IpAddr,
    /// The method's name.
    pub method: &'a [u8],
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// The path, without the query, which is where secrets tend to be.
    pub path: &'a [u8],
    /// The client's version.
    pub version: Version,
    /// The status sent. `None`: the client went away before there was one.
    pub status: Option<u16>,
    /// Why the answer is one of ours.
    pub refusal: Option<&'static str>,
    /// The answer broke off in the middle.
    pub truncated: bool,
    /// The pool.
    pub pool: Option<&'a str>,
    /// The backend tried last.
    pub backend: Option<&'a str>,
    /// The key's owner.
    pub owner: Option<&'a str>,
    /// Why the backend is not the owner.
    pub off_owner: Option<&'static str>,
    /// The key.
    pub key: Option<KeyFound<'a>>,
    /// Attempts made.
    pub attempts: u32,
    /// How those of them ended that were followed by another.
    pub repeated: &'a [AttemptEnd],
    /// From the head's first byte to the end.
    pub whole: Duration,
    /// To the answer's head.
    pub first_byte: Option<Duration>,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// The request's id.
    pub request_id: &'a [u8],
}

/// A key, as a line tells it.
pub struct KeyFound<'a> {
    /// Where it was found.
    pub source: &'a dyn Display,
    /// It.
    pub key: &'a [u8],
    /// Its place on the ring.
    pub place: Place,
}

/// Writes a line by hand: this is the one place where a request pays for what a serializer does not know beforehand.
pub(super) fn json(line: &AccessLine<'_>, key: KeyInLog, clock: &mut Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.write(SystemTime::now(), out);
    out.extend_from_slice(b"\",\"client\":\"");
    write_address(line.client, out);
    out.push(b'"');
    string(out, "method", line.method);
    string(out, "host", line.authority);
    string(out, "path", line.path);
    string(out, "version", version(line.version).as_bytes());
    name(out, "status");
    match line.status {
        Some(status) => out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    if let Some(refusal) = line.refusal {
        string(out, "refusal", refusal.as_bytes());
    }
    if line.truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    for (field, value) in [("pool", line.pool), ("backend", line.backend), ("owner", line.owner)] {
        match value {
            Some(value) => string(out, field, value.as_bytes()),
            None => {
                name(out, field);
                out.extend_from_slice(b"null");
            }
        }
    }
    match (line.off_owner, line.owner) {
        // It got as far as no owner.
        (None, None) => {
            name(out, "reason");
            out.extend_from_slice(b"null");
        }
        (off_owner, _) => {
            string(out, "reason", off_owner.unwrap_or(crate::tally::OffOwner::AT_OWNER).as_bytes());
        }
    }
    if let Some(found) = &line.key {
        name(out, "key_source");
        source(out, found.source);
        match key {
            KeyInLog::Hashed => {
                name(out, "key");
                out.push(b'"');
                out.extend(
                    (0..16).rev().map(|i| b"0123456789abcdef"[(found.place.0 >> (i * 4)) as usize & 0xf]),
                );
                out.push(b'"');
            }
            KeyInLog::Plain => {
                string(out, "key", found.key);
                // A key may look like a place.
                out.extend_from_slice(b",\"key_is\":\"plain\"");
            }
            KeyInLog::Omit => {}
        }
    }
    number(out, "attempts", line.attempts.into());
    if !line.repeated.is_empty() {
        name(out, "repeated");
        for (at, end) in line.repeated.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"[\"" } else { b",\"" });
            out.extend_from_slice(end.word().as_bytes());
            out.push(b'"');
        }
        out.push(b']');
    }
    millis(out, "duration_ms", Some(line.whole));
    millis(out, "first_byte_ms", line.first_byte);
    number(out, "received_bytes", line.received);
    number(out, "sent_bytes", line.sent);
    string(out, "request_id", line.request_id);
    out.extend_from_slice(b"}\n");
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, field: &str, value: u64) {
    name(out, field);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals, or `null`.
fn millis(out: &mut Vec<u8>, field: &str, value: Option<Duration>) {
    name(out, field);
    let Some(value) = value else { return out.extend_from_slice(b"null") };
    let micros = value.as_micros() as u64;
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let rest = (micros % 1000) as u32;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

fn digit(n: u32) -> u8 {
    b'0' + (n % 10) as u8
}

/// A field with what a client or an operator has written.
fn string(out: &mut Vec<u8>, field: &str, value: &[u8]) {
    name(out, field);
    out.push(b'"');
    if value.len() <= LOG_FIELD_BYTES && value.iter().all(|&b| is_plain(b) && b != b'"' && b != b'\\') {
        out.extend_from_slice(value);
    } else {
        // First made printable, then JSON.
        for b in printable(value, false).bytes() {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(b);
        }
    }
    out.push(b'"');
}

/// A key's source as it stands in the configuration: an expression may have quotes and backslashes in it.
fn source(out: &mut Vec<u8>, source: &dyn Display) {
    const FITS: &str = "a vector takes all that is written";
    out.push(b'"');
    let start = out.len();
    write!(out, "{source}").expect(FITS);
    if !out[start..].iter().all(|&b| is_plain(b) && b != b'"' && b != b'\\') {
        out.truncate(start);
        for letter in source.to_string().chars() {
            match letter {
                '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
                ' '..='~' => out.push(letter as u8),
                _ => {
                    let units = letter.encode_utf16(&mut [0; 2]).to_vec();
                    units.iter().for_each(|unit| write!(out, "\\u{unit:04x}").expect(FITS));
                }
            }
        }
    }
    out.push(b'"');
}

/// The time as text. The part that changes once a second is kept.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    /// `2026-11-21T10:26:20`
    text: String,
}

impl Clock {
    fn write(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            // Vectors and strings take all that is written.
            let _ = write!(self.text, "{}", humantime::format_rfc3339_seconds(now));
            self.text.pop();
        }
        out.extend_from_slice(self.text.as_bytes());
        let millis = since.subsec_millis();
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

pub(super) fn common(line: &AccessLine<'_>, out: &mut Vec<u8>) {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let status = line.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    writeln!(
        out,
        "{} - - [{}] \"{} {} {}\" {status} {}",
        line.client,
        common_time(&time),
        escape(line.method),
        escape(line.path),
        version(line.version),
        line.sent
    )
    .expect("a vector takes all that is written");
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    }
}

/// `2026-11-21T10:26:20Z` as `21/Nov/2026:10:26:20 +0000`.
fn common_time(time: &str) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = time[5..7].parse::<usize>().map_or("???", |month| MONTHS[(month + 11) % 12]);
    format!("{}/{month}/{}:{} +0000", &time[8..10], &time[..4], &time[11..19])
}

/// For the common format.
fn escape(bytes: &[u8]) -> String {
    printable(bytes, true)
}

fn is_plain(b: u8) -> bool {
    matches!(b, b' '..=b'~')
}

/// Printable ASCII as it is, all else as `\xNN`, cut at a bound.
fn printable(bytes: &[u8], escapes_quotes: bool) -> String {
    let mut out = String::with_capacity(bytes.len().min(LOG_FIELD_BYTES) + 16);
    for &b in bytes.iter().take(LOG_FIELD_BYTES) {
        match b {
            b'"' | b'\\' if escapes_quotes => {
                out.push('\\');
                out.push(b as char);
            }
            _ if is_plain(b) => out.push(b as char),
            _ => write!(out, "\\x{b:02x}").expect("a string takes all that is written"),
        }
    }
    if bytes.len() > LOG_FIELD_BYTES {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_client_sends_breaks_a_line_or_a_terminal() {
        let nasty = b"/\x1b[2J\"\n\x9b\\\xc2\x9b end";
        let escaped = escape(nasty);
        assert!(escaped.bytes().all(|b| (b' '..=b'~').contains(&b)), "{escaped}");
        assert_eq!(escaped, "/\\x1b[2J\\\"\\x0a\\x9b\\\\\\xc2\\x9b end");
        assert!(escape(&[b'a'; 10_000]).len() < 3000);
    }

    #[test]
    fn the_common_format_has_its_time() {
        assert_eq!(common_time("2026-11-21T10:26:20Z"), "21/Nov/2026:10:26:20 +0000");
    }
}
