//! What users of other proxies with consistent hashing complain about most, each as a test that it does not happen here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ringway::{
    fleet::{
        Applied, Event, Fact, Fleet, MemberPolicy, Moment, OnAllDown, Orders, Outcome, PoolPlan, Slot,
        Standing, Thresholds,
    },
    proxy::{
        choose::{Candidates, Next, Rules},
        policy::WhenFull,
    },
    ring::{Place, Ring, Weight},
    tally::Refusal,
};
use tokio::{io::AsyncWriteExt, sync::Semaphore, task::JoinSet};

use super::support::{
    Client, Origin, Proxy, eventually, get, process::Directory, proxy::configuration, soon,
};

/// Probes that find out at once.
const PROBED: &str = "[pools.p.health]\nkind = \"tcp\"\ninterval = \"100ms\"\nchanging_interval = \"20ms\"\nrise = 1\nfall = 1\n";

async fn origins(names: &[&str]) -> Vec<Origin> {
    let mut all = Vec::new();
    for name in names {
        all.push(Origin::named(name).await);
    }
    all
}

async fn owners(proxy: &Proxy, keys: u32) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for key in 0..keys {
        let answer = get(proxy.address, "/", &format!("X-Key: {key}\r\n")).await;
        assert_eq!(answer.status, 200);
        found.insert(key, answer.text().to_owned());
    }
    found
}

/// An origin that answers once the gate lets it.
async fn gated(name: &str, gate: &Arc<Semaphore>) -> Origin {
    let (gate, own) = (gate.clone(), name.to_owned());
    Origin::with(name, move |mut peer| {
        let (gate, name) = (gate.clone(), own.clone());
        async move {
            while peer.request().await.is_some() {
                let _pass = gate.acquire().await.unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n{name}",
                    name.len()
                );
                if peer.stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn members(names: &[&str]) -> Vec<MemberPolicy> {
    let member = |name: &&str| MemberPolicy {
        name: (*name).into(),
        address: "127.0.0.1:1".parse().unwrap(),
        weight: Weight::ONE,
    };
    names.iter().map(member).collect()
}

fn moment() -> Moment {
    Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

const ANY: Rules =
    Rules { attempts: 3, on_all_down: OnAllDown::Refuse, owner_only: false, when_full: WhenFull::Next };

#[tokio::test]
async fn pain_01_keys_of_healthy_backends_stay_when_another_goes_away() {
    let mut origins = origins(&["a", "b", "c", "d"]).await;
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), PROBED).await;
    let before = owners(&proxy, 200).await;
    origins[1].stop();
    proxy.sees("b", Standing::Down).await;
    for (key, now) in owners(&proxy, 200).await {
        assert!(before[&key] == now || before[&key] == "b", "{key} moved from {} to {now}", before[&key]);
    }
}

#[tokio::test]
async fn pain_02_a_repeat_goes_to_another_backend_than_the_dead_one() {
    let mut origins = origins(&["a", "b", "c"]).await;
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), "").await;
    origins[0].stop();
    owners(&proxy, 100).await;
    let twice = proxy.metric("ringway_attempts_total", &["backend=\"a\"", "result=\"connect_failed\""]).await;
    let repeats = proxy.metric("ringway_repeats_total", &["reason=\"connect_failed\""]).await;
    assert!(twice > 0.0);
    assert_eq!(twice, repeats, "each failure led to one repeat, and none of them failed");
}

#[tokio::test]
async fn pain_03_a_hot_key_does_not_melt_its_owner() {
    let gate = Arc::new(Semaphore::new(0));
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d"] {
        origins.push(gated(name, &gate).await);
    }
    let pool = "[pools.p.load]\nfactor = 1.25\nfloor = 4\n";
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), pool).await;
    let address = proxy.address;
    let mut requests = JoinSet::new();
    for _ in 0..40 {
        requests.spawn(async move { get(address, "/", "X-Key: hot\r\n").await.backend().to_owned() });
    }
    proxy.counts("ringway_requests_in_flight", &[], 40.0).await;
    // 1.25 times the mean, rounded up, and one for each of the two workers that count at the same time.
    for backend in ["a", "b", "c", "d"] {
        let label = format!("backend=\"{backend}\"");
        let in_flight = proxy.metric("ringway_requests_in_flight", &[&label]).await;
        assert!(in_flight <= 13.0 + 2.0, "{backend} has {in_flight}");
    }
    gate.add_permits(1000);
    let mut by_backend = HashMap::new();
    while let Some(backend) = soon("an answer", requests.join_next()).await {
        *by_backend.entry(backend.unwrap()).or_insert(0) += 1;
    }
    let spilled = proxy.metric("ringway_affinity_requests_total", &["reason=\"spill\""]).await;
    let owner = proxy.api("/api/lookup?key=hot").await["owners"][0]["backend"].as_str().unwrap().to_owned();
    assert_eq!(spilled, f64::from(40 - by_backend[&owner]));
}

