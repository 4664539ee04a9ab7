//! Listeners that come, go and change while the proxy runs, and what is asked of clients.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::support::{
    Client, Origin, Proxy, eventually, get,
    http2::{GOAWAY, GOOD, HEADERS, Raw},
    process::Directory,
    proxy::configuration,
    soon,
};

const OPEN: &str = "ringway_client_connections_open";

fn with_second(text: &str, address: &str, rest: &str) -> String {
    format!("{text}\n[[listeners]]\naddress = \"{address}\"\nname = \"second\"\n{rest}\n")
}

/// Gives the first listener a name and further keys.
fn first_has(text: &str, keys: &str) -> String {
    text.replacen(
        "address = \"127.0.0.1:0\"\n",
        &format!("address = \"127.0.0.1:0\"\nname = \"first\"\n{keys}"),
        1,
    )
}

/// Where the second listener is.
fn second(proxy: &Proxy) -> SocketAddr {
    let sites = proxy.front().sites();
    let site = sites.iter().find(|site| site.doorway().policy.name == "second").unwrap();
    site.address.socket().unwrap()
}

#[tokio::test]
async fn a_listener_that_is_closed_ends_its_connections_after_their_request_and_no_others() {
    let (go, origin) = Origin::patient("one").await;
    let base = first_has(&configuration(&[&origin], "", ""), "");
    let proxy = Proxy::start(&base).await;
    let changed = proxy.change(&with_second(&base, "127.0.0.1:0", "")).unwrap();
    assert_eq!((&changed.opened[..], changed.closed.len()), (&["second".to_owned()][..], 0));
    let address = second(&proxy);
    let mut stays = Client::connect(proxy.address).await;
    let (mut idle, mut slow) = (Client::connect(address).await, Client::connect(address).await);
    assert_eq!(stays.get("/", "").await.status, 200);
    assert_eq!(idle.get("/", "").await.status, 200);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has it", || origin.seen().len() == 3).await;
    proxy.counts(OPEN, &["listener=\"second\""], 2.0).await;

    let changed = proxy.change(&base).unwrap();
    assert_eq!(changed.closed, ["second"]);
    assert!(idle.is_closed().await);
    soon("nothing listens any more", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.notify_one();
    assert_eq!(slow.answer().await.text(), "done");
    // A request that follows at once is served, and told that it is the last.
    assert_eq!(slow.get("/", "").await.header("connection"), Some("close"));
    assert!(slow.is_closed().await);
    assert_eq!(stays.get("/", "").await.header("connection"), None);
    assert!(!proxy.admin_get("/metrics").await.text().contains("\"second\""));
    proxy.counts(OPEN, &["listener=\"first\""], 1.0).await;
}

#[tokio::test]
async fn a_listener_that_is_closed_lets_streams_end() {
    let (go, origin) = Origin::patient("one").await;
    let base = configuration(&[&origin], "", "");
    let proxy = Proxy::start(&with_second(&base, "127.0.0.1:0", "http2 = \"prior-knowledge\"")).await;
    let mut raw = Raw::connect(second(&proxy)).await;
    let slow: Vec<_> =
        GOOD.iter().map(|(name, value)| (*name, if *name == ":path" { "/slow" } else { *value })).collect();
    raw.ask(1, &slow).await;
    eventually("the request is there", || origin.seen().len() == 1).await;
    proxy.change(&base).unwrap();
    let goaway = raw.next_of(GOAWAY).await.unwrap();
    assert_eq!(goaway.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    go.notify_one();
    assert_eq!(raw.next_of(HEADERS).await.unwrap().payload[0], 0x88);
    assert_eq!(raw.verdict(0).await, Some(("connection", 0)));
}

#[tokio::test]
async fn a_change_that_fails_changes_nothing() {
    let origin = Origin::named("one").await;
    let base = first_has(&configuration(&[&origin], "", ""), "");
    let proxy = Proxy::start(&base).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wanted = with_second(
        &first_has(&configuration(&[&origin], "", ""), "redirect_to_https = 443\n"),
        &free.to_string(),
        "",
    );
    let wanted =
        format!("{wanted}[[listeners]]\naddress = \"{}\"\nname = \"third\"\n", taken.local_addr().unwrap());
    let error = proxy.change(&wanted).unwrap_err().to_string();
    assert!(error.contains("third") && error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert!(TcpStream::connect(free).await.is_err(), "the address is bound");
    assert_eq!(get(proxy.address, "/", "").await.status, 200);
    assert_eq!(proxy.front().sites().len(), 1);
    drop(taken);
    assert_eq!(proxy.change(&wanted).unwrap().opened, ["second", "third"]);
    assert_eq!(get(free, "/", "").await.status, 200);
}

#[tokio::test]
async fn settings_that_change_keep_the_sockets() {
    let origin = Origin::named("one").await;
    let base = first_has(&configuration(&[&origin], "", ""), "");
    let proxy = Proxy::start(&base).await;
    let mut old = Client::connect(proxy.address).await;
    assert_eq!(old.get("/", "").await.status, 200);
    let changed =
        proxy.change(&base.replacen("name = \"first\"\n", "name = \"other\"\nredirect_to_https = 443\n", 1));
    assert_eq!(changed.unwrap().changed, ["other"]);
    // What has begun goes on as it began.
    assert_eq!(old.get("/", "").await.status, 200);
    assert_eq!(get(proxy.address, "/", "").await.status, 308);
    proxy.counts("ringway_client_connections_accepted_total", &["listener=\"other\""], 2.0).await;
    assert_eq!(proxy.change(&base).unwrap().changed, ["first"]);
    assert_eq!(get(proxy.address, "/", "").await.status, 200);
}

#[tokio::test]
async fn a_unix_listener_comes_and_goes_with_its_file() {
    let folder = Directory::new();
    let path = folder.path().join("ringway.sock");
    let origin = Origin::named("one").await;
    let base = configuration(&[&origin], "", "");
    let proxy = Proxy::start(&base).await;
    let address = format!("unix:{}", path.display());
    for mode in ["0600", "0660"] {
        proxy.change(&with_second(&base, &address, &format!("mode = \"{mode}\""))).unwrap();
        let found = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(format!("{:04o}", found & 0o777), mode);
    }
    proxy.change(&base).unwrap();
    eventually("the file is gone", || !path.exists()).await;
    proxy.change(&with_second(&base, &address, "")).unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_asked_of_clients_holds_from_the_next_request_on() {
    let origin = Origin::named("one").await;
    let base = configuration(&[&origin], "", "");
    let proxy = Proxy::start(&base).await;
    let (mut first, mut second) =
        (Client::connect(proxy.address).await, Client::connect(proxy.address).await);
    assert_eq!(first.get("/", "").await.status, 200);
    assert_eq!(second.get("/", "").await.status, 200);
    let client = "[client]\nmax_connections = 1\nmax_headers = 2\nkeep_alive_timeout = \"50ms\"\n";
    proxy.change(&format!("{base}\n{client}")).unwrap();
    // Seen by the worker: the connection that is one too many is turned away.
    assert_eq!(Client::connect(proxy.address).await.maybe_answer().await.map(|answer| answer.status), None);
    assert_eq!(second.get("/", "").await.status, 200);
    assert_eq!(first.get("/", "a: b\r\nc: d\r\n").await.status, 431);
    // The time between requests is the new one.
    assert!(second.is_closed().await);
}

#[tokio::test]
async fn certificates_of_a_listener_that_came_later_are_watched() {
    let folder = Directory::new();
    let made = || {
        let key = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
        key.cert.pem() + &key.signing_key.serialize_pem()
    };
    let file = folder.file("a.pem", &made());
    let origin = Origin::named("one").await;
    let base = configuration(&[&origin], "", "");
    let proxy = Proxy::start(&base).await;
    let tls = format!("[listeners.tls]\ncertificates = [\"{}\"]\n", file.display());
    proxy.change(&with_second(&base, "127.0.0.1:0", &tls)).unwrap();
    proxy.counts("ringway_tls_reloads_total", &["second", "success"], 0.0).await;
    folder.file("new.pem", &made());
    std::fs::rename(folder.path().join("new.pem"), &file).unwrap();
    proxy.counts("ringway_tls_reloads_total", &["second", "success"], 1.0).await;
    // Other settings of its TLS: the counts go on.
    let tls = format!("{tls}min_version = \"1.3\"\n");
    proxy.change(&with_second(&base, "127.0.0.1:0", &tls)).unwrap();
    proxy.counts("ringway_tls_reloads_total", &["second", "success"], 1.0).await;
    folder.file("new.pem", "nonsense");
    std::fs::rename(folder.path().join("new.pem"), &file).unwrap();
    proxy.counts("ringway_tls_reloads_total", &["second", "refused"], 1.0).await;
}
