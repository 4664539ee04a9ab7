//! Changes of protocol (RFC 9110 section 7.8): only those that are allowed, only after the backend has agreed, and no byte lost.

use std::sync::Arc;

use ringway::ring::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Client, Origin, Proxy, eventually, get, soon};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: x\r\n\r\n";

/// Agrees to every change, greets, then says everything twice until the client has ended, and says goodbye.
async fn echo() -> Origin {
    echo_named("one").await
}

async fn echo_named(name: &str) -> Origin {
    Origin::with(name, |mut peer| async move {
        if peer.head().await.is_none() {
            return;
        }
        // Answer and first words in one piece.
        peer.stream.write_all(format!("{AGREE}hello").as_bytes()).await.unwrap();
        let mut bytes = peer.take_rest();
        loop {
            if peer.stream.write_all(&bytes).await.is_err() || peer.stream.write_all(&bytes).await.is_err() {
                return;
            }
            bytes.clear();
            if matches!(peer.stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {
                break;
            }
        }
        let _ = peer.stream.write_all(b"bye").await;
    })
    .await
}

async fn open(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{ASK}\r\n")).await;
    let head = soon("101", client.until(b"\r\n\r\n")).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: websocket"), "{head}");
    assert!(head.contains("sec-websocket-accept: x"), "{head}");
    assert_eq!(soon("the greeting", client.exactly(5)).await.unwrap(), b"hello");
    client
}

#[tokio::test]
async fn bytes_pass_both_ways_and_ends_are_told() {
    let origin = echo().await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = open(&proxy).await;
    proxy.counts("ringway_upgraded_connections", &["backend=\"one\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    for size in [1, 1000, 300_000] {
        let sent = vec![b'a' + (size % 26) as u8; size];
        client.send(&sent).await;
        let heard = soon("the echo", client.exactly(2 * size)).await.unwrap();
        assert!(heard.iter().all(|byte| *byte == sent[0]), "{size}");
    }
    client.stream.shutdown().await.unwrap();
    assert_eq!(soon("the goodbye", client.exactly(3)).await.unwrap(), b"bye");
    client.is_closed().await;
    proxy.counts("ringway_upgraded_connections", &[], 0.0).await;
    proxy.counts("ringway_upgrades_total", &[], 1.0).await;
    proxy.counts("ringway_requests_total", &["class=\"1xx\""], 1.0).await;
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"upgraded\""], 1.0).await;
    let page = proxy.admin_get("/metrics").await;
    let sum = |name| super::support::proxy::sum(page.text(), name, &[]);
    assert_eq!(sum("ringway_request_duration_seconds_count"), 0.0);
    assert_eq!(sum("ringway_received_body_bytes_total"), 301_001.0);
    assert_eq!(sum("ringway_sent_body_bytes_total"), 602_010.0);
}

