//! TLS in front (certificates by name, versions, client certificates, new ones while the proxy runs) and behind (verification).

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::{
    Client, Origin, Proxy, Relay, eventually, process::Directory, proxy::configuration, soon,
};

/// An authority that signs certificates for tests.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Certificate and key as PEM.
    fn sign(&self, names: &[&str]) -> (String, String) {
        self.sign_with(names, |_| {})
    }

    fn sign_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a client uses that trusts this authority, with a certificate of its own if there is one.
    fn client(&self, own: Option<&(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }
}

fn secured(origins: &[&Origin], tls: &str) -> String {
    configuration(origins, "", "").replacen(
        "address = \"127.0.0.1:0\"\n",
        &format!("address = \"127.0.0.1:0\"\nname = \"secured\"\n[listeners.tls]\n{tls}\n"),
        1,
    )
}

fn pair(folder: &Directory, name: &str, (certificate, key): &(String, String)) -> String {
    let certificate = folder.file(&format!("{name}.pem"), certificate);
    let key = folder.file(&format!("{name}.key"), key);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!("{{ certificate = \"{}\", key = \"{}\" }}", certificate.display(), key.display())
}

type Session = tokio_rustls::client::TlsStream<TcpStream>;

async fn handshake(proxy: &Proxy, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Session> {
    let stream = TcpStream::connect(proxy.address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon("a handshake", TlsConnector::from(config.clone()).connect(name, stream)).await
}

/// The raw client of the kit, through TLS.
async fn through(proxy: &Proxy, config: ClientConfig, name: &str) -> Relay {
    let (address, config, name) = (proxy.address, Arc::new(config), name.to_owned());
    Relay::to(move || {
        let (config, name) = (config.clone(), ServerName::try_from(name.clone()).unwrap());
        async move { TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await }
    })
    .await
}

#[tokio::test]
async fn requests_and_long_bodies_pass() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::with("one", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        while let Some(seen) = peer.request().await {
            let body = if seen.line().starts_with("POST") { seen.body } else { vec![b'y'; 700_000] };
            let head = format!("HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: {}\r\n\r\n", body.len());
            peer.stream.write_all(head.as_bytes()).await.unwrap();
            peer.stream.write_all(&body).await.unwrap();
        }
    })
    .await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [{certificates}]"))).await;
    let relay = through(&proxy, authority.client(None), "a.example").await;
    let mut client = Client::connect(relay.address).await;
    for size in [0, 1, 16 * 1024, 900_000] {
        let body = "x".repeat(size);
        let text = format!("POST /{size} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
        assert_eq!(client.send(text).await.answer().await.body.len(), size);
        assert_eq!(client.get("/", "").await.body.len(), 700_000);
    }
    let pipelined = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    client.send(pipelined).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.body.len(), 700_000);
    }
    assert_eq!(origin.seen()[0].header("x-forwarded-proto"), Some("https"));
    proxy.counts("ringway_tls_handshakes_total", &["listener=\"secured\"", "result=\"done\""], 1.0).await;
    let ends = proxy.metric("ringway_tls_certificate_expiry_timestamp_seconds", &["a.pem"]).await;
    assert!(ends > 4e9, "rcgen's certificates end in the year 4096, this one at {ends}");
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let pairs = [&["a.example"][..], &["b.example", "*.b.example"], &["*.c.example"]]
        .map(|names| authority.sign(names));
    let rows: Vec<String> =
        pairs.iter().zip(["a", "b", "c"]).map(|(its, name)| pair(&folder, name, its)).collect();
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [{}]", rows.join(", ")))).await;
    let config = Arc::new(authority.client(None));
    for (name, wanted) in [
        ("a.example", Some(0)),
        ("b.example", Some(1)),
        ("x.b.example", Some(1)),
        ("X.C.example", Some(2)),
        // Neither two levels below nor the parent: these get the first one, which a client refuses.
        ("y.x.b.example", None),
        ("c.example", None),
    ] {
        let session = handshake(&proxy, &config, name).await;
        let Some(wanted) = wanted else {
            assert!(session.is_err(), "{name}");
            continue;
        };
        let shown = session.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let der = CertificateDer::from_pem_slice(pairs[wanted].0.as_bytes()).unwrap();
        assert_eq!(shown, der.to_vec(), "{name}");
    }
    proxy.counts("ringway_tls_handshakes_total", &["result=\"failed\""], 2.0).await;
}

