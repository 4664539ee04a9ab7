//! Why requests go where they go, as metrics and answers tell it, and how much of the keyspace is not where it should be.

use ringway::{
    admin::Operator,
    fleet::{Order, Standing},
    ring::Place,
};

use super::support::{
    Answer, Client, Origin, Proxy, get, http2 as h2, process::Directory, proxy::configuration,
};

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

const TRUSTED: &str = "[client]\ntrusted_proxies = [\"127.0.0.1\"]\n";
const ASKS: &str = "Ringway-Explain: 1\r\n";

/// A backend that closes each connection when a request has come.
async fn closing(name: &str) -> Origin {
    Origin::with(name, |mut peer| async move {
        peer.request().await;
    })
    .await
}

/// One that claims to know where the request went.
async fn lying(name: &str) -> Origin {
    let reply = format!(
        "HTTP/1.1 200 OK\r\nx-backend: {name}\r\nRingway-Owner: me\r\nringway-repeated: 99\r\ncontent-length: 2\r\n\r\nok"
    );
    Origin::answering(name, reply.as_bytes()).await
}

/// A key that this backend owns, as a header.
fn key_of(proxy: &Proxy, owner: &str) -> String {
    let ring = proxy.view().pools[0].ring.clone();
    let owns = |key: &String| ring.owner(Place::of(key.as_bytes())) == ring.index_of(owner);
    format!("x-key: {}\r\n", (0..).map(|i| format!("secret-{i}")).find(owns).unwrap())
}

/// All that an answer says under our names, by the name's end.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let fields = answer.head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let name = name.to_ascii_lowercase();
        Some((name.strip_prefix("ringway-")?.to_owned(), value.to_owned()))
    });
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    fields
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn answers_tell_those_who_may_know_where_their_requests_went() {
    let (broken, good) = (closing("broken").await, lying("good").await);
    let lies = fields(&[("owner", "me"), ("repeated", "99")]);
    let repeated = fields(&[
        ("attempts", "2"),
        ("backend", "good"),
        ("key-source", "header:x-key"),
        ("owner", "broken"),
        ("reason", "repeat"),
        ("repeated", "broken"),
    ]);
    let at_owner = fields(&[
        ("attempts", "1"),
        ("backend", "good"),
        ("key-source", "header:x-key"),
        ("owner", "good"),
        ("reason", "owner"),
    ]);
    for (explain, rest, asks, is_told) in [
        ("off", TRUSTED, ASKS, false),
        ("trusted", TRUSTED, ASKS, true),
        ("trusted", TRUSTED, "", false),
        ("trusted", "", ASKS, false),
        ("always", "", "", true),
    ] {
        let pool = format!("explain = \"{explain}\"\n");
        let proxy = Proxy::start(&configuration(&[&broken, &good], &pool, rest)).await;
        for (owner, wanted) in [("broken", &repeated), ("good", &at_owner)] {
            let answer = get(proxy.address, "/", &format!("{}{asks}", key_of(&proxy, owner))).await;
            assert_eq!(answer.backend(), "good");
            assert_eq!(&told(&answer), if is_told { wanted } else { &lies }, "{explain} {rest} {asks}");
            assert!(!answer.head.contains("secret-"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn refusals_tell_why_nobody_had_the_request() {
    let (one, two) = (closing("one").await, closing("two").await);
    let proxy = Proxy::before(
        &[&one, &two],
        "explain = \"always\"\non_missing_key = \"refuse\"\nkey = [\"header:x-key\"]\n",
    )
    .await;
    let answer = get(proxy.address, "/", &key_of(&proxy, "one")).await;
    assert_eq!(answer.status, 502);
    let wanted = [
        ("attempts", "2"),
        ("backend", "two"),
        ("key-source", "header:x-key"),
        ("owner", "one"),
        ("reason", "backend_broken"),
        ("repeated", "broken"),
    ];
    assert_eq!(told(&answer), fields(&wanted));
    let answer = get(proxy.address, "/", "").await;
    assert_eq!((answer.status, told(&answer)), (400, fields(&[("attempts", "0"), ("reason", "no_key")])));
}

#[tokio::test]
async fn requests_without_a_key_are_told_what_took_its_place() {
    let one = Origin::named("one").await;
    for (missing, wanted) in [
        (
            "client-address",
            vec![
                ("attempts", "1"),
                ("backend", "one"),
                ("key-source", "client-address (no key)"),
                ("owner", "one"),
                ("reason", "owner"),
            ],
        ),
        ("spread", vec![("attempts", "1"), ("backend", "one"), ("reason", "no_key")]),
    ] {
        let pool =
            format!("explain = \"always\"\non_missing_key = \"{missing}\"\nkey = [\"header:x-key\"]\n");
        let proxy = Proxy::before(&[&one], &pool).await;
        assert_eq!(told(&get(proxy.address, "/", "").await), fields(&wanted), "{missing}");
    }
}

#[tokio::test]
async fn http_2_clients_are_told_the_same() {
    let good = lying("good").await;
    let text = configuration(&[&good], "explain = \"trusted\"\n", TRUSTED).replace(
        "address = \"127.0.0.1:0\"\n\n[server]",
        "address = \"127.0.0.1:0\"\nhttp2 = \"prior-knowledge\"\n\n[server]",
    );
    let proxy = Proxy::start(&text).await;
    let mut client = h2::connect(proxy.address).await;
    let mut request = h2::get("/");
    request.headers_mut().insert("ringway-explain", "1".parse().unwrap());
    let answer = h2::ask(&mut client, request).await.unwrap();
    let names = ["owner", "backend", "reason", "key-source", "attempts", "repeated"];
    let told = names.map(|name| answer.field(&format!("ringway-{name}")).to_owned());
    assert_eq!(told, ["good", "good", "owner", "path", "1", ""]);
    let answer = h2::ask(&mut client, h2::get("/")).await.unwrap();
    assert_eq!(answer.field("ringway-owner"), "me");
}

#[tokio::test]
async fn a_request_without_a_key_is_nobodys_and_counts_only_where_it_went() {
    let mut origins = [Origin::named("a").await, Origin::named("b").await];
    let probed = "affinity = \"strict\"\nkey = [\"header:x-key\"]\non_missing_key = \"spread\"\n[pools.p.health]\ninterval = \"50ms\"\nfall = 1\nrise = 1\n";
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), probed).await;
    origins[0].stop();
    proxy.sees("a", Standing::Down).await;
    // Wherever its way begins: no owner is there to be waited for.
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/", "").await.text(), "b");
    }
    let told = proxy.api("/api/lookup?uri=/").await;
    assert_eq!(told["status"], serde_json::Value::Null, "{told}");
    proxy.counts(AFFINITY, &["reason=\"no_key\""], 20.0).await;
    origins[1].stop();
    proxy.sees("b", Standing::Down).await;
    assert_eq!(get(proxy.address, "/", "").await.status, 503);
    assert_eq!(proxy.api("/api/lookup?uri=/").await["status"], 503);
    assert_eq!(proxy.metric(AFFINITY, &["reason=\"no_key\""]).await, 20.0);
}
