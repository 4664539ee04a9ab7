//! Rewrites heads on their way through: which fields go, which come, which stay untouched.
//!
//! Owns the forwarding headers and the removal of what is for one hop (RFC 9110 section 7.6). Pure: bytes in, bytes out.
//! Lines that stay are copied in runs, in their order, as they were written.

use std::net::IpAddr;

use super::{
    client::{ForwardingHeaders, write_forwarded},
    form::Carriage,
    own_fields::{HSTS, OwnFields},
    rewrite::{FieldChanges, Rewrite},
};
use crate::{
    http1::{AnswerHead, Field, Framing, Known, RequestHead, Version, list_items, write_address},
    http2,
};

/// What a request's new head is made from, beside the old one.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The connection's other end.
    pub peer: IpAddr,
    /// Whether the client's connection is secured by TLS.
    pub secure: bool,
    /// The other end is one of the trusted proxies: what it says about the client counts.
    pub trusted: bool,
    /// The `Host` for the backend, if it is not the client's.
    pub host: Option<&'a [u8]>,
    /// Which headers tell about the client.
    pub headers: ForwardingHeaders,
    /// This request's id.
    pub request_id: &'a [u8],
    /// The pseudonym in `Via`.
    pub via: Option<&'a [u8]>,
    /// The subject of the client's certificate.
    pub subject: Option<&'a str>,
    /// The protocol that the client wants to change to, if that is allowed.
    pub upgrade: Option<&'a [u8]>,
    /// Chance, for a change of protocol of which a client of HTTP/2 does not say what one of HTTP/1.1 must.
    pub websocket_key: Option<u128>,
    /// What the route changes.
    pub rewrite: Option<&'a Rewrite>,
}