#[tokio::test]
async fn versions_and_resumption() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let text = format!("certificates = [{certificates}]\nmin_version = \"1.3\"");
    let proxy = Proxy::start(&secured(&[&origin], &text)).await;
    let mut config = authority.client(None);
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    let old = old.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    assert!(handshake(&proxy, &Arc::new(old), "a.example").await.is_err());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let relay = {
        let (address, config) = (proxy.address, config.clone());
        Relay::to(move || {
            let (config, name) = (config.clone(), ServerName::try_from("a.example").unwrap());
            async move { TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await }
        })
        .await
    };
    // The ticket comes with the first answer.
    assert_eq!(Client::connect(relay.address).await.get("/", "").await.status, 200);
    let session = handshake(&proxy, &config, "a.example").await.unwrap();
    let connection = session.get_ref().1;
    assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
    let group = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let (folder, authority, stranger) = (Directory::new(), Authority::new(), Authority::new());
    let origin = Origin::named("one").await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let ca = folder.file("ca.pem", &authority.pem);
    let named = |params: &mut rcgen::CertificateParams| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "x, CN=admin");
        params.distinguished_name.push(rcgen::DnType::CommonName, "client \"1\" ü");
    };
    let (own, foreign) =
        (authority.sign_with(&["client.example"], named), stranger.sign(&["client.example"]));
    for (asked, cases) in [
        ("required", [(None, false), (Some(&own), true), (Some(&foreign), false)]),
        ("optional", [(None, true), (Some(&own), true), (Some(&foreign), false)]),
    ] {
        let text = format!(
            "certificates = [{certificates}]\nclient_certificates = \"{asked}\"\nclient_ca = \"{}\"",
            ca.display()
        );
        let proxy = Proxy::start(&secured(&[&origin], &text)).await;
        for (shown, wanted) in cases {
            let relay = through(&proxy, authority.client(shown), "a.example").await;
            let mut client = Client::connect(relay.address).await;
            // Whoever says so himself is not believed.
            client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Subject: CN=admin\r\n\r\n").await;
            let answer = client.maybe_answer().await;
            if wanted {
                let subject = shown.map(|_| r#"CN=client \"1\" \C3\BC,O=x\, CN=admin"#);
                assert_eq!(origin.seen().last().unwrap().header("x-client-cert-subject"), subject);
            }
            assert_eq!(answer.is_some(), wanted, "{asked} {:?}", shown.is_some());
        }
    }
}

#[tokio::test]
async fn new_files_are_taken_in_and_wrong_ones_are_not() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let first = authority.sign(&["a.example"]);
    let certificates = pair(&folder, "a", &first);
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [{certificates}]"))).await;
    let config = Arc::new(authority.client(None));
    let shown = async || {
        let session = handshake(&proxy, &config, "a.example").await.unwrap();
        session.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let der = |pair: &(String, String)| CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap().to_vec();
    assert_eq!(shown().await, der(&first));
    // A key that does not fit: refused, and nothing changes.
    let second = authority.sign(&["a.example"]);
    folder.file("a.pem", &second.0);
    proxy.counts("ringway_tls_reloads_total", &["result=\"refused\""], 1.0).await;
    assert_eq!(shown().await, der(&first));
    // With its key it fits.
    folder.file("a.key", &second.1);
    proxy.counts("ringway_tls_reloads_total", &["result=\"success\""], 1.0).await;
    assert_eq!(shown().await, der(&second));
    // One that has ended is refused.
    let ended =
        authority.sign_with(&["a.example"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    folder.file("a.key", &ended.1);
    folder.file("a.pem", &ended.0);
    proxy.counts("ringway_tls_reloads_total", &["result=\"refused\""], 2.0).await;
    assert_eq!(shown().await, der(&second));
}

#[tokio::test]
async fn a_link_that_is_swapped_is_a_new_certificate() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let pairs = [authority.sign(&["a.example"]), authority.sign(&["a.example"])];
    for (number, (certificate, key)) in pairs.iter().enumerate() {
        let version = folder.path().join(format!("v{number}"));
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("both.pem"), format!("{certificate}{key}")).unwrap();
    }
    let link = folder.path().join("now");
    std::os::unix::fs::symlink("v0", &link).unwrap();
    let file = link.join("both.pem");
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [\"{}\"]", file.display()))).await;
    let next = folder.path().join("next");
    std::os::unix::fs::symlink("v1", &next).unwrap();
    std::fs::rename(&next, &link).unwrap();
    proxy.counts("ringway_tls_reloads_total", &["result=\"success\""], 1.0).await;
    let session = handshake(&proxy, &Arc::new(authority.client(None)), "a.example").await.unwrap();
    let shown = session.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(shown, CertificateDer::from_pem_slice(pairs[1].0.as_bytes()).unwrap().to_vec());
}