#[tokio::test]
async fn a_quiet_pool_keeps_every_key_at_its_owner() {
    let gate = Arc::new(Semaphore::new(0));
    let mut origins = Vec::new();
    for name in ["a", "b", "c"] {
        origins.push(gated(name, &gate).await);
    }
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), "").await;
    let address = proxy.address;
    let mut requests = JoinSet::new();
    // More than 1.25 times the mean, and below the floor.
    for _ in 0..3 {
        requests.spawn(async move { get(address, "/", "X-Key: hot\r\n").await.backend().to_owned() });
    }
    proxy.counts("ringway_requests_in_flight", &[], 3.0).await;
    gate.add_permits(100);
    let first = soon("an answer", requests.join_next()).await.unwrap().unwrap();
    while let Some(backend) = requests.join_next().await {
        assert_eq!(backend.unwrap(), first);
    }
    assert_eq!(proxy.off_owner().await, 0.0);
}

#[tokio::test]
async fn pain_05_a_full_owner_sends_on_waits_or_refuses_as_the_pool_says() {
    for (when_full, further) in [("next", 200), ("refuse", 503), ("queue", 200)] {
        let gate = Arc::new(Semaphore::new(0));
        let origins = [gated("a", &gate).await, gated("b", &gate).await];
        let pool = format!("[pools.p.load]\nmax_in_flight = 1\nwhen_full = \"{when_full}\"\n");
        let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), &pool).await;
        let address = proxy.address;
        let ask = move || async move { get(address, "/", "X-Key: k\r\n").await };
        let first = tokio::spawn(ask());
        proxy.counts("ringway_requests_in_flight", &[], 1.0).await;
        let second = tokio::spawn(ask());
        match when_full {
            "next" => proxy.counts("ringway_requests_in_flight", &[], 2.0).await,
            "queue" => proxy.counts("ringway_requests_waiting", &[], 1.0).await,
            _ => proxy.counts("ringway_refusals_total", &["reason=\"full\""], 1.0).await,
        }
        gate.add_permits(10);
        let (first, second) = (first.await.unwrap(), soon("the second", second).await.unwrap());
        assert_eq!((first.status, second.status), (200, further), "{when_full}");
        let is_same = second.status == 200 && first.text() == second.text();
        assert_eq!(is_same, when_full == "queue", "{when_full}");
    }
}

