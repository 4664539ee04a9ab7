//! What is fuzzed: each target takes any bytes, and panics if a promise is broken.
//!
//! Owns the promises. `fuzz_targets/` runs them under libFuzzer (`cargo +nightly fuzz run NAME`), `tests/it/fuzz.rs` for a moment in each test
//! run. The reader that judges what would be sent on is written here from RFC 9112, stricter than any server, and shares nothing with Ringway's.

use std::{net::IpAddr, time::Instant};

use ringway::{
    http1::{AnswerHead, BodyReader, Framing, Method, Parsed, Piece, RequestHead, Version},
    http2::{Limits, Mux, PREFACE},
    preface::{Preface, read as read_preface},
    proxy::{
        client::{ForwardingHeaders, TrustedProxies},
        head::{ClientFraming, Forwarding, write_final_answer, write_request},
        key::{Facts, Fields, KeyPolicy, OnMissingKey, Source},
        own_fields::OwnFields,
        rewrite::{FieldChanges, Rewrite},
    },
};

/// A configuration is understood or refused.
pub fn configuration(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match ringway::config::parse(text, "fuzz.toml") {
            Ok(_) => {}
            Err(errors) => assert!(!errors.to_string().is_empty(), "an error that says nothing"),
        }
    }
}

/// Whatever is taken for a request of HTTP/1.1 reaches a backend as exactly one, with the framing that was meant.
pub fn request(data: &[u8]) {
    let mut head = RequestHead::default();
    if let Ok(Parsed::Complete(length)) = head.parse(data, 100) {
        assert!(length <= data.len());
        sent_on(&head, data.len());
    }
}

/// Whatever frames come, a request that comes of them reaches a backend as exactly one.
pub fn http2(data: &[u8]) {
    let limits = Limits {
        streams: 8,
        stream_window: 70_000,
        connection_window: 100_000,
        head_bytes: 4096,
        head_fields: 20,
    };
    let mux = Mux::server(limits, false, None);
    // Preface and settings are given: chance would not find them.
    let begin = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let mut input = [&begin[..], data].concat();
    let now = Instant::now();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut streams = Vec::new();
    loop {
        let received = mux.receive(&input, now);
        while let Some(arrival) = mux.next_arrival() {
            if let Ok(head) = &arrival.head {
                assert_eq!(head.version, Version::Http2);
                sent_on(head, data.len());
            }
            streams.push(arrival.stream);
        }
        for stream in &streams {
            let mut body = Vec::new();
            while let std::task::Poll::Ready(Ok(1..)) =
                stream.poll_read(&mut cx, 16_384, &mut |bytes| body.extend_from_slice(bytes))
            {}
        }
        let mut out = Vec::new();
        mux.take_output(&mut out);
        match received {
            Ok(used @ 1..) => drop(input.drain(..used)),
            _ => break,
        }
    }
    mux.end();
}

/// Whatever is taken for an answer reaches a client as exactly one head, with the framing that was meant.
pub fn answer(data: &[u8]) {
    let mut head = AnswerHead::default();
    let Ok(Parsed::Complete(length)) = head.parse(data) else { return };
    assert!(length <= data.len());
    for method in [Method::Get, Method::Head] {
        let Ok(framing) = head.framing(method) else { continue };
        if head.is_interim() {
            continue;
        }
        for version in [Version::Http11, Version::Http2] {
            let body = if framing == Framing::Close { Framing::Chunked } else { framing };
            let mut out = Vec::new();
            let client = ClientFraming { body, keep_alive: true, version };
            write_final_answer(
                &mut out,
                data,
                &head,
                (client, OwnFields::secured("max-age=1")),
                Some(&changes()),
            );
            if version == Version::Http2 {
                continue;
            }
            let lines = strict_lines(&out);
            assert!(lines[0].starts_with(b"HTTP/1.1 "), "{}", show(&out));
            let (lengths, codings) = framings(&lines);
            match body {
                Framing::Length(n) => assert_eq!((lengths, codings), (vec![n], 0), "{}", show(&out)),
                Framing::Chunked => assert_eq!((lengths.len(), codings), (0, 1), "{}", show(&out)),
                _ => assert_eq!(codings, 0, "{}", show(&out)),
            }
            assert!(lines.iter().any(|line| line.eq_ignore_ascii_case(b"x-set: 1")), "{}", show(&out));
            let name = b"strict-transport-security:";
            let is_hsts = |line: &&Vec<u8>| {
                line.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
            };
            let hsts: Vec<_> = lines.iter().filter(is_hsts).collect();
            assert_eq!(hsts, [b"strict-transport-security: max-age=1"], "{}", show(&out));
        }
    }
}

