//! Failed attempts: which are repeated elsewhere, and which are not.

use tokio::io::AsyncWriteExt;

use super::support::{Client, Origin, Proxy, get, proxy::configuration};

/// Two backends; the first is whatever the test makes of it, and `KEY` is a key that it owns.
async fn pair(broken: &Origin, good: &Origin, pool: &str) -> (Proxy, String) {
    let proxy = Proxy::start(&configuration(&[broken, good], pool, "")).await;
    let ring = proxy.view().pools[0].ring.clone();
    let owns = |key: &String| {
        let owner = ring.owner(ringway::ring::Place::of(key.as_bytes())).unwrap();
        *ring.member(owner).name == *broken.name
    };
    let key = (0..).map(|i| format!("key-{i}")).find(owns).unwrap();
    (proxy, format!("x-key: {key}\r\n"))
}

/// A backend that reads a request and closes.
async fn closing() -> Origin {
    Origin::with("broken", |mut peer| async move {
        peer.request().await;
    })
    .await
}

#[tokio::test]
async fn a_refused_connect_is_repeated_for_any_method_and_body() {
    let (mut broken, good) = (Origin::named("broken").await, Origin::named("good").await);
    broken.stop();
    let (proxy, key) = pair(&broken, &good, "repeat_body_bytes = 10\n").await;
    let mut client = Client::connect(proxy.address).await;
    let body = "x".repeat(200_000);
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    assert_eq!(client.answer().await.backend(), "good");
    assert_eq!(good.only().body.len(), body.len());
    proxy.counts("ringway_repeats_total", &["reason=\"connect_failed\""], 1.0).await;
    proxy.counts("ringway_affinity_requests_total", &["reason=\"repeat\""], 1.0).await;
    proxy.counts("ringway_attempts_total", &["backend=\"broken\"", "result=\"connect_failed\""], 1.0).await;
}

#[tokio::test]
async fn an_idempotent_request_whose_connection_breaks_goes_to_the_next_owner() {
    let (broken, good) = (closing().await, Origin::named("good").await);
    let (proxy, key) = pair(&broken, &good, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "good");
    let mut client = Client::connect(proxy.address).await;
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
    ] {
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}{framing}")).await;
        assert_eq!(client.answer().await.backend(), "good");
        assert_eq!(good.seen().last().unwrap().body, b"hello");
    }
    assert_eq!(good.seen().last().unwrap().trailers, "X-T: 1\n");
    proxy.counts("ringway_repeats_total", &["reason=\"broken\""], 3.0).await;
}

#[tokio::test]
async fn a_post_whose_connection_breaks_is_not_sent_twice() {
    let (broken, good) = (closing().await, Origin::named("good").await);
    let (proxy, key) = pair(&broken, &good, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 5\r\n\r\nhello")).await;
    assert_eq!(client.answer().await.status, 502);
    assert!(good.seen().is_empty());
    // The whole body was read: the connection goes on.
    assert_eq!(client.get("/", &key).await.backend(), "good");
}

#[tokio::test]
async fn a_body_over_the_bound_streams_and_is_not_sent_twice() {
    let (broken, good) = (closing().await, Origin::named("good").await);
    let (proxy, key) = pair(&broken, &good, "repeat_body_bytes = 1000\n").await;
    for framing in ["Content-Length: 5000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1388\r\n"] {
        let end = if framing.starts_with('T') { "\r\n0\r\n\r\n" } else { "" };
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}{framing}{}{end}", "x".repeat(5000))).await;
        assert_eq!(client.answer().await.status, 502);
    }
    assert!(good.seen().is_empty());
}

#[tokio::test]
async fn a_post_is_never_sent_into_a_pooled_connection_that_the_backend_has_closed() {
    // It closes each connection right after the answer, without having said so.
    let (closed, mut is_closed) = tokio::sync::mpsc::channel(1);
    let origin = Origin::with("one", move |mut peer| {
        let closed = closed.clone();
        async move {
            peer.request().await;
            peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            drop(peer);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..50 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        is_closed.recv().await.unwrap();
    }
    assert_eq!(origin.connections(), 50);
}

#[tokio::test]
async fn every_attempt_is_at_another_backend_and_there_are_no_more_than_allowed() {
    let mut origins = Vec::new();
    for i in 0..6 {
        let mut origin = Origin::named(&format!("b{i}")).await;
        origin.stop();
        origins.push(origin);
    }
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), "attempts = 4\n").await;
    let answer = get(proxy.address, "/", "").await;
    assert_eq!(answer.status, 502);
    proxy.counts("ringway_attempts_total", &["result=\"connect_failed\""], 4.0).await;
    for origin in &origins {
        assert!(
            proxy.metric("ringway_attempts_total", &[&format!("backend=\"{}\"", origin.name)]).await <= 1.0
        );
    }
}

#[tokio::test]
async fn a_backend_that_is_too_slow_is_a_504_and_is_not_asked_twice() {
    let slow = Origin::with("broken", |mut peer| async move {
        peer.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let good = Origin::named("good").await;
    let (proxy, key) = pair(&slow, &good, "timeouts.response_head = \"50ms\"\n").await;
    let answer = get(proxy.address, "/", &key).await;
    assert_eq!(answer.status, 504);
    assert!(good.seen().is_empty());
    proxy.counts("ringway_attempts_total", &["result=\"timeout\""], 1.0).await;

    let (proxy, key) = pair(&slow, &good, "timeouts.total = \"50ms\"\n").await;
    assert_eq!(get(proxy.address, "/", &key).await.status, 504);
}