#[test]
fn pain_06_a_backend_that_comes_gets_its_keys_one_after_the_other_and_each_once() {
    let mut now = moment();
    let mut plan = PoolPlan::new("p", 128, members(&["a", "b", "c", "d"]));
    plan.ramp = Duration::from_secs(30);
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    let mut fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
    let ids: Vec<usize> = fleet.backends().map(|(_, backend)| backend.id).collect();
    let probe = |fleet: &mut Fleet, at: usize, passes: bool, now: Moment| {
        let outcome = if passes { Outcome::Pass } else { Outcome::fail("no") };
        fleet.apply(Event { backend: ids[at], fact: Fact::Probed(outcome) }, now)
    };
    (0..4).for_each(|at| drop(probe(&mut fleet, at, true, now)));
    let keys: Vec<Place> = (0..10_000_u32).map(|key| Place::of(&key.to_be_bytes())).collect();
    let chosen = |fleet: &mut Fleet, now: Moment| -> Vec<u32> {
        let view = fleet.view();
        let first =
            |place: &Place| match Candidates::new(&view.pools[0], *place, now.instant, ANY).next_backend() {
                Next::Try(member, _) => member.0,
                other => panic!("{other:?}"),
            };
        keys.iter().map(first).collect()
    };
    let whole = chosen(&mut fleet, now);
    assert!(matches!(probe(&mut fleet, 1, false, now), Applied::Changed(_)));
    let without = chosen(&mut fleet, now);
    assert!(matches!(probe(&mut fleet, 1, true, now), Applied::Changed(_)));
    let (mut last, mut moves, mut steps) = (chosen(&mut fleet, now), vec![0; keys.len()], 0);
    assert_eq!(last, without, "none has moved yet");
    for _ in 0..100 {
        now.instant += Duration::from_millis(400);
        fleet.tick(now);
        let next = chosen(&mut fleet, now);
        let moved = (0..keys.len()).filter(|&key| next[key] != last[key]);
        let before: u32 = moves.iter().sum();
        moved.for_each(|key| moves[key] += 1);
        steps += usize::from(moves.iter().sum::<u32>() > before);
        last = next;
    }
    assert_eq!(last, whole, "all have come home");
    for key in 0..keys.len() {
        assert_eq!(moves[key], u32::from(whole[key] != without[key]), "key {key}");
    }
    assert!(steps > 50, "they came in {steps} steps");
}

#[tokio::test]
async fn pain_08_a_backend_keeps_its_keys_when_its_address_changes() {
    let (a, b, b2) = (Origin::named("a").await, Origin::named("b").await, Origin::named("b").await);
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&a, &b], "", ""));
    let proxy = Proxy::from_file(&file).await;
    let before = owners(&proxy, 100).await;
    std::fs::write(&file, configuration(&[&a, &b2], "", "")).unwrap();
    let report = proxy.reloader().reload().await.unwrap();
    assert_eq!((report.changed, report.moved.len()), (vec!["p/b".to_owned()], 0));
    assert_eq!(owners(&proxy, 100).await, before);
    assert!(!b2.seen().is_empty());
}