/// A chunked body means the same in one piece and in two.
pub fn body(data: &[u8]) {
    let Some((&at, data)) = data.split_first() else { return };
    let at = usize::from(at).min(data.len());
    let whole = chunks(&[data]);
    let parts = chunks(&[&data[..at], &data[at..]]);
    // How far the first piece was read before a fault can differ, what is whole can't.
    if let (Some(whole), Some(parts)) = (&whole, &parts) {
        assert_eq!(whole, parts);
    }
    assert_eq!(whole.is_some(), parts.is_some());
}

/// What a balancer says is understood, refused, or not all there; and never longer than what came.
pub fn preface(data: &[u8]) {
    if let Ok(Preface::More(missing)) = read_preface(data) {
        assert!(missing > 0, "waits for nothing");
    }
}

/// What stands in forwarding headers, however odd, names some address, and a stranger's never another than his own.
pub fn client(data: &[u8]) {
    let value: Vec<u8> = data.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).collect();
    let text = [
        &b"GET / HTTP/1.1\r\nHost: a\r\nForwarded: "[..],
        &value,
        b"\r\nX-Forwarded-For: ",
        &value,
        b"\r\n\r\n",
    ];
    let mut head = RequestHead::default();
    if !matches!(head.parse(&text.concat(), 100), Ok(Parsed::Complete(_))) {
        return;
    }
    let near: IpAddr = [10, 0, 0, 1].into();
    let far: IpAddr = [192, 0, 2, 1].into();
    for headers in [ForwardingHeaders::XForwarded, ForwardingHeaders::Forwarded, ForwardingHeaders::Both] {
        let networks = vec![ipnet::IpNet::new([10, 0, 0, 0].into(), 8).unwrap()];
        let trusted = TrustedProxies { networks, headers };
        trusted.client(near, &head);
        assert_eq!(trusted.client(far, &head), far);
    }
}

