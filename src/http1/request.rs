//! A request's head: parsed, checked, and turned into what routing and framing need.
//!
//! Owns the decision which requests are refused for their form (RFC 9112 sections 2 to 6). Start at
//! [`RequestHead::parse`]. The tokens are found by `httparse`; all that is stricter than it stands here.

use std::mem::MaybeUninit;

use super::{
    BodyError, Field, Framing, Known, Parsed, Span,
    authority::valid_authority,
    field::{content_length, list_items},
};
use crate::limits::{CONNECTION_OPTIONS, HEADERS_MAX, TARGET_BYTES};

/// Why a request is refused for its form. The sentence is for logs; clients see the status alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Bytes that are not a request, or that can be read in two ways: 400.
    #[error("{0}")]
    Malformed(&'static str),
    /// More fields than the limit: 431.
    #[error("too many header fields")]
    TooManyFields,
    /// More bytes than the limit: 431.
    #[error("the head is too large")]
    TooLarge,
    /// The target alone is too long: 414.
    #[error("the request target is too long")]
    TargetTooLong,
    /// Not HTTP/1.0 or HTTP/1.1: 505.
    #[error("the protocol version is not supported")]
    Version,
    /// A transfer coding other than `chunked`: 501.
    #[error("the transfer coding is not supported")]
    TransferCoding,
    /// `CONNECT` and `TRACE`: 405.
    #[error("the method is not allowed")]
    Method,
    /// An `Expect` of anything but `100-continue`: 417.
    #[error("the expectation is not known")]
    Expectation,
}

impl From<BodyError> for HeadError {
    fn from(error: BodyError) -> HeadError {
        HeadError::Malformed(error.0)
    }
}

/// The methods whose meaning matters to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: its answer has no body.
    Head,
    /// `OPTIONS`
    Options,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `POST`
    Post,
    /// Any other: passed on, and taken for not idempotent.
    Other,
}

impl Method {
    /// The method of this name.
    ///
    /// # Errors
    /// It is one that a proxy of this kind does not serve: 405.
    pub fn of(name: &[u8]) -> Result<Method, HeadError> {
        Ok(match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"POST" => Method::Post,
            b"CONNECT" | b"TRACE" => return Err(HeadError::Method),
            _ => Method::Other,
        })
    }

    /// Whether sending it twice means what sending it once means (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Other)
    }
}

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2, of which only the meaning of heads is a matter of this module: RFC 9113 section 8.
    Http2,
}

/// Where a request wants to go: path and query as written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target {
    path: Span,
    query: Option<Span>,
}

/// A request's head. One is kept per connection and parsed into again and again.
#[derive(Debug)]
pub struct RequestHead {
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) method_name: Span,
    /// The method.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// How its body is framed.
    pub framing: Framing,
    target: Target,
    pub(super) authority: Option<Span>,
    /// The client wants to go on using the connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Connection` names fields that must not pass.
    pub names_fields: bool,
    /// The client takes trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
    /// The protocol that the client wants to change to.
    pub(super) upgrade: Option<Span>,
    /// How often an `OPTIONS` may still be forwarded (RFC 9110 section 7.6.2).
    pub max_forwards: Option<u32>,
    /// The client waits for `100 Continue` (RFC 9110 section 10.1.1), or says so.
    pub expects: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        RequestHead {
            bytes: Vec::new(),
            fields: Vec::new(),
            method_name: Span::default(),
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            target: Target::default(),
            authority: None,
            keep_alive: true,
            names_fields: false,
            takes_trailers: false,
            upgrade: None,
            max_forwards: None,
            expects: false,
        }
    }
}

