//! Durations, sizes and weights: numbers with a unit, or with an exactness of their own.
//!
//! The parsers refuse what would be rounded; what is written back reads as the same value.

use std::{fmt, marker::PhantomData, time::Duration};

use serde_json::{Value, json};
use toml::de::DeValue;

use super::{Kind, Raw, Spot, string, unsigned};
use crate::{config::finding::quoted, ring::Weight};

/// The longest duration that makes sense: past a year something else is meant.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The shortest one that is not 0.
const SHORTEST: Duration = Duration::from_millis(1);

/// Units of duration in nanoseconds, largest first.
const TIME_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
];

/// A span of time.
pub(in crate::config) struct Time {
    /// What follows from 0, if 0 is refused.
    zero: Option<&'static str>,
}

impl Time {
    /// At least 1ms; 0 is refused for this reason.
    pub(in crate::config) fn above_zero(reason: &'static str) -> Self {
        Self { zero: Some(reason) }
    }

    /// Any, 0 too.
    pub(in crate::config) fn any() -> Self {
        Self { zero: None }
    }

    fn min(&self) -> Duration {
        if self.zero.is_some() { SHORTEST } else { Duration::ZERO }
    }

    /// The value if it is within bounds.
    fn checked(&self, value: Duration, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Duration> {
        let fault = match self.zero {
            Some(reason) if value.is_zero() => reason,
            _ if value < self.min() => "too short",
            _ if value > LONGEST => "too long",
            _ => return Some(value),
        };
        spot.out_of_range(raw.span(), &format!("from {}", self.bounds()), fault, None);
        None
    }
}

impl Kind for Time {
    type Value = Duration;

    fn noun(&self) -> String {
        "a duration".into()
    }

    fn bounds(&self) -> String {
        format!("{} to {}", duration_text(self.min()), duration_text(LONGEST))
    }

    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(d|h|m|s|ms|us|ns) ?)+$" })
    }

    fn literal(&self, value: &Duration) -> String {
        string(&duration_text(*value))
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Duration> {
        let with_unit = |number: u64| format!("write a unit: \"{number}s\" or \"{number}ms\"");
        let example = || "write for example \"250ms\", \"5s\", \"1m30s\" or \"2h\"".to_owned();
        let DeValue::String(text) = raw.get_ref() else {
            let number = match raw.get_ref() {
                DeValue::Integer(number) => unsigned(number).ok(),
                _ => None,
            };
            spot.wrong_type(raw, "a duration", Some(number.map_or_else(example, with_unit)));
            return None;
        };
        match parse_duration(text) {
            Ok(value) => self.checked(value, raw, spot),
            Err(fault) => {
                let help = text.trim().parse().map_or_else(|_| example(), with_unit);
                spot.malformed(raw.span(), &fault, help);
                None
            }
        }
    }
}

/// Reads `1m30s`, `1.5s`, `1m 30s`: each unit once, larger ones first, to a whole number of nanoseconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("this is empty".into());
    }
    let (mut total, mut last_unit) = (0_u64, u64::MAX);
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = after.strip_prefix('.').map_or(("", after), digits);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        if whole.is_empty() {
            return Err("a number is missing".into());
        }
        let Some((_, nanos)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => "the unit is missing".into(),
                unit => format!("`{}` is no unit: they are d, h, m, s, ms, us and ns", quoted(unit)),
            });
        };
        if *nanos >= last_unit {
            return Err("larger units come first, each once".into());
        }
        last_unit = *nanos;
        let long = || "longer than can be counted".to_owned();
        let whole = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(*nanos)).ok_or_else(long)?;
        let part = fraction(part, *nanos).ok_or("finer than a nanosecond")?;
        total = total.checked_add(whole).and_then(|n| n.checked_add(part)).ok_or_else(long)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_nanos(total))
}

/// The digits at the beginning, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The digits after a point as nanoseconds of a unit; `None` if that is no whole number.
fn fraction(digits: &str, nanos: u64) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let product = digits.parse::<u128>().ok()?.checked_mul(u128::from(nanos))?;
    if product % scale == 0 { u64::try_from(product / scale).ok() } else { None }
}

