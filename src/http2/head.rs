//! Field sections as heads and trailers (RFC 9113 section 8).
//!
//! Owns which sections are malformed: whatever HTTP/1.1 could read as something else never leaves here.

use std::time::Instant;

use super::{
    Stream,
    state::One,
    stream::{Chunk, ReaderFraming},
    table::Entry,
};
use crate::{
    http1::{HeadError, Known, Parts, RequestHead, Span, is_token, may_trail},
    limits::{ANSWER_HEAD_BYTES, TRAILER_BYTES, TRAILER_FIELDS},
};

/// A request that has come.
#[derive(Debug)]
pub struct Arrival {
    /// Its stream.
    pub stream: Stream,
    /// Its head; or why it is refused, and whether it asks for a head alone.
    pub head: Result<Box<RequestHead>, (HeadError, bool)>,
    /// When its head had come.
    pub begun: Instant,
}

/// Puts a request's head together.
pub(super) struct RequestSection<'a> {
    head: &'a mut RequestHead,
    parts: Parts,
    seen: Seen,
    /// Fields that are one in HTTP/1.1 (section 8.2.3).
    cookies: Vec<u8>,
    /// Bytes that may still come.
    room: usize,
    fields: usize,
    in_fields: bool,
    error: Option<HeadError>,
}

/// Pseudo-header fields that have come.
#[derive(Default)]
struct Seen {
    method: Option<Span>,
    scheme: bool,
    is_connect: bool,
    is_head: bool,
    path: Option<Span>,
}

impl<'a> RequestSection<'a> {
    /// For a section of at most so many bytes and fields.
    pub(super) fn new(head: &'a mut RequestHead, max_bytes: usize, max_fields: usize) -> RequestSection<'a> {
        head.begin();
        RequestSection {
            head,
            parts: Parts::default(),
            seen: Seen::default(),
            cookies: Vec::new(),
            room: max_bytes,
            fields: max_fields,
            in_fields: false,
            error: None,
        }
    }

    /// Takes a field.
    pub(super) fn take(&mut self, entry: Entry<'_>) {
        if self.error.is_none()
            && let Err(error) = self.add(entry)
        {
            self.error = Some(error);
        }
    }

    fn add(&mut self, entry: Entry<'_>) -> Result<(), HeadError> {
        // As many as in the line of HTTP/1.1.
        let size = entry.name.len() + entry.value.len() + 4;
        self.room = self.room.checked_sub(size).ok_or(HeadError::TooLarge)?;
        if entry.name.first() == Some(&b':') {
            return self.add_pseudo(entry);
        }
        self.in_fields = true;
        // All pieces of a cookie are one field.
        let is_crumb = entry.name == b"cookie" && !self.cookies.is_empty();
        self.fields = self.fields.checked_sub(usize::from(!is_crumb)).ok_or(HeadError::TooManyFields)?;
        check_field(entry)?;
        match entry.known {
            Known::Te if !entry.value.eq_ignore_ascii_case(b"trailers") => {
                return Err(HeadError::Malformed("TE in HTTP/2 says other things than trailers"));
            }
            _ if entry.name == b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(entry.value);
            }
            known => self.head.add_field(entry.name, entry.value, known),
        }
        Ok(())
    }