#[tokio::test]
async fn silence_and_plain_words_end_a_handshake() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let text = format!("certificates = [{certificates}]\nhandshake_timeout = \"1s\"");
    let proxy = Proxy::start(&secured(&[&origin], &text)).await;
    let mut silent = Client::connect(proxy.address).await;
    silent.is_closed().await;
    proxy.counts("ringway_tls_handshakes_total", &["result=\"timeout\""], 1.0).await;
    for (request, has_body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), false),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000)), true),
    ] {
        let mut plain = Client::connect(proxy.address).await;
        let method = request.split(' ').next().unwrap();
        let answer = plain.send(&request).await.answer_to(method).await;
        assert_eq!((answer.status, answer.text().contains("https")), (400, has_body), "{method}");
        assert!(plain.is_closed().await, "{method}");
    }
    // No HTTP, and so no answer in it.
    let mut noise = Client::connect(proxy.address).await;
    noise.send([0x80; 100]).await;
    proxy.counts("ringway_refusals_total", &["reason=\"not_secure\""], 3.0).await;
    proxy.counts("ringway_tls_handshakes_total", &["result=\"failed\""], 4.0).await;
    assert!(origin.seen().is_empty());
    eventually("both are gone", || proxy.view().pools[0].members[0].backend.in_flight() == 0).await;
}

#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    use ringway::tls::{CertificateFiles, ClientAuth, ListenerTls, MinVersion, TlsPolicy};
    let (folder, authority) = (Directory::new(), Authority::new());
    let ((certificate, key), other) = (authority.sign(&["a.example"]), authority.sign(&["a.example"]));
    let file = |name: &str, text: &str| folder.file(name, text);
    let (good, its_key) = (file("good.pem", &certificate), file("good.key", &key));
    let problem = |certificate: &Path, key: &Path| {
        let files = CertificateFiles { certificate: certificate.into(), key: key.into(), ocsp: None };
        let policy = TlsPolicy {
            certificates: vec![files],
            min_version: MinVersion::Tls12,
            client_auth: ClientAuth::None,
            client_ca: None,
            handshake_timeout: std::time::Duration::from_secs(1),
            offers_http2: true,
            hsts: None,
            acme: None,
        };
        ListenerTls::load(policy).map_err(|problem| problem.to_string())
    };
    assert!(problem(&good, &its_key).is_ok());
    for (certificate, key, wanted) in [
        (folder.path().join("none.pem"), its_key.clone(), "none.pem: No such file"),
        (its_key.clone(), its_key.clone(), "good.key holds no certificate"),
        (good.clone(), good.clone(), "good.pem holds no private key"),
        (good.clone(), file("other.key", &other.1), "other.key is not that of the first certificate in"),
        (
            file("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            its_key.clone(),
            "the certificate in",
        ),
    ] {
        let problem = problem(&certificate, &key).unwrap_err();
        assert!(problem.contains(wanted), "{problem:?} does not contain {wanted:?}");
    }
}

