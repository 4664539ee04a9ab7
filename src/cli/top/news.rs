//! What has changed between two samples, as lines for people.
//!
//! Owns the comparison and the bound on what is kept. Asks nobody. Pure.

use std::collections::VecDeque;

use super::live::{Backend, Live, Pool};

/// Lines that are kept.
const KEPT: usize = 200;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Somebody has less than before.
    Worse,
    /// Somebody has it back.
    Better,
    /// Neither.
    Plain,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// The time of day, by the proxy's clock.
    pub(super) clock: String,
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// The time of day in a time as the API writes it.
pub(super) fn clock_of(time: &str) -> &str {
    time.get(11..19).unwrap_or("--:--:--")
}

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct News {
    lines: VecDeque<Line>,
}

impl News {
    /// From the newest on.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev()
    }

    pub(super) fn add(&mut self, clock: &str, tone: Tone, text: String) {
        self.push(Line { clock: clock.to_owned(), tone, text });
    }

    pub(super) fn push(&mut self, line: Line) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Adds what differs. With `hears`, how backends stand is told by somebody else.
    pub(super) fn compare(&mut self, old: &Live, new: &Live, hears: bool) {
        let clock = new.clock();
        match (old.draining, new.draining, old.ready, new.ready) {
            (false, true, ..) => self.add(clock, Tone::Worse, "the proxy drains: it is about to stop".into()),
            (.., false, true) => self.add(clock, Tone::Better, "the proxy is ready".into()),
            (.., true, false) => self.add(clock, Tone::Worse, "the proxy is not ready".into()),
            _ => {}
        }
        for pool in &new.pools {
            match old.pools.iter().find(|before| before.name == pool.name) {
                Some(before) => self.compare_pool(clock, before, pool, hears),
                None => self.add(clock, Tone::Plain, format!("{}: a new pool", pool.name)),
            }
        }
        let has_gone = |pool: &&Pool| new.pools.iter().all(|after| after.name != pool.name);
        for pool in old.pools.iter().filter(has_gone) {
            self.add(clock, Tone::Plain, format!("{}: the pool is gone", pool.name));
        }
    }

    fn compare_pool(&mut self, clock: &str, old: &Pool, new: &Pool, hears: bool) {
        for backend in &new.backends {
            let name = format!("{}/{}", new.name, backend.name);
            match old.backends.iter().find(|before| before.name == backend.name) {
                Some(_) if hears => {}
                Some(before) => self.compare_backend(clock, &name, before, backend),
                None => self.add(clock, Tone::Plain, format!("{name}: a new backend, {}", backend.standing)),
            }
        }
        let has_gone = |backend: &&Backend| new.backends.iter().all(|after| after.name != backend.name);
        for backend in old.backends.iter().filter(has_gone) {
            self.add(clock, Tone::Plain, format!("{}/{}: the backend is gone", new.name, backend.name));
        }
    }

    fn compare_backend(&mut self, clock: &str, name: &str, old: &Backend, new: &Backend) {
        if old.standing != new.standing {
            let tone = if new.is_serving() { Tone::Better } else { Tone::Worse };
            self.add(clock, tone, format!("{name}: {} → {}: {}", old.standing, new.standing, new.reason));
        } else if old.since != new.since {
            let text = format!("{name}: {} again, after something else: {}", new.standing, new.reason);
            self.add(clock, Tone::Plain, text);
        }
        if old.weight != new.weight {
            self.add(clock, Tone::Plain, format!("{name}: weight {} → {}", old.weight, new.weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(standing: &str, since: &str, weight: &str) -> Live {
        let text = format!(
            r#"{{"time":"2026-01-02T03:04:05Z","ready":true,"pools":[{{"name":"p","backends":[
            {{"name":"a","standing":"{standing}","since":"{since}","reason":"because","weight":"{weight}"}}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_differs_is_told_and_no_more() {
        let mut news = News::default();
        let first = sample("serving", "1", "1");
        news.compare(&first, &first, false);
        assert_eq!(news.newest().count(), 0);
        news.compare(&first, &sample("down", "2", "1"), false);
        news.compare(&sample("down", "2", "1"), &sample("serving", "3", "0.5"), false);
        news.compare(&sample("serving", "3", "1"), &sample("serving", "4", "1"), false);
        news.compare(&first, &Live { draining: true, ..first.clone() }, false);
        news.compare(&first, &Live { pools: vec![], ..first.clone() }, false);
        let told: Vec<_> = news.newest().map(|line| (line.tone, &*line.text)).collect();
        assert_eq!(
            told,
            [
                (Tone::Plain, "p: the pool is gone"),
                (Tone::Worse, "the proxy drains: it is about to stop"),
                (Tone::Plain, "p/a: serving again, after something else: because"),
                (Tone::Plain, "p/a: weight 1 → 0.5"),
                (Tone::Better, "p/a: down → serving: because"),
                (Tone::Worse, "p/a: serving → down: because"),
            ]
        );
        assert_eq!(news.newest().next().unwrap().clock, "03:04:05");
        let before = news.newest().count();
        news.compare(&first, &sample("down", "2", "2"), true);
        assert_eq!(news.newest().count(), before);
        for _ in 0..300 {
            news.add("", Tone::Plain, String::new());
        }
        assert_eq!(news.newest().count(), KEPT);
    }
}
