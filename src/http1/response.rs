//! An answer's head, as a backend sends it.
//!
//! Owns the decision which answers are refused for their form, and how the body behind one is framed.

use std::mem::MaybeUninit;

use super::{
    BodyError, Field, Framing, Known, Method, Parsed, Span, Version,
    field::{content_length, list_items},
};
use crate::limits::{CONNECTION_OPTIONS, HEADERS_MAX};

/// An answer that can't be passed on: a 502 for the client, and the end of the connection to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AnswerError(pub &'static str);

impl From<BodyError> for AnswerError {
    fn from(error: BodyError) -> AnswerError {
        AnswerError(error.0)
    }
}

/// The head of an answer. Its bytes stay in the buffer of the connection; this holds the places in them.
#[derive(Debug, Default)]
pub struct AnswerHead {
    fields: Vec<Field>,
    /// Status code, 100 to 999.
    pub status: u16,
    reason: Span,
    version: Option<Version>,
    /// Every line ends in CRLF, so that lines can be copied as they are.
    pub canonical: bool,
    /// The backend goes on using the connection, and nothing in the head makes that doubtful.
    pub keep_alive: bool,
    /// `Connection` names fields that must not pass.
    pub names_fields: bool,
    /// It says when it was made (RFC 9110 section 6.6.1).
    pub has_date: bool,
    length: Option<u64>,
    codings: usize,
    chunked: bool,
}

