//! What happens to the pool during a replay: a backend goes, comes, is added, or has another weight.
//!
//! Owns reading such events. Makes none of them: that is `stage`.

use std::{fmt, str::FromStr, sync::Arc};

use super::SECOND;
use crate::ring::Weight;

/// What happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Its health checks fail, and its cache is lost.
    Down,
    /// Its health checks pass again; its cache is empty.
    Up,
    /// It joins the pool with this weight.
    Add(Weight),
    /// It leaves the pool.
    Remove,
    /// It has another weight by an operator's order.
    Weight(Weight),
    /// An operator drains it. It keeps its cache.
    Drain,
    /// Its operator's order is taken back.
    Restore,
}

/// Something that happens at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since the trace began.
    pub at: u64,
    /// To whom.
    pub backend: Arc<str>,
    /// What.
    pub deed: Deed,
}

const FORM: &str = "write TIME:WHAT:BACKEND, for example 60s:down:b3, 120s:up:b3, 90s:add:b9, 90s:add:b9=2, \
                    100s:weight:b2=0.5, 100s:drain:b2, 150s:restore:b2 or 200s:remove:b9";

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Event, String> {
        let mut parts = text.splitn(3, ':');
        let (Some(time), Some(what), Some(backend)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FORM.to_owned());
        };
        let at = humantime::parse_duration(time.trim());
        let at = at.map_err(|error| format!("the time {time:?}: {error}; write for example 90s"))?;
        let at = u64::try_from(at.as_nanos()).map_err(|_| format!("the time {time:?} is too long"))?;
        // A name may hold anything but what separates it from a weight, and that from its end.
        let (name, weight) = match (what, backend.rsplit_once('=')) {
            ("add" | "weight", Some((name, weight))) => {
                let weight = weight.parse().map_err(|error| format!("the weight {weight:?}: {error}"))?;
                (name, Some(weight))
            }
            _ => (backend, None),
        };
        if name.is_empty() {
            return Err(FORM.to_owned());
        }
        let deed = match (what, weight) {
            ("down", None) => Deed::Down,
            ("up", None) => Deed::Up,
            ("add", weight) => Deed::Add(weight.unwrap_or(Weight::ONE)),
            ("remove", None) => Deed::Remove,
            ("weight", Some(weight)) => Deed::Weight(weight),
            ("drain", None) => Deed::Drain,
            ("restore", None) => Deed::Restore,
            _ => return Err(FORM.to_owned()),
        };
        Ok(Event { at, backend: name.into(), deed })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / SECOND as f64;
        let name = &self.backend;
        match self.deed {
            Deed::Down => write!(f, "{seconds}s:down:{name}"),
            Deed::Up => write!(f, "{seconds}s:up:{name}"),
            Deed::Add(Weight::ONE) => write!(f, "{seconds}s:add:{name}"),
            Deed::Add(weight) => write!(f, "{seconds}s:add:{name}={weight}"),
            Deed::Remove => write!(f, "{seconds}s:remove:{name}"),
            Deed::Weight(weight) => write!(f, "{seconds}s:weight:{name}={weight}"),
            Deed::Drain => write!(f, "{seconds}s:drain:{name}"),
            Deed::Restore => write!(f, "{seconds}s:restore:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_it_is_read() {
        for text in [
            "60s:down:b3",
            "1.5s:up:b3",
            "90s:add:b9",
            "90s:add:b9=2",
            "0s:weight:10.0.0.1:80=0.5",
            "7s:remove:a=b",
        ] {
            assert_eq!(text.parse::<Event>().unwrap().to_string(), text);
        }
        assert_eq!("2m:drain:x".parse::<Event>().unwrap().at, 120 * SECOND);
        for wrong in
            ["", "60:down:b", "60s:down", "60s:weight:b", "60s:explode:b", "60s:weight:b=heavy", "1s:up:"]
        {
            assert!(wrong.parse::<Event>().is_err(), "{wrong}");
        }
    }
}
