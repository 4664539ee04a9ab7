//! The live view: its samples agree with what the metrics count, and everybody gets the same ones.

use std::time::{Duration, Instant};

use ringway::{
    fleet::Standing,
    limits::{EVENT_STREAMS, LIVE_SAMPLE, NEWS_KEPT},
};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::support::{Client, Origin, PATIENCE, Proxy, get, process::Directory, proxy::configuration, soon};

/// What the samples of the history add up to, by column.
async fn seen(proxy: &Proxy, column: &str) -> f64 {
    let history = proxy.api("/api/live/history").await;
    let Some(rates) = history["pools"]["p"][column].as_array() else { return 0.0 };
    let seconds = history["seconds"].as_array().unwrap();
    assert_eq!(seconds.len(), rates.len());
    rates.iter().zip(seconds).map(|(rate, seconds)| rate.as_f64().unwrap() * seconds.as_f64().unwrap()).sum()
}

/// Asks until it is so.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pool(sample: &Value) -> &Value {
    &sample["pools"][0]
}

#[tokio::test]
async fn samples_count_what_the_metrics_count() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let proxy = Proxy::before(&[&one, &two], "").await;
    until("the history has begun", async || {
        !proxy.api("/api/live/history").await["times"].as_array().unwrap().is_empty()
    })
    .await;
    for i in 0..60 {
        assert_eq!(get(proxy.address, &format!("/{i}"), "").await.status, 200);
    }
    until("the samples have seen 60 requests", async || {
        (seen(&proxy, "requests_per_second").await - 60.0).abs() < 0.1
    })
    .await;
    proxy.counts("ringway_requests_total", &["pool=\"p\""], 60.0).await;
    proxy.counts("ringway_request_first_byte_seconds_count", &["pool=\"p\""], 60.0).await;

    let sample = proxy.api("/api/live").await;
    assert_eq!((&sample["ready"], &sample["draining"]), (&Value::from(true), &Value::from(false)));
    assert_eq!(sample["can_change"], false);
    assert_eq!(sample["revision"], proxy.view().revision);
    let told = proxy.api("/api/pools").await;
    let backends = pool(&sample)["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 2);
    for (live, told) in backends.iter().zip(told["pools"][0]["backends"].as_array().unwrap()) {
        for field in [
            "name",
            "weight",
            "configured_weight",
            "order",
            "standing",
            "since",
            "reason",
            "in_flight",
            "limit",
        ] {
            assert_eq!(live[field], told[field], "{field}");
        }
        assert!((live["share"].as_f64().unwrap() - told["share"].as_f64().unwrap()).abs() < 1e-6);
        let (p50, p99) = (live["first_byte_p50"].as_f64().unwrap(), live["first_byte_p99"].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= p99 && p99 < 10.0, "{p50} {p99}");
    }
}

#[tokio::test]
async fn first_byte_times_are_not_forgotten_when_a_backend_leaves() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&one, &two], "", ""));
    let proxy = Proxy::from_file(&file).await;
    for i in 0..40 {
        get(proxy.address, &format!("/{i}"), "").await;
    }
    let name = "ringway_request_first_byte_seconds_count";
    proxy.counts(name, &["pool=\"p\""], 40.0).await;
    for origins in [&[&one][..], &[&one, &two], &[&two], &[&one, &two]] {
        directory.file("ringway.toml", &configuration(origins, "", ""));
        proxy.reloader().reload().await.unwrap();
        proxy.counts(name, &["pool=\"p\""], 40.0).await;
    }
    for i in 0..10 {
        get(proxy.address, &format!("/{i}"), "").await;
    }
    proxy.counts(name, &["pool=\"p\""], 50.0).await;
}