impl AnswerHead {
    /// Reads a head from the front of `input`.
    ///
    /// # Errors
    /// What the backend sent is not an answer.
    pub fn parse(&mut self, input: &[u8]) -> Result<Parsed, AnswerError> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut answer, input, &mut room);
        let length = match status {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(_) => return Err(AnswerError("the answer's head is not valid")),
        };
        const COMPLETE: &str = "httparse sets version and status of a complete answer";
        self.version =
            Some(if answer.version.expect(COMPLETE) == 0 { Version::Http10 } else { Version::Http11 });
        self.status = answer.code.expect(COMPLETE);
        if self.status < 100 {
            return Err(AnswerError("the status code is not valid"));
        }
        self.reason = match answer.reason {
            Some(reason) if !reason.is_empty() => Span::locate(reason.as_bytes(), input),
            _ => Span::default(),
        };
        self.locate_fields(input, length, answer.headers);
        self.read_fields(input)?;
        Ok(Parsed::Complete(length))
    }

    fn locate_fields(&mut self, input: &[u8], length: usize, headers: &[httparse::Header<'_>]) {
        self.fields.clear();
        self.canonical = true;
        // A head that ends in "\n\n" ends one byte earlier; such a head is not canonical, and its `line_end`s go unused.
        let end = (length.saturating_sub(2)) as u32;
        for header in headers {
            let name = Span::locate(header.name.as_bytes(), input);
            if let Some(last) = self.fields.last_mut() {
                last.line_end = name.start;
            }
            let value = if header.value.is_empty() {
                Span { start: name.end, end: name.end }
            } else {
                Span::locate(header.value, input)
            };
            let known = Known::of(header.name.as_bytes());
            self.fields.push(Field { name, value, line_end: end, known });
        }
        self.canonical = input[..length].ends_with(b"\r\n\r\n")
            && self.fields.iter().all(|field| input[..field.line_end as usize].ends_with(b"\r\n"));
    }

    fn read_fields(&mut self, input: &[u8]) -> Result<(), AnswerError> {
        (self.length, self.codings, self.chunked) = (None, 0, false);
        let (mut close, mut keep_alive, mut named) = (false, false, 0);
        self.has_date = false;
        for field in &self.fields {
            let value = field.value.of(input);
            match field.known {
                Known::Date => self.has_date = true,
                Known::ContentLength => {
                    let length = content_length(value)?;
                    if self.length.replace(length).is_some_and(|before| before != length) {
                        return Err(AnswerError("two different Content-Length"));
                    }
                }
                Known::TransferEncoding => {
                    self.codings += 1;
                    self.chunked = value.eq_ignore_ascii_case(b"chunked");
                }
                Known::Connection => {
                    for option in list_items(value) {
                        if option.eq_ignore_ascii_case(b"close") {
                            close = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keep_alive = true;
                        } else {
                            named += 1;
                        }
                    }
                }
                _ => {}
            }
        }
        if named > CONNECTION_OPTIONS {
            return Err(AnswerError("Connection names too many fields"));
        }
        self.names_fields = named > 0;
        // A body that the status forbids is announced: more than the head may follow.
        let is_contradictory =
            self.status == 204 && (self.codings > 0 || self.length.is_some_and(|length| length > 0));
        self.keep_alive =
            !close && !is_contradictory && (self.version == Some(Version::Http11) || keep_alive);
        Ok(())
    }

    /// How the body behind this head is framed, as the answer to such a request (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// Two ways to tell the end that contradict each other.
    pub fn framing(&self, request: Method) -> Result<Framing, AnswerError> {
        if matches!(self.status, 100..=199 | 204) {
            return Ok(Framing::None);
        }
        let framing = match (self.length, self.codings) {
            (Some(length), 0) => Framing::Length(length),
            (None, 1) if self.chunked && self.version == Some(Version::Http11) => Framing::Chunked,
            (None, 0) => Framing::Close,
            (Some(_), _) => return Err(AnswerError("both Content-Length and Transfer-Encoding")),
            (None, _) => return Err(AnswerError("a transfer coding that is not chunked alone")),
        };
        // What these would have is told without contradiction, too: whoever errs about that may send a body all the same.
        let has_none = request == Method::Head || self.status == 304;
        Ok(if has_none { Framing::None } else { framing })
    }

    /// The length that is told, whether a body of that length follows or not.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the answer is interim: another follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether it agrees to change to this protocol (RFC 9110 section 7.8).
    pub fn switches_to(&self, protocol: &[u8], input: &[u8]) -> bool {
        let mut fields = self.fields.iter();
        let says_so = |field: &Field| {
            field.known == Known::Connection
                && list_items(field.value.of(input)).any(|item| item.eq_ignore_ascii_case(b"upgrade"))
        };
        let mut named = self.fields.iter().filter(|field| field.known == Known::Upgrade);
        let is_it = |field: &Field| field.value.of(input).eq_ignore_ascii_case(protocol);
        // RFC 9110 section 7.8: not in HTTP/1.0; section 8.6: no length here.
        let is_plain = self.version == Some(Version::Http11) && self.length.is_none() && self.codings == 0;
        self.status == 101
            && is_plain
            && fields.any(says_so)
            && named.next().is_some_and(is_it)
            && named.next().is_none()
    }

    /// The reason phrase as sent.
    pub fn reason<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        self.reason.of(input)
    }

    /// The header fields in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AnswerHead, AnswerError> {
        let mut head = AnswerHead::default();
        assert_eq!(head.parse(text.as_bytes())?, Parsed::Complete(text.len()));
        Ok(head)
    }

    #[test]
    fn framing_follows_status_and_method() {
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(head.framing(Method::Get), Ok(Framing::Length(5)));
        assert_eq!(head.framing(Method::Head), Ok(Framing::None));
        let head = parse("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(head.framing(Method::Get), Ok(Framing::None));
        let head = parse("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
        assert_eq!(head.framing(Method::Get), Ok(Framing::Chunked));
        let head = parse("HTTP/1.0 200 OK\r\n\r\n").unwrap();
        assert_eq!((head.framing(Method::Get), head.keep_alive), (Ok(Framing::Close), false));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n").is_err());
        let head =
            parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert!(head.framing(Method::Get).is_err());
        for text in ["200 OK", "304 Not Modified"] {
            let text = format!("HTTP/1.1 {text}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert!(parse(&text).unwrap().framing(Method::Head).is_err());
        }
        let head = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n").unwrap();
        assert!(head.framing(Method::Get).is_err() && head.framing(Method::Head).is_err());
        for (announced, keeps) in
            [("Content-Length: 1", false), ("Transfer-Encoding: chunked", false), ("Content-Length: 0", true)]
        {
            let head = parse(&format!("HTTP/1.1 204 No Content\r\n{announced}\r\n\r\n")).unwrap();
            assert_eq!(
                (head.framing(Method::Get), head.keep_alive),
                (Ok(Framing::None), keeps),
                "{announced}"
            );
        }
    }

    #[test]
    fn lines_with_bare_line_feeds_are_seen() {
        assert!(parse("HTTP/1.1 200 OK\r\nA: b\r\n\r\n").unwrap().canonical);
        assert!(!parse("HTTP/1.1 200 OK\nA: b\nC: d\n\n").unwrap().canonical);
        assert!(!parse("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n").unwrap().canonical);
    }
}
