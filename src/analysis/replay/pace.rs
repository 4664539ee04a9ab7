//! When a recorded request comes in a replay: by its own time, as exactly as that was written, or by a rate.
//!
//! Owns that. A log that tells whole seconds only would have all requests of a second come at once, and a bound on load would spill them: they are
//! spread over the second.

use fastrand::Rng;

use super::{Arrival, ReplayError, SECOND, generate::chance_gap};
use crate::limits::{REPLAY_BACK_SECONDS, REPLAY_GROUP, REPLAY_STRETCHES};

/// How requests follow each other.
#[derive(Clone, Debug)]
enum Rule {
    /// As recorded, so many times as fast.
    Recorded(f64),
    /// By chance, so many in a second.
    Rate(f64, Box<Rng>),
}

/// A trace whose requests get their times.
#[derive(Debug)]
pub struct Pace<I> {
    rule: Rule,
    requests: I,
    /// Those of one time, as it was recorded; the next one after them.
    group: std::vec::IntoIter<Arrival>,
    next: Option<(u64, Arrival)>,
    course: Course,
    /// How exactly times are written, in nanoseconds.
    grain: u64,
    last: u64,
    clock: f64,
    is_over: bool,
}

/// How recorded times become times since the first, also where a log's times go back: one file behind a newer one, a clock that was set.
#[derive(Debug, Default)]
struct Course {
    now: Option<Stretch>,
    /// Those before it, to which times may come back: one line may be of long ago.
    before: Vec<Stretch>,
    /// The latest time given out.
    reached: u64,
    breaks: u64,
}

/// A part of the log in which times go on.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Its first time as recorded.
    from: u64,
    /// The same since the first request.
    at: u64,
    /// The latest time as recorded.
    latest: u64,
}

impl Course {
    /// The time since the first request; `next` is what is recorded after it.
    fn since(&mut self, time: u64, next: Option<u64>) -> u64 {
        let far = REPLAY_BACK_SECONDS * SECOND;
        let is_before = |time: u64, other: u64| time.saturating_add(far) < other;
        let mut now = *self.now.get_or_insert(Stretch { from: time, at: 0, latest: time });
        if let Some(at) = self.before.iter().rposition(|stretch| !is_before(time, stretch.latest)) {
            now = self.before[at];
            self.before.truncate(at);
        }
        if is_before(time, now.latest) {
            self.breaks += 1;
            if self.before.len() == REPLAY_STRETCHES {
                self.before.remove(0);
            }
            self.before.push(now);
            now = Stretch { from: time, at: self.reached, latest: time };
        } else if next.is_some_and(|next| is_before(next, time) && !is_before(next, now.latest)) {
            // It alone is far ahead: the time before it holds, or all that follows would be late.
            self.breaks += 1;
        } else {
            now.latest = now.latest.max(time);
        }
        self.now = Some(now);
        now.at.saturating_add(time.min(now.latest).saturating_sub(now.from))
    }
}

/// A request and the time at which it was recorded, in nanoseconds since any moment.
type Recorded = Result<(Option<u64>, Arrival), ReplayError>;

impl<I: Iterator<Item = Recorded>> Pace<I> {
    /// By the recorded times, `speed` times as fast.
    pub fn recorded(requests: I, speed: f64) -> Pace<I> {
        Pace::new(requests, Rule::Recorded(speed))
    }

    /// By chance (Poisson), `rate` in a second, whatever was recorded.
    pub fn rate(requests: I, rate: f64, seed: u64) -> Pace<I> {
        Pace::new(requests, Rule::Rate(rate, Box::new(Rng::with_seed(seed))))
    }

    fn new(requests: I, rule: Rule) -> Pace<I> {
        Pace {
            rule,
            requests,
            group: vec![].into_iter(),
            next: None,
            course: Course::default(),
            grain: SECOND,
            last: 0,
            clock: 0.0,
            is_over: false,
        }
    }

    /// How often recorded times went back by more than may be: what came then was played on from there, or stood alone.
    pub fn breaks(&self) -> u64 {
        self.course.breaks
    }

    fn next_recorded(&mut self) -> Result<Option<(u64, Arrival)>, ReplayError> {
        match self.requests.next().transpose()? {
            None => Ok(None),
            Some((Some(time), arrival)) => Ok(Some((time, arrival))),
            Some((None, _)) => Err(ReplayError::Trace(
                "a record has no time: say how many requests come in a second, for example --rate 500"
                    .to_owned(),
            )),
        }
    }