/// A backend that speaks TLS with this certificate, and wants one of its clients if an authority for them is given.
async fn secured_backend(origin: &Origin, own: &(String, String), clients: Option<&Authority>) -> Relay {
    let builder = rustls::ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificate = CertificateDer::from_pem_slice(own.0.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.1.as_bytes()).unwrap();
    Relay::from_tls(builder.with_single_cert(vec![certificate], key).unwrap(), origin.address).await
}

/// One backend behind TLS, with these keys in the pool's table of TLS.
fn before_secured(relay: &Relay, tls: &str, health: &str) -> String {
    configuration(&[], health, &format!("[pools.p.tls]\n{tls}"))
        .replace("backends = []", &format!("backends = [\"{}\"]", relay.address))
}

#[tokio::test]
async fn backends_prove_who_they_are() {
    let (folder, authority, stranger) = (Directory::new(), Authority::new(), Authority::new());
    let origin = Origin::with("one", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        while let Some(seen) = peer.request().await {
            let body = if seen.line().starts_with("POST") { seen.body } else { vec![b'y'; 300_000] };
            let head = format!("HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: {}\r\n\r\n", body.len());
            peer.stream.write_all(head.as_bytes()).await.unwrap();
            peer.stream.write_all(&body).await.unwrap();
        }
    })
    .await;
    let (roots, others) = (folder.file("ca.pem", &authority.pem), folder.file("others.pem", &stranger.pem));
    let roots = format!("roots = \"{}\"\n", roots.display());
    let by_address = secured_backend(&origin, &authority.sign(&["127.0.0.1"]), None).await;
    let by_name = secured_backend(&origin, &authority.sign(&["cache.internal"]), None).await;
    for (relay, tls, wanted) in [
        (&by_address, roots.clone(), 200),
        (&by_name, roots.clone(), 502),
        (&by_name, format!("{roots}server_name = \"cache.internal\""), 200),
        (&by_name, format!("{roots}server_name = \"other.internal\""), 502),
        (&by_address, format!("roots = \"{}\"", others.display()), 502),
        (&by_name, "danger_accept_any_certificate = true".into(), 200),
    ] {
        let proxy = Proxy::start(&before_secured(relay, &tls, "attempts = 1\n")).await;
        let mut client = Client::connect(proxy.address).await;
        let first = client.get("/", "").await;
        assert_eq!(first.status, wanted, "{tls}");
        if wanted == 502 {
            proxy.counts("ringway_attempts_total", &["result=\"connect_failed\""], 1.0).await;
            continue;
        }
        for size in [0, 200_000] {
            let body = "x".repeat(size);
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
            assert_eq!(client.send(text).await.answer().await.body.len(), size);
            assert_eq!(client.get("/", "").await.body.len(), 300_000);
        }
        proxy.counts("ringway_upstream_connections_opened_total", &[], 1.0).await;
    }
    // What is not TLS at all is no backend of such a pool.
    let talker = Origin::with("plain", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        let _ = peer.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let address = talker.address;
    let plain = Relay::to(move || TcpStream::connect(address)).await;
    let proxy = Proxy::start(&before_secured(&plain, &roots, "")).await;
    assert_eq!(super::support::get(proxy.address, "/", "").await.status, 502);
}

#[tokio::test]
async fn backends_are_shown_a_certificate_and_probed_the_same_way() {
    let (folder, authority, clients) = (Directory::new(), Authority::new(), Authority::new());
    let origin = Origin::named("one").await;
    let relay = secured_backend(&origin, &authority.sign(&["127.0.0.1"]), Some(&clients)).await;
    let roots = folder.file("ca.pem", &authority.pem);
    let own = clients.sign(&["proxy.internal"]);
    let (certificate, key) = (folder.file("own.pem", &own.0), folder.file("own.key", &own.1));
    let tls = format!(
        "roots = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        roots.display(),
        certificate.display(),
        key.display()
    );
    let health =
        "[pools.p.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"5s\"\nrise = 1\nfall = 1\n";
    let proxy = Proxy::start(&before_secured(&relay, &tls, health)).await;
    assert_eq!(super::support::get(proxy.address, "/", "").await.backend(), "one");
    assert!(origin.all().iter().any(|seen| seen.line().contains("/health")));
    // Without the certificate it is down: the probe finds out before a request does.
    let roots_only = format!("roots = \"{}\"", roots.display());
    let proxy = Proxy::start(&before_secured(&relay, &roots_only, health)).await;
    proxy.sees(&relay.address.to_string(), ringway::fleet::Standing::Down).await;
    assert_eq!(super::support::get(proxy.address, "/", "").await.status, 503);
}

