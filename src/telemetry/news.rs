//! What has changed lately, in the order in which it did: for people who watch, and for those who look again after a while.
//!
//! Owns a bounded memory of changes and their numbers. Whoever makes a change tells it here, beside the log; who reads is
//! woken and waited for by nobody. Never a request's business.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tokio::sync::watch;

use crate::limits::NEWS_KEPT;

/// A change.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What<'a> {
    /// A backend stands otherwise.
    Backend {
        /// Its pool.
        pool: &'a str,
        /// Its name.
        backend: &'a str,
        /// Its standing before.
        from: &'a str,
        /// Its standing now.
        to: &'a str,
        /// Why, in a sentence.
        reason: &'a str,
        /// The first view that shows it.
        revision: u64,
    },
    /// An operator's order was obeyed.
    Order {
        /// The backend's pool.
        pool: &'a str,
        /// The backend.
        backend: &'a str,
        /// `drain`, `weight 0.5`, or `none`.
        order: &'a str,
        /// The share of the pool's keys that moves, from 0 to 1.
        share_moved: f64,
        /// The first view that shows it.
        revision: u64,
    },
    /// A configuration was taken in, or refused.
    Reload {
        /// It was taken in.
        done: bool,
        /// What it did, or what is wrong with it.
        summary: &'a str,
    },
}

/// One change as it is told.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its number in this process, from 1 on, without gaps.
    pub number: u64,
    /// Time and change, as JSON on one line.
    pub json: Arc<str>,
}

#[derive(Serialize)]
struct Dated<'a> {
    time: String,
    #[serde(flatten)]
    what: What<'a>,
}

/// The last changes.
#[derive(Debug)]
pub struct News {
    /// Tells this process's numbers from another one's.
    epoch: String,
    kept: Mutex<VecDeque<Item>>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

impl Default for News {
    fn default() -> News {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = format!("{:x}.{:x}", begun.as_millis(), std::process::id());
        News { epoch, kept: Mutex::default(), last: watch::channel(0).0 }
    }
}

impl News {
    /// Tells one.
    pub fn tell(&self, what: What<'_>) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let json = serde_json::to_string(&Dated { time, what }).expect("names and numbers are JSON").into();
        let mut kept = self.kept();
        let number = *self.last.borrow() + 1;
        if kept.len() == NEWS_KEPT {
            kept.pop_front();
        }
        kept.push_back(Item { number, json });
        // While the lock is held: numbers come in order.
        self.last.send_replace(number);
    }

    /// Wakes whoever waits for the next one.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// At most `most` of those after this number, and whether some in between are forgotten.
    pub fn after(&self, number: u64, most: usize) -> (Vec<Item>, bool) {
        let kept = self.kept();
        let is_new = |item: &&Item| item.number > number;
        let forgotten = kept.front().is_some_and(|oldest| oldest.number > number + 1);
        (kept.iter().filter(is_new).take(most).cloned().collect(), forgotten)
    }

    /// The number as others may show it again.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// The number of such a text. `None`: it is another process's, or nobody's.
    pub fn number(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix(&*self.epoch)?.strip_prefix('-')?.parse().ok()?;
        (number <= *self.last.borrow()).then_some(number)
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(news: &News) {
        news.tell(What::Reload { done: true, summary: "x" });
    }

    #[test]
    fn what_is_forgotten_is_known_to_be() {
        let news = News::default();
        assert!(news.after(0, 9).0.is_empty());
        (0..NEWS_KEPT).for_each(|_| told(&news));
        let (items, forgotten) = news.after(0, 2);
        assert_eq!((items[0].number, items[1].number, items.len(), forgotten), (1, 2, 2, false));
        told(&news);
        let (items, forgotten) = news.after(0, usize::MAX);
        assert_eq!((items[0].number, items.len(), forgotten), (2, NEWS_KEPT, true));
        assert!(!news.after(1, 1).1);
        assert!(news.after(u64::try_from(NEWS_KEPT).unwrap() + 1, 1).0.is_empty());
    }

    #[test]
    fn numbers_of_other_processes_mean_nothing() {
        let news = News::default();
        told(&news);
        assert_eq!(news.number(&news.id(1)), Some(1));
        for other in ["", "1", "-1", "x-1", &news.id(2), &format!("{}-", news.epoch)] {
            assert_eq!(news.number(other), None, "{other}");
        }
    }

    #[test]
    fn a_change_is_told_with_its_kind_and_time() {
        let news = News::default();
        news.tell(What::Backend {
            pool: "p",
            backend: "b",
            from: "serving",
            to: "down",
            reason: "\"no\"\n",
            revision: 7,
        });
        let told: serde_json::Value = serde_json::from_str(&news.after(0, 1).0[0].json).unwrap();
        assert_eq!((&told["kind"], &told["reason"]), (&"backend".into(), &"\"no\"\n".into()));
        assert!(told["time"].as_str().unwrap().ends_with('Z'));
    }
}