#[tokio::test]
async fn everybody_gets_the_same_bytes_until_the_next_sample() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    for path in ["/api/live", "/api/live/history"] {
        until("two in a row are the same", async || {
            let (first, second) = (proxy.admin_get(path).await, proxy.admin_get(path).await);
            first.text() == second.text()
        })
        .await;
    }
    let first = proxy.api("/api/live").await["time"].clone();
    until("another sample comes", async || proxy.api("/api/live").await["time"] != first).await;
    // The history goes on, too.
    let length = async || proxy.api("/api/live/history").await["times"].as_array().unwrap().len();
    let before = length().await;
    until("the history is longer", async || length().await > before).await;
}

#[tokio::test]
async fn a_pool_that_goes_is_forgotten_with_its_history() {
    let one = Origin::named("one").await;
    let directory = Directory::new();
    let text = configuration(&[&one], "", "");
    let two = format!("{text}\n[pools.q]\nkey = [\"path\"]\nbackends = [{}]\n", one.entry());
    let two = two + "\n[[routes]]\npath_prefix = \"/q\"\npool = \"q\"\n[[routes]]\npool = \"p\"\n";
    let proxy = Proxy::from_file(&directory.file("ringway.toml", &two)).await;
    let has = async |name: &str| proxy.api("/api/live/history").await["pools"].get(name).is_some();
    until("both are remembered", async || has("p").await && has("q").await).await;
    directory.file("ringway.toml", &text);
    proxy.reloader().reload().await.unwrap();
    until("only one is", async || has("p").await && !has("q").await).await;
}

/// One who watches events.
struct Watcher(Client);