#[tokio::test]
async fn what_a_client_says_too_early_waits_for_the_backend_to_agree() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    let origin = Origin::with("one", move |mut peer| {
        let (mut gone, said) = (gone.clone(), said.clone());
        async move {
            peer.head().await.unwrap();
            said.send(()).await.unwrap();
            gone.wait_for(|go| *go).await.unwrap();
            // Nothing may have come before the answer.
            let mut bytes = peer.take_rest();
            assert!(bytes.is_empty(), "early bytes reached the backend");
            let read =
                tokio::time::timeout(std::time::Duration::from_millis(50), peer.stream.read_buf(&mut bytes));
            assert!(read.await.is_err(), "early bytes reached the backend");
            peer.stream.write_all(AGREE.as_bytes()).await.unwrap();
            while bytes.len() < 5 {
                peer.stream.read_buf(&mut bytes).await.unwrap();
            }
            peer.stream.write_all(&bytes).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{ASK}\r\nearly")).await;
    soon("the backend has the request", heard.recv()).await.unwrap();
    go.send_replace(true);
    soon("101", client.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(soon("the echo", client.exactly(5)).await.unwrap(), b"early");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_asked_for() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "upgrades = [\"websocket\", \"x/2\"]\n").await;
    let cases = [
        ("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", None),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", None),
        ("Upgrade: websocket\r\n", None),
        ("Connection: Upgrade\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", None),
        ("Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\n", Some("WebSocket")),
        ("Connection: upgrade\r\nUpgrade: X/2\r\n", Some("X/2")),
    ];
    for (fields, wanted) in cases {
        let before = origin.seen().len();
        let method = if fields.contains("Length") { "POST" } else { "GET" };
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}");
        let end = if fields.contains("\r\n\r\n") { "" } else { "\r\n" };
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{text}{end}")).await;
        // A backend that does not agree answers as ever, and the connection goes on.
        assert_eq!(client.answer().await.backend(), "one", "{fields}");
        let seen = origin.seen()[before].clone();
        assert_eq!(seen.header("upgrade"), wanted, "{fields}");
        assert_eq!(seen.header("connection"), wanted.map(|_| "upgrade"), "{fields}");
        assert_eq!(seen.header("http2-settings"), None, "{fields}");
        assert_eq!(client.get("/again", "").await.backend(), "one", "{fields}");
    }
    let old = "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(Client::connect(proxy.address).await.send(old).await.answer().await.status, 200);
    assert_eq!(origin.seen().last().unwrap().header("upgrade"), None);
}

#[tokio::test]
async fn a_backend_that_changes_to_something_else_breaks_the_protocol() {
    for answer in [
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.0 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n\r\n",
        "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n\r\n",
    ] {
        let origin = Origin::answering("one", answer.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "attempts = 1\n").await;
        let mut client = Client::connect(proxy.address).await;
        let refused = client.send(format!("{ASK}\r\n")).await.answer().await;
        assert_eq!(refused.status, 502, "{answer}");
        proxy.counts("ringway_upgrades_total", &[], 0.0).await;
    }
}

#[tokio::test]
async fn silence_ends_it() {
    let origin = echo().await;
    let proxy = Proxy::before(&[&origin], "timeouts = { upgraded_idle = \"1s\" }\n").await;
    let mut client = open(&proxy).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    // A word begins the time anew: it ends that long after the last one, never sooner.
    let last_word = std::time::Instant::now();
    client.send("x").await;
    soon("the echo", client.exactly(2)).await.unwrap();
    client.is_closed().await;
    assert!(last_word.elapsed() >= std::time::Duration::from_secs(1));
    proxy.counts("ringway_upgraded_connections", &[], 0.0).await;
}

#[tokio::test]
async fn draining_waits_or_closes_as_the_pool_says() {
    let origin = echo().await;
    let closing = Proxy::before(&[&origin], "upgraded_on_drain = \"close\"\n").await;
    let mut client = open(&closing).await;
    assert_eq!(closing.stop().await, ringway::app::Stopped::Drained);
    client.is_closed().await;
    let waiting = Proxy::before(&[&origin], "").await;
    let mut client = open(&waiting).await;
    let stopping = tokio::spawn(waiting.stop());
    client.send("x").await;
    soon("the echo", client.exactly(2)).await.unwrap();
    assert!(!stopping.is_finished());
    client.stream.shutdown().await.unwrap();
    assert_eq!(soon("the end", stopping).await.unwrap(), ringway::app::Stopped::Drained);
}

#[tokio::test]
async fn an_owner_is_chosen_for_it_as_for_any_request() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let proxy = Proxy::before(&[&one, &two], "").await;
    let owner = get(proxy.address, "/ws", "X-Key: room-7\r\n").await.backend().to_owned();
    for _ in 0..5 {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{ASK}X-Key: room-7\r\n\r\n")).await;
        assert_eq!(client.answer().await.backend(), owner);
    }
    eventually("all are seen", || one.seen().len() + two.seen().len() == 6).await;
}

#[tokio::test]
async fn one_that_was_the_first_request_and_there_at_once_is_told_of_draining_too() {
    let origin = echo().await;
    let address = "address = \"127.0.0.1:0\"\n";
    let text = super::support::proxy::configuration(&[&origin], "upgraded_on_drain = \"close\"\n", "")
        .replacen(address, &format!("{address}proxy_protocol_from = [\"127.0.0.1\"]\n"), 1);
    let proxy = Proxy::start(&text).await;
    let mut client = Client::connect(proxy.address).await;
    // In one piece: the request is there when the preface has been read, and nothing is waited for.
    client.send(format!("PROXY UNKNOWN\r\n{ASK}\r\n")).await;
    soon("101", client.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(soon("the greeting", client.exactly(5)).await.unwrap(), b"hello");
    assert_eq!(proxy.stop().await, ringway::app::Stopped::Drained);
    client.is_closed().await;
}

#[tokio::test]
async fn what_a_backend_said_last_arrives_though_it_listens_no_more() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await.unwrap();
        peer.stream.write_all(AGREE.as_bytes()).await.unwrap();
        // Closed with bytes unread: whoever goes on sending is answered with a reset.
        peer.stream.readable().await.unwrap();
        peer.stream.write_all(b"last words").await.unwrap();
        peer.stream.shutdown().await.unwrap();
        let _ = peer.stream.readable().await;
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("{ASK}\r\n")).await;
    soon("101", client.until(b"\r\n\r\n")).await.unwrap();
    client.send("a word").await;
    assert_eq!(soon("the last words", client.exactly(10)).await.unwrap(), b"last words");
}

