//! Answers of our own: refusals in a backend's place, and redirects.
//!
//! Owns their form (RFC 9110 section 15.5 and following): the status, what to do, which request it was, and nothing about the inside.

use std::time::SystemTime;

use super::{
    exchange::{After, ClientEnd},
    key::host_of,
    record::{Ended, Record},
    request_body::RequestBody,
    waits::{Slow, Waits},
};
use crate::{
    http1::{Method, Version},
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
    Box::pin(answer_instead(client, record, body, refusal, "")).await
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
    let mut location = format!("location: https://{host}{port}{}", String::from_utf8_lossy(path));
    if let Some(query) = head.query() {
        location.push('?');
        location.push_str(&String::from_utf8_lossy(query));
    }
    location.push_str("\r\n");
    Box::pin(answer_instead(client, record, body, Refusal::Redirected, &location)).await
}

async fn answer_instead(
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    body: &mut RequestBody,
    refusal: Refusal,
    extra: &str,
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
    let connection = match keep_alive {
        true if head.version == Version::Http10 => "connection: keep-alive\r\n",
        true => "",
        false => "connection: close\r\n",
    };
    let lines = format!("{extra}{connection}");
    write_refusal(&mut out, refusal, record.request_id, head.method == Method::Head, &lines);
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

/// Writes an answer of our own: the status, what to do, which request it was, and nothing about the inside. `lines` are
/// further lines of the head.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, request_id: &[u8], head_only: bool, lines: &str) {
    let (phrase, remedy) = phrases(refusal);
    let status = refusal.status();
    let id = String::from_utf8_lossy(request_id);
    let body = format!("{status} {phrase}: {remedy}\nrequest {id}\n");
    let extra = match refusal {
        Refusal::NoBackend => "retry-after: 1\r\n",
        Refusal::Method => "allow: GET, HEAD, OPTIONS, PUT, DELETE, POST, PATCH\r\n",
        _ => "",
    };
    let length = body.len();
    // RFC 9110 section 6.6.1: whoever makes an answer dates it.
    let date = httpdate::HttpDate::from(SystemTime::now());
    let head = format!(
        "HTTP/1.1 {status} {phrase}\r\ndate: {date}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\ncache-control: no-store\r\nx-request-id: {id}\r\n{extra}{lines}\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

fn phrases(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Malformed => ("Bad Request", "the request is not valid HTTP/1.1"),
        Refusal::Redirected => ("Permanent Redirect", "this is served by https only"),
        Refusal::DotSegments => ("Bad Request", "`.` and `..` are not taken as segments of this path"),
        Refusal::NoKey => ("Bad Request", "the request lacks what decides where it goes"),
        Refusal::NoRoute => ("Not Found", "nothing is served under this host and path"),
        Refusal::Method => ("Method Not Allowed", "this method is not forwarded"),
        Refusal::RequestTimeout => ("Request Timeout", "the request came too slowly"),
        Refusal::BodyTooLarge => ("Content Too Large", "the request body is over the limit"),
        Refusal::TargetTooLong => ("URI Too Long", "the request target is over the limit"),
        Refusal::HeadTooLarge => ("Request Header Fields Too Large", "the request head is over the limit"),
        Refusal::TransferCoding => ("Not Implemented", "the only transfer coding is chunked"),
        Refusal::BackendBroken => ("Bad Gateway", "the answer could not be had"),
        Refusal::BackendProtocol => ("Bad Gateway", "the answer could not be understood"),
        Refusal::NoBackend => ("Service Unavailable", "try again shortly"),
        Refusal::BackendTimeout => ("Gateway Timeout", "the answer did not come in time"),
        Refusal::Version => ("HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are"),
    }
}