/// An event as it is sent.
#[derive(Debug, Default)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Watcher {
    /// Begins to watch. HTTP/1.0, so that the bytes come without chunks around them.
    async fn of(proxy: &Proxy, query: &str, fields: &str) -> Watcher {
        let mut client = Client::connect(proxy.admin).await;
        client.send(format!("GET /api/events{query} HTTP/1.0\r\n{fields}\r\n")).await;
        let head = client.until(b"\r\n\r\n").await.unwrap();
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.contains(" 200 ok") && head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        Watcher(client)
    }

    /// The next event. `None`: there will be none.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let text = soon("an event comes", self.0.until(b"\n\n")).await?;
            let mut event = Event::default();
            for line in std::str::from_utf8(&text).unwrap().lines() {
                match line.split_once(": ") {
                    Some(("id", id)) => event.id = id.to_owned(),
                    Some(("event", kind)) => event.kind = kind.to_owned(),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    _ => {}
                }
            }
            if !event.kind.is_empty() {
                return Some(event);
            }
        }
    }

    /// The next change, past samples.
    async fn change(&mut self) -> Event {
        loop {
            let event = self.next().await.unwrap();
            if event.kind == "change" {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_sample_comes_each_second_and_is_what_is_asked_for_otherwise() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    let mut watcher = Watcher::of(&proxy, "", "").await;
    let first = watcher.next().await.unwrap();
    assert_eq!((&*first.kind, &*first.id), ("sample", ""));
    let second = watcher.next().await.unwrap();
    let third = watcher.next().await.unwrap();
    let asked = proxy.api("/api/live").await;
    // By the samples' own clock: a busy machine takes them late, and the next one then sooner after that, but not at once.
    let taken = |event: &Event| humantime::parse_rfc3339(event.data["time"].as_str().unwrap()).unwrap();
    for (before, after) in [(&first, &second), (&second, &third)] {
        let apart = taken(after).duration_since(taken(before)).unwrap();
        assert!(apart > LIVE_SAMPLE / 2, "{apart:?}");
    }
    assert!(asked == third.data || asked["time"].as_str() > third.data["time"].as_str());
}

#[tokio::test]
async fn changes_come_in_order_and_go_on_where_they_were() {
    let (mut one, two) = (Origin::named("one").await, Origin::named("two").await);
    let health = "[pools.p.health]\nkind = \"tcp\"\ninterval = \"500ms\"\nchanging_interval = \"500ms\"\n\
        timeout = \"500ms\"\nrise = 1\nfall = 1\n";
    let proxy = Proxy::before(&[&one, &two], health).await;
    let mut watcher = Watcher::of(&proxy, "?samples=false", "").await;
    for backend in ["one", "two"] {
        let risen = watcher.change().await;
        assert_eq!(
            (&risen.data["kind"], &risen.data["from"]),
            (&"backend".into(), &"unproven".into()),
            "{backend}"
        );
    }
    one.stop();
    let down = watcher.change().await;
    for (field, value) in
        [("kind", "backend"), ("pool", "p"), ("backend", "one"), ("from", "serving"), ("to", "down")]
    {
        assert_eq!(down.data[field], value);
    }
    assert!(!down.data["reason"].as_str().unwrap().is_empty());
    drop(watcher);
    one.start_again().await;
    proxy.sees("one", Standing::Serving).await;
    // What happened while nobody watched is told first, and nothing twice.
    let mut again = Watcher::of(&proxy, "?samples=false", &format!("Last-Event-ID: {}\r\n", down.id)).await;
    let up = again.change().await;
    assert_eq!((&up.data["backend"], &up.data["to"]), (&"one".into(), &"serving".into()));
    assert!(down.data["revision"].as_u64() < up.data["revision"].as_u64());
    // Another process's id, or none, is a beginning: all that is remembered.
    for fields in ["Last-Event-ID: 1.2-3\r\n", ""] {
        let mut anew = Watcher::of(&proxy, "", fields).await;
        assert_eq!(anew.change().await.data["to"], "serving");
        anew.change().await;
        assert_eq!(anew.change().await.id, down.id);
    }
}

#[tokio::test]
async fn orders_and_reloads_are_told() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let text = configuration(&[&one, &two], "", "").replace(
        "[admin]\n",
        &format!("[admin]\ntoken_file = {token:?}\nallow_unauthenticated_reads = true\n"),
    );
    let file = directory.file("ringway.toml", &text);
    let proxy = Proxy::from_file(&file).await;
    let mut watcher = Watcher::of(&proxy, "", "").await;
    assert_eq!(watcher.next().await.unwrap().data["can_change"], true);
    let mut client = Client::connect(proxy.admin).await;
    client
        .send("POST /api/pools/p/backends/one/drain HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    let order = watcher.change().await.data;
    assert_eq!(
        (&order["kind"], &order["backend"], &order["order"]),
        (&"order".into(), &"one".into(), &"drain".into())
    );
    assert!(order["share_moved"].as_f64().unwrap() > 0.3);
    proxy.reloader().reload().await.unwrap();
    let reload = watcher.change().await.data;
    assert_eq!((&reload["kind"], &reload["done"]), (&"reload".into(), &true.into()));
    directory.file("ringway.toml", "[[listeners]]\nadress = \"hunter2\"\n");
    proxy.reloader().reload().await.unwrap_err();
    let refused = watcher.change().await.data;
    assert_eq!(refused["done"], false);
    let summary = refused["summary"].as_str().unwrap();
    assert!(summary.contains("ringway.toml:2: ") && summary.contains("adress"), "{summary}");
    // Whoever may watch need not be one who may read the file.
    assert!(!summary.contains("hunter2"), "{summary}");
}

#[tokio::test]
async fn who_was_away_for_too_long_is_told_so() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    // A proxy without a file: each try is refused, and told.
    let reload = async |times: usize| {
        for _ in 0..times {
            proxy.reloader().reload().await.unwrap_err();
        }
    };
    reload(1).await;
    let first = Watcher::of(&proxy, "", "").await.change().await;
    reload(NEWS_KEPT + 1).await;
    let mut again = Watcher::of(&proxy, "?samples=false", &format!("Last-Event-ID: {}\r\n", first.id)).await;
    assert_eq!(again.next().await.unwrap().kind, "lost");
    for _ in 0..NEWS_KEPT {
        assert_eq!(again.next().await.unwrap().kind, "change");
    }
}

#[tokio::test]
async fn watchers_take_no_place_from_scrapes_and_probes() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    let mut watchers = Vec::new();
    for _ in 0..EVENT_STREAMS {
        watchers.push(Watcher::of(&proxy, "", "").await);
    }
    let refused = proxy.admin_get("/api/events").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    for path in ["/metrics", "/livez", "/readyz", "/api/live"] {
        assert_eq!(proxy.admin_get(path).await.status, 200, "{path}");
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await.unwrap().kind, "sample");
    }
    watchers.pop();
    until("the place is free again", async || {
        let mut client = Client::connect(proxy.admin).await;
        client.send("GET /api/events HTTP/1.0\r\n\r\n").await;
        client.until(b"\r\n\r\n").await.unwrap().windows(3).any(|part| part == b"200")
    })
    .await;
    assert_eq!(proxy.admin_get("/api/events?sample=no").await.status, 400);
}

