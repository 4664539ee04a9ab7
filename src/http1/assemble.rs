//! A request's head from parts that come one by one, as HTTP/2 brings them (RFC 9113 section 8.3).
//!
//! Owns the form in which they are kept: as the lines that an HTTP/1.1 client would have sent. So they are judged, routed and written
//! by what judges, routes and writes those. Never checks what the lines themselves are made of: who brings them has.

use super::{Field, Framing, HeadError, Known, Method, RequestHead, Span, Version};

/// The parts of a request that are not fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// The method.
    pub method: Span,
    /// Path and query.
    pub target: Span,
    /// Host and port.
    pub authority: Option<Span>,
    /// The protocol to change to (RFC 8441): the method counts as `GET`.
    pub protocol: Option<Span>,
    /// The head is all there is.
    pub is_whole: bool,
}

impl RequestHead {
    /// Forgets what it held.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Takes a part in.
    pub fn add_part(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(part);
        Span { start, end: self.bytes.len() as u32 }
    }

    /// Takes a field in. All parts have been.
    pub fn add_field(&mut self, name: &[u8], value: &[u8], known: Known) {
        let name = self.add_part(name);
        self.bytes.extend_from_slice(b": ");
        let value = self.add_part(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.fields.push(Field { name, value, line_end: self.bytes.len() as u32, known });
    }

    /// Makes it whole.
    ///
    /// # Errors
    /// The request must be refused.
    pub fn finish(&mut self, parts: Parts) -> Result<(), HeadError> {
        let bytes = std::mem::take(&mut self.bytes);
        self.version = Version::Http2;
        self.method_name = parts.method;
        let read = Method::of(parts.method.of(&bytes)).and_then(|method| {
            self.method = method;
            self.read_target(parts.target.of(&bytes), &bytes)
        });
        self.bytes = bytes;
        read?;
        // RFC 9113 section 8.3.1: the two must not differ, or the next one may read the other.
        if let Some(authority) = parts.authority.map(|span| span.of(&self.bytes))
            && self.values(Known::Host).any(|host| !host.eq_ignore_ascii_case(authority))
        {
            return Err(HeadError::Malformed("Host differs from :authority"));
        }
        self.authority = parts.authority;
        self.read_fields()?;
        if self.authority.is_none() {
            return Err(HeadError::Malformed("neither :authority nor Host"));
        }
        match (self.framing, parts.is_whole) {
            (Framing::None, false) => self.framing = Framing::Chunked,
            (Framing::Length(1..), true) => {
                return Err(HeadError::Malformed("a Content-Length and no body"));
            }
            _ => {}
        }
        self.upgrade = parts.protocol;
        Ok(())
    }
}
