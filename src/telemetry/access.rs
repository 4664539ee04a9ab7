//! The access log: one line a request, for people and programs.
//!
//! Owns the form of a line and the thread that writes it. Never delays a request: a line that finds the queue full is
//! dropped and counted. What a client sent can't break a line or a terminal: all but printable ASCII is escaped.

use std::{
    fmt::{self, Display, Write as _},
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;

use crate::{http1::Version, limits::LOG_FIELD_BYTES, ring::Place};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object.
    Json,
    /// The common log format, for tools that read it. It has no room for most of what is known.
    Common,
}

impl fmt::Display for AccessFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessFormat::Json => "json",
            AccessFormat::Common => "common",
        })
    }
}

/// How a key stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInLog {
    /// Its place on the ring, in hexadecimal: enough to follow a key, without telling it.
    Hashed,
    /// As it is.
    Plain,
    /// Not at all.
    Omit,
}

impl fmt::Display for KeyInLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyInLog::Hashed => "hashed",
            KeyInLog::Plain => "plain",
            KeyInLog::Omit => "omit",
        })
    }
}

/// What an operator chooses.
#[derive(Clone, Debug)]
pub struct AccessLogPolicy {
    /// The form of a line.
    pub format: AccessFormat,
    /// Where it goes. `None`: standard output.
    pub file: Option<PathBuf>,
    /// How a key stands in it.
    pub key: KeyInLog,
    /// Lines that may wait for the writer.
    pub queue_lines: usize,
}

/// One request, as the log tells it.
pub struct AccessLine<'a> {
    /// The client, behind trusted proxies.
    pub client: IpAddr,
    /// The method's name.
    pub method: &'a [u8],
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// The path, without the query, which is where secrets tend to be.
    pub path: &'a [u8],
    /// The client's version.
    pub version: Version,
    /// The status sent. `None`: the client went away before there was one.
    pub status: Option<u16>,
    /// Why the answer is one of ours.
    pub refusal: Option<&'static str>,
    /// The pool.
    pub pool: Option<&'a str>,
    /// The backend tried last.
    pub backend: Option<&'a str>,
    /// The key's owner.
    pub owner: Option<&'a str>,
    /// Why the backend is not the owner.
    pub off_owner: Option<&'static str>,
    /// The key, and the source it came from.
    pub key: Option<(&'a dyn Display, &'a [u8])>,
    /// Attempts made.
    pub attempts: u32,
    /// From the head's first byte to the end.
    pub whole: Duration,
    /// To the answer's head.
    pub first_byte: Option<Duration>,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// The request's id.
    pub request_id: &'a [u8],
}

/// The sending side, shared by all workers.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: AccessFormat,
    key: KeyInLog,
    queue: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// The writing thread. It ends when the last [`AccessLog`] is dropped and all lines are written.