#[tokio::test]
async fn a_watcher_that_reads_nothing_is_cut_off_and_others_are_not() {
    let one = Origin::named("one").await;
    // Large samples, so that the buffers on the way are full within seconds.
    let backends: Vec<String> = (0..2000)
        .map(|i| {
            format!(
                "{{ name = \"backend-with-a-rather-long-name-{i:04}\", address = \"127.0.0.1:{}\" }}",
                10_000 + i
            )
        })
        .collect();
    let text = configuration(&[], "replicas = 8\n", "")
        .replace("backends = []", &format!("backends = [{}]", backends.join(", ")));
    let proxy = Proxy::start(&text).await;
    let mut good = Watcher::of(&proxy, "", "").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(proxy.admin).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stuck, b"GET /api/events HTTP/1.0\r\n\r\n").await.unwrap();
    // The one that reads goes on for longer than the other one is waited for.
    let begun = Instant::now();
    while begun.elapsed() < ringway::limits::ADMIN_PATIENCE + Duration::from_secs(4) {
        assert_eq!(good.next().await.unwrap().kind, "sample");
    }
    // What was on its way is read, and then there is an end.
    let mut rest = Vec::new();
    let read = soon("the end comes", stuck.read_to_end(&mut rest)).await;
    assert!(rest.len() < 2_000_000, "{} {read:?}", rest.len());
    drop(one);
}

#[tokio::test]
async fn streams_end_with_the_process_and_with_their_token() {
    let one = Origin::named("one").await;
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let text =
        configuration(&[&one], "", "").replace("[admin]\n", &format!("[admin]\ntoken_file = {token:?}\n"));
    let file = directory.file("ringway.toml", &text);
    let proxy = Proxy::from_file(&file).await;
    assert_eq!(get(proxy.admin, "/api/events", "").await.status, 401);
    let mut watcher = Watcher::of(&proxy, "", "Authorization: Bearer s3cret\r\n").await;
    assert_eq!(watcher.next().await.unwrap().kind, "sample");
    directory.file("token", "another\n");
    proxy.reloader().reload().await.unwrap();
    while watcher.next().await.is_some() {}
    let mut watcher = Watcher::of(&proxy, "", "Authorization: Bearer another\r\n").await;
    assert_eq!(watcher.next().await.unwrap().kind, "change");
    let end = async {
        proxy.stop().await;
        while watcher.next().await.is_some() {}
    };
    soon("the end of the process ends the stream", end).await;
}

#[tokio::test]
async fn a_stream_that_showed_no_token_ends_when_reading_needs_one() {
    let one = Origin::named("one").await;
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let text = |free: bool| {
        let admin = format!("[admin]\ntoken_file = {token:?}\nallow_unauthenticated_reads = {free}\n");
        configuration(&[&one], "", "").replace("[admin]\n", &admin)
    };
    let proxy = Proxy::from_file(&directory.file("ringway.toml", &text(true))).await;
    let mut free = Watcher::of(&proxy, "?samples=false", "").await;
    let mut wrong = Watcher::of(&proxy, "", "Authorization: Bearer s3cres\r\n").await;
    let mut shown = Watcher::of(&proxy, "", "Authorization: Bearer s3cret\r\n").await;
    directory.file("ringway.toml", &text(false));
    proxy.reloader().reload().await.unwrap();
    while free.next().await.is_some() {}
    while wrong.next().await.is_some() {}
    // The one with the token goes on: this is told after the reload.
    assert_eq!(shown.change().await.data["kind"], "reload");
    assert_eq!(shown.next().await.unwrap().kind, "sample");
}

