//! The end: what SIGTERM does to requests that are under way, and to those that come late.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use ringway::app::Stopped;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{Client, Origin, Proxy, eventually, get, process::Running, proxy::configuration, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request_that_was_accepted() {
    let origin = Origin::named("one").await;
    let mut running = Running::start(&configuration(&[&origin], "", ""));
    let address = running.address;
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (answered, stop) = (answered.clone(), stop.clone());
            tokio::spawn(async move { requests_until_refused(address, &answered, &stop).await })
        })
        .collect();
    eventually("the load runs", || answered.load(SeqCst) > 500).await;
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
    stop.store(true, SeqCst);
    for client in clients {
        assert_eq!(client.await.unwrap(), Ok(()), "a request was lost");
    }
}

/// One request after the other, connecting anew where the proxy closes. Ends well when nothing listens any more.
async fn requests_until_refused(
    address: std::net::SocketAddr,
    answered: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), String> {
    while !stop.load(SeqCst) {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return Ok(());
        };
        let mut first = true;
        loop {
            let mut input = Vec::new();
            if stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_err() {
                return if first {
                    Ok(())
                } else {
                    Err("the proxy closed a connection that it had kept".into())
                };
            }
            while !input.ends_with(b"\r\n\r\none") {
                match stream.read_buf(&mut input).await {
                    Ok(1..) => {}
                    // A connection that the kernel took after the proxy's last look was never accepted.
                    Ok(_) | Err(_) if first && input.is_empty() => return Ok(()),
                    other => return Err(format!("{other:?} after {:?}", String::from_utf8_lossy(&input))),
                }
            }
            answered.fetch_add(1, SeqCst);
            first = false;
            if String::from_utf8_lossy(&input).contains("connection: close") {
                break;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_an_idle_connection_closed() {
    let (go, origin) = Origin::patient("one").await;
    let proxy = Proxy::before(&[&origin], "").await;
    let (address, admin) = (proxy.address, proxy.admin);
    let mut idle = Client::connect(address).await;
    idle.get("/", "").await;
    let mut slow = Client::connect(address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has it", || origin.seen().len() == 2).await;
    let stopping = tokio::spawn(proxy.stop());
    assert!(idle.is_closed().await);
    assert_eq!(get(admin, "/readyz", "").await.status, 503);
    assert_eq!(get(admin, "/livez", "").await.status, 200);
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
    go.notify_one();
    let answer = slow.answer().await;
    // It was asked for before the end began, and answered after: the client is told that it is the last.
    assert_eq!((answer.text(), answer.header("connection")), ("done", Some("close")));
    assert_eq!(soon("the end", stopping).await.unwrap(), Stopped::Drained);
}

#[tokio::test]
async fn a_request_right_after_an_answer_that_could_not_say_so_is_still_served() {
    let go = Arc::new(tokio::sync::Notify::new());
    let gate = go.clone();
    // The head leaves before the end begins, the body long after it.
    let origin = Origin::with("one", move |mut peer| {
        let gate = gate.clone();
        async move {
            while let Some(seen) = peer.request().await {
                let slow = seen.line().contains("/slow");
                let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await;
                if slow {
                    gate.notified().await;
                }
                let _ = peer.stream.write_all(b"done").await;
            }
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut idle = Client::connect(proxy.address).await;
    idle.get("/", "").await;
    let mut slow = Client::connect(proxy.address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = soon("the head", slow.until(b"\r\n\r\n")).await.unwrap();
    assert!(!String::from_utf8(head).unwrap().contains("close"));
    let stopping = tokio::spawn(proxy.stop());
    // The time that idle connections are given is over when this one is closed.
    assert!(idle.is_closed().await);
    go.notify_one();
    assert_eq!(soon("the body", slow.exactly(4)).await.unwrap(), b"done");
    assert_eq!(slow.get("/", "").await.header("connection"), Some("close"));
    assert_eq!(soon("the end", stopping).await.unwrap(), Stopped::Drained);
}

#[tokio::test]
async fn the_drain_delay_leaves_time_to_be_taken_out_of_service() {
    let origin = Origin::named("one").await;
    let text = configuration(&[&origin], "", "").replace("[server]\n", "[server]\ndrain_delay = \"300ms\"\n");
    let proxy = Proxy::start(&text).await;
    let (address, admin) = (proxy.address, proxy.admin);
    let stopping = tokio::spawn(proxy.stop());
    eventually_unready(admin).await;
    // Not ready, and still accepting.
    assert_eq!(get(address, "/", "").await.status, 200);
    assert_eq!(soon("the end", stopping).await.unwrap(), Stopped::Drained);
}

async fn eventually_unready(admin: std::net::SocketAddr) {
    soon("unready", async {
        while get(admin, "/readyz", "").await.status == 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_drain_timeout_and_a_second_signal_end_what_does_not_end() {
    let origin = Origin::with("stuck", |mut peer| async move {
        peer.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let base = configuration(&[&origin], "", "");
    let text = base.replace("[server]\n", "[server]\ndrain_timeout = \"100ms\"\n");
    let proxy = Proxy::start(&text).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has it", || origin.seen().len() == 1).await;
    assert_eq!(proxy.stop().await, Stopped::CutOff);

    let mut running = Running::start(&base);
    let mut client = Client::connect(running.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has it", || origin.seen().len() == 2).await;
    running.signal("INT");
    running.wait_for_line("accepting no more");
    assert!(running.child.try_wait().unwrap().is_none(), "it waits for the request");
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_connection_that_has_not_begun_to_speak_tls_holds_up_no_drain() {
    let folder = super::support::process::Directory::new();
    let key = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
    let file = folder.file("a.pem", &(key.cert.pem() + &key.signing_key.serialize_pem()));
    let origin = Origin::named("one").await;
    let address = "address = \"127.0.0.1:0\"\n";
    let tls = format!(
        "{address}[listeners.tls]\ncertificates = [\"{}\"]\nhandshake_timeout = \"1h\"\n",
        file.display()
    );
    let text = super::support::proxy::configuration(&[&origin], "", "").replacen(address, &tls, 1);
    let proxy = Proxy::start(&text).await;
    let mut silent = Client::connect(proxy.address).await;
    proxy.counts("ringway_client_connections_open", &[], 1.0).await;
    // The kit waits for 20 seconds at most, the drain for 30.
    assert_eq!(proxy.stop().await, ringway::app::Stopped::Drained);
    silent.is_closed().await;
}
