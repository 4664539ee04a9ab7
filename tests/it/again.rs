//! When a request is sent again, beyond the failures of `repeats`: the time for one attempt, statuses, the budget, the pause before the same
//! backend, and what is told of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ringway::fleet::Standing;
use tokio::io::AsyncWriteExt;

use super::support::{
    Client, Origin, Proxy, eventually, get, http2, process::Directory, proxy::configuration,
};

/// In front of these, with a key that the first one owns. However often they fail, none is ejected: this is about what comes before.
async fn first_owns(origins: &[&Origin], pool: &str, rest: &str) -> (Proxy, String) {
    let pool = format!("{pool}passive.consecutive = 0\npassive.share = 0\n");
    let proxy = Proxy::start(&configuration(origins, &pool, rest)).await;
    let ring = proxy.view().pools[0].ring.clone();
    let owns = |key: &String| {
        let owner = ring.owner(ringway::ring::Place::of(key.as_bytes())).unwrap();
        *ring.member(owner).name == *origins[0].name
    };
    let key = (0..).map(|i| format!("key-{i}")).find(owns).unwrap();
    (proxy, format!("x-key: {key}\r\n"))
}

/// A backend that takes requests and never answers.
async fn stopped(name: &str) -> Origin {
    Origin::with(name, |mut peer| async move { while peer.request().await.is_some() {} }).await
}

/// A backend that reads a request and closes.
async fn closing(name: &str) -> Origin {
    Origin::with(name, |mut peer| async move {
        peer.request().await;
    })
    .await
}

const PUT: &str = "Content-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_stopped_backend_costs_one_per_try_timeout_and_no_answer() {
    let (stopped, good) = (stopped("stopped").await, Origin::named("good").await);
    let (proxy, key) = first_owns(&[&stopped, &good], "repeats.per_try = \"50ms\"\n", "").await;
    let begun = Instant::now();
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "good");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let mut client = Client::connect(proxy.address).await;
    // With an interrupted body it goes the long way.
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 5\r\n\r\nhe")).await;
    eventually("the second attempt", || stopped.connections() == 2).await;
    client.send("llo").await;
    assert_eq!(client.answer().await.backend(), "good");
    assert_eq!(good.seen().last().unwrap().body, b"hello");
    assert_eq!(stopped.seen().len(), 2);
    proxy.counts("ringway_attempts_total", &["backend=\"stopped\"", "result=\"per_try_timeout\""], 2.0).await;
    proxy.counts("ringway_repeats_total", &["reason=\"per_try_timeout\""], 2.0).await;
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"aborted\""], 2.0).await;
}