#[tokio::test]
async fn nothing_is_forgotten_while_a_second_attempt_connects() {
    let authority = Authority::new();
    // On a connection that has been used, the answer is what comes next; on a new one, tickets of TLS may.
    let late = Origin::with("late", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        peer.request().await;
        let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        while peer.request().await.is_some() {}
    })
    .await;
    let first = secured_backend(&late, &authority.sign(&["127.0.0.1"]), None).await;
    // It is never done with its handshake.
    let mute = Origin::with("mute", |peer| async move {
        let _open = peer;
        std::future::pending().await
    })
    .await;
    let pool = "repeats.hedge_after = \"10ms\"\ntimeouts.connect = \"1m\"\ntimeouts.response_head = \"2s\"\n";
    let text = before_secured(&first, "danger_accept_any_certificate = true\n", pool);
    let proxy =
        Proxy::start(&text.replace("backends = [", &format!("backends = [\"{}\", ", mute.address))).await;
    let ring = proxy.view().pools[0].ring.clone();
    let owns = |key: &String| {
        let owner = ring.owner(ringway::ring::Place::of(key.as_bytes())).unwrap();
        *ring.member(owner).name == *first.address.to_string()
    };
    let key = (0..).map(|i| format!("key-{i}")).find(owns).unwrap();
    let ask = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
    // The client leaves,
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.send(&ask).await.answer().await.status, 200);
    client.send(&ask).await;
    eventually("the second one is asked", || mute.connections() == 1).await;
    drop(client);
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    // or the first one takes too long.
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.send(&ask).await.answer().await.status, 200);
    client.send(&ask).await;
    eventually("the second one is asked", || mute.connections() == 2).await;
    proxy.counts("ringway_attempts_total", &["result=\"timeout\""], 1.0).await;
}

#[tokio::test]
async fn a_listener_can_send_its_clients_to_the_one_that_speaks_tls() {
    let origin = Origin::named("one").await;
    let address = "address = \"127.0.0.1:0\"\n";
    for (port, shown) in [(443, ""), (8443, ":8443")] {
        let listener = format!("{address}redirect_to_https = {port}\n");
        let rest = "[client]\ntrusted_proxies = [\"127.0.0.1\"]";
        let text = configuration(&[&origin], "", rest).replacen(address, &listener, 1);
        let proxy = Proxy::start(&text).await;
        let mut client = Client::connect(proxy.address).await;
        for (request, wanted) in [
            (
                "GET /a%20b?c=d HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
                format!("https://a.example{shown}/a%20b?c=d"),
            ),
            ("GET http://b.example HTTP/1.1\r\nHost: x\r\n\r\n", format!("https://b.example{shown}/")),
            (
                "POST /up HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 2\r\n\r\nxx",
                format!("https://[::1]{shown}/up"),
            ),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", format!("https://a{shown}/")),
        ] {
            let answer = client.send(request).await.answer().await;
            assert_eq!((answer.status, answer.header("location")), (308, Some(&*wanted)), "{request}");
        }
        let nameless =
            Client::connect(proxy.address).await.send("GET / HTTP/1.0\r\n\r\n").await.answer().await;
        assert_eq!(nameless.status, 400);
        assert!(origin.seen().is_empty());
        proxy.counts("ringway_requests_total", &["class=\"3xx\""], 4.0).await;
        proxy.counts("ringway_refusals_total", &["reason=\"redirected\""], 4.0).await;
        if port == 8443 {
            // A trusted proxy in front has taken the TLS off already.
            assert_eq!(client.get("/", "X-Forwarded-Proto: https\r\n").await.backend(), "one");
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all_of_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const LENGTH: usize = 10_000;
    const REQUESTS: usize = 2000;
    let (folder, authority) = (Directory::new(), Authority::new());
    let body = "y".repeat(LENGTH);
    let reply = format!("HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: {LENGTH}\r\n\r\n{body}");
    let origin = Origin::answering("one", reply.as_bytes()).await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [{certificates}]"))).await;
    let mut session = handshake(&proxy, &Arc::new(authority.client(None)), "a.example").await.unwrap();
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    session.write_all(format!("{}{last}", one.repeat(REQUESTS - 1)).as_bytes()).await.unwrap();
    session.flush().await.unwrap();
    // Until nothing moves any more: every buffer on the way is full, and answers wait in the session.
    let mut before = 0.0;
    soon("nothing moves any more", async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let now = proxy.metric("ringway_requests_total", &["class=\"2xx\""]).await;
            if now > 0.0 && now == std::mem::replace(&mut before, now) {
                return;
            }
        }
    })
    .await;
    assert!(before < REQUESTS as f64, "the buffers take all of it: the test shows nothing");
    let mut all = Vec::new();
    soon("all answers and the end", session.read_to_end(&mut all)).await.expect("an end with a last word");
    assert_eq!(all.iter().filter(|byte| **byte == b'y').count(), REQUESTS * LENGTH);
    proxy.counts("ringway_requests_total", &["class=\"2xx\""], REQUESTS as f64).await;
}

