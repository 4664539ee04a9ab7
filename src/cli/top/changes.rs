//! Changes as they happen: `/api/events`, read line by line.
//!
//! Owns the stream and taking it up again where it broke off. A proxy that has no such stream, or no place in it, is compared sample by sample
//! instead ([`super::news`]). Draws nothing.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::{
    feed::{Proxy, Update},
    figures::share,
    news::{Line, Tone, clock_of},
};
use crate::limits::EVENT_HEARTBEAT;

/// How long a stream that broke off is left alone.
const PAUSE: Duration = Duration::from_secs(2);

/// Bytes of a line of the stream.
const LINE: u64 = 64 * 1024;

/// A change as the stream tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    time: String,
    kind: String,
    pool: String,
    backend: String,
    from: String,
    to: String,
    reason: String,
    order: String,
    share_moved: f64,
    done: bool,
    summary: String,
}

impl Change {
    fn line(&self) -> Line {
        let Change { pool, backend, from, to, reason, order, .. } = self;
        let (tone, text) = match (&*self.kind, &**order) {
            ("backend", _) => {
                let tone = if to == "serving" { Tone::Better } else { Tone::Worse };
                (tone, format!("{pool}/{backend}: {from} → {to}: {reason}"))
            }
            ("order", order) => {
                let what = match order {
                    "drain" => "drained",
                    "none" => "restored",
                    other => other,
                };
                let moved = share(self.share_moved);
                (Tone::Plain, format!("{pool}/{backend}: {what} by an operator; {moved} of the keys move"))
            }
            ("reload", _) if self.done => (Tone::Plain, self.summary.clone()),
            ("reload", _) => (Tone::Worse, format!("a reload was refused: {}", self.summary)),
            (other, _) => (Tone::Plain, other.to_owned()),
        };
        // A refused configuration has many lines; the log and `ringway check` have them all.
        let first = text.lines().next().unwrap_or_default().to_owned();
        Line { clock: clock_of(&self.time).to_owned(), tone, text: first }
    }
}

/// Hears of changes until nobody wants to know.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do until the stream is there again"
)]
pub(super) fn hear(proxy: &Proxy, to: &Sender<Update>) {
    let mut last = None;
    loop {
        // Why it ended does not matter: samples tell whether the proxy is there.
        let _ = stream(proxy, to, &mut last);
        if to.blocking_send(Update::Hears(false)).is_err() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// One stream to its end, after the change with the number that came last.
fn stream(proxy: &Proxy, to: &Sender<Update>, last: &mut Option<String>) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&proxy.admin, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(EVENT_HEARTBEAT * 2))?;
    let after = last.as_ref().map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let token =
        proxy.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    // In HTTP/1.0 the body comes as it is, up to the connection's end.
    let head =
        format!("GET /api/events?samples=false HTTP/1.0\r\nhost: {}\r\n{after}{token}\r\n", proxy.admin);
    stream.write_all(head.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut next = |line: &mut String| -> io::Result<bool> {
        line.clear();
        Ok(reader.by_ref().take(LINE).read_line(line)? > 0)
    };
    if !next(&mut line)? || line.split(' ').nth(1) != Some("200") {
        return Ok(());
    }
    while next(&mut line)? && !line.trim_end().is_empty() {}
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    to.blocking_send(Update::Hears(true)).map_err(gone)?;
    while next(&mut line)? {
        if let Some(id) = line.strip_prefix("id: ") {
            *last = Some(id.trim_end().to_owned());
        } else if let Some(data) = line.strip_prefix("data: ")
            && let Ok(change) = serde_json::from_str::<Change>(data)
            && !change.kind.is_empty()
        {
            to.blocking_send(Update::Change(change.line())).map_err(gone)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_become_lines() {
        let line = |text: &str| serde_json::from_str::<Change>(text).unwrap().line();
        let told = line(
            r#"{"time":"2026-01-02T03:04:05.678Z","kind":"backend","pool":"p","backend":"b","from":"serving",
                "to":"down","reason":"3 probes failed","revision":7}"#,
        );
        assert_eq!(
            (&*told.clock, told.tone, &*told.text),
            ("03:04:05", Tone::Worse, "p/b: serving → down: 3 probes failed")
        );
        let order = |order: &str| {
            line(&format!(
                r#"{{"kind":"order","pool":"p","backend":"b","order":"{order}","share_moved":0.25}}"#
            ))
            .text
        };
        assert_eq!(order("drain"), "p/b: drained by an operator; 25.0% of the keys move");
        assert_eq!(order("none"), "p/b: restored by an operator; 25.0% of the keys move");
        assert_eq!(order("weight 2"), "p/b: weight 2 by an operator; 25.0% of the keys move");
        let refused = line(r#"{"kind":"reload","done":false,"summary":"error: x\n  more"}"#);
        assert_eq!((refused.tone, &*refused.text), (Tone::Worse, "a reload was refused: error: x"));
        assert_eq!(line(r#"{"kind":"eclipse"}"#).text, "eclipse");
    }
}