impl RequestHead {
    /// Reads a head from the front of `input`, with at most `max_fields` header fields.
    ///
    /// # Errors
    /// The request must be refused, and the connection closed: where the next request begins is not known.
    pub fn parse(&mut self, input: &[u8], max_fields: usize) -> Result<Parsed, HeadError> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let status = request.parse_with_uninit_headers(input, &mut room[..max_fields.min(HEADERS_MAX)]);
        let length = match status {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => {
                return match request.path {
                    Some(path) if path.len() > TARGET_BYTES => Err(HeadError::TargetTooLong),
                    _ => Ok(Parsed::Partial),
                };
            }
            Err(error) => return Err(malformed(error)),
        };
        const COMPLETE: &str = "httparse sets method, path and version of a complete request";
        let method = request.method.expect(COMPLETE).as_bytes();
        let target = request.path.expect(COMPLETE).as_bytes();
        if target.len() > TARGET_BYTES {
            return Err(HeadError::TargetTooLong);
        }
        self.version = if request.version.expect(COMPLETE) == 0 { Version::Http10 } else { Version::Http11 };
        self.method = Method::of(method)?;
        self.method_name = Span::locate(method, input);
        self.locate_fields(input, length, request.headers)?;
        self.check_lines(input, length)?;
        self.read_target(target, input)?;
        self.bytes.clear();
        self.bytes.extend_from_slice(&input[..length]);
        self.read_fields()?;
        Ok(Parsed::Complete(length))
    }

    fn locate_fields(
        &mut self,
        input: &[u8],
        length: usize,
        headers: &[httparse::Header<'_>],
    ) -> Result<(), HeadError> {
        self.fields.clear();
        for header in headers {
            let name = Span::locate(header.name.as_bytes(), input);
            if let Some(last) = self.fields.last_mut() {
                last.line_end = name.start;
            }
            let known = Known::of(header.name.as_bytes());
            // An empty value is an empty slice of no particular place.
            let value = if header.value.is_empty() {
                Span { start: name.end, end: name.end }
            } else {
                Span::locate(header.value, input)
            };
            self.fields.push(Field { name, value, line_end: (length - 2) as u32, known });
        }
        Ok(())
    }

    /// Every line ends in CRLF: `httparse` takes a bare LF too, which other readers do not take for a line's end.
    fn check_lines(&self, input: &[u8], length: usize) -> Result<(), HeadError> {
        let ends_in_crlf = |end: usize| input[..end].ends_with(b"\r\n");
        let first_field = self.fields.first().map_or(length - 2, |field| field.name.start as usize);
        let before = &input[..self.method_name.start as usize];
        let fields_end = self.fields.iter().all(|field| ends_in_crlf(field.line_end as usize));
        let empty_lines = before.chunks(2).all(|line| line == b"\r\n");
        if ends_in_crlf(first_field) && fields_end && ends_in_crlf(length) && empty_lines {
            Ok(())
        } else {
            Err(HeadError::Malformed("a line does not end in CRLF"))
        }
    }

    /// The four forms of a target (RFC 9112 section 3.2); the authority form is for `CONNECT` alone.
    pub(super) fn read_target(&mut self, target: &[u8], input: &[u8]) -> Result<(), HeadError> {
        if target.contains(&b'#') {
            return Err(HeadError::Malformed("a fragment in the request target"));
        }
        self.authority = None;
        if target.first() == Some(&b'/') {
            self.target = split_query(target, input);
            return Ok(());
        }
        if target == b"*" && self.method == Method::Options {
            self.target = Target { path: Span::locate(target, input), query: None };
            return Ok(());
        }
        let Some(rest) = strip_scheme(target) else {
            return Err(HeadError::Malformed(
                "the request target is in no form that RFC 9112 section 3.2 allows",
            ));
        };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        if !valid_authority(&rest[..end]) {
            return Err(HeadError::Malformed("the authority of the request target is not valid"));
        }
        self.authority = Some(Span::locate(&rest[..end], input));
        self.target = split_query(&rest[end..], input);
        Ok(())
    }

    /// Host, framing and connection options, from the fields that carry them.
    pub(super) fn read_fields(&mut self) -> Result<(), HeadError> {
        let mut host = None;
        let mut length = None;
        let mut codings = 0;
        let mut chunked = false;
        let mut options = Options::default();
        let (mut upgrades, mut upgrade) = (0, None);
        (self.takes_trailers, self.max_forwards, self.expects) = (false, None, false);
        for field in &self.fields {
            let value = field.value.of(&self.bytes);
            match field.known {
                Known::Other => {}
                Known::Host => {
                    if host.replace(field.value).is_some() {
                        return Err(HeadError::Malformed("more than one Host"));
                    }
                    let may_be_empty = self.authority.is_some();
                    if !(valid_authority(value) || may_be_empty && value.is_empty()) {
                        return Err(HeadError::Malformed("the Host is not valid"));
                    }
                }
                Known::ContentLength => {
                    let before = length.replace(content_length(value)?);
                    if before.is_some() {
                        return Err(HeadError::Malformed("more than one Content-Length"));
                    }
                }
                Known::TransferEncoding => {
                    codings += 1;
                    chunked = value.eq_ignore_ascii_case(b"chunked");
                }
                Known::Connection => {
                    options.take(value);
                }
                Known::Upgrade => {
                    upgrades += 1;
                    upgrade = Some(field.value);
                }
                // RFC 9110 section 10.1.1: of HTTP/1.0 it is no word at all.
                Known::Expect if self.version > Version::Http10 => {
                    let twice = std::mem::replace(&mut self.expects, true);
                    if twice || !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HeadError::Expectation);
                    }
                }
                Known::MaxForwards if self.method == Method::Options => {
                    let before = self.max_forwards.replace(max_forwards(value)?);
                    if before.is_some() {
                        return Err(HeadError::Malformed("more than one Max-Forwards"));
                    }
                }
                Known::Te => {
                    self.takes_trailers |=
                        list_items(value).any(|item| item.eq_ignore_ascii_case(b"trailers"));
                }
                _ => {}
            }
        }
        if options.named > CONNECTION_OPTIONS {
            return Err(HeadError::Malformed("Connection names too many fields"));
        }
        self.names_fields = options.named > 0;
        self.keep_alive = !options.close && (self.version >= Version::Http11 || options.keep_alive);
        if host.is_none() && self.version == Version::Http11 {
            return Err(HeadError::Malformed("no Host"));
        }
        // RFC 9112 section 3.2.2: the target's authority replaces what Host says.
        self.authority = self.authority.or(host);
        self.framing = self.framing_of(length, codings, chunked)?;
        // RFC 9110 section 7.8. Several protocols to choose from, a body before the change, another method than GET: nobody in use does
        // that, and whoever does is answered as if he had not asked, which is always allowed.
        let is_plain = self.method == Method::Get && self.framing == Framing::None;
        let asks = options.upgrade && upgrades == 1 && is_plain && self.version == Version::Http11;
        self.upgrade = upgrade.filter(|_| asks);
        Ok(())
    }

    /// RFC 9112 section 6.3, without its leniencies: a length beside a coding is an attack or a fault, and refused.
    fn framing_of(&self, length: Option<u64>, codings: usize, chunked: bool) -> Result<Framing, HeadError> {
        match (length, codings) {
            (None, 0) => Ok(Framing::None),
            (Some(length), 0) => Ok(Framing::Length(length)),
            (Some(_), _) => Err(HeadError::Malformed("both Content-Length and Transfer-Encoding")),
            (None, _) if self.version == Version::Http10 => {
                Err(HeadError::Malformed("Transfer-Encoding in an HTTP/1.0 request"))
            }
            (None, 1) if chunked => Ok(Framing::Chunked),
            (None, 1) => Err(HeadError::TransferCoding),
            (None, _) => Err(HeadError::Malformed("more than one Transfer-Encoding")),
        }
    }

    /// All bytes of the head, for offsets in [`Field`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The header fields in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The method's name as sent.
    pub fn method_name(&self) -> &[u8] {
        self.method_name.of(&self.bytes)
    }

    /// The path as sent, never decoded; `/` if the target has none, `*` for the asterisk form, which an `OPTIONS` without
    /// path and query becomes (RFC 9112 section 3.2.4).
    pub fn path(&self) -> &[u8] {
        match self.target.path.of(&self.bytes) {
            b"" if self.method == Method::Options && self.target.query.is_none() => b"*",
            b"" => b"/",
            path => path,
        }
    }

    /// The query without its question mark, as sent.
    pub fn query(&self) -> Option<&[u8]> {
        self.target.query.map(|span| span.of(&self.bytes))
    }

    /// Host and port as the client named them, empty if an HTTP/1.0 client named none.
    pub fn authority(&self) -> &[u8] {
        self.authority.map_or(b"", |span| span.of(&self.bytes))
    }

    /// The one protocol that the client wants to change to, as written.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.upgrade.map(|span| span.of(&self.bytes))
    }

    /// The value of the first field of this name, without regard to case.
    pub fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| field.name.of(&self.bytes).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(&self.bytes))
    }

    /// The values of the fields that the proxy knows by this name.
    pub fn values(&self, known: Known) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.known == known).map(|field| field.value.of(&self.bytes))
    }
}