#[tokio::test]
async fn one_that_has_ended_keeps_no_other_from_being_renewed() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let origin = Origin::named("one").await;
    let ended =
        authority.sign_with(&["a.example"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let rows = [pair(&folder, "a", &ended), pair(&folder, "b", &authority.sign(&["b.example"]))];
    let text = secured(&[&origin], &format!("certificates = [{}]", rows.join(", ")));
    // It is served, and named by `check`.
    let policy = ringway::config::parse(&text, "test.toml").unwrap().config.listeners[0].tls.clone().unwrap();
    let problems = ringway::tls::ListenerTls::problems(&policy);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().contains("a.pem ended at 2020-01-01T00:00:00Z"), "{problems:?}");
    let proxy = Proxy::start(&text).await;
    let new = authority.sign(&["b.example"]);
    pair(&folder, "b", &new);
    proxy.counts("ringway_tls_reloads_total", &["result=\"success\""], 1.0).await;
    let session = handshake(&proxy, &Arc::new(authority.client(None)), "b.example").await.unwrap();
    let shown = session.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(shown, CertificateDer::from_pem_slice(new.0.as_bytes()).unwrap().to_vec());
}

#[tokio::test]
async fn http2_is_spoken_with_those_who_ask_for_it() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let reply = [b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n", &[b'x'; 70_000][..]].concat();
    let origin = Origin::answering("one", &reply).await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    for (http2, wanted) in [("auto", Some(&b"h2"[..])), ("off", Some(b"http/1.1"))] {
        let text = secured(&[&origin], &format!("certificates = [{certificates}]"));
        let text = text.replacen("[listeners.tls]", &format!("http2 = \"{http2}\"\n[listeners.tls]"), 1);
        let proxy = Proxy::start(&text).await;
        let mut config = authority.client(None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let session = handshake(&proxy, &Arc::new(config), "a.example").await.unwrap();
        assert_eq!(session.get_ref().1.alpn_protocol(), wanted, "{http2}");
        if http2 == "off" {
            continue;
        }
        let mut client = super::support::http2::speak(session).await;
        for _ in 0..3 {
            let answer =
                super::support::http2::ask(&mut client, super::support::http2::get("/")).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 70_000));
        }
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        proxy.counts("ringway_http2_connections_total", &[], 1.0).await;
    }
}

