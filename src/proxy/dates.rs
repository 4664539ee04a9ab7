//! The date for answers that have none (RFC 9110 section 6.6.1).
//!
//! Owns the text of the present second, so that it is made once a second at most and not for each answer. Never decides who needs it.

use std::{
    cell::Cell,
    io::Write as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A date as HTTP writes it.
pub(super) type Date = [u8; 29];

/// The date of the present second.
#[derive(Debug, Default)]
pub(super) struct Dates {
    /// And when the next second begins.
    latest: Cell<Option<(Instant, Date)>>,
}

impl Dates {
    /// The date. `now` is now, or a moment ago.
    pub(super) fn at(&self, now: Instant) -> Date {
        match self.latest.get() {
            Some((until, date)) if now < until => date,
            _ => {
                let time = SystemTime::now();
                let (date, rest) = date_of(time);
                self.latest.set(Some((now + rest, date)));
                date
            }
        }
    }
}

/// A time as text, and how long it is to the next second.
pub(super) fn date_of(time: SystemTime) -> (Date, Duration) {
    let mut date = [b' '; 29];
    let mut rest = &mut date[..];
    write!(rest, "{}", httpdate::HttpDate::from(time)).expect("a date of HTTP has 29 bytes");
    let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    (date, Duration::from_nanos(1_000_000_000 - u64::from(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_holds_to_the_end_of_its_second() {
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let (date, rest) = date_of(time);
        assert_eq!(date, *b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rest, Duration::from_millis(750));
        let (dates, now) = (Dates::default(), Instant::now());
        dates.latest.set(Some((now + rest, date)));
        assert_eq!(dates.at(now), date);
        assert_ne!(dates.at(now + rest), date);
    }
}
