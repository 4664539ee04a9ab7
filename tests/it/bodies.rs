//! Long bodies: streamed in both directions, never collected, held back by whoever is slow.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Client, Origin, Proxy, eventually, process::Running, proxy::configuration, soon};

const MIB: u64 = 1024 * 1024;

/// A backend that sends and takes bodies of any length without keeping them.
async fn bulk() -> Origin {
    Origin::with("bulk", |mut peer| async move {
        loop {
            let Some(head) = peer.head().await else { return };
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<u64>().ok());
            let mut left = length.unwrap_or(0) - peer.take_rest().len() as u64;
            let mut part = vec![0; 256 * 1024];
            while left > 0 {
                match peer.stream.read(&mut part).await {
                    Ok(n @ 1..) => left -= n as u64,
                    _ => return,
                }
            }
            let wanted: u64 = head.split(' ').nth(1).unwrap()[1..].parse().unwrap_or(0);
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {wanted}\r\n\r\n");
            if peer.stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
            let mut left = wanted;
            while left > 0 {
                let n = left.min(part.len() as u64) as usize;
                if peer.stream.write_all(&part[..n]).await.is_err() {
                    return;
                }
                left -= n as u64;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_far_larger_than_memory_would_allow_passes_in_each_direction() {
    let origin = bulk().await;
    let running = Running::start(&configuration(&[&origin], "", ""));
    let mut client = Client::connect(running.address).await;
    // Buffers and tables that any request brings are there after this.
    client.get("/100000", "").await;
    let before = running.resident();
    let size = 512 * MIB;
    let mut part = vec![0; 256 * 1024];

    client.send(format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    soon("the answer's head", client.until(b"\r\n\r\n")).await.unwrap();
    let mut got = client.take_rest().len() as u64;
    while got < size {
        got += soon("more of the answer", client.stream.read(&mut part)).await.unwrap() as u64;
    }
    assert_eq!(got, size);

    let mut client = Client::connect(running.address).await;
    client.send(format!("PUT /0 HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")).await;
    for _ in 0..size / part.len() as u64 {
        soon("the proxy takes more", client.stream.write_all(&part)).await.unwrap();
    }
    assert_eq!(client.answer().await.status, 200);
    let grown = running.resident().saturating_sub(before);
    assert!(grown < 20 * MIB, "resident memory grew by {grown} bytes");
}

#[tokio::test]
async fn a_slow_reader_holds_its_backend_back() {
    let passed = Arc::new(AtomicU64::new(0));
    let counter = passed.clone();
    let origin = Origin::with("endless", move |mut peer| {
        let counter = counter.clone();
        async move {
            if peer.request().await.is_none() {
                return;
            }
            let size = 10_000 * MIB;
            let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            peer.stream.write_all(reply.as_bytes()).await.unwrap();
            let part = vec![0; 64 * 1024];
            while let Ok(n) = peer.stream.write(&part).await {
                counter.fetch_add(n as u64, SeqCst);
            }
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // It stops when the buffers of four sockets and one of ours are full: when nothing more passes for a while.
    let (mut last, mut still) = (u64::MAX, 0);
    while still < 20 {
        let now = passed.load(SeqCst);
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
        assert!(now < 64 * MIB, "{now} bytes passed to a client that reads nothing");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    proxy.counts("ringway_requests_in_flight", &[], 1.0).await;
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_request_at_its_backend_and_is_counted() {
    let origin = Origin::with("patient", |mut peer| async move {
        peer.request().await;
        // Ends when the proxy closes.
        let mut byte = [0];
        let _ = peer.stream.read(&mut byte).await;
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has the request", || origin.seen().len() == 1).await;
    drop(client);
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    proxy.counts("ringway_attempts_total", &["result=\"cancelled\""], 1.0).await;

    // In the middle of its own body, too.
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await;
    proxy.counts("ringway_requests_in_flight", &[], 1.0).await;
    drop(client);
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 2.0).await;
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let (told, mut tell) = tokio::sync::mpsc::channel::<()>(1);
    let told = Arc::new(told);
    let (go, wait) = tokio::sync::watch::channel(0);
    let origin = Origin::with("stream", move |mut peer| {
        let (told, mut wait) = (told.clone(), wait.clone());
        async move {
            peer.head().await;
            peer.stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            for i in 1..=3 {
                wait.wait_for(|n| *n >= i).await.unwrap();
                peer.stream.write_all(format!("1\r\n{i}\r\n").as_bytes()).await.unwrap();
            }
            peer.stream.write_all(b"0\r\n\r\n").await.unwrap();
            told.send(()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the head alone", client.until(b"\r\n\r\n")).await.unwrap();
    for i in 1..=3 {
        go.send(i).unwrap();
        let piece = soon("a piece alone", client.exactly(6)).await.unwrap();
        assert_eq!(String::from_utf8(piece).unwrap(), format!("1\r\n{i}\r\n"));
    }
    assert_eq!(soon("the end", client.exactly(5)).await.unwrap(), b"0\r\n\r\n");
    soon("the backend is through", tell.recv()).await.unwrap();
}

#[tokio::test]
async fn answers_that_last_keep_no_picture_that_has_been_replaced() {
    const REST: usize = 200_000;
    let (go, gone) = tokio::sync::watch::channel(false);
    let origin = Origin::with("one", move |mut peer| {
        let mut gone = gone.clone();
        async move {
            while let Some(head) = peer.head().await {
                let is_counted = head.contains("/counted");
                let begin = match is_counted {
                    true => format!("content-length: {}\r\n\r\nbegin", 5 + REST),
                    false => "transfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n".to_owned(),
                };
                let _ = peer.stream.write_all(format!("HTTP/1.1 200 OK\r\n{begin}").as_bytes()).await;
                if gone.wait_for(|gone| *gone).await.is_err() {
                    return;
                }
                if head.contains("/broken") {
                    return;
                }
                let rest = if is_counted { "x".repeat(REST) } else { "4\r\nrest\r\n0\r\n\r\n".to_owned() };
                let _ = peer.stream.write_all(rest.as_bytes()).await;
            }
        }
    })
    .await;
    let directory = super::support::process::Directory::new();
    let text = |replicas: usize| configuration(&[&origin], &format!("replicas = {replicas}\n"), "");
    let file = directory.file("ringway.toml", &text(16));
    let proxy = Proxy::from_file(&file).await;
    let (mut clients, mut pictures) = (Vec::new(), Vec::new());
    let paths = ["/chunked", "/counted", "/chunked", "/counted", "/chunked/broken", "/counted/broken"];
    for (path, replicas) in paths.into_iter().zip(17..) {
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let begin: &[u8] = if path.starts_with("/counted") { b"begin" } else { b"begin\r\n" };
        soon("the beginning", client.until(begin)).await.unwrap();
        clients.push((path, client));
        let view = proxy.view();
        pictures.push((Arc::downgrade(&view), Arc::downgrade(&view.pools[0].ring)));
        drop(view);
        std::fs::write(&file, text(replicas)).unwrap();
        proxy.reloader().reload().await.unwrap();
    }
    for (view, ring) in pictures {
        eventually("the view is gone", || view.strong_count() == 0).await;
        eventually("the ring is gone", || ring.strong_count() == 0).await;
    }
    // They are requests in flight at their backend all the same, until their end.
    proxy.counts("ringway_requests_in_flight", &[], 6.0).await;
    assert_eq!(proxy.metric("ringway_requests_total", &[]).await, 0.0);
    // One whose client goes ends at once.
    drop(clients.remove(0));
    proxy.counts("ringway_requests_in_flight", &[], 5.0).await;
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 1.0).await;
    go.send(true).unwrap();
    for (path, client) in &mut clients {
        match *path {
            "/chunked" => assert!(soon("the end", client.until(b"rest\r\n0\r\n\r\n")).await.is_some()),
            "/counted" => {
                let rest = soon("the end", client.exactly(REST)).await.unwrap();
                assert!(rest.iter().all(|byte| *byte == b'x'));
            }
            _ => {
                client.is_closed().await;
                continue;
            }
        }
        // And the connection is as good as after any other answer.
        client.send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(soon("the next answer", client.until(b"rest\r\n0\r\n\r\n")).await.is_some());
    }
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    proxy.counts("ringway_requests_total", &["class=\"2xx\""], 6.0).await;
    proxy.counts("ringway_requests_total", &["class=\"truncated\""], 2.0).await;
    // Six beginnings, what came after three of them, and three whole answers.
    let sent = 6 * 5 + 4 + 2 * REST + 3 * 9;
    assert_eq!(proxy.metric("ringway_sent_body_bytes_total", &[]).await, sent as f64);
}
