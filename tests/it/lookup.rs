//! Who owns a key: what the command line and the API say is what happens, and each who is passed over is named with the reason.

use std::{
    collections::BTreeSet,
    io::Write,
    net::IpAddr,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use ringway::{
    app::{make_plan, offline_view},
    fleet::{Bound, Ramp, Slot, Standing, View},
    proxy::{
        Plan,
        explain::{Explanation, Part, Question, asked::Asked, asked::Workspace, explain},
    },
    ring::{MemberIndex, Place},
    upstream::Approach,
};
use serde_json::{Value, json};

use super::support::{
    Client, Origin, Proxy, eventually,
    process::{Directory, ringway},
    soon,
};

/// Pools of the same backends, each with another way to a key. All are reached by a path of their own.
const POOLS: &[(&str, &str)] = &[
    ("header", "key = [\"header:x-user\"]"),
    ("cookie", "key = [\"cookie:sid\"]"),
    ("query", "key = [\"query:id\"]"),
    ("path", "key = [\"path\"]"),
    ("address", "key = [\"client-address\"]"),
    ("list", "key = [\"header:x-user\", \"cookie:sid\", \"path-prefix:2\"]"),
    ("join", "key = [[\"host\", \"header:x-user\"]]\non_missing_key = \"client-address\""),
    ("refuse", "key = [\"header:x-user\"]\non_missing_key = \"refuse\""),
    ("any", "key = [\"header:x-user\"]\non_missing_key = \"spread\""),
    ("writes", "key = [\"header:x-user\"]\naffinity = \"strict-writes\""),
];

fn pools(origins: &[Origin]) -> String {
    let entries: Vec<String> = origins.iter().map(Origin::entry).collect();
    let mut text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[server]\nworkers = 2\n[admin]\naddress = \"127.0.0.1:0\"\n\
                    [client]\ntrusted_proxies = [\"127.0.0.0/8\"]\n"
        .to_owned();
    for (name, keys) in POOLS {
        text += &format!(
            "[[routes]]\npath_prefix = \"/{name}\"\npool = \"{name}\"\n[pools.{name}]\n{keys}\nbackends = [{}]\n\
             [pools.{name}.health]\ninterval = \"500ms\"\nchanging_interval = \"20ms\"\n",
            entries.join(", ")
        );
    }
    text
}

/// A request, as it is asked about and as it is sent.
struct Sent {
    asked: Value,
    method: &'static str,
    bytes: String,
}

/// The request with this number: another pool for each, with everything that could be a key in most.
fn request(number: usize) -> Sent {
    let (pool, _) = POOLS[number % POOLS.len()];
    let round = number / POOLS.len();
    let method = match (pool, round % 3) {
        ("writes", 0) => "POST",
        ("writes", 1) => "DELETE",
        _ => "GET",
    };
    let uri = format!("/{pool}/{round}?x=1&id=q-{round}");
    let mut headers = vec![format!("Host: h{}.example", round % 7)];
    // Some have less: the next source of the list, or no key.
    if round % 4 != 3 {
        headers.push(format!("X-User: user-{round}"));
    }
    if round % 8 != 7 {
        headers.push(format!("Cookie: theme=dark; sid=s-{round}"));
    }
    headers.push(format!("X-Forwarded-For: 10.{}.{}.1", round / 256, round % 256));
    if method == "POST" {
        headers.push("Content-Length: 0".into());
    }
    let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    Sent {
        asked: json!({ "uri": uri, "method": method, "headers": headers }),
        method,
        bytes: format!("{method} {uri} HTTP/1.1\r\n{lines}\r\n"),
    }
}

fn questions(requests: &[Sent]) -> String {
    requests.iter().map(|request| format!("{}\n", request.asked)).collect()
}

/// Many questions to the API. The answers, a line each.
async fn ask(proxy: &Proxy, query: &str, questions: &str) -> Vec<String> {
    let head = format!(
        "POST /api/lookup?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        questions.len()
    );
    let mut client = Client::connect(proxy.admin).await;
    client.send(head).await.send(questions).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().lines().map(str::to_owned).collect()
}

/// The same in as many requests as it takes.
async fn ask_all(proxy: &Proxy, requests: &[Sent]) -> Vec<String> {
    let mut answers = Vec::new();
    for some in requests.chunks(2000) {
        answers.extend(ask(proxy, "input=json", &questions(some)).await);
    }
    assert_eq!(answers.len(), requests.len());
    answers
}

/// The command line with these arguments and this standard input.
async fn lookup(arguments: &[&str], input: String) -> Output {
    let mut command = ringway(&[&["lookup"], arguments].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writes = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = soon("the command ends", tokio::task::spawn_blocking(|| child.wait_with_output())).await;
    let _ = writes.join().unwrap();
    output.unwrap().unwrap()
}

/// What becomes of a request: the backend that answers, or the status of a refusal.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Backend(String),
    Refused(u16),
    Any,
}

impl Fate {
    fn foretold(answer: &str) -> Fate {
        let answer: Value = serde_json::from_str(answer).unwrap();
        match (answer["chosen"].as_str(), answer["status"].as_u64()) {
            (Some(chosen), None) => Fate::Backend(chosen.into()),
            (None, Some(status)) => Fate::Refused(status as u16),
            (None, None) if answer["reason"] == "no_key" => Fate::Any,
            _ => panic!("{answer}"),
        }
    }

    fn is_met_by(&self, other: &Fate) -> bool {
        match self {
            Fate::Any => matches!(other, Fate::Backend(_)),
            _ => self == other,
        }
    }
}

/// Sends them all, over some connections.
async fn send(proxy: &Proxy, requests: &[Sent]) -> Vec<Fate> {
    let some = requests.chunks(requests.len().div_ceil(4)).map(|requests| async move {
        let mut client = Client::connect(proxy.address).await;
        let mut fates = Vec::new();
        for request in requests {
            client.send(&request.bytes).await;
            let answer = client.answer_to(request.method).await;
            fates.push(match answer.header("x-backend") {
                Some(backend) => Fate::Backend(backend.into()),
                None => Fate::Refused(answer.status),
            });
            if answer.header("connection").is_some() {
                client = Client::connect(proxy.address).await;
            }
        }
        fates
    });
    let mut all = Vec::new();
    for fates in futures(some.collect()).await {
        all.extend(fates);
    }
    all
}

/// All of these at once, on this thread.
async fn futures<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut futures {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        match futures.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures.into_iter().map(|(_, done)| done.unwrap()).collect()
}

/// Asks the API before and after, and the command line; sends the requests; holds all of that against each other.
async fn agree(proxy: &Proxy, requests: &[Sent]) -> Vec<String> {
    let told = ask_all(proxy, requests).await;
    let happened = send(proxy, requests).await;
    assert_eq!(ask_all(proxy, requests).await, told, "nothing has changed meanwhile");
    let foretold: Vec<Fate> = told.iter().map(|answer| Fate::foretold(answer)).collect();
    for ((request, foretold), happened) in requests.iter().zip(&foretold).zip(&happened) {
        assert!(foretold.is_met_by(happened), "{}: {foretold:?}, but {happened:?}", request.bytes);
    }
    let admin = format!("http://{}", proxy.admin);
    let output =
        lookup(&["--admin", &admin, "--input", "json", "--format", "json", "-"], questions(requests)).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), told);
    let refused = foretold.iter().any(|fate| matches!(fate, Fate::Refused(_)));
    assert_eq!(output.status.code(), Some(i32::from(refused)));
    told
}

