//! When a recorded request comes in a replay: by its own time, as exactly as that was written, or by a rate.
//!
//! Owns that. A log that tells whole seconds only would have all requests of a second come at once, and a bound on load would spill them: they are
//! spread over the second.

use fastrand::Rng;

use super::{Arrival, ReplayError, SECOND, generate::chance_gap};
use crate::limits::REPLAY_GROUP;

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
    /// The time of the first request.
    began: Option<u64>,
    /// How exactly times are written, in nanoseconds.
    grain: u64,
    last: u64,
    clock: f64,
    is_over: bool,
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
            began: None,
            grain: SECOND,
            last: 0,
            clock: 0.0,
            is_over: false,
        }
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
        let began = *self.began.get_or_insert(time);
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
        for (number, arrival) in (0..).zip(&mut group) {
            // A log is written when answers end, so its times may go back a little: then the latest one holds.
            let since = time.saturating_sub(began) + self.grain / many * number;
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
