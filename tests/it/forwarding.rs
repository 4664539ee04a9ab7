//! What a backend sees of a request, and what is refused outright.

use super::support::{Client, Origin, Proxy, get, proxy::configuration};

#[tokio::test]
async fn a_request_arrives_with_the_forwarding_headers_and_without_those_for_one_hop() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let fields = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: websocket\r\nTE: gzip\r\n\
                  Proxy-Authorization: Basic eDp5\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                  X-Request-Id: theirs\r\ntraceparent: 00-aa-bb-01\r\nCookie: a=b\r\nX-Odd-Case: Kept As It Is\r\n\
                  X_Forwarded_For: 6.6.6.6\r\nx_real-ip: 6.6.6.6\r\n\
                  X-Forwarded-Prefix: /6.6.6.6\r\nX-Forwarded: 6.6.6.6\r\nX_forwarded-server: 6.6.6.6\r\nX_Own: kept\r\n";
    get(proxy.address, "/path?q=1", fields).await;
    let seen = origin.only();
    assert_eq!(seen.line(), "GET /path?q=1 HTTP/1.1");
    for gone in ["x-hop", "keep-alive", "upgrade", "te", "proxy-authorization", "forwarded", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("host"), Some("a.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("a.example"));
    assert_eq!(seen.header("via"), Some("1.1 ringway"));
    assert_eq!(seen.header("traceparent"), Some("00-aa-bb-01"));
    assert_eq!(seen.header("cookie"), Some("a=b"));
    // What a backend that reads `_` as `-` would take for the above.
    assert!(!seen.head.contains("6.6.6.6"), "{}", seen.head);
    assert_eq!(seen.header("x_own"), Some("kept"));
    assert!(seen.head.contains("X-Odd-Case: Kept As It Is"), "{}", seen.head);
    let id = seen.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_added_to() {
    let origin = Origin::named("one").await;
    let pool = "key = [\"client-address\"]\n";
    let rest = "[client]\ntrusted_proxies = [\"127.0.0.0/8\"]\nvia = \"\"\n";
    let proxy = Proxy::start(&configuration(&[&origin], pool, rest)).await;
    let fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\n\
                  X-Request-Id: theirs\r\n";
    get(proxy.address, "/", fields).await;
    let seen = origin.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 203.0.113.7, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("b.example"));
    assert_eq!(seen.header("x-request-id"), Some("theirs"));
    assert_eq!(seen.header("via"), None);
}

#[tokio::test]
async fn the_backend_sees_its_own_host_where_the_pool_says_so() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "host_header = \"backend\"\n").await;
    get(proxy.address, "/", "").await;
    assert_eq!(origin.only().header("host"), Some(&*origin.address.to_string()));
    assert_eq!(origin.only().header("x-forwarded-host"), Some("a.example"));
}

#[tokio::test]
async fn targets_in_absolute_and_asterisk_form_arrive_as_they_should() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    let seen = origin.seen();
    assert_eq!((seen[0].line(), seen[0].header("host")), ("GET /x?y HTTP/1.1", Some("b.example")));
    assert_eq!(seen[1].line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn trace_and_connect_are_refused() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    for line in ["TRACE / HTTP/1.1", "CONNECT a.example:443 HTTP/1.1"] {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{line}\r\nHost: a.example\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 405);
        assert!(answer.header("allow").is_some());
        assert!(client.is_closed().await);
    }
    assert!(origin.seen().is_empty());
    proxy.counts("ringway_refusals_total", &["reason=\"method\""], 2.0).await;
}

#[tokio::test]
async fn expectations_are_met_refused_or_ignored() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 417);
    assert!(client.is_closed().await);
    assert!(origin.seen().is_empty());
    proxy.counts("ringway_refusals_total", &["reason=\"expectation\""], 1.0).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.only().header("expect"), None);
}

#[tokio::test]
async fn options_go_no_further_than_they_may() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    let options =
        |forwards: &str| format!("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {forwards}\r\n\r\n");
    client.send(options("0")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text(), answer.header("content-length")), (200, "", Some("0")));
    assert_eq!(answer.header("allow"), None);
    assert!(origin.seen().is_empty());
    client.send(options("1")).await;
    assert_eq!(client.answer().await.text(), "one");
    assert_eq!(origin.only().header("max-forwards"), Some("0"));
    proxy.counts("ringway_refusals_total", &["reason=\"max_forwards\""], 1.0).await;
    client.send(options("-1")).await;
    assert_eq!(client.answer().await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let origin = Origin::with("one", |mut peer| async move {
        while let Some(seen) = peer.request().await {
            let path = seen.line().split(' ').nth(1).unwrap().to_owned();
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
            use tokio::io::AsyncWriteExt;
            peer.stream.write_all(reply.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    let mut all = String::new();
    for i in 0..50 {
        match i % 3 {
            0 => all.push_str(&format!("POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")),
            1 => all.push_str(&format!(
                "POST /{i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            )),
            _ => all.push_str(&format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")),
        }
    }
    client.send(&all).await;
    for i in 0..50 {
        assert_eq!(client.answer().await.text(), format!("/{i}"));
    }
    let bodies: Vec<_> = origin.seen().into_iter().map(|seen| seen.body.len()).collect();
    assert!(bodies.iter().enumerate().all(|(i, len)| *len == if i % 3 == 2 { 0 } else { 5 }), "{bodies:?}");
}

#[tokio::test]
async fn clients_of_http_1_0_are_served_and_kept_if_they_ask() {
    let origin = Origin::answering(
        "one",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("transfer-encoding")), ("hello", None));
    assert_eq!(origin.only().header("host"), Some(&*origin.address.to_string()));

    let origin = Origin::named("two").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(client.answer().await.header("connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.header("connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn forwarded_is_written_and_believed_where_it_is_wanted() {
    let origin = Origin::named("one").await;
    let text = |headers: &str, trusted: &str| {
        let text = super::support::proxy::configuration(&[&origin], "key = [\"client-address\"]\n", "");
        format!("{text}[client]\nforwarding_headers = \"{headers}\"\ntrusted_proxies = [{trusted}]\n")
    };
    let came = "Forwarded: for=192.0.2.7;proto=https\r\nX-Forwarded-For: 192.0.2.8\r\n";
    for (headers, trusted, forwarded, old) in [
        ("x-forwarded", "", None, Some("127.0.0.1")),
        ("forwarded", "", Some("for=127.0.0.1;host=a.example;proto=http"), None),
        ("both", "", Some("for=127.0.0.1;host=a.example;proto=http"), Some("127.0.0.1")),
        (
            "both",
            "\"127.0.0.1\"",
            Some("for=192.0.2.7;proto=https, for=127.0.0.1;host=a.example;proto=http"),
            Some("192.0.2.8, 127.0.0.1"),
        ),
        ("x-forwarded", "\"127.0.0.1\"", Some("for=192.0.2.7;proto=https"), Some("192.0.2.8, 127.0.0.1")),
    ] {
        let proxy = Proxy::start(&text(headers, trusted)).await;
        assert_eq!(get(proxy.address, "/", came).await.status, 200);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.header("forwarded"), forwarded, "{headers} {trusted}");
        assert_eq!(seen.header("x-forwarded-for"), old, "{headers} {trusted}");
    }
}
