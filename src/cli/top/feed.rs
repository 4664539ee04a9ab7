//! What comes from outside while the view is open: samples, changes, answers, keys.
//!
//! Owns a thread for each, which waits for it; all end with the process. A proxy that does not answer is asked again after
//! pauses that grow to a bound. Draws nothing.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc::Sender;

use super::{
    super::{
        door::{Said, ask},
        operate::encoded,
    },
    changes::hear,
    live::{History, Live},
    model::Wish,
    news::{Line, Tone},
};
use crate::{
    limits::LIVE_SAMPLE,
    proxy::explain::{Explanation, Part},
};

/// Something came.
pub(super) enum Update {
    Sample(Box<Live>),
    /// No sample came; another try comes after so many seconds.
    Lost {
        why: String,
        again: u64,
    },
    /// An answer to a question.
    Told {
        title: String,
        text: String,
    },
    /// What came of an order.
    Came {
        tone: Tone,
        text: String,
    },
    /// Changes are told as they happen, or not any more.
    Hears(bool),
    /// One of them.
    Change(Line),
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// The terminal is gone.
    Closed,
}

/// How long an answer may take. Orders may take as long as a ring of millions of virtual nodes takes to build.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest pause before a proxy that does not answer is asked again.
const PAUSE_MOST: u64 = 10;

/// Wishes that wait for the one that is being granted.
const WISHES: usize = 4;

/// The proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) admin: SocketAddr,
    pub(super) token: Option<String>,
}

impl Proxy {
    fn ask(&self, line: &str, body: &[u8], limit: Option<Duration>) -> Result<Vec<u8>, String> {
        match ask(self.admin, line, self.token.as_deref(), body, limit) {
            Ok(Said { status: 200, body }) => Ok(body),
            Ok(said) => Err(said.problem() + said.hint(self.token.is_some())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The last sample.
    pub(super) fn live(&self) -> Result<Live, String> {
        let body = self.ask("GET /api/live", b"", Some(LIMIT))?;
        serde_json::from_slice(&body).map_err(|error| format!("/api/live is not as it should be: {error}"))
    }

    /// The minutes before. A view without them is a view all the same.
    pub(super) fn history(&self) -> History {
        let body = self.ask("GET /api/live/history", b"", Some(LIMIT)).unwrap_or_default();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    fn grant(&self, wish: Wish) -> Option<Update> {
        match wish {
            Wish::Quit => None,
            Wish::LookUp { pool, key } => Some(match self.look_up(&pool, &key) {
                Ok(update) => update,
                Err(problem) => Update::Told { title: "no answer".into(), text: problem },
            }),
            Wish::Order { pool, backend, what } => {
                let path = format!("/api/pools/{}/backends/{}/{what}", encoded(&pool), encoded(&backend));
                let what = what.replace("?value=", " ");
                Some(match self.ask(&format!("POST {path}"), b"", None) {
                    Ok(body) => {
                        let obeyed: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                        let moved = obeyed["share_moved"].as_f64().unwrap_or_default() * 100.0;
                        let mut text =
                            format!("{pool}/{backend}: {what}: done; {moved:.2} % of the pool's keys move");
                        if let Some(why) = obeyed["not_kept"].as_str() {
                            text += &format!(". {why}");
                        }
                        Update::Came { tone: Tone::Plain, text }
                    }
                    Err(problem) => Update::Came {
                        tone: Tone::Worse,
                        text: format!("{pool}/{backend}: {what}: {problem}"),
                    },
                })
            }
        }
    }

    fn look_up(&self, pool: &str, key: &str) -> Result<Update, String> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("pool", pool)
            .append_pair("key", key)
            .finish();
        let body = self.ask(&format!("GET /api/lookup?{query}"), b"", Some(LIMIT))?;
        let told: Explanation = serde_json::from_slice(&body)
            .map_err(|error| format!("/api/lookup is not as it should be: {error}"))?;
        Ok(Update::Told { title: format!("who owns {key:?} in {pool}"), text: describe(&told) })
    }
}

/// Backends that an answer lists.
const LISTED: usize = 8;

/// An answer in lines that a narrow terminal can hold.
fn describe(told: &Explanation) -> String {
    let mut lines = vec![told.summary.clone()];
    lines.extend(told.place_hex.as_ref().map(|place| format!("place {place}")));
    for (at, owner) in told.owners.iter().take(LISTED).enumerate() {
        let part = match owner.part {
            Part::Chosen => "CHOSEN",
            Part::Skipped => "passed over",
            Part::Next => "next",
            Part::Spare => "spare",
        };
        let standing = owner.standing.word();
        lines.push(format!("\n{}. {} ({standing}): {part}\n   {}", at + 1, owner.backend, owner.why));
    }
    if told.owners.len() > LISTED {
        lines.push(format!("\nand {} more", told.owners.len() - LISTED));
    }
    lines.join("\n")
}

/// Begins to watch. Wishes go into what is returned.
///
/// # Errors
/// No thread can be had.
pub(super) fn begin(proxy: &Proxy, updates: &Sender<Update>) -> std::io::Result<Wishes> {
    let (sender, wishes) = sync_channel(WISHES);
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(format!("ringway-top-{name}")).spawn(run).map(drop)
    };
    let (watched, to) = (proxy.clone(), updates.clone());
    spawn("samples", Box::new(move || watch(&watched, &to)))?;
    let (heard, to) = (proxy.clone(), updates.clone());
    spawn("changes", Box::new(move || hear(&heard, &to)))?;
    let (asked, to) = (proxy.clone(), updates.clone());
    spawn("wishes", Box::new(move || grant(&asked, &wishes, &to)))?;
    let to = updates.clone();
    spawn("keys", Box::new(move || listen(&to)))?;
    Ok(Wishes(sender))
}

/// Where wishes go.
pub(super) struct Wishes(SyncSender<Wish>);

impl Wishes {
    /// Has a wish granted.
    ///
    /// # Errors
    /// Those before it are not yet; the sentence says so.
    pub(super) fn send(&self, wish: Wish) -> Result<(), &'static str> {
        match self.0.try_send(wish) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err("the proxy has not answered yet; one thing after the other"),
            Err(TrySendError::Disconnected(_)) => Err("nobody is there to ask any more"),
        }
    }
}

/// One sample after the other, until nobody wants them.
#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do between two samples")]
fn watch(proxy: &Proxy, to: &Sender<Update>) {
    let mut pause = 1;
    loop {
        let asked = Instant::now();
        let (update, wait) = match proxy.live() {
            Ok(live) => {
                pause = 1;
                (Update::Sample(Box::new(live)), LIVE_SAMPLE.saturating_sub(asked.elapsed()))
            }
            Err(why) => {
                let again = pause;
                pause = (pause * 2).min(PAUSE_MOST);
                (Update::Lost { why, again }, Duration::from_secs(again))
            }
        };
        if to.blocking_send(update).is_err() {
            return;
        }
        thread::sleep(wait);
    }
}

fn grant(proxy: &Proxy, wishes: &Receiver<Wish>, to: &Sender<Update>) {
    for wish in wishes {
        if let Some(update) = proxy.grant(wish)
            && to.blocking_send(update).is_err()
        {
            return;
        }
    }
}

fn listen(to: &Sender<Update>) {
    loop {
        let update = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Update::Key(key),
            Ok(Event::Resize(..)) => Update::Resized,
            Ok(_) => continue,
            Err(_) => Update::Closed,
        };
        let is_over = matches!(update, Update::Closed);
        if to.blocking_send(update).is_err() || is_over {
            return;
        }
    }
}
