//! Traffic that nobody recorded: keys by a law of popularity, arrivals by chance at a rate, both from a seed.
//!
//! Owns that law and how it is written. The same words and the same seed are the same trace, on every machine.

use std::{fmt, str::FromStr};

use fastrand::Rng;

use super::{Arrival, SECOND};
use crate::{limits::REPLAY_KEYS, ring::Place};

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The key of rank r in proportion to r to the power of minus this.
    Zipf(f64),
}

/// A trace to be made up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    /// How often each key is asked for.
    pub popularity: Popularity,
    /// Different keys.
    pub keys: u32,
    /// Requests.
    pub requests: u64,
    /// Requests in a second, in the mean. They come by chance (Poisson).
    pub rate: f64,
    /// Bytes of an answer: half of this to half as much again, always the same for a key. 0: not told.
    pub bytes: u64,
}

const FORM: &str = "write zipf:EXPONENT or uniform, then what is to differ from keys=100000,requests=1000000,rate=5000,bytes=0; \
                    for example zipf:1.0,keys=100000,rate=5000";

impl FromStr for Synthetic {
    type Err = String;

    fn from_str(text: &str) -> Result<Synthetic, String> {
        let mut parts = text.split(',').map(str::trim);
        let popularity = match parts.next().unwrap_or_default().split_once(':') {
            None if text.starts_with("uniform") => Popularity::Uniform,
            Some(("zipf", exponent)) => {
                let exponent: f64 = exponent.parse().map_err(|_| FORM.to_owned())?;
                if !(0.0..=10.0).contains(&exponent) {
                    return Err("a Zipf exponent is from 0 to 10".to_owned());
                }
                Popularity::Zipf(exponent)
            }
            _ => return Err(FORM.to_owned()),
        };
        let mut made = Synthetic { popularity, keys: 100_000, requests: 1_000_000, rate: 5000.0, bytes: 0 };
        for part in parts {
            let (name, value) = part.split_once('=').ok_or(FORM)?;
            let number: f64 = value.parse().map_err(|_| format!("{name}={value}: {value:?} is no number"))?;
            let whole = |most: f64| match (1.0..=most).contains(&number) && number.fract() == 0.0 {
                true => Ok(number as u64),
                false => Err(format!("{name} is a whole number from 1 to {most}")),
            };
            match name {
                "keys" => made.keys = whole(f64::from(REPLAY_KEYS))? as u32,
                "requests" => made.requests = whole(1e12)?,
                "bytes" => made.bytes = whole(1e12)?,
                "rate" if number > 0.0 && number <= 1e9 => made.rate = number,
                "rate" => return Err("rate is above 0, and a thousand million at most".to_owned()),
                _ => return Err(format!("{name:?} is not known; {FORM}")),
            }
        }
        Ok(made)
    }
}

impl fmt::Display for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.popularity {
            Popularity::Uniform => write!(f, "uniform")?,
            Popularity::Zipf(exponent) => write!(f, "zipf:{exponent}")?,
        }
        write!(f, ",keys={},requests={},rate={}", self.keys, self.requests, self.rate)?;
        if self.bytes > 0 { write!(f, ",bytes={}", self.bytes) } else { Ok(()) }
    }
}

/// The trace, request by request.
#[derive(Debug)]
pub struct Generator {
    made: Synthetic,
    rng: Rng,
    places: Vec<Place>,
    /// By rank, the weight of that key and all before it. Empty: all are alike.
    cumulative: Vec<f64>,
    at: f64,
    left: u64,
}

impl Generator {
    /// The trace of this seed. The seed decides which keys there are, too: where the most popular ones lie on a ring is chance.
    pub fn new(made: Synthetic, seed: u64) -> Generator {
        let cumulative = match made.popularity {
            Popularity::Uniform => vec![],
            Popularity::Zipf(exponent) => {
                let mut sum = 0.0;
                let weights = (1..=made.keys).map(|rank| {
                    sum += f64::from(rank).powf(-exponent);
                    sum
                });
                weights.collect()
            }
        };
        let places = (0..made.keys).map(|rank| Place::of(format!("{seed}/{rank}").as_bytes())).collect();
        Generator { made, rng: Rng::with_seed(seed), places, cumulative, at: 0.0, left: made.requests }
    }

    /// The keys' places by rank, the most popular first.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    fn rank(&mut self) -> usize {
        match self.cumulative.last() {
            None => self.rng.usize(..self.places.len()),
            Some(all) => {
                let wanted = self.rng.f64() * all;
                self.cumulative.partition_point(|sum| *sum <= wanted).min(self.places.len() - 1)
            }
        }
    }
}

/// Nanoseconds to the next of events that come by chance, so many in a second.
pub(super) fn chance_gap(rng: &mut Rng, rate: f64) -> f64 {
    -(1.0 - rng.f64()).ln() / rate * SECOND as f64
}

impl Iterator for Generator {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.left = self.left.checked_sub(1)?;
        self.at += chance_gap(&mut self.rng, self.made.rate);
        let rank = self.rank();
        let place = self.places[rank];
        let bytes = self.made.bytes / 2 + place.0 % self.made.bytes.max(1);
        Some(Arrival { at: self.at as u64, place, object: place.0, took: None, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read_and_what_is_wrong_is_named() {
        let text = "zipf:1.1,keys=1000,requests=5000,rate=200.5";
        assert_eq!(text.parse::<Synthetic>().unwrap().to_string(), text);
        assert_eq!("uniform".parse::<Synthetic>().unwrap().keys, 100_000);
        for wrong in [
            "",
            "zipf",
            "zipf:x",
            "zipf:11",
            "uniform,keys=0",
            "uniform,keys=1.5",
            "uniform,rate=0",
            "uniform,x=1",
        ] {
            assert!(wrong.parse::<Synthetic>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranks_follow_the_law_and_arrivals_the_rate() {
        let made: Synthetic = "zipf:1,keys=10,requests=100000,rate=1000".parse().unwrap();
        let mut generator = Generator::new(made, 3);
        let places = generator.places().to_vec();
        let (mut counts, mut last) = ([0_u32; 10], 0);
        for arrival in generator.by_ref() {
            assert!(arrival.at >= last);
            last = arrival.at;
            counts[places.iter().position(|place| *place == arrival.place).unwrap()] += 1;
        }
        let all: f64 = (1..=10).map(|rank| 1.0 / f64::from(rank)).sum();
        for (rank, count) in (1..).zip(counts) {
            let expected = 100_000.0 / (f64::from(rank) * all);
            assert!(
                (f64::from(count) - expected).abs() < 5.0 * expected.sqrt(),
                "{rank}: {count}, {expected}"
            );
        }
        assert!((last as f64 / 1e9 - 100.0).abs() < 2.0, "{last}");
        let again: Vec<_> = Generator::new(made, 3).take(3).collect();
        assert_eq!(again, Generator::new(made, 3).take(3).collect::<Vec<_>>());
    }
}