    /// Reads all requests of one time, and gives each its part of what that time stands for.
    fn next_group(&mut self, speed: f64) -> Result<(), ReplayError> {
        let first = match self.next.take() {
            Some(first) => Some(first),
            None if self.is_over => None,
            None => self.next_recorded()?,
        };
        let Some((time, arrival)) = first else {
            self.is_over = true;
            return Ok(());
        };
        let mut group = vec![arrival];
        loop {
            match self.next_recorded()? {
                Some((also, arrival)) if also == time && group.len() < REPLAY_GROUP => group.push(arrival),
                next => {
                    self.is_over = next.is_none();
                    self.next = next;
                    break;
                }
            }
        }
        while self.grain > 1 && !time.is_multiple_of(self.grain) {
            self.grain /= 1000;
        }
        let many = group.len() as u64;
        let since = self.course.since(time, self.next.as_ref().map(|(time, _)| *time));
        for (number, arrival) in (0..).zip(&mut group) {
            // A log is written when answers end, so its times may go back a little: then the latest one holds.
            let since = since.saturating_add(self.grain / many * number);
            self.course.reached = self.course.reached.max(since);
            self.last = self.last.max((since as f64 / speed) as u64);
            arrival.at = self.last;
        }
        self.group = group.into_iter();
        Ok(())
    }
}

impl<I: Iterator<Item = Recorded>> Iterator for Pace<I> {
    type Item = Result<Arrival, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.rule {
            Rule::Rate(rate, rng) => {
                self.clock += chance_gap(rng, *rate);
                let at = self.clock as u64;
                let read = self.requests.next()?;
                Some(read.map(|(_, arrival)| Arrival { at, ..arrival }))
            }
            Rule::Recorded(speed) => {
                let speed = *speed;
                if let Some(arrival) = self.group.next() {
                    return Some(Ok(arrival));
                }
                match self.next_group(speed) {
                    Ok(()) => self.group.next().map(Ok),
                    Err(error) => {
                        self.is_over = true;
                        Some(Err(error))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Place;

    fn times(recorded: &[u64], speed: f64) -> Vec<u64> {
        let arrival = Arrival { at: 0, place: Place(0), object: 0, took: None, bytes: 0 };
        let requests = recorded.iter().map(|time| Ok((Some(*time), arrival)));
        Pace::recorded(requests, speed).map(|arrival| arrival.unwrap().at).collect()
    }

    #[test]
    fn whole_seconds_are_spread_and_finer_times_are_kept() {
        let second = |n| 1_700_000_000 * SECOND + n * SECOND;
        assert_eq!(times(&[second(0), second(0), second(3)], 1.0), [0, SECOND / 2, 3 * SECOND]);
        assert_eq!(times(&[second(0), second(1)], 2.0), [0, SECOND / 2]);
        let fine = [second(0) + 1_000_000, second(0) + 1_000_000, second(0) + 5_000_000];
        assert_eq!(times(&fine, 1.0), [0, 500_000, 4_000_000]);
        assert_eq!(times(&[second(5), second(4), second(6)], 1.0), [0, 0, SECOND], "no request goes back");
    }

    #[test]
    fn times_that_go_far_back_or_ahead_do_not_stop_the_others() {
        let second = |n: u64| (1_700_000_000 + n) * SECOND;
        let breaks = |recorded: &[u64]| {
            let arrival = Arrival { at: 0, place: Place(0), object: 0, took: None, bytes: 0 };
            let mut pace = Pace::recorded(recorded.iter().map(|time| Ok((Some(*time), arrival))), 1.0);
            assert_eq!(pace.by_ref().count(), recorded.len());
            pace.breaks()
        };
        // One line far ahead, one far back, and a newer file before an older one.
        let ahead = [second(0), second(1), second(1_000_000), second(2), second(3)];
        assert_eq!(times(&ahead, 1.0), [0, SECOND, SECOND, 2 * SECOND, 3 * SECOND]);
        let back = [second(7200), second(0), second(7202), second(7203)];
        assert_eq!(times(&back, 1.0), [0, 0, 2 * SECOND, 3 * SECOND]);
        let newest_first = [second(7200), second(7201), second(0), second(1), second(2)];
        assert_eq!(times(&newest_first, 1.0), [0, SECOND, SECOND, 2 * SECOND, 3 * SECOND]);
        assert_eq!([breaks(&ahead), breaks(&back), breaks(&newest_first)], [1, 1, 1]);
        assert_eq!(breaks(&[second(59), second(0)]), 0);
    }

    #[test]
    fn a_rate_holds_whatever_was_recorded_and_a_record_without_a_time_needs_one() {
        let arrival = Arrival { at: 0, place: Place(0), object: 0, took: None, bytes: 0 };
        let requests = || std::iter::repeat_n(Ok((None, arrival)), 10_000);
        let last = Pace::rate(requests(), 100.0, 1).last().unwrap().unwrap().at;
        assert!((last as f64 / 1e9 - 100.0).abs() < 5.0, "{last}");
        let mut paced = Pace::recorded(requests(), 1.0);
        assert!(matches!(paced.next(), Some(Err(ReplayError::Trace(_)))));
        assert!(paced.next().is_none());
    }
}
