//! What is shown, and what a key press does to it.
//!
//! Owns the state of the view: the last sample, what is selected, sorted and filtered, what is being typed. Pure: samples, answers and keys come
//! in, a [`Wish`] goes out.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    live::{Backend, History, Live, Pool},
    news::{News, Tone},
};
use crate::limits::LIVE_HISTORY;

/// What somebody wants of the proxy, or of this command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// To end.
    Quit,
    /// To know who owns a key.
    LookUp { pool: String, key: String },
    /// Another order about a backend: `drain`, `restore` or `weight?value=W`.
    Order { pool: String, backend: String, what: String },
}

/// What backends are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Configured,
    Name,
    Standing,
    Share,
    InFlight,
    Requests,
    Errors,
    P99,
}

impl Sort {
    pub(super) const ALL: [Sort; 8] = [
        Sort::Configured,
        Sort::Name,
        Sort::Standing,
        Sort::Share,
        Sort::InFlight,
        Sort::Requests,
        Sort::Errors,
        Sort::P99,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Sort::Configured => "configured",
            Sort::Name => "name",
            Sort::Standing => "standing",
            Sort::Share => "share",
            Sort::InFlight => "in flight",
            Sort::Requests => "requests/s",
            Sort::Errors => "errors/s",
            Sort::P99 => "p99",
        }
    }

    fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }

    /// Puts them in order: where numbers decide, the greatest first.
    fn sort(self, backends: &mut [&Backend]) {
        let most =
            |figure: fn(&Backend) -> f64| move |a: &&Backend, b: &&Backend| figure(b).total_cmp(&figure(a));
        match self {
            Sort::Configured => {}
            Sort::Name => backends.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Standing => backends.sort_by_key(|backend| backend.is_serving()),
            Sort::Share => backends.sort_by(most(|backend| backend.share)),
            Sort::InFlight => backends.sort_by(most(|backend| backend.in_flight as f64)),
            Sort::Requests => backends.sort_by(most(|backend| backend.requests_per_second)),
            Sort::Errors => backends.sort_by(most(|backend| backend.errors_per_second)),
            Sort::P99 => backends.sort_by(most(|backend| backend.first_byte_p99.unwrap_or_default())),
        }
    }
}

/// A line that is being typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Filter,
    LookUp,
    Weight,
}

/// What lies over the view, or has the keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Over {
    Nothing,
    Help,
    Typing(Prompt, String),
    /// A wish that needs a yes, and the question.
    Confirm(Wish, String),
    /// A text to be read, and its title.
    Text(String, String),
}

/// How the connection is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Link {
    /// The last sample has come.
    Up,
    /// It has not, for this reason; another try comes after so many seconds.
    Lost { why: String, again: u64 },
}

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) requests: VecDeque<f64>,
    pub(super) errors: VecDeque<f64>,
    pub(super) spill: VecDeque<f64>,
}

/// Characters of a line that is typed.
const TYPED: usize = 512;

/// The state.
pub(super) struct Model {
    /// Where the proxy is.
    pub(super) admin: String,
    /// A token was given, so changes can be asked for.
    pub(super) has_token: bool,
    pub(super) live: Live,
    pub(super) link: Link,
    pub(super) past: Past,
    pub(super) news: News,
    /// Changes are told as they happen, and need not be found by comparing.
    pub(super) hears: bool,
    pub(super) pool: usize,
    pub(super) selected: usize,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) shows_news: bool,
    pub(super) over: Over,
    /// What came of the last wish.
    pub(super) notice: Option<(Tone, String)>,
}

impl Model {
    /// Begins with a first sample.
    pub(super) fn new(admin: String, has_token: bool, live: Live, history: History) -> Model {
        let column = |numbers: Vec<f64>| -> VecDeque<f64> {
            let first = numbers.len().saturating_sub(LIVE_HISTORY);
            numbers[first..].iter().copied().collect()
        };
        let past = Past {
            requests: column(history.totals.requests_per_second),
            errors: column(history.totals.errors_per_second),
            spill: column(history.totals.spill_per_second),
        };
        let mut model = Model {
            admin,
            has_token,
            live,
            link: Link::Up,
            past,
            news: News::default(),
            hears: false,
            pool: 0,
            selected: 0,
            sort: Sort::Configured,
            reversed: false,
            filter: String::new(),
            shows_news: true,
            over: Over::Nothing,
            notice: None,
        };
        if model.past.requests.is_empty() {
            model.remember();
        }
        model
    }

