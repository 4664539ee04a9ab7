//! How answers come back: framings, interim answers, trailers, connections kept and closed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use super::support::{Client, Origin, Proxy, eventually, get, soon};

#[tokio::test]
async fn every_framing_of_a_backend_reaches_the_client_whole() {
    for (reply, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "hello",
        ),
        ("HTTP/1.1 200 OK\nA: b\nContent-Length: 5\n\nhello", "hello"),
        ("HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", "hello"),
    ] {
        let origin = Origin::answering("one", reply.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..2 {
            let answer = client.get("/", "").await;
            assert_eq!((answer.status, answer.text()), (200, body), "{reply:?}");
            assert!(answer.head.lines().skip(1).all(|line| line.contains(": ")), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_chunked_for_the_client() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.request().await;
        peer.stream
            .write_all(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nuntil the end")
            .await
            .unwrap();
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        let answer = client.get("/", "").await;
        assert_eq!(answer.text(), "until the end");
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\nx: y\r\n\r\n");
        let origin = Origin::answering("one", reply.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            let answer = client.answer_to(method).await;
            assert!(answer.head.contains(&status[..3]), "{answer:?}");
            let length = answer.header("content-length");
            assert_eq!(length, if status.starts_with("204") { None } else { Some("5") });
        }
    }
}

#[tokio::test]
async fn interim_answers_pass_and_continue_lets_the_body_follow() {
    let origin = Origin::with("one", |mut peer| async move {
        let Some(head) = peer.head().await else { return };
        assert!(head.contains("Expect: 100-continue"), "{head}");
        peer.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await.unwrap();
        peer.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let body = peer.exactly(5).await.unwrap();
        assert_eq!(body, b"hello");
        peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let hints = soon("hints", client.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(String::from_utf8(hints).unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a.css>");
    let go_on = soon("continue", client.until(b"\r\n\r\n")).await.unwrap();
    assert_eq!(go_on, b"HTTP/1.1 100 Continue");
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_backend_that_never_asks_for_the_body_is_too_slow_and_not_the_client() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await;
        let _open = peer;
        std::future::pending().await
    })
    .await;
    let proxy = Proxy::before(&[&origin], "timeouts.response_head = \"300ms\"").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 504);
    proxy.counts("ringway_attempts_total", &["result=\"timeout\""], 1.0).await;
    proxy.counts("ringway_backend_failures_total", &[], 1.0).await;
}

#[tokio::test]
async fn an_early_refusal_by_the_backend_reaches_a_client_that_still_sends() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.head().await;
        peer.stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
            .await
            .unwrap();
        // It reads no further and stays open: closing would reset the connection.
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await;
    client.send(vec![b'x'; 10_000]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "big"));
}

#[tokio::test]
async fn trailers_pass_in_both_directions_but_not_those_that_would_change_the_message() {
    let reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                  2\r\nok\r\n0\r\nx-sum: 42\r\nContent-Length: 7\r\n\r\n";
    let origin = Origin::answering("one", reply).await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nX-T: 1\r\nHost: evil.example\r\nAuthorization: x\r\nContent_Length: 3\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), &*answer.trailers), ("ok", "x-sum: 42\n"));
    let seen = origin.only();
    assert_eq!((&*seen.body, &*seen.trailers), (b"hello".as_slice(), "X-T: 1\n"));
    assert_eq!(seen.header("te"), Some("trailers"));
}

#[tokio::test]
async fn connections_are_used_again_and_closed_when_either_side_says_so() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..20 {
        client.get("/", "").await;
    }
    assert_eq!(origin.connections(), 1);
    let answer = client.get("/", "Connection: close\r\n").await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);

    let closing =
        Origin::answering("two", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            .await;
    let proxy = Proxy::before(&[&closing], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..3 {
        let answer = client.get("/", "").await;
        assert_eq!((answer.text(), answer.header("connection")), ("ok", None));
    }
    assert_eq!(closing.connections(), 3);
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"not_kept\""], 3.0).await;
}