/// A duration in the largest unit that leaves no rest: `1500ms`, `75s`, `10m`, `2h`.
pub(in crate::config) fn duration_text(value: Duration) -> String {
    // Below two minutes, seconds are what people write.
    let units = if value < Duration::from_secs(120) { &TIME_UNITS[3..] } else { &TIME_UNITS[1..] };
    let nanos = value.as_nanos();
    let whole = units.iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
    let (name, unit) = whole.copied().unwrap_or(("ns", 1));
    format!("{}{name}", nanos / u128::from(unit))
}

/// A number of bytes between two bounds.
pub(in crate::config) struct Size<T> {
    min: u64,
    max: u64,
    of: PhantomData<T>,
}

impl<T> Size<T> {
    /// Both bounds fit.
    pub(in crate::config) fn new(min: u64, max: u64) -> Self {
        Self { min, max, of: PhantomData }
    }
}

impl<T: TryFrom<u64> + fmt::Display> Kind for Size<T> {
    type Value = T;

    fn noun(&self) -> String {
        "a size".into()
    }

    fn bounds(&self) -> String {
        format!("{} to {}", size_text(self.min), size_text(self.max))
    }

    fn schema(&self) -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": self.min, "maximum": self.max },
            { "type": "string", "pattern": "^[0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)$" },
        ] })
    }

    fn literal(&self, value: &T) -> String {
        let bytes = value.to_string();
        match bytes.parse().map(size_text) {
            Ok(text) if text != bytes => string(&text),
            _ => bytes,
        }
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<T> {
        let help = "write for example \"64KiB\" or \"1MiB\", or a number of bytes";
        let bytes = match raw.get_ref() {
            DeValue::Integer(number) => unsigned(number),
            DeValue::String(text) => match parse_size(text) {
                Ok(bytes) => Ok(bytes),
                Err(fault) => {
                    spot.malformed(raw.span(), &fault, help);
                    return None;
                }
            },
            _ => {
                spot.wrong_type(raw, "a size", Some(help.into()));
                return None;
            }
        };
        let fault = match bytes {
            Ok(bytes) if bytes < self.min => "too small",
            Ok(bytes) if bytes > self.max => "too large",
            Ok(bytes) => return T::try_from(bytes).ok(),
            Err(fault) => fault,
        };
        spot.out_of_range(raw.span(), &format!("from {}", self.bounds()), fault, None);
        None
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = digits(text.trim());
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err("a whole number is missing".into());
    }
    let bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => *bytes,
        None if unit.is_empty() || unit == "B" => 1,
        None if unit.starts_with('.') => return Err("only whole numbers".into()),
        None => {
            return Err(format!("`{}` is no unit: they are B, kB, MB, GB, KiB, MiB and GiB", quoted(unit)));
        }
    };
    let total = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
    total.ok_or_else(|| "larger than can be counted".into())
}

/// A size in the unit that gives the smallest whole number, binary ones first; a bare number of bytes if none does.
fn size_text(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZE_UNITS.iter().filter(whole).min_by_key(|(_, unit)| bytes / unit) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A backend's weight, exact to six decimals.
pub(in crate::config) struct Decimal;

impl Kind for Decimal {
    type Value = Weight;

    fn noun(&self) -> String {
        "a number".into()
    }

    fn bounds(&self) -> String {
        "0 to 1000000, with at most six decimals".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1_000_000 })
    }

    fn literal(&self, value: &Weight) -> String {
        value.to_string()
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Weight> {
        // The digits as written: a binary fraction would not be exact.
        let text = match raw.get_ref() {
            DeValue::Integer(number) => unsigned(number).map(|n| n.to_string()),
            DeValue::Float(number) if number.as_str().starts_with('-') => Err("too small"),
            DeValue::Float(number) => Ok(number.as_str().trim_start_matches('+').to_owned()),
            _ => {
                spot.wrong_type(
                    raw,
                    "a number",
                    Some("1 is the usual weight, 2 means twice its share".into()),
                );
                return None;
            }
        };
        let fault = match text.map(|text| text.parse::<Weight>()) {
            Ok(Ok(weight)) => return Some(weight),
            Ok(Err(fault)) => fault.to_string(),
            Err(fault) => fault.to_owned(),
        };
        spot.out_of_range(raw.span(), &format!("from {}", self.bounds()), &fault, None);
        None
    }
}