/// What `Connection` says (RFC 9110 section 7.6.1).
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Names of fields.
    named: usize,
}

impl Options {
    fn take(&mut self, value: &[u8]) {
        for option in list_items(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.named += 1;
            }
        }
    }
}

/// RFC 9110 section 7.6.2. More than fits is as many as fit.
fn max_forwards(value: &[u8]) -> Result<u32, HeadError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Malformed("Max-Forwards is not a number"));
    }
    Ok(std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX))
}

fn malformed(error: httparse::Error) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HeadError::TooManyFields,
        httparse::Error::Version => return HeadError::Version,
        httparse::Error::HeaderName => "a header name is not a token",
        httparse::Error::HeaderValue => "a header value holds a control character",
        httparse::Error::NewLine => "a line does not end in CRLF",
        httparse::Error::Token => "the request line is not valid",
        _ => "the head is not valid",
    })
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

fn split_query(target: &[u8], input: &[u8]) -> Target {
    let span = Span::locate(target, input);
    match memchr::memchr(b'?', target) {
        None => Target { path: span, query: None },
        Some(at) => {
            let mark = span.start + at as u32;
            Target {
                path: Span { start: span.start, end: mark },
                query: Some(Span { start: mark + 1, end: span.end }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RequestHead, HeadError> {
        let mut head = RequestHead::default();
        match head.parse(text.as_bytes(), 100)? {
            Parsed::Complete(length) => assert_eq!(length, text.len()),
            Parsed::Partial => panic!("partial: {text:?}"),
        }
        Ok(head)
    }

    #[test]
    fn reads_the_parts_of_a_request() {
        let head =
            parse("\r\nGET /a/b?c=d HTTP/1.1\r\nHost: a.example:80\r\nX-A:\r\nX-B: \t b c \r\n\r\n").unwrap();
        assert_eq!((head.path(), head.query()), (b"/a/b".as_slice(), Some(b"c=d".as_slice())));
        assert_eq!(head.authority(), b"a.example:80");
        assert_eq!(head.value_of(b"x-b"), Some(b"b c".as_slice()));
        assert_eq!(head.value_of(b"x-a"), Some(b"".as_slice()));
        assert!(head.keep_alive);
        assert_eq!(head.framing, Framing::None);
    }

    #[test]
    fn the_absolute_form_names_the_authority() {
        let head = parse("GET http://a.example?x HTTP/1.1\r\nHost: b.example\r\n\r\n").unwrap();
        assert_eq!(head.authority(), b"a.example");
        assert_eq!((head.path(), head.query()), (b"/".as_slice(), Some(b"x".as_slice())));
    }

    #[test]
    fn framing_in_doubt_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert!(parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).is_err(), "{fields:?}");
        }
        assert!(parse("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn only_one_expectation_is_met() {
        let of = |version: &str, fields: &str| {
            parse(&format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n"))
                .map(|_| ())
        };
        assert_eq!(of("1.1", "Expect: 100-Continue\r\n"), Ok(()));
        for bad in
            ["Expect: x\r\n", "Expect:\r\n", "Expect: 100-continue, x\r\n", "Expect: 100-continue;q=1\r\n"]
        {
            assert_eq!(of("1.1", bad), Err(HeadError::Expectation), "{bad}");
            assert_eq!(of("1.0", bad), Ok(()), "{bad}");
        }
        let twice = "Expect: 100-continue\r\nExpect: 100-continue\r\n";
        assert_eq!(of("1.1", twice), Err(HeadError::Expectation));
    }

    #[test]
    fn forwards_are_counted_for_options_alone() {
        let of = |method: &str, fields: &str| {
            parse(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|head| head.max_forwards)
        };
        assert_eq!(of("OPTIONS", ""), Ok(None));
        assert_eq!(of("OPTIONS", "Max-Forwards: 0\r\n"), Ok(Some(0)));
        assert_eq!(of("OPTIONS", "Max-Forwards: 99999999999999999999999\r\n"), Ok(Some(u32::MAX)));
        for bad in ["Max-Forwards: -1\r\n", "Max-Forwards:\r\n", "Max-Forwards: 1\r\nMax-Forwards: 1\r\n"] {
            assert!(of("OPTIONS", bad).is_err(), "{bad}");
            assert_eq!(of("GET", bad), Ok(None), "{bad}");
        }
    }

    #[test]
    fn bare_line_feeds_are_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\nZ: w\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let keeps = |version: &str, connection: &str| {
            parse(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n"))
                .unwrap()
                .keep_alive
        };
        assert!(keeps("1.1", "x") && keeps("1.0", "Keep-Alive"));
        assert!(!keeps("1.1", "x, Close") && !keeps("1.0", "x") && !keeps("1.0", "keep-alive, close"));
    }
}
