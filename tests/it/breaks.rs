//! What must not go wrong when something breaks off in the middle: no byte of a body is read as a request, no part of an answer
//! looks whole, and a healthy backend keeps its keys.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Client, Origin, Proxy, soon};

/// Requests that would be answered if they were taken for requests.
fn a_body_of_requests(length: usize) -> String {
    "GET /inside HTTP/1.1\r\nHost: a\r\n\r\n".repeat(length)
}

#[tokio::test]
async fn a_body_that_its_backend_did_not_take_is_never_read_as_requests() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await;
        // A reset, with most of the body on its way.
        SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let proxy = Proxy::before(&[&origin], "repeat_body_bytes = 1000\n").await;
    for length in [2_000, 2_500, 3_000, 4_000, 8_000] {
        let mut client = Client::connect(proxy.address).await;
        let body = a_body_of_requests(length);
        client
            .send(format!("PUT /outside HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()))
            .await;
        // The proxy may close while this is written.
        let _ = client.stream.write_all(body.as_bytes()).await;
        assert_eq!(client.answer().await.status, 502);
        let mut rest = Vec::new();
        let next =
            client.stream.write_all(b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
        let answers = String::from_utf8_lossy(&rest).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{answers} answers after the one to the request ({next:?}, {read:?})");
    }
    assert!(origin.seen().iter().all(|seen| !seen.line().contains("/inside")));
}

#[tokio::test]
async fn an_answer_that_began_early_may_take_its_time_after_the_upload() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await;
        peer.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await
            .unwrap();
        peer.exactly(5).await;
        // Three times as long as an answer may take to begin.
        tokio::time::sleep(Duration::from_millis(300)).await;
        peer.stream.write_all(b"4\r\nrest\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let proxy = Proxy::before(&[&origin], "timeouts.response_head = \"100ms\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    soon("the answer begins", client.until(b"half\r\n")).await.unwrap();
    client.send("hello").await;
    soon("the rest of the answer", client.until(b"4\r\nrest\r\n0\r\n\r\n")).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_says_that_the_connection_ends() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await;
        peer.stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
}

#[tokio::test]
async fn an_answer_to_a_client_that_waits_for_its_end_is_reset_when_that_client_stops_listening_halfway() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.request().await;
        peer.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    soon("half of the answer", client.until(b"half")).await.unwrap();
    client.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
    assert!(read.is_err(), "an orderly end in the middle of an answer");
}

#[tokio::test]
async fn a_kept_connection_that_its_backend_closes_sends_no_key_away() {
    // It answers one request on each connection, and takes a second one only to close.
    let serve = |mut peer: super::support::origin::Peer| async move {
        peer.request().await;
        peer.stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-backend: one\r\n\r\nok")
            .await
            .unwrap();
        peer.head().await;
    };
    let (one, two) = (Origin::with("one", serve).await, Origin::named("two").await);
    let proxy = Proxy::before(&[&one, &two], "attempts = 1\n").await;
    let ring = proxy.view().pools[0].ring.clone();
    let owned = |key: &String| {
        let owner = ring.owner(ringway::ring::Place::of(key.as_bytes())).unwrap();
        *ring.member(owner).name == *one.name
    };
    let key = (0..).map(|i| format!("key-{i}")).find(owned).unwrap();
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        let answer = client.get("/", &format!("x-key: {key}\r\n")).await;
        assert_eq!((answer.status, answer.backend()), (200, "one"));
    }
    proxy.counts("ringway_repeats_total", &["reason=\"stale\""], 9.0).await;
    assert_eq!(proxy.off_owner().await, 0.0);
    assert!(two.seen().is_empty());
}

#[tokio::test]
async fn a_refusal_tells_a_client_of_http_1_0_that_its_connection_stays() {
    let mut origin = Origin::named("one").await;
    origin.stop();
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (502, Some("keep-alive")));
    }
}