fn reasons(told: &[String]) -> BTreeSet<String> {
    let reason = |line: &String| {
        let answer: Value = serde_json::from_str(line).unwrap();
        answer["reason"].as_str().unwrap().to_owned()
    };
    told.iter().map(reason).collect()
}

#[tokio::test]
async fn what_is_foretold_is_what_happens_also_during_a_failure() {
    let mut origins = Vec::new();
    for i in 1..=5 {
        origins.push(Origin::named(&format!("cache-{i}")).await);
    }
    let text = pools(&origins);
    let proxy = Proxy::start(&text).await;
    let requests: Vec<Sent> = (0..10_000).map(request).collect();
    let healthy = agree(&proxy, &requests).await;
    assert_eq!(reasons(&healthy).into_iter().collect::<Vec<_>>(), ["no_key", "owner"]);
    // The file says the same about a fleet in which all serve.
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &text);
    let arguments = ["-c", file.to_str().unwrap(), "--input", "json", "--json", "-"];
    let output = lookup(&arguments, questions(&requests)).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), healthy);

    origins[1].stop();
    eventually("cache-2 is down in all pools", || {
        let view = proxy.view();
        view.pools.iter().all(|pool| pool.members[1].standing == Standing::Down)
    })
    .await;
    let failing = agree(&proxy, &requests).await;
    let met = reasons(&failing);
    assert!(["owner", "owner_down", "no_key"].iter().all(|reason| met.contains(*reason)), "{met:?}");
    for (before, after) in healthy.iter().zip(&failing) {
        let was_its = before.contains("\"chosen\":\"cache-2\"");
        assert_eq!(was_its, before != after, "only its keys move: {before}, then {after}");
    }
    // The long answers say the same, and why.
    let some = &requests[..300];
    let long = ask(&proxy, "input=json&detail=full", &questions(some)).await;
    for (long, short) in long.iter().zip(&failing) {
        let (long, short): (Explanation, Value) =
            (serde_json::from_str(long).unwrap(), serde_json::from_str(short).unwrap());
        is_sound(&long);
        assert_eq!(json!(long.chosen.as_ref().map(|chosen| &chosen.backend)), short["chosen"]);
        assert_eq!(long.status.map(u64::from), short["status"].as_u64());
        assert_eq!(json!(long.owners.first().map(|owner| &owner.backend)), short["owner"]);
        for owner in &long.owners {
            let is_down = owner.backend == "cache-2";
            assert_eq!(owner.skipped.as_deref() == Some("down"), is_down, "{owner:?}");
        }
    }
}