#[tokio::test]
async fn all_answers_by_tls_say_so_where_the_listener_does() {
    let (folder, authority) = (Directory::new(), Authority::new());
    let reply = "HTTP/1.1 200 OK\r\nstrict-TRANSPORT-security: max-age=1\r\ncontent-length: 0\r\n\r\n";
    let origin = Origin::answering("one", reply.as_bytes()).await;
    let certificates = pair(&folder, "a", &authority.sign(&["a.example"]));
    let hsts = "max-age=31536000; includeSubDomains";
    let own = "set = { strict-transport-security = \"max-age=0\" }";
    let routes = format!(
        "[[routes]]\npath_prefix = \"/app\"\npool = \"p\"\n\
         [[routes]]\npath_prefix = \"/own\"\npool = \"p\"\n[routes.response_headers]\n{own}\n"
    );
    let text = secured(&[&origin], &format!("certificates = [{certificates}]\nhsts = \"{hsts}\"")) + &routes;
    let proxy = Proxy::start(&text).await;
    let said = |head: &str| -> Vec<String> {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let of_hsts = lines.filter(|(name, _)| name.eq_ignore_ascii_case("strict-transport-security"));
        of_hsts.map(|(_, value)| value.to_owned()).collect()
    };
    let relay = through(&proxy, authority.client(None), "a.example").await;
    for (request, status, wanted) in [
        ("GET /app HTTP/1.1\r\nHost: a.example\r\n\r\n", 200, hsts),
        ("GET /own HTTP/1.1\r\nHost: a.example\r\n\r\n", 200, "max-age=0"),
        ("GET /none HTTP/1.1\r\nHost: a.example\r\n\r\n", 404, hsts),
        ("GET /app HTTP/1.1\r\nHost : a.example\r\n\r\n", 400, hsts),
    ] {
        let answer = Client::connect(relay.address).await.send(request).await.answer().await;
        assert_eq!((answer.status, said(&answer.head)), (status, vec![wanted.to_owned()]), "{request}");
    }
    let mut config = authority.client(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let session = handshake(&proxy, &Arc::new(config), "a.example").await.unwrap();
    let mut client = super::support::http2::speak(session).await;
    for (path, status, wanted) in [("/app", 200, hsts), ("/own", 200, "max-age=0"), ("/none", 404, hsts)] {
        let answer = super::support::http2::ask(&mut client, super::support::http2::get(path)).await.unwrap();
        let values: Vec<_> = answer.fields.get_all("strict-transport-security").iter().collect();
        let values: Vec<&str> = values.iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((answer.status, values), (status, vec![wanted]), "{path}");
    }
    let request = http::Request::post("https://a.example/none").header("content-type", "application/grpc");
    let answer = super::support::http2::ask(&mut client, request.body(()).unwrap()).await.unwrap();
    assert_eq!((answer.field("grpc-status"), answer.field("strict-transport-security")), ("12", hsts));
    // What the backend says is its own affair where the listener says nothing.
    let proxy = Proxy::start(&secured(&[&origin], &format!("certificates = [{certificates}]"))).await;
    let relay = through(&proxy, authority.client(None), "a.example").await;
    assert_eq!(said(&super::support::get(relay.address, "/", "").await.head), ["max-age=1"]);
}

#[test]
fn an_authority_that_is_not_there_is_named_with_the_cause_and_no_certificate_yet_is_no_error() {
    use super::support::process::{Running, run};
    let (folder, closed) = (Directory::new(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}/directory", closed.local_addr().unwrap());
    drop(closed);
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[listeners.tls.acme]\nnames = [\"a.example\"]\nfolder = {:?}\ndirectory = {url:?}\n\
         [admin]\naddress = \"127.0.0.1:0\"\n[pools.p]\nbackends = [\"127.0.0.1:9\"]\n[pools.p.health]\nkind = \"off\"\n",
        folder.path().join("acme")
    );
    let file = folder.file("ringway.toml", &text);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "-c", file.to_str().unwrap()]).stdin(std::process::Stdio::null());
    let (running, told) = Running::start_and_listen(command, Directory::new());
    assert!(!told.iter().any(|line| line.contains("ended at")), "{told:?}");
    let failed = match told.into_iter().find(|line| line.contains("no certificate came of it")) {
        Some(line) => line,
        None => running.wait_for_line("no certificate came of it"),
    };
    assert!(failed.contains(&url) && failed.contains("Connection refused"), "{failed}");
    // What stands in for it until then is no reason to refuse the configuration.
    let checked = run(&["check", "--quiet", "-c", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
}
