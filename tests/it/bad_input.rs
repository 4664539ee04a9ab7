//! Raw bytes that clients may send, and what may come of them: recorded cases, judged by a strict recording backend.
//!
//! Each case says whether it must be refused or forwarded, and how. The recording backend reads HTTP with code of its
//! own, stricter than any server: a request that it finds malformed fails the case, whatever it was.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Deserialize;

use super::support::{Proxy, proxy::configuration};

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    category: String,
    raw: String,
    accept: Vec<String>,
    why: String,
    before: usize,
    #[serde(default)]
    requests: usize,
    #[serde(default)]
    bodies: Vec<String>,
    #[serde(default)]
    absent: Vec<String>,
    #[serde(default)]
    present: Vec<String>,
}

/// What the backend has been sent since the last look: heads with bodies, and faults.
#[derive(Default)]
struct Record {
    seen: Vec<(Vec<u8>, Vec<u8>)>,
    faults: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_case_is_refused_or_forwarded_as_it_must_be() {
    let recorded =
        include_str!("../data/bad_input.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    let mut cases: Vec<Case> = recorded.chain(large_cases()).collect();
    assert!(cases.len() >= 240, "only {} cases", cases.len());
    // Most of the time goes into waiting for silence: several lanes, each with a proxy and a recorder of its own.
    let mut lanes = Vec::new();
    let lane_length = cases.len().div_ceil(8);
    while !cases.is_empty() {
        let lane = cases.split_off(cases.len().saturating_sub(lane_length));
        let (address, record) = recorder();
        let text =
            configuration(&[], "", "").replace("backends = []", &format!("backends = [\"{address}\"]"));
        let proxy = Proxy::start(&text).await;
        let at = proxy.address;
        lanes.push((proxy, tokio::task::spawn_blocking(move || lane_failures(&lane, at, &record))));
    }
    let mut failures = Vec::new();
    for (_proxy, lane) in lanes {
        failures.extend(lane.await.unwrap());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn lane_failures(cases: &[Case], proxy: SocketAddr, record: &Mutex<Record>) -> Vec<String> {
    let mut failures = Vec::new();
    for case in cases {
        let codes = send(proxy, &decode(&case.raw));
        let Record { seen, faults } = std::mem::take(&mut *record.lock().unwrap());
        if let Some(fault) = judge(case, &codes, &seen, &faults) {
            failures.push(format!("{} ({}): {fault}  [{}]", case.name, case.category, case.why));
        }
    }
    failures
}

/// Those whose bytes would fill the repository.
fn large_cases() -> Vec<Case> {
    let case = |name: &str, raw: String| Case {
        name: name.into(),
        category: "large".into(),
        raw: encode(raw.as_bytes()),
        accept: vec!["reject".into()],
        why: "bounded".into(),
        before: 0,
        requests: 0,
        bodies: Vec::new(),
        absent: Vec::new(),
        present: Vec::new(),
    };
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        case("header-too-long", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(2_000_000))),
        case("target-too-long", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(2_000_000))),
        case("headers-too-many", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20_000))),
        case("method-huge", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(70_000))),
        case("chunk-extension-huge", format!("{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000))),
        case("trailer-huge", format!("{chunked}5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "a".repeat(300_000))),
        case(
            "chunk-extensions-many",
            format!("{chunked}{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(2000)),
        ),
    ]
}

fn judge(case: &Case, codes: &[u16], seen: &[(Vec<u8>, Vec<u8>)], faults: &[String]) -> Option<String> {
    if let Some(fault) = faults.first() {
        return Some(format!("the backend was sent something malformed: {fault}"));
    }
    let accepts = |what: &str| case.accept.iter().any(|accept| accept == what);
    let all_refused = codes.iter().skip(case.before).all(|code| *code >= 400);
    if accepts("reject") && seen.len() <= case.before && all_refused {
        return None;
    }
    if !accepts("forward") {
        let lines: Vec<_> = seen.iter().map(|(head, _)| String::from_utf8_lossy(head).into_owned()).collect();
        return Some(format!("should be refused; answers {codes:?}, the backend saw {lines:?}"));
    }
    if seen.len() != case.requests {
        return Some(format!(
            "the backend saw {} requests, not {}; answers {codes:?}",
            seen.len(),
            case.requests
        ));
    }
    let bodies: Vec<_> = case.bodies.iter().map(|body| decode(body)).collect();
    if !seen.iter().map(|(_, body)| body).eq(bodies.iter()) {
        return Some("bodies differ".into());
    }
    let heads: Vec<_> = seen.iter().map(|(head, _)| String::from_utf8_lossy(head).to_lowercase()).collect();
    let heads = heads.join("\n");
    let wrong = |word: &&String| heads.contains(&word.to_lowercase());
    if let Some(word) = case.absent.iter().find(wrong) {
        return Some(format!("{word:?} reached the backend"));
    }
    case.present.iter().find(|word| !wrong(word)).map(|word| format!("{word:?} did not reach the backend"))
}

/// Sends a case on a connection of its own. The status codes of the final answers, until it closes or falls silent.
fn send(proxy: SocketAddr, raw: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let raw = raw.to_vec();
    let push = std::thread::spawn(move || {
        // A proxy that refuses closes before it has read everything.
        let _ = writer.write_all(&raw);
    });
    // Silence is a legal outcome of a case that is cut off, and the only way to see it is to wait.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut data, mut part) = (Vec::new(), [0; 65536]);
    while let Ok(n @ 1..) = stream.read(&mut part) {
        data.extend_from_slice(&part[..n]);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    push.join().unwrap();
    let text = String::from_utf8_lossy(&data);
    let codes = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    codes.filter(|code: &u16| *code >= 200).collect()
}

/// Starts the recording backend.
fn recorder() -> (SocketAddr, Arc<Mutex<Record>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let record = Arc::new(Mutex::new(Record::default()));
    let shared = record.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let record = shared.clone();
            std::thread::spawn(move || Reader { stream, input: Vec::new() }.serve(&record));
        }
    });
    (address, record)
}

struct Reader {
    stream: TcpStream,
    input: Vec<u8>,
}

/// Why reading ended: the connection did, or what came is not a request.
enum End {
    Closed,
    Fault(String),
}

impl Reader {
    fn serve(mut self, record: &Mutex<Record>) {
        loop {
            match self.request() {
                Ok((head, body)) => {
                    let is_head = head.starts_with(b"HEAD ");
                    record.lock().unwrap().seen.push((head, body));
                    let answer =
                        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..if is_head { 38 } else { 40 }];
                    if self.stream.write_all(answer).is_err() {
                        return;
                    }
                }
                Err(End::Closed) => return,
                Err(End::Fault(fault)) => return record.lock().unwrap().faults.push(fault),
            }
        }
    }

    fn request(&mut self) -> Result<(Vec<u8>, Vec<u8>), End> {
        let head = self.until(b"\r\n\r\n")?;
        let mut lines = head.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let fault =
            |what: &str, line: &[u8]| End::Fault(format!("{what}: {:?}", String::from_utf8_lossy(line)));
        let line = lines.next().unwrap();
        let parts: Vec<_> = line.split(|&b| b == b' ').collect();
        let printable = |part: &[u8]| !part.is_empty() && part.iter().all(|&b| b > b' ' && b != 0x7f);
        if parts.len() != 3 || !parts.iter().all(|part| printable(part)) || parts[2] != b"HTTP/1.1" {
            return Err(fault("request line", line));
        }
        let mut fields = Vec::new();
        for line in lines {
            let colon = line.iter().position(|&b| b == b':').ok_or_else(|| fault("field", line))?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            let control = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
            if name.is_empty() || !name.iter().all(token) || value.iter().any(control) {
                return Err(fault("field", line));
            }
            fields.push((name.to_ascii_lowercase(), value.to_vec()));
        }
        let values = |name: &[u8]| -> Vec<&Vec<u8>> {
            fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect()
        };
        if values(b"host").len() != 1 {
            return Err(fault("not one Host", &head));
        }
        let (lengths, codings) = (values(b"content-length"), values(b"transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok((head, Vec::new())),
            ([length], []) => {
                let text = String::from_utf8_lossy(length);
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let length = text.parse().ok().filter(|_| digits).ok_or_else(|| fault("length", length))?;
                let body = self.exactly(length)?;
                Ok((head, body))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
                let body = self.chunks()?;
                Ok((head, body))
            }
            _ => Err(fault("framing", &head)),
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let hex = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&text, 16).ok().filter(|_| hex);
            let Some(size) = size else {
                return Err(End::Fault(format!("chunk size {text:?}")));
            };
            if size == 0 {
                while !self.until(b"\r\n")?.is_empty() {}
                return Ok(body);
            }
            let data = self.exactly(size)?;
            body.extend(data);
            if self.exactly(2)? != b"\r\n" {
                return Err(End::Fault("a chunk's end".into()));
            }
        }
    }

    fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.input.windows(mark.len()).position(|window| window == mark) {
                let part = self.input[..at].to_vec();
                self.input.drain(..at + mark.len());
                return Ok(part);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, n: usize) -> Result<Vec<u8>, End> {
        while self.input.len() < n {
            self.more()?;
        }
        Ok(self.input.drain(..n).collect())
    }

    fn more(&mut self) -> Result<(), End> {
        let mut part = [0; 65536];
        match self.stream.read(&mut part) {
            Ok(n @ 1..) => {
                self.input.extend_from_slice(&part[..n]);
                Ok(())
            }
            _ => Err(End::Closed),
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for i in 0..=group.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char);
        }
    }
    out
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for b in text.bytes().filter(|b| *b != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|a| *a == b).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
