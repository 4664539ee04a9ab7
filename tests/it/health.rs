//! Health checks: what takes a backend out, what brings it back, and what happens when none is left.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use ringway::fleet::Standing;
use tokio::io::AsyncWriteExt;

use super::support::{Origin, Peer, Proxy, get};

const FAST: &str = "interval = \"300ms\"\nchanging_interval = \"10ms\"\n";

/// A backend whose probes are answered with `well` or `ill`.
async fn patient(well: &'static str, ill: &'static str) -> (Origin, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let seen = is_well.clone();
    let origin = Origin::with("one", move |mut peer: Peer| {
        let is_well = seen.clone();
        async move {
            while let Some(seen) = peer.request().await {
                let probe = seen.line().contains("/health");
                let reply = match (probe, is_well.load(SeqCst)) {
                    (true, true) => well,
                    (true, false) => ill,
                    (false, _) => "HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: 0\r\n\r\n",
                };
                if peer.stream.write_all(reply.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (origin, is_well)
}

#[tokio::test]
async fn http_probes_judge_by_status_and_body() {
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall fine!";
    for (bad, reason) in [
        ("HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nall fine!", "status 503"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmeh!", "does not contain"),
        ("garbage\r\n\r\n", "invalid HTTP"),
    ] {
        let (origin, is_well) = patient(good, bad).await;
        let pool = format!(
            "[pools.p.health]\n{FAST}kind = \"http\"\npath = \"/health?x\"\nstatus = [\"200-299\"]\n\
             body_contains = \"fine\"\nheaders = {{ x-probe = \"1\" }}\nhost = \"probe.example\"\n"
        );
        let proxy = Proxy::before(&[&origin], &pool).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 200);
        is_well.store(false, SeqCst);
        proxy.sees("one", Standing::Down).await;
        assert!(
            proxy.view().pools[0].members[0].reason.contains(reason),
            "{}",
            proxy.view().pools[0].members[0].reason
        );
        let answer = get(proxy.address, "/", "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        is_well.store(true, SeqCst);
        proxy.sees("one", Standing::Serving).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 200);
        proxy.counts("ringway_backend_transitions_total", &["backend=\"one\""], 3.0).await;
    }
}

#[tokio::test]
async fn with_all_down_a_pool_can_try_anyway() {
    let (origin, is_well) = patient(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let pool = format!(
        "on_all_down = \"try-anyway\"\n[pools.p.health]\n{FAST}kind = \"http\"\npath = \"/health\"\n"
    );
    let proxy = Proxy::before(&[&origin], &pool).await;
    is_well.store(false, SeqCst);
    proxy.sees("one", Standing::Down).await;
    assert_eq!(get(proxy.address, "/", "").await.backend(), "one");
}

#[tokio::test]
async fn a_view_is_published_for_each_change_and_shares_the_ring() {
    let (origin, is_well) = patient(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let pool = format!("[pools.p.health]\n{FAST}kind = \"http\"\npath = \"/health\"\n");
    let proxy = Proxy::before(&[&origin], &pool).await;
    let before = proxy.view();
    is_well.store(false, SeqCst);
    proxy.sees("one", Standing::Down).await;
    let after = proxy.view();
    assert_eq!(after.revision, before.revision + 1);
    assert!(Arc::ptr_eq(&before.pools[0].ring, &after.pools[0].ring));
    assert_ne!(before.pools[0].serving_fingerprint, after.pools[0].serving_fingerprint);
}

#[tokio::test]
async fn readiness_waits_for_the_first_round() {
    // A backend that accepts and says nothing: the first probe ends with its timeout.
    let origin = Origin::with("one", |peer| async move {
        let _peer = peer;
        std::future::pending::<()>().await;
    })
    .await;
    let text = super::support::proxy::configuration(
        &[&origin],
        "[pools.p.health]\nkind = \"http\"\ntimeout = \"300ms\"\ninterval = \"1s\"\n",
        "",
    );
    let loaded = ringway::config::parse(&text, "test.toml").unwrap();
    let running = ringway::app::Running::start(loaded).unwrap();
    let admin = running.admin.unwrap();
    assert_eq!(get(admin, "/readyz", "").await.status, 503);
    assert_eq!(get(admin, "/livez", "").await.status, 200);
    running.ready().await;
    assert_eq!(get(admin, "/readyz", "").await.status, 200);
    running.stop(std::future::pending()).await;
}

#[tokio::test]
async fn a_host_name_is_resolved_before_traffic_is_accepted() {
    let origin = Origin::named("one").await;
    let entry = format!("{{ name = \"one\", address = \"localhost:{}\" }}", origin.address.port());
    for kind in ["tcp", "off"] {
        let text =
            super::support::proxy::configuration(&[], &format!("[pools.p.health]\nkind = \"{kind}\"\n"), "")
                .replace("backends = []", &format!("backends = [{entry}]"));
        let proxy = Proxy::start(&text).await;
        proxy.sees("one", Standing::Serving).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve_takes_no_requests_and_does_not_block_the_start() {
    let origin = Origin::named("one").await;
    let entries =
        format!("{}, {{ name = \"ghost\", address = \"no-such-host.invalid:80\" }}", origin.entry());
    let text = super::support::proxy::configuration(&[], "[pools.p.health]\nkind = \"tcp\"\n", "")
        .replace("backends = []", &format!("backends = [{entries}]"));
    let proxy = Proxy::start(&text).await;
    for i in 0..30 {
        assert_eq!(get(proxy.address, &format!("/{i}"), "").await.backend(), "one");
    }
    proxy.sees("ghost", Standing::Unresolved).await;
    assert!(proxy.metric("ringway_affinity_requests_total", &["reason=\"owner_unresolved\""]).await > 0.0);
}

#[tokio::test]
async fn a_backend_with_a_host_name_serves_from_the_first_request_on() {
    let origin = Origin::named("one").await;
    let port = origin.address.port();
    for _ in 0..5 {
        let text = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [pools.p]\nkey = [\"path\"]\nbackends = [\"localhost:{port}\"]\n"
        );
        let proxy = Proxy::start(&text).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 200);
    }
}