/// What must hold of each answer: those before the one that is chosen are passed over, each with a reason.
fn is_sound(long: &Explanation) {
    let chosen: Vec<_> = long.owners.iter().filter(|owner| owner.part == Part::Chosen).collect();
    assert_eq!(chosen.len(), usize::from(long.chosen.is_some()), "{long:?}");
    assert!(!(long.chosen.is_some() && long.status.is_some()), "{long:?}");
    let before = long.owners.iter().take_while(|owner| owner.part != Part::Chosen);
    for owner in before.filter(|_| long.chosen.is_some()) {
        assert_eq!(owner.part, Part::Skipped, "{long:?}");
    }
    for owner in &long.owners {
        assert_eq!(owner.skipped.is_some(), owner.part == Part::Skipped, "{owner:?}");
        assert!(!owner.why.is_empty());
    }
    if let Some(chosen) = &long.chosen {
        assert_eq!(chosen.reason == "owner", long.owners[0].backend == chosen.backend, "{long:?}");
    }
}

#[tokio::test]
async fn what_is_foretold_is_what_happens_while_keys_come_back_one_after_the_other() {
    let mut origins =
        [Origin::named("cache-1").await, Origin::named("cache-2").await, Origin::named("cache-3").await];
    let pool = "ramp = \"6s\"\npassive.flaps = 0\n[pools.p.health]\ninterval = \"500ms\"\nchanging_interval = \"20ms\"\n";
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), pool).await;
    origins[1].stop();
    proxy.sees("cache-2", Standing::Down).await;
    origins[1].start_again().await;
    proxy.sees("cache-2", Standing::Serving).await;
    eventually("a part of the keys has come back", || {
        let ramp = proxy.view().pools[0].members[1].ramp;
        ramp.is_none_or(|ramp| ramp.progress(Instant::now()) > 0.25)
    })
    .await;
    let (mut met, mut moved) = (BTreeSet::new(), 0);
    for round in 0..6 {
        let requests: Vec<Sent> = (0..100)
            .map(|i| Sent {
                asked: json!({ "uri": format!("/{round}/{i}") }),
                method: "GET",
                bytes: format!("GET /{round}/{i} HTTP/1.1\r\nHost: a\r\n\r\n"),
            })
            .collect();
        let before = ask_all(&proxy, &requests).await;
        let happened = send(&proxy, &requests).await;
        let after = ask_all(&proxy, &requests).await;
        for ((before, after), happened) in before.iter().zip(&after).zip(&happened) {
            // Its turn may have come in between.
            if before == after {
                assert_eq!(Fate::foretold(before), *happened, "{before}");
            } else {
                moved += 1;
            }
        }
        met.extend(reasons(&before));
    }
    assert!(moved < 300, "{moved} of 600 keys moved meanwhile");
    assert_eq!(met.into_iter().collect::<Vec<_>>(), ["owner", "ramp"]);
}