    fn add_pseudo(&mut self, entry: Entry<'_>) -> Result<(), HeadError> {
        let bad = HeadError::Malformed;
        if self.in_fields {
            return Err(bad("a pseudo-header field after others"));
        }
        let twice = || bad("a pseudo-header field comes twice");
        let value = entry.value;
        match entry.name {
            b":method" => {
                if !is_token(value) {
                    return Err(bad("the method is not a token"));
                }
                self.seen.is_connect = value == b"CONNECT";
                self.seen.is_head = value == b"HEAD";
                let span = self.head.add_part(if self.seen.is_connect { b"GET" } else { value });
                if self.seen.method.replace(span).is_some() {
                    return Err(twice());
                }
            }
            b":scheme" => {
                if !(value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"https")) {
                    return Err(bad("the scheme is neither http nor https"));
                }
                if std::mem::replace(&mut self.seen.scheme, true) {
                    return Err(twice());
                }
            }
            b":path" => {
                if value.iter().any(|&b| b <= b' ' || b == 0x7f) {
                    return Err(bad("the path holds spaces or control characters"));
                }
                // As our reader of HTTP/1.1 has it.
                if std::str::from_utf8(value).is_err() {
                    return Err(bad("the path is not UTF-8"));
                }
                if !matches!(value.first(), Some(b'/' | b'*')) {
                    return Err(bad("the path does not begin with a slash"));
                }
                if value.len() > crate::limits::TARGET_BYTES {
                    return Err(HeadError::TargetTooLong);
                }
                if self.seen.path.replace(self.head.add_part(value)).is_some() {
                    return Err(twice());
                }
            }
            b":authority" => {
                if !crate::http1::valid_authority(value) {
                    return Err(bad("the :authority is not valid"));
                }
                if self.parts.authority.replace(self.head.add_part(value)).is_some() {
                    return Err(twice());
                }
            }
            b":protocol" => {
                if !is_token(value) {
                    return Err(bad("the protocol is not a token"));
                }
                if self.parts.protocol.replace(self.head.add_part(value)).is_some() {
                    return Err(twice());
                }
            }
            _ => return Err(bad("a pseudo-header field that a request does not have")),
        }
        Ok(())
    }

    /// Whether the request asks for a head alone, as far as it can be told.
    pub(super) fn is_for_head(&self) -> bool {
        self.seen.is_head
    }

    /// Makes the head whole.
    pub(super) fn finish(mut self, is_whole: bool) -> Result<(), HeadError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.seen.is_connect && self.parts.protocol.is_none() {
            return Err(HeadError::Method);
        }
        if self.parts.protocol.is_some() && (!self.seen.is_connect || is_whole) {
            return Err(HeadError::Malformed(":protocol without CONNECT, or without a stream behind it"));
        }
        let missing = HeadError::Malformed("a pseudo-header field is missing");
        if !self.seen.scheme {
            return Err(missing);
        }
        self.parts.method = self.seen.method.ok_or(missing)?;
        self.parts.target = self.seen.path.ok_or(missing)?;
        // What follows a change of protocol is no body.
        self.parts.is_whole = is_whole || self.parts.protocol.is_some();
        if !self.cookies.is_empty() {
            self.head.add_field(b"cookie", &self.cookies, Known::Other);
        }
        self.head.finish(self.parts)
    }
}

/// Section 8.2.1, and as strict about control characters as our reader of HTTP/1.1; section 8.2.2.
fn check_field(entry: Entry<'_>) -> Result<(), HeadError> {
    if !is_token(entry.name) || entry.name.iter().any(u8::is_ascii_uppercase) {
        return Err(HeadError::Malformed("a field name is not a token in lower case"));
    }
    let value = entry.value;
    let is_space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if is_space(value.first()) || is_space(value.last()) {
        return Err(HeadError::Malformed("white space around a field value"));
    }
    if value.iter().any(|&b| b < b' ' && b != b'\t' || b == 0x7f) {
        return Err(HeadError::Malformed("a field value holds a control character"));
    }
    match entry.known {
        Known::Connection
        | Known::TransferEncoding
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Upgrade
        | Known::Http2Settings => Err(HeadError::Malformed("a field that speaks of the connection")),
        _ => Ok(()),
    }
}

/// Puts the head of an answer together as text, which then is judged like that of any backend.
pub(super) struct ResponseSection {
    text: Vec<u8>,
    status: Option<u16>,
    length: Option<u64>,
    room: usize,
    fields: usize,
    is_malformed: bool,
}

impl ResponseSection {
    /// For a section of at most so many bytes and fields.
    pub(super) fn new(max_bytes: usize, max_fields: usize) -> ResponseSection {
        ResponseSection {
            text: Vec::new(),
            status: None,
            length: None,
            room: max_bytes,
            fields: max_fields,
            is_malformed: false,
        }
    }

