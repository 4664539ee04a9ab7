//! Unix sockets, in front and behind: the same proxy, without addresses.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{
    Client, Origin, Proxy, Relay, eventually, get, process::Directory, proxy::configuration, soon,
};

fn with_unix_listener(text: &str, path: &std::path::Path) -> String {
    format!(
        "{text}\n[[listeners]]\naddress = \"unix:{}\"\nname = \"local\"\nmode = \"0600\"\n",
        path.display()
    )
}

#[tokio::test]
async fn a_listener_answers_and_its_file_goes_with_it() {
    let folder = Directory::new();
    let path = folder.path().join("ringway.sock");
    let origin = Origin::named("one").await;
    let proxy = Proxy::start(&with_unix_listener(&configuration(&[&origin], "", ""), &path)).await;
    let relay = Relay::to_unix(&path).await;
    let mut client = Client::connect(relay.address).await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.get(path, "").await.backend(), "one");
    }
    // Who comes this way has no address of his own.
    assert_eq!(origin.seen()[0].header("x-forwarded-for"), Some("127.0.0.1"));
    let body = "x".repeat(200_000);
    let long = format!("POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(client.send(long).await.answer().await.backend(), "one");
    assert_eq!(origin.seen()[3].body.len(), 200_000);
    proxy.counts("ringway_client_connections_accepted_total", &["listener=\"local\""], 1.0).await;
    drop(client);
    proxy.stop().await;
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test]
async fn many_clients_on_one_machine_are_not_one_address() {
    let folder = Directory::new();
    let path = folder.path().join("ringway.sock");
    let origin = Origin::named("one").await;
    let rest = "[client]\nmax_connections_per_address = 1";
    let proxy = Proxy::start(&with_unix_listener(&configuration(&[&origin], "", rest), &path)).await;
    let relay = Relay::to_unix(&path).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(relay.address).await;
        assert_eq!(client.get("/", "").await.status, 200);
        clients.push(client);
    }
    drop(proxy);
}

#[tokio::test]
async fn a_backend_is_probed_used_and_missed() {
    let folder = Directory::new();
    let path = folder.path().join("backend.sock");
    let origin = Origin::with("one", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        while let Some(seen) = peer.request().await {
            let length = if seen.line().contains("/long") { 300_000 } else { 3 };
            let head = format!("HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: {length}\r\n\r\n");
            peer.stream.write_all(head.as_bytes()).await.unwrap();
            peer.stream.write_all(&vec![b'x'; length]).await.unwrap();
        }
    })
    .await;
    let relay = Relay::from_unix(&path, origin.address).await;
    let health =
        "[pools.p.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"20ms\"\nrise = 1\nfall = 1\n";
    let text = configuration(&[], health, "")
        .replace("backends = []", &format!("backends = [\"unix:{}\"]", path.display()));
    let proxy = Proxy::start(&text).await;
    let name = format!("unix:{}", path.display());
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/a", "").await.text(), "xxx");
    assert_eq!(client.get("/long", "").await.body.len(), 300_000);
    assert_eq!(origin.connections(), 1 + probes(&origin), "the connection was used again");
    let pools = proxy.api("/api/pools").await;
    assert_eq!(pools["pools"][0]["backends"][0]["resolved"][0], *name);
    drop(relay);
    std::fs::remove_file(&path).unwrap();
    eventually("it is down", || proxy.view().pools[0].members[0].standing == ringway::fleet::Standing::Down)
        .await;
    assert_eq!(get(proxy.address, "/a", "").await.status, 503);
}

/// Connections of health checks: each asks once.
fn probes(origin: &Origin) -> usize {
    origin.all().iter().filter(|seen| seen.line().contains("/health")).count()
}

#[tokio::test]
async fn a_backends_own_host_is_localhost() {
    let folder = Directory::new();
    let path = folder.path().join("backend.sock");
    let origin = Origin::named("one").await;
    let _relay = Relay::from_unix(&path, origin.address).await;
    let text = configuration(&[], "host_header = \"backend\"\n", "")
        .replace("backends = []", &format!("backends = [\"unix:{}\"]", path.display()));
    let proxy = Proxy::start(&text).await;
    assert_eq!(get(proxy.address, "/a", "").await.backend(), "one");
    assert_eq!(origin.only().header("host"), Some("localhost"));
}

#[tokio::test]
async fn a_backend_that_reads_no_more_and_says_nothing_has_an_end() {
    let folder = Directory::new();
    let path = folder.path().join("backend.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (deaf, mut is_deaf) = tokio::sync::mpsc::channel(8);
    let backend = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 100]).await;
            socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Read).unwrap();
            deaf.send(()).await.unwrap();
            held.push(stream);
        }
    });
    let pool = |limit: &str| format!("timeouts = {{ response_head = \"{limit}\", idle_body = \"1s\" }}\n");
    let start = async |limit| {
        let text = configuration(&[], &pool(limit), "")
            .replace("backends = []", &format!("backends = [\"unix:{}\"]", path.display()));
        Proxy::start(&text).await
    };
    let upload =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(600_000));
    // It has its time to answer, and no more.
    let proxy = start("300ms").await;
    let mut client = Client::connect(proxy.address).await;
    let _ = client.stream.write_all(upload.as_bytes()).await;
    assert_eq!(soon("an answer of our own", client.answer()).await.status, 504);
    is_deaf.recv().await.unwrap();
    // A client that goes away in the meantime is missed at once, if nothing stands unread before its end.
    let proxy = start("1h").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(&upload.as_bytes()[..100]).await;
    is_deaf.recv().await.unwrap();
    client.send("x").await;
    proxy.counts("ringway_requests_in_flight", &[], 1.0).await;
    drop(client);
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    backend.abort();
}