/// A pool of this many backends, with further keys for its table.
fn picture(backends: usize, pool: &str) -> (View, Plan) {
    let entries: Vec<String> =
        (1..=backends).map(|i| format!("{{ name = \"b{i}\", address = \"127.0.0.1:{i}\" }}")).collect();
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nbackends = [{}]\n{pool}\n",
        entries.join(", ")
    );
    let loaded = ringway::config::parse(&text, "p.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let plan = make_plan(&loaded.config, &[Approach::default()], 1, None);
    (offline_view(&loaded.config).unwrap(), plan)
}

fn walk(view: &View, key: &str) -> Vec<MemberIndex> {
    view.pools[0].ring.walk(Place::of(key.as_bytes())).collect()
}

/// What becomes of each, in ring order: name, part, reason.
fn parts(told: &Explanation) -> Vec<(Part, Option<&str>)> {
    told.owners.iter().map(|owner| (owner.part, owner.skipped.as_deref())).collect()
}

fn about(view: &View, plan: &Plan, asked: &Asked) -> Explanation {
    let mut space = Workspace::default();
    let question = asked.question(plan, &mut space).unwrap();
    let told = explain(view, plan, Instant::now(), question).unwrap();
    is_sound(&told);
    told
}

fn key(key: &str) -> Asked {
    Asked { key: Some(key.into()), ..Asked::default() }
}

#[test]
fn each_who_is_passed_over_is_named_with_the_reason() {
    let (mut view, plan) = picture(8, "attempts = 2\n[pools.p.load]\nmax_in_flight = 2");
    let way = walk(&view, "k");
    let began = Instant::now();
    let members = &mut view.pools[0].members;
    members[way[0].as_usize()].standing = Standing::Down;
    members[way[1].as_usize()].standing = Standing::Ejected;
    members[way[2].as_usize()].standing = Standing::Trial;
    members[way[3].as_usize()].ramp = Some(Ramp { began, length: Duration::from_secs(3600), steered: None });
    members[way[4].as_usize()].bound = Bound { share: 1e-9, floor: 0 };
    let loaded = members[way[4].as_usize()].backend.clone();
    let full = members[way[5].as_usize()].backend.clone();
    let _taken = (Slot::keep(&loaded), Slot::keep(&full), Slot::keep(&full));
    (view.pools[0].serving, view.pools[0].usable) = (5, 6);
    let told = about(&view, &plan, &key("k"));
    let wanted = [
        (Part::Skipped, Some("down")),
        (Part::Skipped, Some("ejected")),
        (Part::Skipped, Some("trial")),
        (Part::Skipped, Some("ramp")),
        (Part::Skipped, Some("spill")),
        (Part::Skipped, Some("full")),
        (Part::Chosen, None),
        (Part::Next, None),
    ];
    assert_eq!(parts(&told), wanted);
    let chosen = told.chosen.unwrap();
    assert_eq!((&*chosen.reason, told.owners[6].attempt), ("owner_down", Some(1)));
    let in_flight = view.pools[0].members.iter().map(|member| member.backend.in_flight());
    assert_eq!(in_flight.sum::<u64>(), 3, "a question takes no place");
}