/// Writes the head of the request as the backend sees it.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    out.extend_from_slice(head.method_name());
    out.push(b' ');
    let path = head.path();
    let (first, second) = match forwarding.rewrite {
        Some(rewrite) if path != b"*" => rewrite.path(path),
        _ => (path, &b""[..]),
    };
    out.extend_from_slice(first);
    out.extend_from_slice(second);
    if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(forwarding.host.unwrap_or_else(|| head.authority()));
    out.extend_from_slice(b"\r\n");
    let named = NamedFields::of(head.names_fields, head.fields(), head.bytes());
    copy_lines(out, head.bytes(), head.fields(), |field| match field.known {
        Known::XForwarded if !forwarding.trusted => true,
        Known::MaxForwards if head.max_forwards.is_some() => true,
        Known::Other | Known::Date | Known::XForwarded | Known::MaxForwards => {
            let name = field.name.of(head.bytes());
            named.contain(field, head.bytes())
                || Known::is_imitated_by(name)
                || forwarding.websocket_key.is_some() && name.eq_ignore_ascii_case(b"sec-websocket-key")
                || forwarding.rewrite.is_some_and(|rewrite| rewrite.request.take_away(name))
        }
        // Ours are written below; a trusted proxy's are taken into them.
        Known::Host | Known::ContentLength => true,
        Known::XForwardedFor | Known::XRequestId | Known::Via => true,
        Known::XClientCertSubject => !forwarding.trusted || forwarding.subject.is_some(),
        Known::Forwarded => !forwarding.trusted || forwarding.headers.has_forwarded(),
        Known::XForwardedPort | Known::XRealIp => !forwarding.trusted,
        Known::XForwardedProto | Known::XForwardedHost => !forwarding.trusted,
        // It was not understood: the backend would answer with what the client does not know.
        Known::Expect => head.version == Version::Http10,
        known => known.is_hop_by_hop(),
    });
    write_forwarding(out, head, forwarding);
    if let Some(rewrite) = forwarding.rewrite {
        out.extend_from_slice(rewrite.request.lines());
    }
    if let Some(left) = head.max_forwards {
        out.extend_from_slice(b"max-forwards: ");
        out.extend_from_slice(itoa::Buffer::new().format(left.saturating_sub(1)).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match head.framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // As it was understood, whatever zeros it was written with.
        Framing::Length(length) => write_length(out, length),
        Framing::None | Framing::Close => {}
    }
    match (forwarding.upgrade, head.takes_trailers) {
        (Some(protocol), _) => {
            write_upgrade(out, protocol);
            if let Some(chance) = forwarding.websocket_key {
                write_websocket_key(out, chance);
            }
        }
        (None, true) => out.extend_from_slice(b"te: trailers\r\nconnection: keep-alive, te\r\n"),
        (None, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The same as a field section of HTTP/2, with the head of a frame. `secure`: the backend is asked over TLS.
pub fn write_request_section(
    out: &mut Vec<u8>,
    head: &RequestHead,
    forwarding: &Forwarding<'_>,
    secure: bool,
) {
    let mut text = Vec::new();
    write_request(&mut text, head, forwarding);
    let start = http2::begin_headers(out);
    let mut lines = text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let mut parts = first.split(|&b| b == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    http2::write_field(out, b":method", method);
    http2::write_field(out, b":scheme", if secure { b"https" } else { b"http" });
    http2::write_field(out, b":path", target);
    http2::write_field(out, b":authority", forwarding.host.unwrap_or_else(|| head.authority()));
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // What speaks of the connection, or has been said above. TE is a field of the hop that HTTP/2 has too (RFC 9113 section 8.2.2).
        let known = Known::of(name);
        if known == Known::Te || !(known.is_hop_by_hop() || known == Known::Host) {
            http2::write_field(out, name, value);
        }
    }
    http2::finish_headers(out, start, matches!(head.framing, Framing::None | Framing::Length(0)));
}

fn write_forwarding(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    if forwarding.headers.has_x_forwarded() {
        write_x_forwarded(out, head, forwarding);
    }
    if forwarding.headers.has_forwarded() {
        out.extend_from_slice(b"forwarded: ");
        if forwarding.trusted {
            for value in head.values(Known::Forwarded).filter(|value| !value.is_empty()) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        write_forwarded(out, forwarding.peer, head.authority(), forwarding.secure);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"x-request-id: ");
    out.extend_from_slice(forwarding.request_id);
    out.extend_from_slice(b"\r\n");
    if let Some(subject) = forwarding.subject {
        out.extend_from_slice(b"x-client-cert-subject: ");
        out.extend_from_slice(subject.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    // RFC 9110 section 7.6.3: a gateway adds itself to the Via of a request.
    let before = head.values(Known::Via).filter(|value| !value.is_empty());
    let mut vias = before.peekable();
    if vias.peek().is_none() && forwarding.via.is_none() {
        return;
    }
    out.extend_from_slice(b"via: ");
    for (i, value) in vias.enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
        if forwarding.via.is_some() {
            out.extend_from_slice(b", ");
        }
    }
    if let Some(pseudonym) = forwarding.via {
        out.extend_from_slice(match head.version {
            Version::Http10 => b"1.0 ",
            Version::Http11 => b"1.1 ",
            Version::Http2 => b"2.0 ",
        });
        out.extend_from_slice(pseudonym);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 15.5.22: whoever asks for another protocol names it. Fields for one hop, said anew for the next.
fn write_offers(out: &mut Vec<u8>, input: &[u8], answer: &AnswerHead) {
    for field in answer.fields().iter().filter(|field| field.known == Known::Upgrade) {
        write_upgrade(out, field.value.of(input));
    }
}

fn write_upgrade(out: &mut Vec<u8>, protocol: &[u8]) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
    out.extend_from_slice(protocol);
    out.extend_from_slice(b"\r\n");
}

fn write_x_forwarded(out: &mut Vec<u8>, head: &RequestHead, forwarding: &Forwarding<'_>) {
    let trusted = forwarding.trusted;
    out.extend_from_slice(b"x-forwarded-for: ");
    if trusted {
        for value in head.values(Known::XForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    write_address(forwarding.peer, out);
    out.extend_from_slice(b"\r\n");
    if !trusted || head.values(Known::XForwardedProto).next().is_none() {
        let proto: &[u8] =
            if forwarding.secure { b"x-forwarded-proto: https\r\n" } else { b"x-forwarded-proto: http\r\n" };
        out.extend_from_slice(proto);
    }
    let authority = head.authority();
    if (!trusted || head.values(Known::XForwardedHost).next().is_none()) && !authority.is_empty() {
        out.extend_from_slice(b"x-forwarded-host: ");
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 6455 section 4.1: 16 bytes in base64, which show that the backend has read the request as what it is.
fn write_websocket_key(out: &mut Vec<u8>, chance: u128) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.extend_from_slice(b"sec-websocket-key: ");
    // 128 bits in groups of six, the last of which has two bits.
    out.extend((0..21).map(|i| DIGITS[(chance >> (122 - 6 * i)) as usize & 63]));
    out.push(DIGITS[(chance as usize & 3) << 4]);
    out.extend_from_slice(b"==\r\n");
}

/// How the client's side of an answer is framed and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFraming {
    /// How the body reaches the client.
    pub body: Framing,
    /// The connection stays open after it.
    pub keep_alive: bool,
    /// The version that the client speaks. One of HTTP/1.0 must be told that the connection stays open.
    pub version: Version,
}

impl ClientFraming {
    /// How its body is written.
    pub(super) fn carriage(&self) -> Carriage {
        if self.version == Version::Http2 { Carriage::Frames } else { Carriage::of(self.body) }
    }
}

/// Writes the head of the answer as the client sees it. `input` are the bytes that `answer` was parsed from.
pub fn write_answer(
    out: &mut Vec<u8>,
    input: &[u8],
    answer: &AnswerHead,
    client: ClientFraming,
    changes: Option<&FieldChanges>,
) {
    write_final_answer(out, input, answer, (client, OwnFields::default()), changes);
}

/// [`write_answer`] with further fields.
pub fn write_final_answer(
    out: &mut Vec<u8>,
    input: &[u8],
    answer: &AnswerHead,
    (client, own): (ClientFraming, OwnFields<'_>),
    changes: Option<&FieldChanges>,
) {
    let own = own.unless_in(changes);
    let named = NamedFields::of(answer.names_fields, answer.fields(), input);
    let has_no_length = answer.is_interim() || answer.status == 204;
    // Asked once, not for each field: mostly neither is there.
    let is_choosy = changes.is_some() || own.hsts.is_some();
    let is_replaced = |name: &[u8]| {
        changes.is_some_and(|changes| changes.take_away(name))
            || own.hsts.is_some() && name.eq_ignore_ascii_case(HSTS.as_bytes())
    };
    let skip = |field: &Field| match field.known {
        // One length is written below.
        Known::ContentLength => true,
        known if known.is_hop_by_hop() => true,
        _ => named.contain(field, input) || is_choosy && is_replaced(field.name.of(input)),
    };
    let length = match client.body {
        Framing::Length(length) => Some(length),
        // RFC 9110 section 8.6: not in an answer that can't have a body; to HEAD, and with 304, what it would be.
        Framing::None if !has_no_length => answer.length(),
        _ => None,
    };
    if client.version == Version::Http2 {
        return write_section(out, input, answer, (client, length, own), (changes, skip));
    }
    write_status(out, answer.status, answer.reason(input));
    if answer.canonical {
        copy_lines(out, input, answer.fields(), skip);
    } else {
        for field in answer.fields().iter().filter(|field| !skip(field)) {
            out.extend_from_slice(field.name.of(input));
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value.of(input));
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some(changes) = changes {
        out.extend_from_slice(changes.lines());
    }
    own.each(|name, value| [name, b": ", value, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part)));
    if client.body == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if let Some(length) = length {
        write_length(out, length);
    }
    if answer.status == 426 && client.version == Version::Http11 {
        write_offers(out, input, answer);
    }
    if !answer.is_interim() {
        if !client.keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        } else if client.version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The same as a field section of HTTP/2.
fn write_section(
    out: &mut Vec<u8>,
    input: &[u8],
    answer: &AnswerHead,
    (client, length, own): (ClientFraming, Option<u64>, OwnFields<'_>),
    (changes, skip): (Option<&FieldChanges>, impl Fn(&Field) -> bool),
) {
    let start = http2::begin_headers(out);
    http2::write_status(out, answer.status);
    for field in answer.fields().iter().filter(|field| !skip(field)) {
        http2::write_field(out, field.name.of(input), field.value.of(input));
    }
    for (name, value) in changes.into_iter().flat_map(FieldChanges::added) {
        http2::write_field(out, name.as_bytes(), value.as_bytes());
    }
    own.each(|name, value| http2::write_field(out, name, value));
    if let Some(length) = length {
        http2::write_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    let has_no_body = matches!(client.body, Framing::None | Framing::Length(0));
    http2::finish_headers(out, start, has_no_body && !answer.is_interim());
}

/// Writes the head of an answer that changes to this protocol.
pub(super) fn write_switch(
    out: &mut Vec<u8>,
    input: &[u8],
    answer: &AnswerHead,
    protocol: &[u8],
    (version, own): (Version, OwnFields<'_>),
) {
    if version == Version::Http2 {
        // RFC 8441 section 5: what says so in HTTP/1.1 has no meaning here.
        let start = http2::begin_headers(out);
        http2::write_status(out, 200);
        let named = NamedFields::of(answer.names_fields, answer.fields(), input);
        for field in answer.fields() {
            let name = field.name.of(input);
            let is_of_hop = field.known.is_hop_by_hop() || named.contain(field, input);
            if !(is_of_hop
                || name.eq_ignore_ascii_case(b"sec-websocket-accept")
                || own.hsts.is_some() && name.eq_ignore_ascii_case(HSTS.as_bytes())
                || field.known == Known::ContentLength)
            {
                http2::write_field(out, name, field.value.of(input));
            }
        }
        own.each(|name, value| http2::write_field(out, name, value));
        return http2::finish_headers(out, start, false);
    }
    let client = ClientFraming { body: Framing::None, keep_alive: true, version };
    write_final_answer(out, input, answer, (client, own), None);
    // In front of the empty line.
    out.truncate(out.len() - 2);
    write_upgrade(out, protocol);
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    if status == 200 && reason == b"OK" {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
        b' ',
    ]);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Copies the lines that are not skipped, neighbours together.
fn copy_lines(out: &mut Vec<u8>, bytes: &[u8], fields: &[Field], skip: impl Fn(&Field) -> bool) {
    let mut run: Option<(usize, usize)> = None;
    for field in fields {
        if skip(field) {
            if let Some((start, end)) = run.take() {
                out.extend_from_slice(&bytes[start..end]);
            }
        } else {
            let start = run.map_or(field.name.start as usize, |(start, _)| start);
            run = Some((start, field.line_end as usize));
        }
    }
    if let Some((start, end)) = run {
        out.extend_from_slice(&bytes[start..end]);
    }
}

/// The fields that `Connection` names: for this hop alone (RFC 9110 section 7.6.1).
struct NamedFields<'a> {
    fields: Option<&'a [Field]>,
    bytes: &'a [u8],
}

impl<'a> NamedFields<'a> {
    fn of(any: bool, fields: &'a [Field], bytes: &'a [u8]) -> NamedFields<'a> {
        NamedFields { fields: any.then_some(fields), bytes }
    }

    fn contain(&self, field: &Field, bytes: &[u8]) -> bool {
        let Some(fields) = self.fields else { return false };
        let name = field.name.of(bytes);
        let connections = fields.iter().filter(|field| field.known == Known::Connection);
        connections
            .flat_map(|connection| list_items(connection.value.of(self.bytes)))
            .any(|option| option.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::{Method, Parsed};

    fn forward(text: &str, trusted: bool) -> String {
        let mut head = RequestHead::default();
        assert_eq!(head.parse(text.as_bytes(), 100).unwrap(), Parsed::Complete(text.len()));
        let forwarding = Forwarding {
            peer: "10.0.0.9".parse().unwrap(),
            secure: false,
            trusted,
            host: None,
            request_id: b"id",
            via: Some(b"ringway"),
            subject: None,
            upgrade: None,
            websocket_key: None,
            headers: ForwardingHeaders::XForwarded,
            rewrite: None,
        };
        let mut out = Vec::new();
        write_request(&mut out, &head, &forwarding);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_strangers_forwarding_headers_are_replaced() {
        let out = forward(
            "GET /x?y HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
             X-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\nAccept: */*\r\n\r\n",
            false,
        );
        assert_eq!(
            out,
            "GET /x?y HTTP/1.1\r\nhost: a\r\nAccept: */*\r\nx-forwarded-for: 10.0.0.9\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: a\r\nx-request-id: id\r\nvia: 1.1 ringway\r\n\r\n"
        );
    }

    #[test]
    fn a_length_goes_on_as_it_was_understood() {
        for (came, wanted) in [("015", "15"), ("00000000000000000000", "0"), ("0", "0")] {
            let out =
                forward(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {came}\r\n\r\n"), false);
            assert!(out.contains(&format!("\r\ncontent-length: {wanted}\r\n")), "{out}");
            assert_eq!(out.to_lowercase().matches("content-length").count(), 1, "{out}");
        }
    }

    #[test]
    fn forwards_are_counted_down_where_they_count() {
        let text = |method: &str| format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 010\r\n\r\n");
        assert!(forward(&text("OPTIONS"), false).contains("\r\nmax-forwards: 9\r\n"));
        assert!(forward(&text("GET"), false).contains("\r\nMax-Forwards: 010\r\n"));
    }

    #[test]
    fn all_that_a_stranger_says_was_forwarded_goes() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded: 1\r\nX-Forwarded-Prefix: /theirs\r\nx-forwarded-by: 1\r\n\
            X_Forwarded_Prefix: /theirs\r\nX-Forwarded-Client-Cert-Of-Whomever: 1\r\nX-Forwardedly: kept\r\n\r\n";
        let out = forward(text, false);
        assert_eq!(out.matches("orwarded").count(), 4, "{out}");
        assert!(out.contains("X-Forwardedly: kept"), "{out}");
        let out = forward(text, true);
        assert!(
            out.contains("X-Forwarded: 1\r\nX-Forwarded-Prefix: /theirs\r\nx-forwarded-by: 1\r\n"),
            "{out}"
        );
        assert!(!out.contains('_'), "{out}");
    }

    #[test]
    fn routes_take_away_what_else_is_known_in_answers() {
        let input =
            b"HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nX-Forwarded-Server: a\r\nContent-Length: 0\r\n\r\n";
        let mut answer = AnswerHead::default();
        answer.parse(input).unwrap();
        let client = ClientFraming { body: Framing::Length(0), keep_alive: true, version: Version::Http11 };
        let remove = ["via".to_owned(), "x-forwarded-server".to_owned()];
        let changes = FieldChanges::new(&Default::default(), &Default::default(), &remove);
        let mut out = Vec::new();
        write_answer(&mut out, input, &answer, client, Some(&changes));
        assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_trusted_proxys_are_kept_and_added_to() {
        let out = forward(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: b\r\nVia: 1.1 edge\r\n\r\n",
            true,
        );
        assert!(out.contains("\r\nx-forwarded-for: 1.2.3.4, 10.0.0.9\r\n"), "{out}");
        assert!(out.contains("\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"), "{out}");
        assert!(!out.contains("x-forwarded-proto: http\r\n"), "{out}");
        assert!(out.contains("\r\nvia: 1.1 edge, 1.1 ringway\r\n"), "{out}");
    }

    #[test]
    fn fields_for_this_hop_go_and_so_do_those_named() {
        let out = forward(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-A, keep-alive\r\nx-a: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
             Upgrade: h2c\r\nProxy-Authorization: x\r\nX-B: 2\r\n\r\n",
            false,
        );
        for gone in ["x-a:", "keep-alive", "te:", "upgrade", "proxy-authorization", "connection"] {
            assert!(!out.to_lowercase().contains(&format!("\n{gone}")), "{gone} in {out}");
        }
        assert!(out.contains("\r\nX-B: 2\r\n"));
    }

    #[test]
    fn answers_with_bare_line_feeds_are_written_anew() {
        let input = b"HTTP/1.1 201 Made\nA: b \nContent-Length: 3\n\n";
        let mut answer = AnswerHead::default();
        answer.parse(input).unwrap();
        let body = answer.framing(Method::Get).unwrap();
        let mut out = Vec::new();
        write_answer(
            &mut out,
            input,
            &answer,
            ClientFraming { body, keep_alive: false, version: Version::Http11 },
            None,
        );
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "HTTP/1.1 201 Made\r\nA: b\r\ncontent-length: 3\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn a_change_of_protocol_says_what_every_answer_does() {
        let input = b"HTTP/1.1 101 Switching Protocols\r\nStrict-Transport-Security: max-age=1\r\nUpgrade: websocket\r\n\r\n";
        let mut answer = AnswerHead::default();
        answer.parse(input).unwrap();
        let (mut out, own) = (Vec::new(), OwnFields::secured("max-age=2"));
        write_switch(&mut out, input, &answer, b"websocket", (Version::Http11, own));
        let text = String::from_utf8(out).unwrap().to_lowercase();
        assert_eq!(text.matches("strict-transport-security: max-age=2\r\n").count(), 1, "{text}");
        assert_eq!(text.matches("strict-transport-security").count(), 1, "{text}");
    }

    #[test]
    fn an_answer_without_a_date_gets_one() {
        let write = |text: &str, changes: Option<&FieldChanges>| {
            let mut answer = AnswerHead::default();
            answer.parse(text.as_bytes()).unwrap();
            let client =
                ClientFraming { body: Framing::Length(0), keep_alive: true, version: Version::Http11 };
            let date = *b"Sun, 06 Nov 1994 08:49:37 GMT";
            let date = (!answer.has_date).then_some(&date);
            let mut out = Vec::new();
            let own = OwnFields { date, hsts: None };
            write_final_answer(&mut out, text.as_bytes(), &answer, (client, own), changes);
            String::from_utf8(out).unwrap()
        };
        let without = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let with = "HTTP/1.1 200 OK\r\nDATE: theirs\r\nContent-Length: 0\r\n\r\n";
        assert!(write(without, None).contains("\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
        assert!(!write(with, None).contains("date:"), "{}", write(with, None));
        let remove = FieldChanges::new(&Default::default(), &Default::default(), &["date".to_owned()]);
        assert!(!write(without, Some(&remove)).contains("date:"));
        assert!(!write(with, Some(&remove)).to_lowercase().contains("date:"));
    }

    proptest! {
        #[test]
        fn stripping_is_idempotent(names in proptest::collection::vec("[A-Za-z-]{1,12}|connection|te|upgrade", 0..8)) {
            let mut text = String::from("GET / HTTP/1.1\r\nHost: a\r\n");
            for name in &names {
                text.push_str(&format!("{name}: X-A, close\r\n"));
            }
            text.push_str("\r\n");
            let mut head = RequestHead::default();
            if head.parse(text.as_bytes(), 100).is_ok() {
                let once = forward(&text, false);
                let twice = forward(&once, false);
                let fields = |text: &str| {
                    let ours = ["host", "x-forwarded", "x-request-id", "via"];
                    let mut lines: Vec<String> = text.lines().skip(1).map(str::to_lowercase).collect();
                    lines.retain(|line| !ours.iter().any(|name| line.starts_with(name)));
                    lines
                };
                prop_assert_eq!(fields(&once), fields(&twice));
            }
        }
    }
}
