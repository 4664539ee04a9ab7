//! Limits on what clients may ask for and how long they may take.

use super::support::{Client, Origin, Proxy, proxy::configuration};

async fn with_client(rest: &str) -> (Origin, Proxy) {
    let origin = Origin::named("one").await;
    let proxy = Proxy::start(&configuration(&[&origin], "", &format!("[client]\n{rest}"))).await;
    (origin, proxy)
}

#[tokio::test]
async fn heads_over_a_limit_are_refused_before_a_backend_hears_of_them() {
    let (origin, proxy) = with_client("max_head_bytes = \"4KiB\"\nmax_headers = 20\n").await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(5000));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(50_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(30));
    for text in [long, endless, many] {
        let mut client = Client::connect(proxy.address).await;
        client.send(&text).await;
        assert_eq!(client.answer().await.status, 431, "{}", &text[..60]);
    }
    assert!(origin.seen().is_empty());
    let (_origin, proxy) = with_client("max_head_bytes = \"128KiB\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(20_000))).await;
    assert_eq!(client.answer().await.status, 414);
    // A large head within the limit passes.
    let mut client = Client::connect(proxy.address).await;
    let answer = client.get("/", &format!("X: {}\r\n", "a".repeat(100_000))).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "max_body_bytes = \"1KiB\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..20 {
        client.send(format!("64\r\n{}\r\n", "x".repeat(100))).await;
    }
    assert_eq!(client.answer().await.status, 413);
    let mut client = Client::connect(proxy.address).await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)))
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.only().body.len(), 1024);
}

#[tokio::test]
async fn a_head_or_a_body_that_comes_too_slowly_is_a_408() {
    let (origin, proxy) =
        with_client("request_head_timeout = \"100ms\"\nidle_body_timeout = \"100ms\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a").await;
    assert_eq!(client.answer().await.status, 408);
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!(client.answer().await.status, 408);
    // One that never says anything is closed without a word.
    let mut client = Client::connect(proxy.address).await;
    assert!(client.is_closed().await);
    assert!(origin.seen().is_empty());
    proxy.counts("ringway_refusals_total", &["reason=\"request_timeout\""], 2.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let (_origin, proxy) = with_client("keep_alive_timeout = \"100ms\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/", "").await.status, 200);
    assert!(client.is_closed().await);
    proxy.counts("ringway_client_connections_open", &[], 0.0).await;
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_for_each_address() {
    for (limit, reason) in
        [("max_connections = 3\n", "full"), ("max_connections_per_address = 3\n", "address_full")]
    {
        let (_origin, proxy) = with_client(limit).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Client::connect(proxy.address).await;
            assert_eq!(client.get("/", "").await.status, 200);
            clients.push(client);
        }
        let mut one_too_many = Client::connect(proxy.address).await;
        assert!(one_too_many.is_closed().await);
        proxy
            .counts("ringway_client_connections_rejected_total", &[&format!("reason=\"{reason}\"")], 1.0)
            .await;
        drop(clients.pop());
        proxy.counts("ringway_client_connections_open", &[], 2.0).await;
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/", "").await.status, 200);
    }
}