#[tokio::test]
async fn the_last_attempt_has_all_the_time_that_there_is() {
    let stopped = stopped("stopped").await;
    let slow = Origin::with("slow", |mut peer| async move {
        while peer.request().await.is_some() {
            // Several times what one attempt has.
            tokio::time::sleep(Duration::from_millis(150)).await;
            let answer = b"HTTP/1.1 200 OK\r\nx-backend: slow\r\ncontent-length: 2\r\n\r\nok";
            if peer.stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    let per_try = "repeats.per_try = \"20ms\"\n";
    let (proxy, key) = first_owns(&[&stopped, &slow], per_try, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "slow");
    // So does what may not be sent twice,
    let (proxy, key) = first_owns(&[&slow, &stopped], per_try, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{key}{PUT}")).await;
    assert_eq!(client.answer().await.backend(), "slow");
    // and what the budget does not allow.
    let none = format!("{per_try}repeats.budget = 0\nrepeats.min_per_second = 0\n");
    let (proxy, key) = first_owns(&[&slow, &stopped], &none, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "slow");
    proxy.counts("ringway_repeats_denied_total", &["reason=\"per_try_timeout\""], 1.0).await;
    assert!(stopped.seen().len() == 1);
}

#[tokio::test]
async fn the_whole_exchange_ends_in_time_whatever_an_attempt_may_take() {
    let (stopped, good) = (stopped("stopped").await, Origin::named("good").await);
    let pool = "repeats.per_try = \"10s\"\ntimeouts.total = \"50ms\"\n";
    let (proxy, key) = first_owns(&[&stopped, &good], pool, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.status, 504);
    assert!(good.seen().is_empty());
}

#[tokio::test]
async fn an_answer_with_a_listed_status_is_had_from_the_next_owner() {
    let long = format!("content-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for (answer, kept) in [
        ("content-length: 4\r\n\r\nbusy", true),
        ("content-length: 0\r\n\r\n", true),
        ("transfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n", true),
        ("transfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n", false),
        ("connection: close\r\ncontent-length: 4\r\n\r\nbusy", false),
        (&*long, false),
    ] {
        let busy = format!("HTTP/1.1 503 Service Unavailable\r\n{answer}");
        let (busy, good) = (Origin::answering("busy", busy.as_bytes()).await, Origin::named("good").await);
        let (proxy, key) = first_owns(&[&busy, &good], "repeats.status = [\"502-504\"]\n", "").await;
        let mut client = Client::connect(proxy.address).await;
        for framing in ["\r\n", PUT, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}{framing}")).await;
            assert_eq!(client.answer().await.backend(), "good", "{answer:.50}");
        }
        assert_eq!(busy.connections(), if kept { 1 } else { 3 }, "{answer:.50}");
        assert_eq!(good.seen().last().unwrap().body, b"hello");
        proxy.counts("ringway_attempts_total", &["backend=\"busy\"", "result=\"status\""], 3.0).await;
        proxy.counts("ringway_repeats_total", &["reason=\"status\""], 3.0).await;
        proxy.counts("ringway_requests_total", &["class=\"5xx\""], 0.0).await;
    }
}

#[tokio::test]
async fn an_answer_is_passed_on_whatever_its_status_where_no_other_can_be_had() {
    let busy = |name: &str| {
        let answer = format!("HTTP/1.1 503 Busy\r\nx-backend: {name}\r\ncontent-length: 4\r\n\r\nbusy");
        let name = name.to_owned();
        async move { Origin::answering(&name, answer.as_bytes()).await }
    };
    let (one, two) = (busy("one").await, busy("two").await);
    let (proxy, key) = first_owns(&[&one, &two], "repeats.status = [503]\n", "").await;
    let answer = get(proxy.address, "/", &key).await;
    assert_eq!((answer.status, answer.backend(), answer.text()), (503, "two", "busy"));
    let none = "repeats.status = [503]\nrepeats.budget = 0.0\nrepeats.min_per_second = 0\n";
    let (proxy, key) = first_owns(&[&one, &two], none, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "one");
    proxy.counts("ringway_repeats_denied_total", &["reason=\"status\""], 1.0).await;
    let (proxy, key) = first_owns(&[&one, &two], "repeats.status = [502]\n", "").await;
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "one");
}

#[tokio::test]
async fn a_post_is_never_sent_twice_for_its_status() {
    let busy = b"HTTP/1.1 503 Busy\r\nx-backend: busy\r\ncontent-length: 0\r\n\r\n";
    let (busy, good) = (Origin::answering("busy", busy).await, Origin::named("good").await);
    let pool = "repeats.status = [503]\nrepeats.per_try = \"50ms\"\nrepeat_body_bytes = 10\n";
    let (proxy, key) = first_owns(&[&busy, &good], pool, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{key}{PUT}")).await;
    assert_eq!(client.answer().await.backend(), "busy");
    // Nor is a body that was not kept.
    let body = "x".repeat(100);
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 100\r\n\r\n{body}")).await;
    assert_eq!(client.answer().await.backend(), "busy");
    assert!(good.seen().is_empty());
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_repeats() {
    let (broken, good) = (closing("broken").await, Origin::named("good").await);
    // Ten seconds' worth of half a repeat a second, for each of the two workers.
    let pool = "repeats.budget = 0\nrepeats.min_per_second = 1\n";
    let (proxy, key) = first_owns(&[&broken, &good], pool, "").await;
    let begun = Instant::now();
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..60 {
        match get(proxy.address, "/", &key).await.status {
            200 => answered += 1,
            502 => refused += 1,
            other => panic!("{other}"),
        }
    }
    let flown = begun.elapsed().as_secs() as usize + 2;
    assert!(answered <= 10 + flown, "{answered}");
    assert_eq!(good.seen().len(), answered);
    assert_eq!(broken.seen().len(), 60);
    proxy.counts("ringway_repeats_total", &["reason=\"broken\""], answered as f64).await;
    proxy.counts("ringway_repeats_denied_total", &["reason=\"broken\""], refused as f64).await;
}

#[tokio::test]
async fn a_share_of_the_requests_may_be_repeated() {
    let (broken, good) = (closing("broken").await, Origin::named("good").await);
    let (proxy, key) =
        first_owns(&[&good, &broken], "repeats.budget = 0.5\nrepeats.min_per_second = 0\n", "").await;
    let to_broken = key_of(&proxy, "broken");
    // On one connection, which is one worker's.
    let mut client = Client::connect(proxy.address).await;
    assert_eq!(client.get("/", &to_broken).await.status, 502);
    assert_eq!(client.get("/", &to_broken).await.backend(), "good");
    for _ in 0..4 {
        assert_eq!(client.get("/", &key).await.backend(), "good");
    }
    for wanted in [200, 200, 200, 200, 502, 200] {
        assert_eq!(client.get("/", &to_broken).await.status, wanted);
    }
}

/// A key that this backend owns.
fn key_of(proxy: &Proxy, name: &str) -> String {
    let ring = proxy.view().pools[0].ring.clone();
    let owns = |key: &String| {
        let owner = ring.owner(ringway::ring::Place::of(key.as_bytes())).unwrap();
        *ring.member(owner).name == *name
    };
    format!("x-key: {}\r\n", (0..).map(|i| format!("key-{i}")).find(owns).unwrap())
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_budget() {
    let once = Origin::with("once", |mut peer| async move {
        peer.request().await;
        peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        // The next one is read, so that it was kept and looked open; then it is closed.
        peer.request().await;
    })
    .await;
    let proxy = Proxy::before(&[&once], "repeats.budget = 0\nrepeats.min_per_second = 0\n").await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..5 {
        assert_eq!(client.get("/", "").await.status, 200);
    }
    proxy.counts("ringway_repeats_total", &["reason=\"stale\""], 4.0).await;
    proxy.counts("ringway_repeats_denied_total", &[], 0.0).await;
}

#[tokio::test]
async fn a_repeat_never_goes_to_the_same_backend_while_another_serves() {
    let origins = [closing("a").await, closing("b").await, closing("c").await];
    let proxy = Proxy::before(&origins.each_ref(), "attempts = 16\n").await;
    assert_eq!(get(proxy.address, "/", "").await.status, 502);
    for origin in &origins {
        assert_eq!(origin.seen().len(), 1, "{}", origin.name);
    }
}

/// A backend that closes so many connections after a request, and then answers.
async fn failing(times: usize) -> Origin {
    let failed = Arc::new(AtomicUsize::new(0));
    Origin::with("one", move |mut peer| {
        let failed = failed.clone();
        async move {
            while peer.request().await.is_some() {
                if failed.fetch_add(1, SeqCst) < times {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\nx-backend: one\r\ncontent-length: 2\r\n\r\nok";
                if peer.stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_only_backend_is_tried_again_after_a_pause() {
    let origin = failing(2).await;
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{PUT}")).await;
    assert_eq!(client.answer().await.backend(), "one");
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(origin.seen().last().unwrap().body, b"hello");
    proxy.counts("ringway_repeats_total", &["reason=\"broken\""], 2.0).await;
    // What was sent during the pause is the next request.
    assert_eq!(client.get("/", "").await.backend(), "one");
}

#[tokio::test]
async fn the_only_backend_is_not_tried_more_often_than_allowed() {
    let origin = failing(usize::MAX).await;
    for (pool, attempts) in [("attempts = 4\n", 4), ("attempts = 1\n", 1), ("repeats.backoff = \"0s\"\n", 1)]
    {
        let before = origin.seen().len();
        let proxy = Proxy::before(&[&origin], pool).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 502);
        assert_eq!(origin.seen().len() - before, attempts, "{pool}");
    }
    // A POST may have been served.
    let before = origin.seen().len();
    let proxy = Proxy::before(&[&origin], "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{PUT}")).await;
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(origin.seen().len() - before, 1);
}

#[tokio::test]
async fn a_client_that_goes_during_the_pause_ends_it() {
    let origin = failing(usize::MAX).await;
    let proxy = Proxy::before(&[&origin], "attempts = 16\nrepeats.backoff = \"1m\"\n").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    proxy.counts("ringway_attempts_total", &["result=\"broken\""], 1.0).await;
    drop(client);
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 1.0).await;
    assert!(origin.seen().len() < 16);
}

#[tokio::test]
async fn the_pause_ends_with_the_time_for_the_whole_exchange() {
    let origin = failing(usize::MAX).await;
    let pool = "attempts = 16\nrepeats.backoff = \"1m\"\ntimeouts.total = \"100ms\"\n";
    let proxy = Proxy::before(&[&origin], pool).await;
    let begun = Instant::now();
    assert_eq!(get(proxy.address, "/", "").await.status, 504);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert!(origin.seen().len() < 16);
}

#[tokio::test]
async fn the_access_log_says_what_became_of_the_attempts_before_the_last() {
    let directory = Directory::new();
    let file = directory.path().join("access.log");
    let (broken, good) = (closing("broken").await, Origin::named("good").await);
    let rest = format!("[access_log]\nformat = \"json\"\nfile = \"{}\"\n", file.display());
    let (proxy, key) = first_owns(&[&broken, &good], "", &rest).await;
    let mut client = Client::connect(proxy.address).await;
    client.get("/", &key).await;
    client.get("/", &key_of(&proxy, "good")).await;
    drop(client);
    proxy.stop().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["attempts"], &lines[0]["repeated"][0]), (&2.into(), &"broken".into()));
    assert_eq!((&lines[1]["attempts"], &lines[1]["repeated"]), (&1.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn a_backend_that_refuses_connections_costs_no_budget_while_another_serves() {
    let (mut dead, good) = (Origin::named("dead").await, Origin::named("good").await);
    dead.stop();
    let none = "repeats.budget = 0\nrepeats.min_per_second = 0\n";
    let (proxy, key) = first_owns(&[&dead, &good], none, "").await;
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/", &key).await.backend(), "good");
    }
    // To ask the only one again may be to ask one that is about to come back.
    let proxy = Proxy::before(&[&dead], none).await;
    assert_eq!(get(proxy.address, "/", "").await.status, 502);
    proxy.counts("ringway_attempts_total", &[], 1.0).await;
    proxy.counts("ringway_repeats_denied_total", &["reason=\"connect_failed\""], 1.0).await;
}

#[tokio::test]
async fn a_late_answer_is_had_from_the_next_owner_too_and_the_first_one_counts() {
    let (late, good) = (stopped("late").await, Origin::named("good").await);
    let pool = "repeats.hedge_after = \"30ms\"\n";
    let (proxy, key) = first_owns(&[&late, &good], pool, "").await;
    let begun = Instant::now();
    assert_eq!(get(proxy.address, "/", &key).await.backend(), "good");
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert_eq!((late.seen().len(), good.seen().len()), (1, 1));
    proxy.counts("ringway_attempts_total", &["backend=\"late\"", "result=\"hedged\""], 1.0).await;
    proxy.counts("ringway_attempts_total", &["backend=\"good\"", "result=\"answered\""], 1.0).await;
    proxy.counts("ringway_repeats_total", &["reason=\"hedged\""], 1.0).await;
    proxy.counts("ringway_requests_total", &["backend=\"good\"", "class=\"2xx\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"aborted\""], 1.0).await;
    // What has a body, or may not be sent twice, waits for its owner.
    let mut client = Client::connect(proxy.address).await;
    for method in ["POST", "PUT"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{key}{PUT}")).await;
        eventually("it is there", || late.seen().iter().any(|seen| seen.line().starts_with(method))).await;
        client = Client::connect(proxy.address).await;
    }
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 2.0).await;
    assert_eq!(good.seen().len(), 1);
    // And so does what the budget does not allow.
    let none =
        format!("{pool}repeats.budget = 0\nrepeats.min_per_second = 0\ntimeouts.response_head = \"200ms\"\n");
    let (proxy, key) = first_owns(&[&late, &good], &none, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.status, 504);
    proxy.counts("ringway_repeats_denied_total", &["reason=\"hedged\""], 1.0).await;
}

/// A backend that takes a request, and answers when it is told to.
async fn told(name: &str) -> (Origin, tokio::sync::watch::Sender<bool>) {
    let (tell, told) = tokio::sync::watch::channel(false);
    let answer = format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: 2\r\n\r\nok");
    let origin = Origin::with(name, move |mut peer| {
        let (mut told, answer) = (told.clone(), answer.clone());
        async move {
            while peer.request().await.is_some() {
                if told.wait_for(|told| *told).await.is_err()
                    || peer.stream.write_all(answer.as_bytes()).await.is_err()
                {
                    return;
                }
            }
        }
    })
    .await;
    (origin, tell)
}

#[tokio::test]
async fn an_empty_body_in_chunks_reaches_the_second_backend_to_its_end() {
    let (late, good) = (stopped("late").await, Origin::named("good").await);
    let (proxy, key) = first_owns(&[&late, &good], "repeats.hedge_after = \"10ms\"\n", "").await;
    let mut client = Client::connect(proxy.address).await;
    for (end, trailers) in [("0\r\n\r\n", ""), ("0\r\nx-sum: 1\r\n\r\n", "x-sum: 1\n")] {
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{key}Transfer-Encoding: chunked\r\n\r\n{end}"))
            .await;
        // The backend reads a request to its end before it answers.
        assert_eq!(client.answer().await.backend(), "good");
        let seen = good.seen().pop().unwrap();
        assert_eq!((seen.header("transfer-encoding"), &*seen.trailers), (Some("chunked"), trailers));
    }
    // Of the next request on that connection nothing is taken for a body.
    assert_eq!(client.get("/next", &key_of(&proxy, "good")).await.backend(), "good");
    assert_eq!(good.seen()[2].line(), "GET /next HTTP/1.1");
    proxy.counts("ringway_repeats_total", &["reason=\"hedged\""], 2.0).await;
}

#[tokio::test]
async fn an_empty_body_of_http_2_reaches_the_second_backend_to_its_end() {
    // Its end comes after its head: it is there for the second attempt, beside which there is a third.
    let (closing, late, good) =
        (closing("closing").await, stopped("late").await, Origin::named("good").await);
    let pool = "repeats.hedge_after = \"10ms\"\npassive.consecutive = 0\npassive.share = 0\n";
    let text = configuration(&[&closing, &late, &good], pool, "");
    let old = "address = \"127.0.0.1:0\"\n";
    let text = text.replacen(old, &format!("{old}http2 = \"prior-knowledge\"\n"), 1);
    let proxy = Proxy::start(&text).await;
    let ring = proxy.view().pools[0].ring.clone();
    let order = |key: &String| {
        let mut names = Vec::new();
        for member in ring.nodes_from(ringway::ring::Place::of(key.as_bytes())) {
            let name = ring.member(member).name.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let key =
        (0..).map(|i| format!("key-{i}")).find(|key| order(key) == ["closing", "late", "good"]).unwrap();
    let mut fields = http2::GOOD.to_vec();
    fields.push(("x-key", &key));
    let mut raw = http2::Raw::connect(proxy.address).await;
    raw.send(http2::frame(http2::HEADERS, 4, 1, &http2::section(&fields))).await;
    raw.send(http2::frame(http2::DATA, 1, 1, &[])).await;
    assert_eq!(raw.status(1).await, Some(200));
    assert_eq!(good.only().header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn the_first_backend_can_still_be_the_first_to_answer() {
    let ((one, tell), two) = (told("one").await, stopped("two").await);
    let directory = Directory::new();
    let file = directory.path().join("access.log");
    let rest = format!(
        "[access_log]\nformat = \"json\"\nfile = \"{}\"\n[client]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        file.display()
    );
    let pool = "repeats.hedge_after = \"10ms\"\nexplain = \"always\"\n";
    let (proxy, key) = first_owns(&[&one, &two], pool, &rest).await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
    eventually("both are asked", || two.seen().len() == 1).await;
    tell.send(true).unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.backend(), answer.header("ringway-attempts")), ("one", Some("2")));
    assert_eq!(answer.header("ringway-repeated"), Some("hedged"));
    let told = ["ringway-backend", "ringway-reason"].map(|name| answer.header(name));
    assert_eq!(told, [Some("one"), Some("owner")], "the first one answered, beside the second");
    // The connections of the one that answered go on.
    assert_eq!(client.get("/", &key).await.backend(), "one");
    assert_eq!(one.connections(), 1);
    proxy.counts("ringway_attempts_total", &["backend=\"two\"", "result=\"hedged\""], 1.0).await;
    assert_eq!(proxy.off_owner().await, 0.0);
    drop(client);
    proxy.stop().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["backend"], &line["attempts"]), (&"one".into(), &2.into()));
}

#[tokio::test]
async fn of_two_attempts_one_may_fail() {
    // The second one refuses connections, or breaks them; the first one answers in the end.
    let (one, tell) = told("one").await;
    let mut dead = Origin::named("dead").await;
    dead.stop();
    let broken = closing("broken").await;
    for (other, result) in [(&dead, "connect_failed"), (&broken, "broken")] {
        tell.send(false).unwrap();
        let (proxy, key) = first_owns(&[&one, other], "repeats.hedge_after = \"10ms\"\n", "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
        let result = format!("result=\"{result}\"");
        proxy.counts("ringway_attempts_total", &[&result], 1.0).await;
        tell.send(true).unwrap();
        assert_eq!(client.answer().await.backend(), "one");
    }
    // The first one breaks its connection after the second one was asked.
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    is_cut.mark_unchanged();
    let breaking = Origin::with("breaking", move |mut peer| {
        let mut is_cut = is_cut.clone();
        async move {
            peer.request().await;
            let _ = is_cut.wait_for(|cut| *cut).await;
        }
    })
    .await;
    tell.send(false).unwrap();
    let (proxy, key) = first_owns(&[&breaking, &one], "repeats.hedge_after = \"10ms\"\n", "").await;
    let before = one.seen().len();
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
    eventually("both are asked", || one.seen().len() == before + 1).await;
    cut.send(true).unwrap();
    proxy.counts("ringway_attempts_total", &["backend=\"breaking\"", "result=\"broken\""], 1.0).await;
    tell.send(true).unwrap();
    assert_eq!(client.answer().await.backend(), "one");
    assert_eq!(one.seen().len(), before + 1);
}

#[tokio::test]
async fn a_fast_answer_that_is_no_good_does_not_beat_a_good_one() {
    let (one, tell) = told("one").await;
    let pool = "repeats.hedge_after = \"10ms\"\nrepeats.status = [503]\nattempts = 2\n";
    for (answer, result) in [
        ("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", "status"),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n", "status"),
        ("SSH-2.0-other\r\n", "protocol"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "protocol"),
    ] {
        tell.send(false).unwrap();
        let fast = Origin::answering("fast", answer.as_bytes()).await;
        let (proxy, key) = first_owns(&[&one, &fast], pool, "").await;
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
        let result = format!("result=\"{result}\"");
        proxy.counts("ringway_attempts_total", &["backend=\"fast\"", &result], 1.0).await;
        tell.send(true).unwrap();
        assert_eq!(client.answer().await.backend(), "one", "{answer}");
        assert_eq!((one.connections() > 0, fast.seen().len()), (true, 1));
        proxy.counts("ringway_attempts_total", &["backend=\"one\"", "result=\"answered\""], 1.0).await;
        proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    }
}

#[tokio::test]
async fn of_two_answers_that_are_no_good_the_later_one_is_passed_on() {
    let busy = "HTTP/1.1 503 Busy\r\nx-backend: fast\r\ncontent-length: 4\r\n\r\nbusy";
    let fast = Origin::answering("fast", busy.as_bytes()).await;
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    let slow = Origin::with("slow", move |mut peer| {
        let mut is_cut = is_cut.clone();
        async move {
            peer.request().await;
            let _ = is_cut.wait_for(|cut| *cut).await;
            let answer = b"HTTP/1.1 503 Busy\r\nx-backend: slow\r\ncontent-length: 4\r\n\r\nslow";
            let _ = peer.stream.write_all(answer).await;
        }
    })
    .await;
    let pool = "repeats.hedge_after = \"10ms\"\nrepeats.status = [503]\n";
    let (proxy, key) = first_owns(&[&slow, &fast], pool, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
    proxy.counts("ringway_attempts_total", &["backend=\"fast\"", "result=\"status\""], 1.0).await;
    cut.send(true).unwrap();
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.backend(), answer.text()), (503, "slow", "slow"));
    // All of the other one had been read: its connection goes on.
    assert_eq!(client.get("/", &key_of(&proxy, "fast")).await.status, 503);
    assert_eq!(fast.connections(), 1);
}

#[tokio::test]
async fn an_interim_answer_is_not_the_first_one() {
    let (one, tell) = told("one").await;
    let (more, is_more) = tokio::sync::watch::channel(false);
    let early = Origin::with("early", move |mut peer| {
        let mut is_more = is_more.clone();
        async move {
            peer.request().await;
            let _ = peer.stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
            let _ = is_more.wait_for(|more| *more).await;
            let answer = b"HTTP/1.1 200 OK\r\nx-backend: early\r\ncontent-length: 2\r\n\r\nok";
            let _ = peer.stream.write_all(answer).await;
        }
    })
    .await;
    for wanted in ["one", "early"] {
        tell.send(false).unwrap();
        let (proxy, key) = first_owns(&[&one, &early], "repeats.hedge_after = \"10ms\"\n", "").await;
        let before = early.seen().len();
        let mut client = Client::connect(proxy.address).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
        eventually("both are asked", || early.seen().len() == before + 1).await;
        if wanted == "one" {
            tell.send(true).unwrap()
        } else {
            more.send(true).unwrap()
        };
        // The client's reader passes interim answers over.
        assert_eq!(client.answer().await.backend(), wanted);
    }
}

#[tokio::test]
async fn both_attempts_end_with_the_client_and_with_the_time() {
    let (one, two) = (stopped("one").await, stopped("two").await);
    let pool = "repeats.hedge_after = \"10ms\"\ntimeouts.response_head = \"100ms\"\n";
    let (proxy, key) = first_owns(&[&one, &two], pool, "").await;
    assert_eq!(get(proxy.address, "/", &key).await.status, 504);
    proxy.counts("ringway_attempts_total", &["result=\"timeout\""], 2.0).await;
    let (proxy, key) = first_owns(&[&one, &two], "repeats.hedge_after = \"10ms\"\n", "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{key}\r\n")).await;
    eventually("both are asked", || two.seen().len() == 2).await;
    drop(client);
    proxy.counts("ringway_attempts_total", &["result=\"cancelled\""], 2.0).await;
    proxy.counts("ringway_requests_total", &["class=\"cancelled\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
}

#[tokio::test]
async fn attempts_that_were_left_for_another_tell_against_their_backend() {
    let busy = Origin::answering("bad", b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let (stopped, good) = (stopped("bad").await, Origin::named("good").await);
    for (bad, pool) in [(&busy, "repeats.status = [503]\n"), (&stopped, "repeats.per_try = \"10ms\"\n")] {
        let proxy = Proxy::before(&[bad, &good], pool).await;
        let key = key_of(&proxy, "bad");
        for _ in 0..5 {
            assert_eq!(get(proxy.address, "/", &key).await.backend(), "good");
        }
        proxy.sees("bad", Standing::Ejected).await;
    }
}
