//! Answers of our own: refusals in a backend's place, redirects, and answers to who asks no further than us.
//!
//! Owns their form (RFC 9110 section 15.5 and following): the status, what to do, which request it was, and nothing about the inside.

use std::time::SystemTime;

use super::{
    client_end::ClientEnd,
    dates::date_of,
    exchange::After,
    key::host_of,
    record::{Ended, Record},
    request_body::RequestBody,
    waits::{Slow, Waits},
};
use crate::{
    http1::{Method, RequestHead, Version},
    http2,
    tally::Refusal,
};

/// Answers in the backend's place.
pub(super) async fn refuse(
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    body: &mut RequestBody,
    refusal: Refusal,
) -> After {
    // Rare, and so on the heap: the exchanges that are answered do not carry room for it.
    Box::pin(answer_instead(client, record, body, refusal, None)).await
}

/// Sends the client to the listener that speaks TLS.
pub(super) async fn redirect(
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    body: &mut RequestBody,
    port: u16,
) -> After {
    let head = record.head;
    // The authority has been checked: nothing but a host and a port is in it.
    let host = String::from_utf8_lossy(host_of(head.authority()));
    if host.is_empty() {
        return refuse(client, record, body, Refusal::Malformed).await;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if head.path() == b"*" { b"/" } else { head.path() };
    let mut location = format!("https://{host}{port}{}", String::from_utf8_lossy(path));
    if let Some(query) = head.query() {
        location.push('?');
        location.push_str(&String::from_utf8_lossy(query));
    }
    Box::pin(answer_instead(client, record, body, Refusal::Redirected, Some(&location))).await
}

async fn answer_instead(
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    body: &mut RequestBody,
    refusal: Refusal,
    location: Option<&str>,
) -> After {
    record.ended = Ended::Refused(refusal);
    let head = record.head;
    // What is at hand of the body is thrown away; if that was all of it, the connection can go on.
    let mut sink = Vec::new();
    let in_frame = !matches!(refusal, Refusal::Malformed | Refusal::BodyTooLarge | Refusal::RequestTimeout)
        && body.take(&mut client.input, &mut sink).is_ok();
    let whole = in_frame && body.is_over();
    let keep_alive = whole && head.keep_alive && !record.gateway.draining.get();
    let mut out = record.gateway.buffers.output();
    let asked = Asked {
        version: head.version,
        request_id: record.request_id,
        head_only: head.method == Method::Head,
        by_grpc: is_grpc(head),
        keep_alive,
    };
    let told = if record.tells { record.told() } else { Vec::new() };
    let told = told.iter().map(|(name, value)| (*name, &**value));
    let location = location.map(|location| ("location", location));
    let fields: Vec<(&str, &str)> = location.into_iter().chain(client.hsts()).chain(told).collect();
    write_refusal(&mut out, refusal, &asked, &fields);
    let written = write_bounded(client, &out).await;
    record.gateway.buffers.recycle(out);
    match (written, keep_alive) {
        (false, _) => After::Close,
        (true, true) => After::Next,
        (true, false) if whole => After::Close,
        (true, false) => After::Linger,
    }
}

/// Writes to the client, with its patience as the bound. Whether all of it was taken.
pub async fn write_bounded(client: &mut ClientEnd, bytes: &[u8]) -> bool {
    let waits = Waits::default();
    let limit = client.idle_body_timeout;
    let write = waits.write_all(Slow::ClientTakes, limit, &mut client.stream, bytes);
    matches!(client.timer.within(limit, write).await, Some(Ok(())))
}

/// What an answer of our own must know about the request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The version that the client speaks.
    pub version: Version,
    /// The request's id.
    pub request_id: &'a [u8],
    /// It asked for the head alone.
    pub head_only: bool,
    /// The client speaks gRPC, in which all answers are 200 and say more in fields of their own.
    pub by_grpc: bool,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
}

