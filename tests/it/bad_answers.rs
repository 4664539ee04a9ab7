//! Answers that backends may send, and what may become of them: recorded cases (`tests/data/make_answers.py` says how they read), for
//! clients of HTTP/1.1 and of HTTP/2.

use std::sync::{Arc, Mutex};

use http::Request;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::support::{Client, Origin, Proxy, http2, proxy::configuration, soon};

#[derive(Clone, Debug, Deserialize)]
struct Case {
    name: String,
    category: String,
    method: String,
    answer: String,
    closes: bool,
    accept: Vec<String>,
    status: u16,
    body: String,
    reuse: Option<bool>,
    absent: Vec<String>,
    present: Vec<String>,
    why: String,
}

/// A character is a byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// What a client got.
#[derive(Debug)]
enum Got {
    Whole {
        status: u16,
        head: String,
        body: Vec<u8>,
    },
    /// The answer can be told from a whole one, or there is none.
    Cut,
}

impl Got {
    fn kind(&self) -> &'static str {
        match self {
            Got::Whole { status: 502 | 504, .. } => "refuse",
            Got::Whole { .. } => "pass",
            Got::Cut => "cut",
        }
    }
}

/// A backend that answers the first request of its first connection as the case says, and all others cleanly.
async fn backend(present: Arc<Mutex<Option<Case>>>, served: Arc<Mutex<Vec<usize>>>) -> Origin {
    let connections = Arc::new(Mutex::new(0));
    Origin::with("one", move |mut peer| {
        let (present, served, connections) = (present.clone(), served.clone(), connections.clone());
        async move {
            let number = {
                let mut connections = connections.lock().unwrap();
                *connections += 1;
                *connections
            };
            while let Some(seen) = peer.request().await {
                served.lock().unwrap().push(number);
                let case = present.lock().unwrap().take();
                let clean: &[u8] = match seen.line().starts_with("HEAD ") {
                    true => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
                    false => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                };
                let answer = case.as_ref().map_or(clean.to_vec(), |case| bytes(&case.answer));
                if peer.stream.write_all(&answer).await.is_err() || case.is_some_and(|case| case.closes) {
                    return;
                }
            }
        }
    })
    .await
}

struct Lane {
    proxy: Proxy,
    _backend: Origin,
    present: Arc<Mutex<Option<Case>>>,
    served: Arc<Mutex<Vec<usize>>>,
}

impl Lane {
    async fn new() -> Lane {
        let (present, served) = (Arc::default(), Arc::default());
        let backend = backend(Arc::clone(&present), Arc::clone(&served)).await;
        let times = "attempts = 1\n[pools.p.timeouts]\nresponse_head = \"150ms\"\nidle_body = \"150ms\"\n";
        let text = configuration(&[&backend], times, "")
            .replacen(
                "address = \"127.0.0.1:0\"\n",
                "address = \"127.0.0.1:0\"\nhttp2 = \"prior-knowledge\"\n",
                1,
            )
            .replace("workers = 2", "workers = 1");
        Lane { proxy: Proxy::start(&text).await, _backend: backend, present, served }
    }

    async fn old(&self, method: &str) -> Got {
        let mut client = Client::connect(self.proxy.address).await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        match soon("an answer or the end", client.maybe_answer_to(method)).await {
            Some(answer) => {
                let head = format!("{}\n{}", answer.head, answer.trailers);
                Got::Whole { status: answer.status, head, body: answer.body }
            }
            None => Got::Cut,
        }
    }

    async fn new_version(&self, method: &str) -> Got {
        let mut client = http2::connect(self.proxy.address).await;
        let request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
        match http2::ask(&mut client, request).await {
            Ok(whole) => {
                let fields =
                    whole.fields.iter().chain(whole.trailers.iter().flat_map(|fields| fields.iter()));
                let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes()))
                };
                let head = fields.map(line).collect();
                Got::Whole { status: whole.status, head, body: whole.body }
            }
            Err(_) => Got::Cut,
        }
    }

    /// What is wrong with what came of it.
    async fn fault(&self, case: &Case, is_old: bool) -> Option<String> {
        *self.present.lock().unwrap() = Some(case.clone());
        self.served.lock().unwrap().clear();
        let got = if is_old { self.old(&case.method).await } else { self.new_version(&case.method).await };
        if !case.accept.iter().any(|accept| accept == got.kind()) {
            return Some(format!("{} is not among {:?}: {got:?}", got.kind(), case.accept));
        }
        if let ("pass", Got::Whole { status, head, body }) = (got.kind(), &got) {
            let head = head.to_lowercase();
            if (*status, body.as_slice()) != (case.status, bytes(&case.body).as_slice()) {
                return Some(format!("not what was sent: {got:?}"));
            }
            if let Some(word) = case.absent.iter().find(|word| head.contains(*word)) {
                return Some(format!("{word:?} reached the client: {head}"));
            }
            if let Some(word) = case.present.iter().find(|word| !head.contains(*word)) {
                return Some(format!("{word:?} did not reach the client: {head}"));
            }
        }
        let clean = if is_old { self.old("GET").await } else { self.new_version("GET").await };
        if !matches!(&clean, Got::Whole { status: 200, body, .. } if body == b"ok") {
            return Some(format!("the next request got {clean:?}"));
        }
        let served = self.served.lock().unwrap();
        let [first, second] = served[..] else { return Some(format!("requests on connections {served:?}")) };
        match case.reuse {
            Some(false) if first == second => Some("the connection was used again".into()),
            Some(true) if first != second => Some("the connection was not used again".into()),
            _ => None,
        }
    }
}

#[tokio::test]
async fn every_recorded_answer_is_passed_on_refused_or_cut_as_it_must_be() {
    let recorded = include_str!("../data/bad_answers.jsonl").lines();
    let mut cases: Vec<Case> = recorded.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let count = cases.len();
    let lane_length = cases.len().div_ceil(8);
    // Most of the time goes into waiting: several lanes, each with a proxy and a backend of its own.
    let local = tokio::task::LocalSet::new();
    let mut lanes = Vec::new();
    while !cases.is_empty() {
        let part = cases.split_off(cases.len().saturating_sub(lane_length));
        lanes.push(local.spawn_local(async move {
            let lane = Lane::new().await;
            let mut faults = Vec::new();
            for case in &part {
                for is_old in [true, false] {
                    if let Some(fault) = lane.fault(case, is_old).await {
                        let version = if is_old { "HTTP/1.1" } else { "HTTP/2" };
                        faults.push(format!(
                            "{} ({}), {version}: {fault}  [{}]",
                            case.name, case.category, case.why
                        ));
                    }
                }
            }
            faults
        }));
    }
    let mut faults = Vec::new();
    local.await;
    for lane in lanes {
        faults.extend(lane.await.unwrap());
    }
    assert!(faults.is_empty(), "of {count} cases, for two versions:\n{}", faults.join("\n"));
}