#[tokio::test]
async fn pain_09_and_12_proxies_agree_whatever_the_order_of_their_lists() {
    let origins = origins(&["a", "b", "c", "d", "e"]).await;
    let forwards: Vec<&Origin> = origins.iter().collect();
    let backwards: Vec<&Origin> = origins.iter().rev().collect();
    let (one, two) = (Proxy::before(&forwards, "").await, Proxy::before(&backwards, "").await);
    let fingerprint =
        |told: serde_json::Value| told["pools"][0]["serving_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint(one.api("/api/pools").await), fingerprint(two.api("/api/pools").await));
    assert_eq!(owners(&one, 100).await, owners(&two, 100).await);
}

#[test]
fn pain_11_keys_are_spread_evenly_by_default() {
    let names: Vec<String> = (0..10).map(|i| format!("cache-{i}")).collect();
    let ring = Ring::build(names.iter().map(|name| (name.as_str().into(), Weight::ONE)), 512).unwrap();
    assert!(ring.imbalance() < 1.15, "{}", ring.imbalance());
    assert!(ring.expected_imbalance() < 1.1, "{}", ring.expected_imbalance());
}

#[tokio::test]
async fn pain_14_nobody_but_the_owner_serves_a_key_where_the_pool_is_strict() {
    for (affinity, method, wanted) in
        [("strict", "GET", 503), ("strict-writes", "GET", 200), ("strict-writes", "POST", 503)]
    {
        let mut origins = origins(&["a", "b"]).await;
        let proxy = Proxy::before(
            &origins.iter().collect::<Vec<_>>(),
            &format!("affinity = \"{affinity}\"\n{PROBED}"),
        )
        .await;
        let before = owners(&proxy, 40).await;
        origins[0].stop();
        proxy.sees("a", Standing::Down).await;
        for (key, owner) in before {
            let mut client = super::support::Client::connect(proxy.address).await;
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: x\r\nX-Key: {key}\r\nContent-Length: 0\r\n\r\n"))
                .await;
            let answer = client.answer().await;
            assert_eq!(answer.status, if owner == "a" { wanted } else { 200 }, "{affinity} {method} {key}");
            if answer.status == 503 {
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
    }
}

#[tokio::test]
async fn pain_15_a_backend_that_goes_up_and_down_stays_out_longer() {
    let mut origins = origins(&["a", "b"]).await;
    let pool = format!("{PROBED}[pools.p.passive]\nflaps = 2\nejection = \"1h\"\nmax_ejection = \"1h\"\n");
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), &pool).await;
    for _ in 0..2 {
        origins[0].stop();
        proxy.sees("a", Standing::Down).await;
        origins[0].start_again().await;
        proxy.sees("a", Standing::Serving).await;
    }
    origins[0].stop();
    proxy.sees("a", Standing::Down).await;
    origins[0].start_again().await;
    proxy.sees("a", Standing::Ejected).await;
    let told = proxy.api("/api/pools").await;
    let backend = &told["pools"][0]["backends"][0];
    assert!(backend["reason"].as_str().unwrap().starts_with("flapping"), "{backend}");
    assert_eq!(backend["said"]["probes"], "up");
}

#[tokio::test]
async fn pain_17_requests_are_not_sent_to_the_dead_and_come_back_with_the_living() {
    let mut origins = origins(&["a", "b"]).await;
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), PROBED).await;
    origins.iter_mut().for_each(Origin::stop);
    proxy.sees("a", Standing::Down).await;
    proxy.sees("b", Standing::Down).await;
    let attempts = proxy.metric("ringway_attempts_total", &[]).await;
    for key in 0..20 {
        let answer = get(proxy.address, "/", &format!("X-Key: {key}\r\n")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    }
    assert_eq!(proxy.metric("ringway_attempts_total", &[]).await, attempts);
    origins[1].start_again().await;
    proxy.sees("b", Standing::Serving).await;
    assert_eq!(get(proxy.address, "/", "").await.text(), "b");
}