    /// Takes a field.
    pub(super) fn take(&mut self, entry: Entry<'_>) {
        self.is_malformed |= self.add(entry).is_none();
    }

    fn add(&mut self, entry: Entry<'_>) -> Option<()> {
        self.room = self.room.checked_sub(entry.name.len() + entry.value.len() + 4)?;
        self.fields = self.fields.checked_sub(1)?;
        let digits = |value: &[u8]| {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(value).ok().filter(|_| is_number).map(str::to_owned)
        };
        if entry.name == b":status" {
            // RFC 9110 section 15: three digits.
            let three = digits(entry.value).filter(|digits| digits.len() == 3)?;
            let status = three.parse().ok().filter(|status| (100..1000).contains(status))?;
            // First, and once. There is no change of protocol this way (RFC 9113 section 8.6).
            if self.status.replace(status).is_some() || !self.text.is_empty() || status == 101 {
                return None;
            }
            let reason = if status == 200 { "OK" } else { "" };
            self.text.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
            return Some(());
        }
        self.status?;
        check_field(entry).ok()?;
        if entry.known == Known::ContentLength {
            let length = digits(entry.value)?.parse().ok()?;
            if self.length.replace(length).is_some() {
                return None;
            }
        }
        for part in [entry.name, b": ", entry.value, b"\r\n"] {
            self.text.extend_from_slice(part);
        }
        Some(())
    }

    /// Gives the stream its head, and the framing of what follows.
    pub(super) fn finish(mut self, one: &mut One, end_stream: bool) -> Result<(), ()> {
        let status = self.status.filter(|_| !self.is_malformed).ok_or(())?;
        let is_interim = status < 200;
        if is_interim && (end_stream || self.length.is_some()) {
            return Err(());
        }
        let has_no_body = one.is_for_head || matches!(status, 204 | 304);
        match self.length {
            _ if is_interim => {}
            Some(length) if !has_no_body => {
                if end_stream && length > 0 {
                    return Err(());
                }
                one.declared = Some(length);
            }
            _ if has_no_body => one.declared = Some(0),
            _ if end_stream => self.text.extend_from_slice(b"content-length: 0\r\n"),
            _ => {
                one.framing = ReaderFraming::Chunked(Chunk::Between);
                self.text.extend_from_slice(b"transfer-encoding: chunked\r\n");
            }
        }
        self.text.extend_from_slice(b"\r\n");
        // Heads are under no window: somebody who takes none must not have us collect them.
        if one.lead.len() + self.text.len() > ANSWER_HEAD_BYTES {
            return Err(());
        }
        one.lead.extend_from_slice(&self.text);
        one.has_head = !is_interim;
        one.has_ended = end_stream;
        if let Some(reader) = one.reader.take() {
            reader.wake();
        }
        Ok(())
    }
}

/// Collects the trailer fields that may pass, as lines.
#[derive(Default)]
pub(super) struct TrailerSection {
    pub(super) lines: Vec<u8>,
    pub(super) is_malformed: bool,
    fields: usize,
}

impl TrailerSection {
    /// Takes a field.
    pub(super) fn take(&mut self, entry: Entry<'_>) {
        // What is refused costs no more: one byte of a section can name a field of four thousand.
        if self.is_malformed {
            return;
        }
        let size = entry.name.len() + entry.value.len() + 4;
        self.fields += 1;
        let is_over = self.lines.len() + size > TRAILER_BYTES - 1024 || self.fields > TRAILER_FIELDS;
        if is_over || entry.name.first() == Some(&b':') || check_field(entry).is_err() {
            self.is_malformed = true;
        } else if may_trail(entry.name) {
            self.lines.extend_from_slice(entry.name);
            self.lines.extend_from_slice(b": ");
            self.lines.extend_from_slice(entry.value);
            self.lines.extend_from_slice(b"\r\n");
        }
    }
}