#[derive(Debug)]
pub struct AccessWriter {
    thread: JoinHandle<()>,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file can't be opened for appending, or no thread can be started.
    pub fn open(policy: &AccessLogPolicy) -> io::Result<(AccessLog, AccessWriter)> {
        let target: Box<dyn Write + Send> = match &policy.file {
            Some(path) => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (queue, lines) = sync_channel(policy.queue_lines);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = AccessLog { format: policy.format, key: policy.key, queue, dropped: dropped.clone() };
        let thread = std::thread::Builder::new()
            .name("ringway-access".into())
            .spawn(move || write_lines(target, &lines, &dropped))?;
        Ok((log, AccessWriter { thread }))
    }

    /// Hands a line to the writer, or drops it.
    pub fn write(&self, line: &AccessLine<'_>) {
        let text = match self.format {
            AccessFormat::Json => json(line, self.key),
            AccessFormat::Common => common(line),
        };
        if self.queue.try_send(text).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

impl AccessWriter {
    /// Waits until all lines are written.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the access log's writer panicked");
        }
    }
}

fn write_lines(target: Box<dyn Write + Send>, lines: &Receiver<String>, dropped: &AtomicU64) {
    let mut out = BufWriter::with_capacity(64 * 1024, target);
    let (mut told, mut told_at) = (0, Instant::now());
    let mut broken = false;
    while let Ok(line) = lines.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            let written = out.write_all(line.as_bytes());
            // Said once: a full disk would otherwise fill the log about the log.
            if let (Err(error), false) = (&written, broken) {
                tracing::error!(%error, "the access log can't be written");
            }
            broken = written.is_err();
            next = lines.try_recv().ok();
        }
        broken |= out.flush().is_err();
        let now_dropped = dropped.load(Relaxed);
        if now_dropped > told && told_at.elapsed() > Duration::from_secs(10) {
            tracing::warn!(lines = now_dropped - told, "access lines dropped: the writer can't keep up");
            (told, told_at) = (now_dropped, Instant::now());
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    client: IpAddr,
    method: String,
    host: String,
    path: String,
    version: &'static str,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
    pool: Option<&'a str>,
    backend: Option<&'a str>,
    owner: Option<&'a str>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    attempts: u32,
    duration_ms: f64,
    first_byte_ms: Option<f64>,
    received_bytes: u64,
    sent_bytes: u64,
    request_id: String,
}

fn json(line: &AccessLine<'_>, key: KeyInLog) -> String {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let shown = match key {
        KeyInLog::Hashed => line.key.map(|(_, key)| format!("{:016x}", Place::of(key).0)),
        KeyInLog::Plain => line.key.map(|(_, key)| escape(key)),
        KeyInLog::Omit => None,
    };
    let line = JsonLine {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        client: line.client,
        method: escape(line.method),
        host: escape(line.authority),
        path: escape(line.path),
        version: version(line.version),
        status: line.status,
        refusal: line.refusal,
        pool: line.pool,
        backend: line.backend,
        owner: line.owner,
        reason: line.off_owner.unwrap_or("owner"),
        key_source: line.key.map(|(source, _)| source.to_string()),
        key: shown,
        attempts: line.attempts,
        duration_ms: millis(line.whole),
        first_byte_ms: line.first_byte.map(millis),
        received_bytes: line.received,
        sent_bytes: line.sent,
        request_id: escape(line.request_id),
    };
    let mut text = serde_json::to_string(&line).expect("strings and numbers are always JSON");
    text.push('\n');
    text
}

fn common(line: &AccessLine<'_>) -> String {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let status = line.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!(
        "{} - - [{}] \"{} {} {}\" {status} {}\n",
        line.client,
        common_time(&time),
        escape(line.method),
        escape(line.path),
        version(line.version),
        line.sent
    )
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// `2026-11-21T10:26:20Z` as `21/Nov/2026:10:26:20 +0000`.
fn common_time(time: &str) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = time[5..7].parse::<usize>().map_or("???", |month| MONTHS[(month + 11) % 12]);
    format!("{}/{month}/{}:{} +0000", &time[8..10], &time[..4], &time[11..19])
}

/// Printable ASCII as it is, all else as `\xNN`; quotes and backslashes escaped; cut at a bound.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().min(LOG_FIELD_BYTES));
    for &b in bytes.iter().take(LOG_FIELD_BYTES) {
        match b {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(b as char);
            }
            b' '..=b'~' => out.push(b as char),
            _ => write!(out, "\\x{b:02x}").expect("a string takes all that is written"),
        }
    }
    if bytes.len() > LOG_FIELD_BYTES {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_client_sends_breaks_a_line_or_a_terminal() {
        let nasty = b"/\x1b[2J\"\n\x9b\\\xc2\x9b end";
        let escaped = escape(nasty);
        assert!(escaped.bytes().all(|b| (b' '..=b'~').contains(&b)), "{escaped}");
        assert_eq!(escaped, "/\\x1b[2J\\\"\\x0a\\x9b\\\\\\xc2\\x9b end");
        assert!(escape(&[b'a'; 10_000]).len() < 3000);
    }

    #[test]
    fn the_common_format_has_its_time() {
        assert_eq!(common_time("2026-11-21T10:26:20Z"), "21/Nov/2026:10:26:20 +0000");
    }
}
