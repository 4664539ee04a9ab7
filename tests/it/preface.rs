//! The PROXY protocol: believed from balancers that are listed, from nobody else, and said to backends that want it.

use std::sync::{Arc, Mutex};

use super::support::{Client, Origin, Proxy, Relay, get, process::Directory, proxy::configuration};

const LINE: &str = "PROXY TCP4 192.0.2.7 192.0.2.80 1234 443\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x50\x04\xd2\x01\xbb";

fn listening(origins: &[&Origin], listener: &str, rest: &str) -> String {
    let address = "address = \"127.0.0.1:0\"\n";
    configuration(origins, "", rest).replacen(address, &format!("{address}{listener}\n"), 1)
}

#[tokio::test]
async fn a_listed_balancer_is_believed() {
    let origin = Origin::named("one").await;
    let proxy = Proxy::start(&listening(&[&origin], "proxy_protocol_from = [\"127.0.0.0/8\"]", "")).await;
    for preface in [LINE.as_bytes(), BINARY] {
        let mut client = Client::connect(proxy.address).await;
        let before = origin.seen().len();
        let request = [preface, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        // All at once, and then dripping: not a byte more than the preface is taken.
        client.send(&request).await;
        assert_eq!(client.answer().await.backend(), "one");
        assert_eq!(client.get("/b", "").await.backend(), "one");
        let mut slow = Client::connect(proxy.address).await;
        for byte in &request {
            slow.send([*byte]).await;
        }
        assert_eq!(slow.answer().await.backend(), "one");
        for seen in &origin.seen()[before..] {
            assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.7"));
        }
    }
    // A balancer's own health check.
    let mut own = Client::connect(proxy.address).await;
    assert_eq!(
        own.send("PROXY UNKNOWN\r\nGET /own HTTP/1.1\r\nHost: a\r\n\r\n").await.answer().await.status,
        200
    );
    assert_eq!(origin.seen().last().unwrap().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn from_there_it_is_required_and_from_elsewhere_not_understood() {
    let origin = Origin::named("one").await;
    let rest = "[client]\nrequest_head_timeout = \"100ms\"";
    let listed = Proxy::start(&listening(&[&origin], "proxy_protocol_from = [\"127.0.0.1\"]", rest)).await;
    for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 x y 1 2\r\n", "PROXY TC", ""] {
        let mut client = Client::connect(listed.address).await;
        client.send(text).await;
        assert!(client.is_closed().await, "{text:?}");
    }
    assert!(origin.seen().is_empty());
    listed.counts("ringway_client_connections_rejected_total", &["reason=\"proxy_protocol\""], 4.0).await;
    let stranger = Proxy::start(&listening(&[&origin], "proxy_protocol_from = [\"192.0.2.0/24\"]", "")).await;
    assert_eq!(get(stranger.address, "/", "").await.status, 200);
    let mut client = Client::connect(stranger.address).await;
    let refused = client.send(format!("{LINE}GET / HTTP/1.1\r\nHost: a\r\n\r\n")).await.answer().await;
    // Its third word is no version of HTTP.
    assert_eq!(refused.status, 505);
    assert_eq!(origin.only().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn the_bound_for_an_address_is_the_clients_not_the_balancers() {
    let origin = Origin::named("one").await;
    let rest = "[client]\nmax_connections_per_address = 1";
    let proxy = Proxy::start(&listening(&[&origin], "proxy_protocol_from = [\"127.0.0.1\"]", rest)).await;
    let open = async |address: &str| {
        let mut client = Client::connect(proxy.address).await;
        client
            .send(format!("PROXY TCP4 {address} 192.0.2.80 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let status = client.maybe_answer().await.map(|answer| answer.status);
        (client, status)
    };
    let (first, second) = (open("192.0.2.1").await, open("192.0.2.2").await);
    assert_eq!((first.1, second.1), (Some(200), Some(200)));
    assert_eq!(open("192.0.2.1").await.1, None);
    proxy.counts("ringway_client_connections_rejected_total", &["reason=\"address_full\""], 1.0).await;
    drop(first);
    // Its place is free once the proxy has seen the end.
    proxy.counts("ringway_client_connections_open", &[], 1.0).await;
    assert_eq!(open("192.0.2.1").await.1, Some(200));
}

/// A backend that notes what each connection begins with, and answers one request on each.
async fn noting(preface: usize) -> (Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let notes: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let its = notes.clone();
    let origin = Origin::with("one", move |mut peer| {
        let notes = its.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            let Some(bytes) = peer.exactly(preface).await else { return };
            notes.lock().unwrap().push(bytes);
            while peer.request().await.is_some() {
                let answer = b"HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: 3\r\n\r\none";
                peer.stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    (origin, notes)
}

#[tokio::test]
async fn backends_are_told_and_their_connections_are_one_clients() {
    let (origin, notes) = noting(28).await;
    let text = listening(&[&origin], "proxy_protocol_from = [\"127.0.0.1\"]", "")
        .replace("[pools.p]\n", "[pools.p]\nsend_proxy_protocol = \"v2\"\n");
    let proxy = Proxy::start(&text).await;
    let mut client = Client::connect(proxy.address).await;
    client.send([BINARY, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
    assert_eq!(client.answer().await.backend(), "one");
    assert_eq!(client.get("/b", "").await.backend(), "one");
    assert_eq!(*notes.lock().unwrap(), [BINARY, BINARY]);
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"personal\""], 2.0).await;
    // A client without an address, and a health check, are the proxy's own.
    let folder = Directory::new();
    let path = folder.path().join("ringway.sock");
    let (origin, notes) = noting(b"PROXY UNKNOWN\r\n".len()).await;
    let health = "send_proxy_protocol = \"v1\"\n[pools.p.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"20ms\"\n";
    let text = configuration(&[&origin], health, "");
    let text = format!("{text}\n[[listeners]]\naddress = \"unix:{}\"\n", path.display());
    let _proxy = Proxy::start(&text).await;
    let relay = Relay::to_unix(&path).await;
    assert_eq!(get(relay.address, "/a", "").await.backend(), "one");
    assert!(origin.all().len() >= 2);
    assert!(notes.lock().unwrap().iter().all(|note| note == b"PROXY UNKNOWN\r\n"));
}