#[test]
fn attempts_and_affinity_end_the_walk() {
    let (view, plan) = picture(4, "attempts = 2");
    let told = about(&view, &plan, &key("k"));
    let spare = (Part::Spare, None);
    assert_eq!(parts(&told), [(Part::Chosen, None), (Part::Next, None), spare, spare]);

    let (mut view, plan) = picture(3, "key = [\"path\"]\naffinity = \"strict-writes\"");
    let asked =
        |method: &str| Asked { uri: Some("/k".into()), method: Some(method.into()), ..Asked::default() };
    let owner = walk(&view, "/k")[0];
    view.pools[0].members[owner.as_usize()].standing = Standing::Down;
    (view.pools[0].serving, view.pools[0].usable) = (2, 2);
    let told = about(&view, &plan, &asked("GET"));
    assert_eq!(parts(&told), [(Part::Skipped, Some("down")), (Part::Chosen, None), (Part::Next, None)]);
    let told = about(&view, &plan, &asked("PUT"));
    let not_owner = (Part::Skipped, Some("affinity"));
    assert_eq!(parts(&told), [(Part::Skipped, Some("down")), not_owner, not_owner]);
    assert_eq!((told.refusal.as_deref(), told.status), (Some("owner_down"), Some(503)));
}

#[test]
fn a_full_owner_is_waited_for_where_the_pool_says_so() {
    let (view, plan) = picture(3, "[pools.p.load]\nmax_in_flight = 1\nwhen_full = \"queue\"");
    let owner = walk(&view, "k")[0];
    let _taken = Slot::keep(&view.pools[0].member(owner).backend);
    let told = about(&view, &plan, &key("k"));
    let chosen = told.chosen.as_ref().unwrap();
    assert!(chosen.waits && told.summary.contains("waits there"), "{told:?}");
}

#[test]
fn requests_are_read_as_the_data_path_reads_them() {
    let (view, plan) = picture(3, "key = [\"host\"]");
    let plan = Plan { trusted: plan.trusted.clone(), ..plan };
    let host = |asked: Asked| about(&view, &plan, &asked).key;
    let uri = |uri: &str| Asked { uri: Some(uri.into()), ..Asked::default() };
    assert_eq!(host(uri("http://A.example:80/x")).as_deref(), Some("a.example"));
    assert_eq!(host(Asked { host: Some("b".into()), ..uri("/x") }).as_deref(), Some("b"));
    assert_eq!(host(Asked { headers: vec!["Host: c:1".into()], ..uri("/x") }).as_deref(), Some("c"));
    // Without a host there is no such key, and the client's address takes its place.
    let client: IpAddr = "10.9.8.7".parse().unwrap();
    let told = about(&view, &plan, &Asked { client: Some(client), ..uri("/x") });
    assert_eq!(
        (told.key.as_deref(), told.key_source.as_deref()),
        (Some("10.9.8.7"), Some("client-address (no key)"))
    );
    let mut space = Workspace::default();
    for (asked, wanted) in [
        (uri("/a b"), "spaces"),
        (uri("a"), "in no form"),
        (Asked { headers: vec!["Host: a".into(), "Host: b".into()], ..uri("/") }, "more than one Host"),
        (Asked { headers: vec!["A: b\r\nHost: c".into()], ..uri("/") }, "end of a line"),
        (Asked { method: Some("TRACE".into()), ..uri("/") }, "not allowed"),
        (Asked { key_hex: Some("0".into()), ..Asked::default() }, "pairs of hexadecimal"),
        (Asked { client: Some(client), ..key("k") }, "ask with key="),
    ] {
        let problem = asked.question(&plan, &mut space).map(|_| ()).unwrap_err();
        assert!(problem.contains(wanted), "{asked:?}: {problem}");
    }
    let empty = explain(&view, &plan, Instant::now(), Question::Key { pool: None, key: b"" });
    assert!(empty.unwrap_err().contains("empty key"));
}