#[test]
fn pain_18_the_last_healthy_backend_is_found_from_every_key() {
    let names: Vec<String> = (0..40).map(|i| format!("b{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = PoolPlan::new("p", 64, members(&names));
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    for alone in 0..names.len() {
        let now = moment();
        let mut fleet = Fleet::new(vec![plan.clone()], Orders::default(), 1, now).unwrap();
        let ids: Vec<usize> = fleet.backends().map(|(_, backend)| backend.id).collect();
        for (at, backend) in ids.into_iter().enumerate() {
            let outcome = if at == alone { Outcome::Pass } else { Outcome::fail("no") };
            fleet.apply(Event { backend, fact: Fact::Probed(outcome) }, now);
        }
        let view = fleet.view();
        for key in 0..500_u32 {
            let place = Place::of(&key.to_be_bytes());
            let next = Candidates::new(&view.pools[0], place, now.instant, ANY).next_backend();
            assert!(
                matches!(next, Next::Try(member, _) if member.as_usize() == alone),
                "{alone} {key} {next:?}"
            );
        }
    }
}

#[test]
fn pain_19_with_all_down_the_ring_is_not_walked() {
    let names: Vec<String> = (0..1000).map(|i| format!("b{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = PoolPlan::new("p", 512, members(&names));
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    let now = moment();
    let mut fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
    let ids: Vec<usize> = fleet.backends().map(|(_, backend)| backend.id).collect();
    for backend in ids {
        fleet.apply(Event { backend, fact: Fact::Probed(Outcome::fail("no")) }, now);
    }
    let view = fleet.view();
    // Walks of half a million nodes each would not end before the runner's patience does.
    for key in 0..1_000_000_u64 {
        let place = Place(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!(matches!(
            Candidates::new(&view.pools[0], place, now.instant, ANY).next_backend(),
            Next::Nobody
        ));
    }
}

#[test]
fn with_all_full_the_ring_is_not_walked_to_its_end() {
    let names: Vec<String> = (0..400).map(|i| format!("b{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = PoolPlan::new("p", 512, members(&names));
    plan.load.max_in_flight = Some(1);
    let now = moment();
    let mut fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
    let view = fleet.view();
    let pool = &view.pools[0];
    let slots: Vec<_> = pool.members.iter().map(|member| Slot::keep(&member.backend)).collect();
    // Two walks of 200 000 nodes each would take too long for the runner.
    for key in 0..2000_u64 {
        let place = Place(key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut candidates = Candidates::new(pool, place, now.instant, ANY);
        assert!(matches!(candidates.next_backend(), Next::Nobody));
        assert_eq!(candidates.refusal(), Refusal::Full);
    }
    drop(slots);
    let free = Candidates::new(pool, Place(1), now.instant, ANY).next_backend();
    assert!(matches!(free, Next::Try(..)));
}

#[test]
fn pain_20_a_ring_too_large_is_refused_before_it_is_built() {
    let mut plan = PoolPlan::new("p", 65_536, members(&["a", "b"]));
    plan.members[0].weight = Weight::MAX;
    let mut fleet =
        Fleet::new(vec![PoolPlan::new("p", 64, members(&["a"]))], Orders::default(), 1, moment()).unwrap();
    let error = fleet.prepare(vec![plan]).unwrap_err().to_string();
    assert!(error.contains("too many"), "{error}");
    assert_eq!(fleet.view().pools[0].ring.node_count(), 64);
}

#[tokio::test]
async fn pain_21_a_member_without_weight_is_drained_and_harms_nobody() {
    let origins = origins(&["a", "b"]).await;
    let entries = format!(
        "[{}, {{ name = \"z\", address = \"{}\", weight = 0 }}]",
        origins[0].entry(),
        origins[1].address
    );
    let text = configuration(&[], "", "").replace("backends = []", &format!("backends = {entries}"));
    let proxy = Proxy::start(&text).await;
    proxy.sees("z", Standing::Drained).await;
    assert!(owners(&proxy, 50).await.values().all(|owner| owner == "a"));
}

#[tokio::test]
async fn pain_22_a_change_of_the_pool_forgets_nothing_about_those_that_stay() {
    let mut origins = origins(&["a", "b", "c"]).await;
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&origins[0], &origins[1]], PROBED, ""));
    let proxy = Proxy::from_file(&file).await;
    origins[0].stop();
    proxy.sees("a", Standing::Down).await;
    let since = proxy.view().pools[0].members[0].since;
    std::fs::write(&file, configuration(&origins.iter().collect::<Vec<_>>(), PROBED, "")).unwrap();
    proxy.reloader().reload().await.unwrap();
    let view = proxy.view();
    let member = &view.pools[0].members[0];
    assert_eq!((&*member.backend.name, member.standing, member.since), ("a", Standing::Down, since));
    // No request meets it.
    assert!(owners(&proxy, 50).await.values().all(|owner| owner != "a"));
}

#[tokio::test]
async fn long_answers_take_no_room_from_others_under_a_bound_that_follows_latency() {
    let origin = Origin::with("one", |mut peer| async move {
        while let Some(seen) = peer.request().await {
            if seen.line().contains("/long") {
                let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
                peer.stream.write_all(begun).await.unwrap();
                return std::future::pending().await;
            }
            peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let pool = "[pools.p.load]\nadaptive = true\nwhen_full = \"queue\"\nqueue_timeout = \"1m\"\n";
    let proxy = Proxy::before(&[&origin], pool).await;
    let view = proxy.view();
    let load = &view.pools[0].members[0].backend.load;
    // While it measures, four may wait for their answers. Six have them.
    eventually("it measures", || load.limit() == Some(4)).await;
    let mut long = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        soon("its answer begins", client.until(b"\r\n\r\n1\r\nx\r\n")).await.unwrap();
        long.push(client);
    }
    assert_eq!(get(proxy.address, "/", "").await.status, 200);
    eventually("there is room for four more", || load.limit() == Some(10)).await;
    // Those that have ended take their room along.
    drop(long);
    eventually("all have ended", || load.limit() == Some(4) && load.in_flight() == 0).await;
}