#[tokio::test]
async fn browsers_get_a_page_that_may_load_nothing_from_elsewhere() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    // What a program asks for is what it was before there was a page.
    let index = proxy.admin_get("/").await;
    assert_eq!(index.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(index.text().contains("/api/events"));
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nConnection: close\r\n";
    let page = get(proxy.admin, "/", browser).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let html = page.text().to_owned();
    let files: Vec<&str> = html.split("\"ui/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for path in ["/"].into_iter().map(str::to_owned).chain(files.iter().map(|file| format!("/ui/{file}"))) {
        let file = get(proxy.admin, &path, browser).await;
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        let tag = file.header("etag").unwrap();
        let known = get(proxy.admin, &path, &format!("If-None-Match: {tag}\r\n{browser}")).await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        let far = file.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!far.contains("http://") && !far.contains("https://"), "{path} names another host");
    }
    for (path, location) in [("/ui", "./"), ("/ui/", "../")] {
        let there = get(proxy.admin, path, browser).await;
        assert_eq!((there.status, there.header("location")), (303, Some(location)));
    }
    assert_eq!(get(proxy.admin, "/ui/nothing.js", browser).await.status, 404);
}

#[tokio::test]
async fn the_page_is_everybodys_and_what_it_shows_is_not() {
    let one = Origin::named("one").await;
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let text =
        configuration(&[&one], "", "").replace("[admin]\n", &format!("[admin]\ntoken_file = {token:?}\n"));
    let proxy = Proxy::start(&text).await;
    let html = "Accept: text/html\r\nConnection: close\r\n";
    for (path, status) in [("/", 200), ("/ui/page.js", 200), ("/api/live", 401), ("/api/events", 401)] {
        assert_eq!(get(proxy.admin, path, html).await.status, status, "{path}");
    }
    for path in ["/", "/api/live/history", "/api/ring"] {
        assert_eq!(proxy.admin_get(path).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_ring_of_any_size_is_drawn_in_few_segments_with_every_share() {
    let backends: Vec<String> =
        (0..500).map(|i| format!("{{ name = \"b{i}\", address = \"127.0.0.1:{}\" }}", 10_000 + i)).collect();
    let text = configuration(&[], "replicas = 160\n", "")
        .replace("backends = []", &format!("backends = [{}]", backends.join(", ")));
    let proxy = Proxy::start(&text).await;
    let answer = proxy.admin_get("/api/ring?pool=p").await;
    assert!(answer.body.len() < 64 * 1024, "{}", answer.body.len());
    let ring: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&ring["virtual_nodes"], &ring["exact"]), (&80_000.into(), &false.into()));
    assert!(ring["arcs"].as_array().unwrap().len() <= 720);
    let shares: f64 = ring["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9);
    // The walk from a key's place meets its owners in the order of the lookup.
    let told = proxy.api("/api/lookup?key=user-42").await;
    let place = told["place_hex"].as_str().unwrap();
    let walk = proxy.api(&format!("/api/ring?place={place}&resolution=0")).await;
    assert!(walk["arcs"].as_array().unwrap().is_empty());
    let mut met: Vec<&str> = Vec::new();
    for step in walk["walk"].as_array().unwrap() {
        let name = walk["backends"][step[1].as_u64().unwrap() as usize].as_str().unwrap();
        if !met.contains(&name) {
            met.push(name);
        }
    }
    let owners = told["owners"].as_array().unwrap();
    assert_eq!(met, owners[..5].iter().map(|owner| owner["backend"].as_str().unwrap()).collect::<Vec<_>>());
    for wrong in ["?pool=q", "?resolution=x", "?place=1"] {
        assert_eq!(proxy.admin_get(&format!("/api/ring{wrong}")).await.status, 400, "{wrong}");
    }
}