#[tokio::test]
async fn what_is_asked_of_the_api_is_bounded_and_needs_what_reading_needs() {
    let directory = Directory::new();
    let token = directory.file("token", "s3cret\n");
    let one = Origin::named("one").await;
    let text = super::support::proxy::configuration(&[&one], "", "")
        .replace("[admin]\n", &format!("[admin]\ntoken_file = \"{}\"\n", token.display()));
    let proxy = Proxy::start(&text).await;
    let post = |query: &'static str, fields: &'static str, body: String| async move {
        let mut client = Client::connect(proxy.admin).await;
        let length = body.len();
        let head = format!(
            "POST /api/lookup{query} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n"
        );
        client.send(head).await.send(body).await;
        client.answer().await
    };
    assert_eq!(post("", "", "x\n".into()).await.status, 401);
    const SHOWN: &str = "Authorization: Bearer s3cret\r\n";
    let answer = post("", SHOWN, "x\r\ny".into()).await;
    assert_eq!((answer.status, answer.text().lines().count()), (200, 2));
    assert_eq!(post("", SHOWN, String::new()).await.text(), "");
    assert_eq!(post("?detail=all", SHOWN, "x\n".into()).await.status, 400);
    assert_eq!(post("", SHOWN, "x\n".repeat(10_001)).await.status, 413);
    assert_eq!(post("", SHOWN, "x".repeat(512 * 1024 + 1)).await.status, 413);
    let admin = proxy.admin.to_string();
    let output = lookup(&["--admin", &admin, "x"], String::new()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("--token-file"), "{said}");
    // More than one request of the API takes.
    let arguments = ["--admin", &admin, "--token-file", token.to_str().unwrap(), "-"];
    let output = lookup(&arguments, (0..25_000).map(|i| format!("key-{i}\n")).collect()).await;
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 25_001);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn a_running_proxy_tells_how_each_stands_and_why() {
    let mut origins = [Origin::named("cache-1").await, Origin::named("cache-2").await];
    let pool = "[pools.p.health]\ninterval = \"500ms\"\nchanging_interval = \"20ms\"\n";
    let proxy = Proxy::before(&origins.iter().collect::<Vec<_>>(), pool).await;
    let admin = proxy.admin.to_string();
    let owner = proxy.api("/api/lookup?key=k").await["owners"][0]["backend"].as_str().unwrap().to_owned();
    let at = origins.iter().position(|origin| origin.name == owner).unwrap();
    origins[at].stop();
    proxy.sees(&owner, Standing::Down).await;
    let said = String::from_utf8(lookup(&["--admin", &admin, "k"], String::new()).await.stdout).unwrap();
    let line =
        |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{said}"));
    assert!(line("chosen").ends_with("(owner_down)"), "{said}");
    assert!(line("  1").contains("down") && line("  1").contains("passed over: it is down: "), "{said}");
    assert!(line("  2").contains("chosen: "), "{said}");
    origins[1 - at].stop();
    let other = origins[1 - at].name.clone();
    proxy.sees(&other, Standing::Down).await;
    let output = lookup(&["--admin", &admin, "k"], String::new()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("nobody: 503"), "{said}");
}