/// A key is found twice in the same way, and finding one breaks nothing.
pub fn key(data: &[u8]) {
    let mut head = RequestHead::default();
    if !matches!(head.parse(data, 100), Ok(Parsed::Complete(_))) {
        return;
    }
    for source in [
        "header:x-key",
        "cookie:session",
        "query:id",
        "path",
        "uri",
        "path-prefix:2",
        "path-regex:^/([^/]+)/",
        "host",
        "method",
        "client-address",
    ] {
        let source: Source = source.parse().unwrap();
        let policy = KeyPolicy { sources: vec![source], on_missing: OnMissingKey::Refuse };
        let facts = Facts {
            method: head.method_name(),
            authority: head.authority(),
            path: head.path(),
            query: head.query(),
            client: [192, 0, 2, 1].into(),
            fields: Fields::Head(&head),
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let found = policy.find(&facts, &mut first).is_some();
        assert_eq!(found, policy.find(&facts, &mut second).is_some());
        assert_eq!(first, second);
    }
}

fn changes() -> FieldChanges {
    let set = [("x-set".to_owned(), "1".to_owned())].into();
    FieldChanges::new(&set, &[].into(), &["x-gone".to_owned()])
}

/// Checks what a backend would be sent.
fn sent_on(head: &RequestHead, most: usize) {
    let rewrites =
        [None, Some(Rewrite { prefix: None, request: changes(), response: FieldChanges::default() })];
    for (rewrite, trusted) in rewrites.iter().zip([false, true]) {
        let forwarding = Forwarding {
            peer: [192, 0, 2, 1].into(),
            secure: false,
            trusted,
            host: head.authority().is_empty().then_some(b"backend"),
            headers: ForwardingHeaders::Both,
            request_id: b"id",
            via: Some(b"ringway"),
            subject: None,
            upgrade: None,
            websocket_key: None,
            rewrite: rewrite.as_ref(),
        };
        let mut out = Vec::new();
        write_request(&mut out, head, &forwarding);
        assert!(out.len() <= 2 * most + 2000, "a head that grew");
        let lines = strict_lines(&out);
        let mut parts = lines[0].split(|&b| b == b' ');
        let (method, target) = (parts.next().unwrap(), parts.next().unwrap());
        assert!(parts.next() == Some(b"HTTP/1.1") && parts.next().is_none(), "{}", show(&out));
        assert!(is_token(method) && !matches!(method, b"CONNECT" | b"TRACE"), "{}", show(&out));
        assert!(target == b"*" || target.first() == Some(&b'/'), "{}", show(&out));
        assert!(target.iter().all(|&b| b > b' ' && b != 0x7f && b != b'#'), "{}", show(&out));
        let count = |name: &[u8]| {
            let is_it = |line: &&Vec<u8>| {
                line.len() > name.len()
                    && line[..name.len()].eq_ignore_ascii_case(name)
                    && line[name.len()] == b':'
            };
            lines[1..].iter().filter(is_it).count()
        };
        assert_eq!(count(b"host"), 1, "{}", show(&out));
        for gone in [&b"upgrade"[..], b"keep-alive", b"proxy-connection", b"http2-settings"] {
            assert_eq!(count(gone), 0, "{}", show(&out));
        }
        let (lengths, codings) = framings(&lines);
        match head.framing {
            Framing::Length(n) => assert_eq!((lengths, codings), (vec![n], 0), "{}", show(&out)),
            Framing::Chunked => assert_eq!((lengths.len(), codings), (0, 1), "{}", show(&out)),
            Framing::None | Framing::Close => assert_eq!((lengths.len(), codings), (0, 0), "{}", show(&out)),
        }
    }
}

/// The lines of exactly one head, each checked, without the empty one at the end.
fn strict_lines(out: &[u8]) -> Vec<Vec<u8>> {
    assert!(out.ends_with(b"\r\n\r\n"), "no end: {}", show(out));
    let text = &out[..out.len() - 4];
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = text.iter().copied().peekable();
    while let Some(b) = rest.next() {
        match b {
            b'\r' => {
                assert_eq!(rest.next(), Some(b'\n'), "a bare CR: {}", show(out));
                lines.push(Vec::new());
            }
            b'\n' => panic!("a bare LF: {}", show(out)),
            b => lines.last_mut().unwrap().push(b),
        }
    }
    for (i, line) in lines.iter().enumerate() {
        assert!(!line.is_empty(), "two heads: {}", show(out));
        let controls = line.iter().any(|&b| b < b' ' && b != b'\t' || b == 0x7f);
        assert!(!controls, "a control character: {}", show(out));
        if i > 0 {
            let colon = line.iter().position(|&b| b == b':');
            assert!(colon.is_some_and(|colon| is_token(&line[..colon])), "no field: {}", show(out));
        }
    }
    lines
}

/// Lengths, and the number of codings, all of which must be `chunked`.
fn framings(lines: &[Vec<u8>]) -> (Vec<u64>, usize) {
    let (mut lengths, mut codings) = (Vec::new(), 0);
    for line in &lines[1..] {
        let colon = line.iter().position(|&b| b == b':').unwrap();
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            assert!(!value.is_empty() && value.iter().all(u8::is_ascii_digit));
            lengths.push(std::str::from_utf8(value).unwrap().parse().unwrap());
        } else if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") {
            assert_eq!(value, b"chunked");
            codings += 1;
        }
    }
    (lengths, codings)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// The payload of a whole chunked body that comes in these pieces, and the bytes behind it. `None`: it is not one.
fn chunks(pieces: &[&[u8]]) -> Option<(Vec<u8>, usize)> {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut input, mut payload) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while !reader.is_over() {
            match reader.next(&input).ok()? {
                Piece::More => break,
                Piece::Framing(n) | Piece::End(n) => drop(input.drain(..n)),
                Piece::Data(n) => payload.extend(input.drain(..n)),
            }
        }
    }
    reader.is_over().then_some((payload, input.len()))
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