#[tokio::test]
async fn what_is_not_an_answer_is_a_502_and_tells_nothing_about_the_inside() {
    for reply in [
        "not http at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
    ] {
        let origin = Origin::answering("one", reply.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let answer = get(proxy.address, "/", "").await;
        assert_eq!(answer.status, 502, "{reply:?}");
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(answer.text().contains(&id));
        assert!(
            !answer.text().contains(&origin.address.to_string()) && !answer.text().contains("one"),
            "{answer:?}"
        );
        proxy.counts("ringway_refusals_total", &["reason=\"backend_protocol\""], 1.0).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_the_clients_connection_unfinished() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let origin = Origin::with("one", move |mut peer| async move {
            peer.request().await;
            peer.stream.write_all(reply).await.unwrap();
        })
        .await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.maybe_answer().await.is_none(), "a broken answer must not look whole");
        proxy.counts("ringway_attempts_total", &["result=\"truncated\""], 1.0).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_wrong_from_the_beginning_is_a_502_and_what_came_before_a_later_fault_arrives() {
    let bad = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n";
    let origin = Origin::answering("one", bad).await;
    let proxy = Proxy::before(&[&origin], "").await;
    assert_eq!(get(proxy.address, "/", "").await.status, 502);
    proxy.counts("ringway_attempts_total", &["result=\"protocol\""], 1.0).await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let gate = go.clone();
    let origin = Origin::with("two", move |mut peer| {
        let gate = gate.clone();
        async move {
            peer.request().await;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            peer.stream.write_all(head).await.unwrap();
            gate.notified().await;
            peer.stream.write_all(b"4\r\nmore\r\nnonsense\r\n").await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.until(b"half").await.is_some());
    go.notify_one();
    assert!(client.until(b"more\r\n").await.is_some(), "what came before the fault is good");
    client.is_closed().await;
}

#[tokio::test]
async fn a_broken_answer_does_not_look_whole_to_a_client_that_waits_for_the_connections_end() {
    let origin = Origin::with("one", |mut peer| async move {
        peer.request().await;
        peer.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .await
            .unwrap();
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let mut rest = Vec::new();
    let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
    assert!(read.is_err(), "an orderly end after {:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn bytes_after_an_answer_are_never_taken_for_the_next_one() {
    let origin = Origin::answering(
        "one",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..5 {
        assert_eq!(client.get("/", "").await.text(), "ok");
    }
    assert_eq!(origin.connections(), 5);
}

#[tokio::test]
async fn idle_upstream_connections_are_closed_in_time() {
    let origin = Origin::named("one").await;
    let pool = "[pools.p.connections]\nkeep_alive = \"100ms\"\n";
    let proxy = Proxy::before(&[&origin], pool).await;
    get(proxy.address, "/", "").await;
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"idle\""], 1.0).await;
    eventually("one connection", || origin.connections() == 1).await;
}

#[tokio::test]
async fn a_body_that_should_not_be_is_nobodys_answer_however_late_it_comes() {
    for announced in ["content-length: 38", "transfer-encoding: chunked"] {
        let (late, origin) = late_body(format!("HTTP/1.1 204 No Content\r\n{announced}\r\n\r\n")).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        assert_eq!(client.get("/first", "").await.status, 204);
        let next = client.get("/next", "").await;
        late.notify_one();
        assert_eq!((next.status, next.text(), origin.connections()), (200, "own", 2), "{announced}");
    }
    for announced in ["content-length: 38\r\ntransfer-encoding: chunked", "transfer-encoding: gzip"] {
        let (_late, origin) = late_body(format!("HTTP/1.1 200 OK\r\n{announced}\r\n\r\n")).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer_to("HEAD").await.status, 502, "{announced}");
    }
}

/// A backend whose first connection answers with this, and with what looks like another answer when it is told to.
async fn late_body(first: String) -> (Arc<Notify>, Origin) {
    let (late, told) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let when = late.clone();
    let origin = Origin::with("one", move |mut peer| {
        let (first, late, told) = (first.clone(), late.clone(), told.clone());
        async move {
            while peer.request().await.is_some() {
                let own = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown".to_vec();
                let is_first = !told.swap(true, Ordering::Relaxed);
                let answer = if is_first { first.clone().into_bytes() } else { own };
                let _ = peer.stream.write_all(&answer).await;
                if is_first {
                    late.notified().await;
                    let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
                }
            }
        }
    })
    .await;
    (when, origin)
}

#[tokio::test]
async fn a_length_is_told_once() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified")] {
        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 05\r\nContent-Length: 5\r\n\r\n");
        let origin = Origin::answering("one", reply.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = client.answer_to(method).await;
        let told: Vec<&str> = answer
            .head
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("content-length"))
            .collect();
        assert_eq!(told, ["content-length: 5"], "{answer:?}");
    }
}

#[tokio::test]
async fn bare_line_feeds_are_taken_in_one_piece_as_in_many() {
    for head in ["HTTP/1.1 200 OK\nContent-Length: 5\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"] {
        let rest = Arc::new(Notify::new());
        let when = rest.clone();
        let origin = Origin::with("one", move |mut peer| {
            let rest = rest.clone();
            async move {
                while peer.request().await.is_some() {
                    // Who has read the interim answer has the part behind it too.
                    let begin = format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}");
                    let _ = peer.stream.write_all(begin.as_bytes()).await;
                    rest.notified().await;
                    let _ = peer.stream.write_all(b"\nhello").await;
                }
            }
        })
        .await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let interim = client.until(b"\r\n\r\n").await.unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 103"), "{interim:?}");
        when.notify_one();
        assert_eq!(soon("the rest of the answer", client.answer()).await.text(), "hello");
    }
}

#[tokio::test]
async fn a_body_that_was_sent_unasked_is_nobodys_request() {
    // It reads heads alone, as one does that refuses a body before it has come.
    let origin = Origin::with("one", |mut peer| async move {
        while let Some(head) = peer.head().await {
            let is_second = head.starts_with("GET /next ");
            let answer: &[u8] =
                if is_second { b"HTTP/1.1 200 OK\r\n" } else { b"HTTP/1.1 417 Expectation Failed\r\n" };
            let _ = peer.stream.write_all(&[answer, b"content-length: 0\r\n\r\n"].concat()).await;
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    let body = "GET /smuggled HTTP/1.1\r\nX-Y: ";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(format!("{head}{body}")).await;
    assert_eq!(client.answer().await.status, 417);
    assert_eq!(get(proxy.address, "/next", "").await.status, 200);
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn an_answer_without_a_date_gets_one_and_others_keep_theirs() {
    for (head, date) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nDate: theirs\r\ncontent-length: 2\r\n\r\nok", Some("theirs")),
    ] {
        let origin = Origin::answering("one", head.as_bytes()).await;
        let proxy = Proxy::before(&[&origin], "").await;
        let mut client = Client::connect(proxy.address).await;
        for _ in 0..2 {
            let answer = client.get("/", "").await;
            assert_eq!(answer.text(), "ok");
            let dates = answer.head.lines().filter(|line| line.to_lowercase().starts_with("date:")).count();
            assert_eq!(dates, 1, "{}", answer.head);
            match date {
                Some(date) => assert_eq!(answer.header("date"), Some(date)),
                None => assert!(httpdate::parse_http_date(answer.header("date").unwrap()).is_ok()),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_asks_for_another_protocol_names_it() {
    let reply = b"HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nUpgrade: TLS/1.3, HTTP/2.0\r\ncontent-length: 2\r\n\r\nno";
    let origin = Origin::answering("one", reply).await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..2 {
        let answer = client.get("/", "").await;
        assert_eq!((answer.status, answer.text()), (426, "no"));
        assert_eq!(answer.header("upgrade"), Some("TLS/1.3, HTTP/2.0"));
        assert_eq!(answer.header("connection"), Some("upgrade"));
    }
}
