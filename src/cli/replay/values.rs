//! Values of the command line of `ringway replay`: rates, caches, weights, and words for what is off.
//!
//! Owns reading them and what is said about those that are wrong. Plays nothing.

use std::time::Duration;

use crate::{analysis::replay::CacheSize, ring::Weight};

/// A factor of bounded load. `off`, or above 1.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    if text == "off" || text == "0" {
        return Ok(0.0);
    }
    let number = text.parse().ok().filter(|factor| (1.0..=100.0).contains(factor) && *factor > 1.0);
    number.ok_or_else(|| "a factor is above 1 and 100 at most, for example 1.25; or `off`".to_owned())
}

/// A number of replicas, as the configuration has them.
pub(super) fn replicas(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|replicas| (1..=65_536).contains(replicas));
    number.ok_or_else(|| "replicas are from 1 to 65536".to_owned())
}

/// A number of backends.
pub(super) fn backends(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|backends| (1..=10_000).contains(backends));
    number.ok_or_else(|| "there are from 1 to 10000 backends".to_owned())
}

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text).ok().filter(|read| read.as_secs() <= 365 * 24 * 3600);
    read.ok_or_else(|| "write a duration with its unit, a year at most: 20ms, 5s, 1m30s".to_owned())
}

/// A duration above 0.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be above 0".to_owned()),
        some => Ok(some),
    }
}

/// So many in a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    let number = number.filter(|rate: &f64| *rate > 0.0 && *rate <= 1e9);
    number.ok_or_else(|| "write how many requests come in a second: 500/s".to_owned())
}

/// How many times as fast.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|speed: &f64| *speed > 0.0 && *speed <= 1e6);
    number.ok_or_else(|| "a speed is above 0: 2 is twice as fast as recorded".to_owned())
}

/// What a cache holds. `off`: there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache(pub(super) Option<CacheSize>);

pub(super) fn cache(text: &str) -> Result<Cache, String> {
    const FORM: &str =
        "write a number of objects, or of bytes with a unit: 100000, 512MiB, 1GiB, 2GB; or `off`";
    if text == "off" {
        return Ok(Cache(None));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| FORM.to_owned())?;
    let unit = match text[digits..].trim_start() {
        "" => {
            let objects = u32::try_from(number).ok().filter(|objects| *objects > 0);
            return objects
                .map(|objects| Cache(Some(CacheSize::Objects(objects))))
                .ok_or_else(|| FORM.to_owned());
        }
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(FORM.to_owned()),
    };
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or(FORM)?;
    Ok(Cache(Some(CacheSize::Bytes(bytes))))
}

/// One value of the dimension of weights. `None`: as configured.
#[derive(Clone, Debug)]
pub(super) struct Weights(pub(super) Option<Vec<(String, Weight)>>);

pub(super) fn weights(text: &str) -> Result<Weights, String> {
    if text == "configured" {
        return Ok(Weights(None));
    }
    let pair = |part: &str| {
        let form = || {
            format!("{part:?} is no weight: write NAME=WEIGHT, several with commas between; or `configured`")
        };
        let (name, weight) = part.rsplit_once('=').ok_or_else(form)?;
        let weight = weight.trim().parse().map_err(|error| format!("{part:?}: {error}"))?;
        Ok((name.trim().to_owned(), weight))
    };
    text.split(',').map(pair).collect::<Result<_, String>>().map(|pairs| Weights(Some(pairs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_what_is_wrong_has_a_remedy() {
        assert_eq!((factor("off"), factor("1.25")), (Ok(0.0), Ok(1.25)));
        assert_eq!((rate("500/s"), rate("0.5")), (Ok(500.0), Ok(0.5)));
        assert_eq!(cache("100000").unwrap().0, Some(CacheSize::Objects(100_000)));
        assert_eq!(cache("2GiB").unwrap().0, Some(CacheSize::Bytes(2 << 30)));
        assert_eq!(cache("off").unwrap().0, None);
        assert_eq!(weights("a=2,b=0.5").unwrap().0.unwrap().len(), 2);
        for wrong in ["1", "-1", "x", "NaN", "inf"] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "x", "1parsec", "99999999999"] {
            assert!(cache(wrong).is_err(), "{wrong}");
        }
        assert!(
            weights("a").is_err() && rate("0").is_err() && speed("0").is_err() && some_time("0s").is_err()
        );
    }
}