#[tokio::test]
async fn pain_16_after_a_change_of_the_ring_only_those_whose_key_has_moved_are_closed() {
    let (one, two, three) = (echo_named("one").await, echo_named("two").await, echo_named("three").await);
    let directory = super::support::process::Directory::new();
    let pool = "on_move = \"close\"\nmove_spread = \"0s\"\n";
    let text = |origins: &[&Origin]| super::support::proxy::configuration(origins, pool, "");
    let file = directory.file("ringway.toml", &text(&[&one, &two]));
    let proxy = Proxy::from_file(&file).await;
    let mut clients = Vec::new();
    for key in 0..24 {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{ASK}X-Key: {key}\r\n\r\n")).await;
        soon("101", client.until(b"hello")).await.unwrap();
        clients.push(client);
    }
    let owner = |key: usize| {
        let view = proxy.view();
        let ring = &view.pools[0].ring;
        ring.member(ring.owner(Place::of(key.to_string().as_bytes())).unwrap()).name.to_string()
    };
    let before: Vec<String> = (0..24).map(owner).collect();
    std::fs::write(&file, text(&[&one, &two, &three])).unwrap();
    proxy.reloader().reload().await.unwrap();
    let moved = (0..24).filter(|&key| owner(key) != before[key]).count();
    assert!((1..24).contains(&moved), "a test in which nothing or all moves shows nothing");
    for (key, mut client) in clients.into_iter().enumerate() {
        if owner(key) == before[key] {
            client.send(b"x").await;
            assert_eq!(soon("the echo", client.exactly(2)).await.unwrap(), b"xx", "{key} stays");
        } else {
            client.is_closed().await;
        }
    }
    proxy.counts("ringway_upgraded_connections", &[], 0.0).await;
}

#[tokio::test]
async fn a_connection_that_has_changed_its_protocol_does_not_count_as_a_request() {
    let origin = echo().await;
    let rest = "[client]\nmax_requests_in_flight = 2\n";
    let proxy = Proxy::start(&super::support::proxy::configuration(&[&origin], "", rest)).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(open(&proxy).await);
    }
    proxy.counts("ringway_upgraded_connections", &[], 4.0).await;
    assert_eq!(proxy.metric("ringway_refusals_total", &["reason=\"overload\""]).await, 0.0);
}

#[tokio::test]
async fn open_tunnels_keep_no_picture_that_has_been_replaced() {
    let (one, two) = (echo_named("one").await, echo_named("two").await);
    let directory = super::support::process::Directory::new();
    let text = |replicas: usize| {
        let pool = format!("replicas = {replicas}\n");
        super::support::proxy::configuration(&[&one, &two], &pool, "")
    };
    let file = directory.file("ringway.toml", &text(16));
    let proxy = Proxy::from_file(&file).await;
    let (mut clients, mut pictures) = (Vec::new(), Vec::new());
    for replicas in 17..22 {
        clients.push(open(&proxy).await);
        pictures.push((Arc::downgrade(&proxy.view()), Arc::downgrade(&proxy.view().pools[0].ring)));
        std::fs::write(&file, text(replicas)).unwrap();
        proxy.reloader().reload().await.unwrap();
    }
    proxy.counts("ringway_upgraded_connections", &[], 5.0).await;
    for (view, ring) in pictures {
        eventually("the view is gone", || view.strong_count() == 0).await;
        eventually("the ring is gone", || ring.strong_count() == 0).await;
    }
    for client in &mut clients {
        client.send("x").await;
        assert_eq!(soon("the echo", client.exactly(2)).await.unwrap(), b"xx");
    }
    drop(clients);
    // They are counted where they were, though nobody could look that up any more.
    proxy.counts("ringway_upgraded_connections", &[], 0.0).await;
    proxy.counts("ringway_requests_total", &["class=\"1xx\""], 5.0).await;
}