    /// The pool that is looked at.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.live.pools.get(self.pool)
    }

    /// Its backends that the filter lets through, in the order that is wanted.
    pub(super) fn backends(&self) -> Vec<&Backend> {
        let filter = self.filter.to_lowercase();
        let fits = |backend: &&Backend| {
            filter.is_empty()
                || backend.name.to_lowercase().contains(&filter)
                || backend.standing.contains(&filter)
        };
        let mut backends: Vec<&Backend> =
            self.pool().map(|pool| pool.backends.iter().filter(fits).collect()).unwrap_or_default();
        self.sort.sort(&mut backends);
        if self.reversed {
            backends.reverse();
        }
        backends
    }

    /// The backend that orders are about.
    pub(super) fn backend(&self) -> Option<&Backend> {
        self.backends().get(self.selected).copied()
    }

    /// Takes a sample in.
    pub(super) fn take(&mut self, live: Live) {
        if self.link != Link::Up {
            self.news.add(live.clock(), Tone::Better, format!("{} answers again", self.admin));
        }
        self.link = Link::Up;
        if live.time == self.live.time {
            return;
        }
        self.news.compare(&self.live, &live, self.hears);
        let (pool, backend) =
            (self.pool().map(|pool| pool.name.clone()), self.backend().map(|one| one.name.clone()));
        self.live = live;
        self.remember();
        // What was looked at is looked at further, wherever it stands now.
        let same = self.live.pools.iter().position(|other| Some(&other.name) == pool.as_ref());
        self.pool = same.unwrap_or(0);
        let at = self.backends().iter().position(|other| Some(&other.name) == backend.as_ref());
        if let Some(at) = at.filter(|_| same.is_some()) {
            self.selected = at;
        }
        self.stay_within();
    }

    /// No sample has come.
    pub(super) fn lose(&mut self, why: String, again: u64) {
        if self.link == Link::Up {
            let clock = self.live.clock().to_owned();
            self.news.add(&clock, Tone::Worse, format!("{} does not answer any more: {why}", self.admin));
        }
        self.link = Link::Lost { why, again };
    }

    /// An answer to a question.
    pub(super) fn tell(&mut self, title: String, text: String) {
        self.over = Over::Text(title, text);
    }

    /// What came of an order.
    pub(super) fn notice(&mut self, tone: Tone, text: String) {
        if !self.hears {
            let clock = self.live.clock().to_owned();
            self.news.add(&clock, tone, text.clone());
        }
        self.notice = Some((tone, text));
    }

    fn remember(&mut self) {
        let totals = &self.live.totals;
        let figures = [totals.requests_per_second, totals.errors_per_second, totals.spill_per_second];
        let Past { requests, errors, spill } = &mut self.past;
        for (column, figure) in [requests, errors, spill].into_iter().zip(figures) {
            if column.len() == LIVE_HISTORY {
                column.pop_front();
            }
            column.push_back(figure);
        }
    }

    fn stay_within(&mut self) {
        self.selected = self.selected.min(self.backends().len().saturating_sub(1));
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Nothing => self.press_plain(key.code),
            Over::Typing(prompt, typed) => self.press_typing(prompt, typed, key),
            Over::Confirm(wish, _) => match key.code {
                KeyCode::Char('y' | 'Y') => Some(wish),
                _ => {
                    self.notice = Some((Tone::Plain, "nothing was changed".into()));
                    None
                }
            },
            // Whatever is pressed, the text has been read.
            Over::Help | Over::Text(..) => None,
        }
    }

    fn press_plain(&mut self, code: KeyCode) -> Option<Wish> {
        self.notice = None;
        let pools = self.live.pools.len().max(1);
        match code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?') | KeyCode::F(1) => self.over = Over::Help,
            KeyCode::Tab | KeyCode::Right => self.turn_to((self.pool + 1) % pools),
            KeyCode::BackTab | KeyCode::Left => self.turn_to((self.pool + pools - 1) % pools),
            KeyCode::Down | KeyCode::Char('j') => self.selected += 1,
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::PageDown => self.selected += 10,
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = usize::MAX,
            KeyCode::Char('s') => (self.sort, self.selected) = (self.sort.next(), 0),
            KeyCode::Char('S') => (self.reversed, self.selected) = (!self.reversed, 0),
            KeyCode::Char('e') => self.shows_news = !self.shows_news,
            KeyCode::Char('/') => self.over = Over::Typing(Prompt::Filter, self.filter.clone()),
            KeyCode::Char('l') => self.over = Over::Typing(Prompt::LookUp, String::new()),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('d') => self.confirm("drain"),
            KeyCode::Char('r') => self.confirm("restore"),
            KeyCode::Char('w') => {
                if let Some(weight) = self.may_order().map(|backend| backend.weight.clone()) {
                    self.over = Over::Typing(Prompt::Weight, weight);
                }
            }
            _ => {}
        }
        self.stay_within();
        None
    }

    fn turn_to(&mut self, pool: usize) {
        if self.pool != pool {
            (self.pool, self.selected) = (pool, 0);
        }
    }

    fn press_typing(&mut self, prompt: Prompt, mut typed: String, key: KeyEvent) -> Option<Wish> {
        match key.code {
            KeyCode::Esc => {
                if prompt == Prompt::Filter {
                    self.filter.clear();
                }
                self.stay_within();
                return None;
            }
            KeyCode::Enter => return self.typed(prompt, typed),
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => typed.clear(),
            KeyCode::Char(c) if typed.len() < TYPED && !key.modifiers.contains(KeyModifiers::CONTROL) => {
                typed.push(c);
            }
            _ => {}
        }
        if prompt == Prompt::Filter {
            (self.filter, self.selected) = (typed.clone(), 0);
        }
        self.over = Over::Typing(prompt, typed);
        None
    }

    fn typed(&mut self, prompt: Prompt, typed: String) -> Option<Wish> {
        match prompt {
            Prompt::Filter => self.filter = typed,
            Prompt::LookUp if typed.is_empty() => {}
            Prompt::LookUp => {
                let pool = self.pool()?.name.clone();
                return Some(Wish::LookUp { pool, key: typed });
            }
            Prompt::Weight => match typed.trim().parse::<crate::ring::Weight>() {
                Ok(weight) => self.confirm(&format!("weight?value={weight}")),
                Err(error) => self.notice = Some((Tone::Worse, format!("{}: {error}", typed.trim()))),
            },
        }
        self.stay_within();
        None
    }

    /// The backend that an order would be about. `None`: none can be given, which is said.
    fn may_order(&mut self) -> Option<Backend> {
        let refusal = match (self.has_token, self.live.can_change) {
            (false, _) => "to change anything, start with --token-file FILE",
            (true, false) => "this proxy takes no orders: it has no admin.token_file",
            (true, true) => match self.backend() {
                Some(backend) => return Some(backend.clone()),
                None => "no backend is selected",
            },
        };
        self.notice = Some((Tone::Worse, refusal.into()));
        None
    }

    fn confirm(&mut self, what: &str) {
        let Some(backend) = self.may_order() else { return };
        let Some(pool) = self.pool().map(|pool| pool.name.clone()) else { return };
        let name = &backend.name;
        let question = match what {
            "drain" => format!(
                "Drain {name} of {pool}? It gets no new requests; its {} of the keys move.",
                super::figures::share(backend.share)
            ),
            "restore" => format!("Restore {name} of {pool} to weight {}?", backend.configured_weight),
            other => {
                let weight = other.rsplit('=').next().unwrap_or_default();
                format!("Give {name} of {pool} the weight {weight} in place of {}?", backend.weight)
            }
        };
        self.over =
            Over::Confirm(Wish::Order { pool, backend: backend.name, what: what.to_owned() }, question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str, requests_per_second: f64) -> Backend {
        let (standing, weight) = ("serving".to_owned(), "1".to_owned());
        Backend { name: name.into(), requests_per_second, standing, weight, ..Backend::default() }
    }

    fn live(second: u32) -> Live {
        let backends = vec![backend("a", 1.0), backend("b", 9.0), backend("c", 5.0)];
        let pool = |name: &str| Pool { name: name.into(), backends: backends.clone(), ..Pool::default() };
        Live {
            time: format!("2026-01-02T03:04:{second:02}Z"),
            can_change: true,
            pools: vec![pool("p"), pool("q")],
            ..Live::default()
        }
    }

    fn model(has_token: bool) -> Model {
        Model::new("here".into(), has_token, live(0), History::default())
    }

    fn press(model: &mut Model, codes: &[KeyCode]) -> Option<Wish> {
        let mut wish = None;
        for code in codes {
            wish = model.press(KeyEvent::new(*code, KeyModifiers::NONE));
        }
        wish
    }

    fn typed(model: &mut Model, text: &str) -> Option<Wish> {
        press(model, &text.chars().map(KeyCode::Char).collect::<Vec<_>>())
    }

    fn names(model: &Model) -> Vec<&str> {
        model.backends().iter().map(|backend| &*backend.name).collect()
    }

    #[test]
    fn backends_are_sorted_and_filtered_as_wanted() {
        let mut model = model(false);
        while model.sort != Sort::Requests {
            typed(&mut model, "s");
        }
        assert_eq!(names(&model), ["b", "c", "a"]);
        typed(&mut model, "S");
        assert_eq!(names(&model), ["a", "c", "b"]);
        typed(&mut model, "/C");
        assert_eq!(names(&model), ["c"]);
        press(&mut model, &[KeyCode::Enter]);
        assert_eq!((names(&model), &model.over), (vec!["c"], &Over::Nothing));
        press(&mut model, &[KeyCode::Esc]);
        assert_eq!(names(&model).len(), 3);
    }

    #[test]
    fn what_is_selected_stays_selected_wherever_it_goes() {
        let mut model = model(false);
        press(&mut model, &[KeyCode::Tab, KeyCode::End]);
        assert_eq!((model.pool, &*model.backend().unwrap().name), (1, "c"));
        let mut next = live(1);
        next.pools.remove(0);
        next.pools[0].backends.remove(0);
        model.take(next);
        assert_eq!((model.pool, &*model.backend().unwrap().name), (0, "c"));
        let mut next = live(2);
        next.pools[1].backends.clear();
        model.take(next);
        assert_eq!((model.pool, model.backend()), (1, None));
        press(&mut model, &[KeyCode::Down, KeyCode::PageDown, KeyCode::Char('l')]);
        model.take(Live { time: "3".into(), ..Live::default() });
        assert_eq!(press(&mut model, &[KeyCode::Char('x'), KeyCode::Enter]), None);
        assert_eq!(model.pool(), None);
    }

    #[test]
    fn orders_need_a_token_and_a_yes() {
        let mut without = model(false);
        assert_eq!((typed(&mut without, "d"), &without.over), (None, &Over::Nothing));
        assert!(without.notice.unwrap().1.contains("--token-file"));
        let mut model = model(true);
        let order =
            |what: &str| Some(Wish::Order { pool: "p".into(), backend: "a".into(), what: what.into() });
        assert_eq!((typed(&mut model, "dy"), typed(&mut model, "dn")), (order("drain"), None));
        assert_eq!(typed(&mut model, "ry"), order("restore"));
        press(&mut model, &[KeyCode::Char('w'), KeyCode::Backspace]);
        typed(&mut model, "0.5");
        assert_eq!(press(&mut model, &[KeyCode::Enter, KeyCode::Char('y')]), order("weight?value=0.5"));
        typed(&mut model, "wx");
        assert_eq!(press(&mut model, &[KeyCode::Enter, KeyCode::Char('y')]), None);
        model.live.can_change = false;
        assert_eq!(typed(&mut model, "dy"), None);
    }

    #[test]
    fn keys_that_are_typed_are_no_commands() {
        let mut model = model(false);
        typed(&mut model, "lq?d");
        let wish = press(&mut model, &[KeyCode::Enter]);
        assert_eq!(wish, Some(Wish::LookUp { pool: "p".into(), key: "q?d".into() }));
        model.tell("title".into(), "text".into());
        assert_eq!((typed(&mut model, "q"), typed(&mut model, "q")), (None, Some(Wish::Quit)));
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        typed(&mut model, "l");
        assert_eq!(model.press(ctrl_c), Some(Wish::Quit));
    }

    #[test]
    fn the_past_is_bounded_and_the_same_sample_counts_once() {
        let mut model = model(false);
        for second in 0..400 {
            model.take(Live { time: second.to_string(), ..live(0) });
            model.take(Live { time: second.to_string(), ..live(0) });
        }
        assert_eq!(model.past.requests.len(), LIVE_HISTORY);
        model.lose("x".into(), 1);
        model.lose("x".into(), 2);
        model.take(live(59));
        let told: Vec<&str> = model.news.newest().map(|line| &*line.text).collect();
        assert_eq!(told, ["here answers again", "here does not answer any more: x"]);
    }
}
