//! Records of a log, made into requests of a trace: of one pool, with the key that the proxy would find.
//!
//! Owns what is left out, and counts it. Routes and keys are asked of [`Chart`], which asks the proxy's own code.

use super::{Arrival, ReplayError};
use crate::{
    analysis::{
        chart::Chart,
        records::{Asked, Asking, Record},
    },
    ring::Place,
};

/// Makes requests of records.
#[derive(Debug)]
pub struct Recorded<'a> {
    /// Where requests go, and which pool is played. `None`: there is no configuration, and only keys can be played.
    chart: Option<(&'a Chart, usize)>,
    /// Objects are needed, because there are caches.
    has_cache: bool,
    key: Vec<u8>,
    object: Vec<u8>,
    /// What was left out, and what was told.
    pub tale: RecordedTale,
}

/// What was left out, and what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedTale {
    /// Requests that were played.
    pub played: u64,
    /// Requests that another pool has, or none.
    pub elsewhere: u64,
    /// Requests without a key.
    pub keyless: u64,
    /// Requests whose time was told.
    pub with_took: u64,
    /// Requests whose bytes were told.
    pub with_bytes: u64,
    /// Requests whose object was made of the key besides, because Ringway's own log has no queries.
    pub queryless: u64,
    /// How often recorded times went far back.
    pub breaks: u64,
    /// By key source of the pool, the requests of which the log does not tell it.
    pub untold: Vec<u64>,
}

impl<'a> Recorded<'a> {
    /// For the pool at this position of the chart.
    pub fn new(chart: Option<(&'a Chart, usize)>, has_cache: bool) -> Recorded<'a> {
        let sources = chart.map_or(0, |(chart, pool)| chart.pools[pool].sources().len());
        let tale = RecordedTale { untold: vec![0; sources], ..RecordedTale::default() };
        Recorded { chart, has_cache, key: vec![], object: vec![], tale }
    }

    /// The request, and its recorded time in nanoseconds since 1970. `None`: it is not of this pool, or has no key.
    ///
    /// # Errors
    /// It is a request, and without a configuration nobody knows its key.
    pub fn arrival(&mut self, record: &Record<'_>) -> Result<Option<(Option<u64>, Arrival)>, ReplayError> {
        let Some((place, object)) = self.place_and_object(&record.asked)? else { return Ok(None) };
        let took = record.took.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.tale.played += 1;
        self.tale.with_took += u64::from(took.is_some());
        self.tale.with_bytes += u64::from(record.bytes.is_some());
        let bytes = record.bytes.unwrap_or(0);
        let time = record.at().map(|at| u64::try_from(at).unwrap_or(0));
        Ok(Some((time, Arrival { at: 0, place, object, took, bytes })))
    }

    fn place_and_object(&mut self, asked: &Asked<'_>) -> Result<Option<(Place, u64)>, ReplayError> {
        let (charted, asking) = match (asked, self.chart) {
            (Asked::Key(key), _) => {
                self.tale.keyless += u64::from(key.is_empty());
                let place = Place::of(key);
                return Ok((!key.is_empty()).then_some((place, place.0)));
            }
            (Asked::Request(asking), Some((chart, pool))) if chart.pool_of(asking) == Some(pool) => {
                (&chart.pools[pool], asking)
            }
            (Asked::Request(_), Some(_)) => {
                self.tale.elsewhere += 1;
                return Ok(None);
            }
            (Asked::Request(_), None) => {
                return Err(ReplayError::Trace(
                    "the log tells requests, and which part of one is its key stands in a configuration: give one with -c FILE"
                        .to_owned(),
                ));
            }
        };
        let sought = charted.seek(asking, &mut self.key);
        let by = sought.map(|(_, at)| at);
        charted.count_untold(asking, by, Some(charted), &mut self.tale.untold);
        let place = sought.map(|(place, _)| place).or_else(|| charted.find_instead(asking, &mut self.key));
        self.tale.keyless += u64::from(place.is_none());
        Ok(place.map(|place| (place, if self.has_cache { self.object(asking, place) } else { place.0 })))
    }

    /// What a cache knows the answer by: host, path and query. Where the log leaves queries out, the key tells a part of what they would.
    fn object(&mut self, asking: &Asking<'_>, place: Place) -> u64 {
        self.object.clear();
        for part in [asking.authority, b"\n", asking.path, b"?", asking.query.unwrap_or_default()] {
            self.object.extend_from_slice(part);
        }
        if asking.is_ours && asking.query.is_none() {
            self.tale.queryless += 1;
            self.object.extend_from_slice(&place.0.to_be_bytes());
        }
        Place::of(&self.object).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_need_no_configuration_and_requests_do() {
        let mut recorded = Recorded::new(None, true);
        let record = |asked| {
            let mut record = Record::default();
            record.asked = asked;
            record
        };
        let (time, arrival) = recorded.arrival(&record(Asked::Key(b"a"))).unwrap().unwrap();
        assert_eq!((time, arrival.place, arrival.object), (None, Place::of(b"a"), Place::of(b"a").0));
        assert!(recorded.arrival(&record(Asked::Key(b""))).unwrap().is_none());
        let asking = Asking { path: b"/", ..Asking::default() };
        assert!(recorded.arrival(&record(Asked::Request(asking))).is_err());
        assert_eq!((recorded.tale.played, recorded.tale.keyless), (1, 1));
    }

    #[test]
    fn objects_of_a_log_without_queries_differ_by_their_keys() {
        let mut recorded = Recorded::new(None, true);
        let nginx = Asking { path: b"/search", ..Asking::default() };
        assert_eq!(recorded.object(&nginx, Place(1)), recorded.object(&nginx, Place(2)));
        assert_eq!(recorded.tale.queryless, 0);
        let ours = Asking { is_ours: true, ..nginx };
        assert_ne!(recorded.object(&ours, Place(1)), recorded.object(&ours, Place(2)));
        assert_eq!(recorded.tale.queryless, 2);
    }
}