/// Writes an answer of our own: the status, what to do, which request it was, and nothing about the inside.
/// `further` fields stand behind those that every such answer has.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, asked: &Asked<'_>, further: &[(&str, &str)]) {
    let (phrase, remedy) = phrases(refusal);
    let status = refusal.status();
    let id = String::from_utf8_lossy(asked.request_id);
    if asked.by_grpc && asked.version == Version::Http2 {
        let message = format!("{phrase}: {remedy} (request {id})");
        return write_grpc(out, grpc_status(refusal), &message, &id, further);
    }
    // Nothing is allocated, because refusals must cost least when there are most of them.
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [status_digits, length_digits] = &mut digits;
    let code = status_digits.format(status);
    let body = [code, " ", phrase, ": ", remedy, "\nrequest ", &id, "\n"];
    // RFC 9110 section 9.3.7: there is nothing to say about the target, of which nothing is known here.
    let is_empty = refusal == Refusal::MaxForwards;
    let length = if is_empty { 0 } else { body.iter().map(|part| part.len()).sum::<usize>() };
    let head_only = asked.head_only || is_empty;
    // RFC 9110 section 6.6.1: whoever makes an answer dates it.
    let (date, _) = date_of(SystemTime::now());
    let retry =
        matches!(refusal, Refusal::NoBackend | Refusal::OwnerDown | Refusal::Full | Refusal::Overload);
    let connection = match (asked.version, asked.keep_alive) {
        (Version::Http2, _) | (Version::Http11, true) => None,
        (_, false) => Some(("connection", "close")),
        (Version::Http10, true) => Some(("connection", "keep-alive")),
    };
    let fields = [
        ("date", std::str::from_utf8(&date).unwrap_or_default()),
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", length_digits.format(length)),
        ("cache-control", "no-store"),
        ("x-request-id", &id),
    ];
    let fields = fields
        .into_iter()
        .filter(|(name, _)| !is_empty || *name != "content-type")
        .chain(retry.then_some(("retry-after", "1")))
        .chain(
            (refusal == Refusal::Method).then_some(("allow", "GET, HEAD, OPTIONS, PUT, DELETE, POST, PATCH")),
        )
        .chain(further.iter().copied())
        .chain(connection);
    if asked.version == Version::Http2 {
        let start = http2::begin_headers(out);
        http2::write_status(out, status);
        for (name, value) in fields {
            http2::write_field(out, name.as_bytes(), value.as_bytes());
        }
        http2::finish_headers(out, start, head_only);
        if !head_only {
            http2::write_data(out, length, true);
        }
    } else {
        put(out, &["HTTP/1.1 ", code, " ", phrase, "\r\n"]);
        fields.for_each(|(name, value)| put(out, &[name, ": ", value, "\r\n"]));
        put(out, &["\r\n"]);
    }
    if !head_only {
        put(out, &body);
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// Whether a client speaks gRPC (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(super) fn is_grpc(head: &RequestHead) -> bool {
    head.version == Version::Http2
        && head
            .value_of(b"content-type")
            .and_then(|kind| kind.strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// An answer of gRPC that is nothing but its trailers.
fn write_grpc(out: &mut Vec<u8>, status: &str, message: &str, id: &str, further: &[(&str, &str)]) {
    let start = http2::begin_headers(out);
    http2::write_status(out, 200);
    http2::write_field(out, b"content-type", b"application/grpc");
    http2::write_field(out, b"grpc-status", status.as_bytes());
    // Printable ASCII without a per cent sign needs no encoding.
    http2::write_field(out, b"grpc-message", message.replace('%', "%25").as_bytes());
    http2::write_field(out, b"x-request-id", id.as_bytes());
    for (name, value) in further {
        http2::write_field(out, name.as_bytes(), value.as_bytes());
    }
    http2::finish_headers(out, start, true);
}

/// What a refusal is to gRPC (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>): whether the call may be made again depends on it.
fn grpc_status(refusal: Refusal) -> &'static str {
    match refusal {
        // INVALID_ARGUMENT
        Refusal::Malformed
        | Refusal::NotSecure
        | Refusal::NoKey
        | Refusal::DotSegments
        | Refusal::TargetTooLong
        | Refusal::Expectation => "3",
        // DEADLINE_EXCEEDED
        Refusal::BackendTimeout | Refusal::RequestTimeout => "4",
        // RESOURCE_EXHAUSTED
        Refusal::BodyTooLarge | Refusal::HeadTooLarge => "8",
        // UNIMPLEMENTED
        Refusal::NoRoute
        | Refusal::Method
        | Refusal::TransferCoding
        | Refusal::Protocol
        | Refusal::Version => "12",
        // INTERNAL
        Refusal::MaxForwards | Refusal::Redirected | Refusal::BackendProtocol => "13",
        // UNAVAILABLE
        Refusal::NoBackend
        | Refusal::BackendBroken
        | Refusal::OwnerDown
        | Refusal::Full
        | Refusal::Overload => "14",
    }
}

fn phrases(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Malformed => ("Bad Request", "the request is not valid HTTP/1.1"),
        Refusal::NotSecure => ("Bad Request", "this port speaks TLS: ask it by https"),
        Refusal::MaxForwards => ("OK", ""),
        Refusal::Redirected => ("Permanent Redirect", "this is served by https only"),
        Refusal::DotSegments => {
            ("Bad Request", "dot segments and an empty first segment are not taken in this path")
        }
        Refusal::NoKey => ("Bad Request", "the request lacks what decides where it goes"),
        Refusal::NoRoute => ("Not Found", "nothing is served under this host and path"),
        Refusal::Method => ("Method Not Allowed", "this method is not forwarded"),
        Refusal::RequestTimeout => ("Request Timeout", "the request came too slowly"),
        Refusal::BodyTooLarge => ("Content Too Large", "the request body is over the limit"),
        Refusal::TargetTooLong => ("URI Too Long", "the request target is over the limit"),
        Refusal::Expectation => ("Expectation Failed", "the only expectation that is met is 100-continue"),
        Refusal::HeadTooLarge => ("Request Header Fields Too Large", "the request head is over the limit"),
        Refusal::Protocol => ("Not Implemented", "a change to this protocol is not forwarded"),
        Refusal::TransferCoding => ("Not Implemented", "the only transfer coding is chunked"),
        Refusal::BackendBroken => ("Bad Gateway", "the answer could not be had"),
        Refusal::BackendProtocol => ("Bad Gateway", "the answer could not be understood"),
        Refusal::NoBackend | Refusal::OwnerDown => ("Service Unavailable", "try again shortly"),
        Refusal::Full | Refusal::Overload => ("Service Unavailable", "too much to do, try again shortly"),
        Refusal::BackendTimeout => ("Gateway Timeout", "the answer did not come in time"),
        Refusal::Version => ("HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are"),
    }
}
