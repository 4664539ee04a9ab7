//! The admin listener: what it tells, and whom.

use ringway::limits::{ADMIN_CONNECTIONS, LOOKUPS_AT_ONCE, PLANS_AT_ONCE};

use tokio::io::AsyncWriteExt;

use super::support::{Client, Origin, Proxy, get, process::Directory, proxy::configuration, soon};

#[tokio::test]
async fn pools_are_told_with_shares_standing_and_fingerprints() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let proxy = Proxy::before(&[&one, &two], "").await;
    for i in 0..10 {
        get(proxy.address, &format!("/{i}"), "").await;
    }
    // An answer is at its client before its request is counted.
    proxy.counts("ringway_requests_total", &["pool=\"p\""], 10.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    let told = proxy.api("/api/pools").await;
    let pool = &told["pools"][0];
    assert_eq!(
        (&pool["name"], &pool["replicas"], &pool["virtual_nodes"]),
        (&"p".into(), &512.into(), &1024.into())
    );
    assert_eq!(pool["fingerprint"].as_str().unwrap().len(), 40);
    let backends = pool["backends"].as_array().unwrap();
    let shares: f64 = backends.iter().map(|backend| backend["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    let requests: u64 = backends.iter().map(|backend| backend["requests"]["success"].as_u64().unwrap()).sum();
    assert_eq!(requests, 10);
    assert_eq!(backends[0]["standing"], "serving");
    assert_eq!(backends[0]["in_flight"], 0);
}

#[tokio::test]
async fn lookups_that_cannot_be_answered_say_why() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    for (query, reason) in [
        ("", "ask with key="),
        ("?pool=q&key=x", "there is no pool"),
        ("?kee=x", "no parameter"),
        ("?uri=/x&client=nobody", "not an IP address"),
        ("?uri=/x&header=nocolon", "NAME:VALUE"),
    ] {
        let answer = proxy.admin_get(&format!("/api/lookup{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(reason), "{query}: {}", answer.text());
    }
    assert_eq!(proxy.admin_get("/nothing").await.status, 404);
    let mut client = Client::connect(proxy.admin).await;
    client.send("PUT /api/pools HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
}

#[tokio::test]
async fn the_configuration_in_force_is_told_and_parses_again() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    let told = proxy.api("/api/config").await;
    let text = told["text"].as_str().unwrap();
    let again = ringway::config::parse(text, "again.toml").unwrap();
    assert_eq!(again.effective, text);
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one_except_for_health() {
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let one = Origin::named("one").await;
    let text = configuration(&[&one], "", "")
        .replace("[admin]\n", &format!("[admin]\ntoken_file = \"{}\"\n", token.display()));
    let proxy = Proxy::start(&text).await;
    for path in ["/metrics", "/api/pools", "/"] {
        let refused = get(proxy.admin, path, "").await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
        // A scheme's name has no case (RFC 9110 section 11.1); what is shown to be wrong is said to be (RFC 6750 section 3).
        for (shown, status, challenge) in [
            ("Bearer wrong!", 401, Some("Bearer error=\"invalid_token\"")),
            ("Basic s3cret", 401, Some("Bearer")),
            ("Bearer s3cret", 200, None),
            ("bearer s3cret", 200, None),
        ] {
            let answer = get(proxy.admin, path, &format!("Authorization: {shown}\r\n")).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (status, challenge), "{shown}");
        }
    }
    assert_eq!(get(proxy.admin, "/livez", "").await.status, 200);
    assert_eq!(get(proxy.admin, "/readyz", "").await.status, 200);
}

#[tokio::test]
async fn bodies_that_there_is_no_place_for_are_not_waited_for() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    for (path, places) in [("/api/plan", PLANS_AT_ONCE), ("/api/lookup", LOOKUPS_AT_ONCE)] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n");
        let mut holders = Vec::new();
        for _ in 0..places {
            let mut client = Client::connect(proxy.admin).await;
            client.send(&head).await;
            // Its body is asked for: it has its place.
            assert!(client.until(b"\r\n\r\n").await.unwrap().windows(5).any(|part| part == b" 100 "));
            holders.push(client);
        }
        let mut client = Client::connect(proxy.admin).await;
        client.send(&head).await;
        let refused = client.answer().await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{path}");
        // A question that is answered gives its place back.
        let mut first = holders.remove(0);
        first.send("user-1\n\n").await;
        assert_ne!(first.answer().await.status, 503);
        let mut client = Client::connect(proxy.admin).await;
        client.send(&head).await;
        assert!(client.until(b"\r\n\r\n").await.unwrap().windows(5).any(|part| part == b" 100 "), "{path}");
    }
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_no_probe_out() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    // Who watches stays, however many come after.
    let mut watcher = Client::connect(proxy.admin).await;
    watcher.send("GET /api/events HTTP/1.0\r\n\r\n").await;
    watcher.until(b"\r\n\r\n").await.unwrap();
    let mut silent = Vec::new();
    // To ask for the head of a stream is not to watch.
    let halves = ["", "GET /readyz HTTP/1.1\r\nHo", "HEAD /api/events HTTP/1.1\r\nHost: a\r\n\r\n"];
    for half in (0..3 * ADMIN_CONNECTIONS).map(|i| halves[i / ADMIN_CONNECTIONS]) {
        let mut client = Client::connect(proxy.admin).await;
        client.send(half).await;
        silent.push(client);
    }
    for path in ["/readyz", "/metrics", "/api/pools"] {
        assert_eq!(proxy.admin_get(path).await.status, 200, "{path}");
    }
    watcher.take_rest();
    for _ in 0..2 {
        watcher.until(b"event: sample").await.unwrap();
    }
}

#[tokio::test]
async fn clients_that_ask_and_do_not_read_keep_no_probe_out() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    let mut watcher = Client::connect(proxy.admin).await;
    watcher.send("GET /api/events HTTP/1.0\r\n\r\n").await;
    watcher.until(b"\r\n\r\n").await.unwrap();
    let questions = "GET /ui/page.css HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1400);
    let mut deaf = Vec::new();
    for _ in 1..ADMIN_CONNECTIONS {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(proxy.admin).await.unwrap();
        // As much of it as is taken at once.
        let _ = stream.writable().await;
        let _ = stream.try_write(questions.as_bytes());
        deaf.push(stream);
    }
    let probe = async {
        loop {
            let mut client = Client::connect(proxy.admin).await;
            // A client too many is closed, so that writing to it or reading from it may fail.
            let _ = client.stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if client.until(b"\r\n\r\n").await.is_some_and(|head| head.starts_with(b"HTTP/1.1 200 ")) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    soon("the probe's answer", probe).await;
    // They have not gone by themselves, after the usual patience: only who had to has.
    let is_gone = |stream: &&tokio::net::TcpStream| {
        stream.try_write(b"x").is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    };
    let gone = deaf.iter().filter(is_gone).count();
    assert!(gone < ADMIN_CONNECTIONS / 2, "{gone} of them are gone");
    watcher.take_rest();
    for _ in 0..2 {
        watcher.until(b"event: sample").await.unwrap();
    }
}
