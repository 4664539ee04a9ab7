//! Why requests go where they go, as the metrics tell it, and how much of the keyspace is not where it should be.

use ringway::{
    admin::Operator,
    fleet::{Order, Standing},
    ring::Place,
};

use super::support::{Client, Origin, Proxy, process::Directory, proxy::configuration};

const AFFINITY: &str = "ringway_affinity_requests_total";

async fn three() -> (Vec<Origin>, Proxy) {
    let origins = vec![Origin::named("a").await, Origin::named("b").await, Origin::named("c").await];
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), "").await;
    (origins, proxy)
}

/// Sends a request for each of these keys, and tells who answered.
async fn send(proxy: &Proxy, keys: std::ops::Range<u32>) -> Vec<String> {
    let mut client = Client::connect(proxy.address).await;
    let mut backends = Vec::new();
    for key in keys {
        backends.push(client.get("/", &format!("x-key: {key}\r\n")).await.backend().to_owned());
    }
    backends
}

#[tokio::test]
async fn every_request_at_a_backend_is_counted_by_its_reason() {
    let (_origins, proxy) = three().await;
    let before = send(&proxy, 0..90).await;
    proxy.counts(AFFINITY, &["pool=\"p\"", "reason=\"owner\""], 90.0).await;
    assert_eq!(proxy.off_owner().await, 0.0);
    assert_eq!(proxy.metric("ringway_keyspace_away_ratio", &[]).await, 0.0);
    let share = proxy.metric("ringway_ring_share_ratio", &["backend=\"b\""]).await;
    let obeyed = proxy.reloader().obey("p", "b", Order::Drain).await.unwrap();
    assert!((obeyed.share_moved - share).abs() < 1e-9);
    let drained = send(&proxy, 0..90).await;
    let of_b = before.iter().filter(|backend| *backend == "b").count();
    assert!(of_b > 0 && !drained.contains(&"b".to_owned()));
    proxy.counts(AFFINITY, &["reason=\"owner_drained\""], of_b as f64).await;
    proxy.counts(AFFINITY, &["reason=\"owner\""], (180 - of_b) as f64).await;
    assert!((proxy.metric("ringway_keyspace_away_ratio", &[]).await - share).abs() < 1e-9);
    let moved = proxy.metric("ringway_keyspace_moved_ratio_total", &["cause=\"order\""]).await;
    assert!((moved - share).abs() < 1e-8, "{moved}");
    proxy.reloader().obey("p", "b", Order::None).await.unwrap();
    assert_eq!(send(&proxy, 0..90).await, before);
    proxy.counts(AFFINITY, &[], 270.0).await;
    proxy.counts(AFFINITY, &["reason=\"owner_drained\""], of_b as f64).await;
    assert_eq!(proxy.metric("ringway_keyspace_away_ratio", &[]).await, 0.0);
}

#[tokio::test]
async fn a_drained_owner_is_told_by_lookup_too() {
    let (_origins, proxy) = three().await;
    let ring = proxy.view().pools[0].ring.clone();
    let owner_of = |key: &u32| ring.owner(Place::of(key.to_string().as_bytes()));
    let key = (0..).find(|key| owner_of(key) == ring.index_of("b")).unwrap();
    proxy.reloader().obey("p", "b", Order::Drain).await.unwrap();
    let told = proxy.api(&format!("/api/lookup?pool=p&key={key}")).await;
    assert_eq!(told["chosen"]["reason"], "owner_drained", "{told}");
    let owners: Vec<&str> =
        told["owners"].as_array().unwrap().iter().map(|owner| owner["backend"].as_str().unwrap()).collect();
    assert_eq!(
        (owners.len(), owners[0], &told["owners"][0]["skipped"]),
        (3, "b", &"drained".into()),
        "{told}"
    );
    assert!(told["summary"].as_str().unwrap().starts_with("b owns the key but is drained; "), "{told}");
}

#[tokio::test]
async fn keys_on_their_way_to_a_backend_count_as_ramp() {
    let (origins, _) = three().await;
    let all: Vec<&Origin> = origins.iter().collect();
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&all[..2], "ramp = \"1h\"\n", ""));
    let proxy = Proxy::from_file(&file).await;
    send(&proxy, 0..90).await;
    std::fs::write(&file, configuration(&all, "ramp = \"1h\"\n", "")).unwrap();
    proxy.reloader().reload().await.unwrap();
    let share = proxy.metric("ringway_ring_share_ratio", &["backend=\"c\""]).await;
    let away = proxy.metric("ringway_keyspace_away_ratio", &[]).await;
    assert!((share - 0.02..=share).contains(&away), "{away} of {share}");
    let moved = proxy.metric("ringway_keyspace_moved_ratio_total", &["cause=\"reload\""]).await;
    assert!((moved - share).abs() < 1e-8, "{moved}");
    let ring = proxy.view().pools[0].ring.clone();
    let to_come = (0..90_u32).filter(|key| {
        let owner = ring.owner(Place::of(key.to_string().as_bytes()));
        owner == ring.index_of("c")
    });
    let to_come = to_come.count() as f64;
    let later = send(&proxy, 0..90).await;
    let there = later.iter().filter(|backend| *backend == "c").count() as f64;
    proxy.counts(AFFINITY, &[], 180.0).await;
    proxy.counts(AFFINITY, &["reason=\"ramp\""], to_come - there).await;
    assert!(to_come - there > 0.0);
}

#[tokio::test]
async fn a_backend_that_goes_and_comes_moves_its_share_twice() {
    let (mut origins, _) = three().await;
    let quick = "[pools.p.health]\ninterval = \"20ms\"\nchanging_interval = \"20ms\"\nrise = 1\nfall = 1\nkind = \"tcp\"\n";
    let all: Vec<&Origin> = origins.iter().collect();
    let proxy = Proxy::start(&configuration(&all, quick, "")).await;
    let moved = ["cause=\"standing\""];
    assert_eq!(
        proxy.metric("ringway_keyspace_moved_ratio_total", &moved).await,
        0.0,
        "all came at the start"
    );
    let share = proxy.metric("ringway_ring_share_ratio", &["backend=\"a\""]).await;
    origins[0].stop();
    proxy.sees("a", Standing::Down).await;
    assert!((proxy.metric("ringway_keyspace_moved_ratio_total", &moved).await - share).abs() < 1e-8);
    assert!((proxy.metric("ringway_keyspace_away_ratio", &[]).await - share).abs() < 1e-9);
    send(&proxy, 0..30).await;
    assert!(proxy.metric(AFFINITY, &["reason=\"owner_down\""]).await > 0.0);
}
