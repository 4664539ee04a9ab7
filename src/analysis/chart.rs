//! A configuration as far as it decides where requests go: routes, key sources, rings.
//!
//! Owns no decision: it asks the proxy's own router, key policies and rings. Knows no health and no load. Start at [`Chart::pool_of`] and
//! [`Charted::find`].

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::records::{Asking, Shown};
use crate::{
    http1::write_address,
    proxy::{
        key::{BY_ADDRESS, KeyPolicy, OnMissingKey, Source},
        route::{RoutePolicy, Router},
    },
    ring::{Place, Ring},
};

/// Stands for an address that is not known. No key is made of it.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where requests go.
#[derive(Debug)]
pub struct Chart {
    router: Router,
    /// In words, in an order of their own: the router does not go by the configuration's.
    routes: Vec<String>,
    /// In the configuration's order.
    pub pools: Vec<Charted>,
}

/// Where a pool's requests go.
#[derive(Debug)]
pub struct Charted {
    /// Its name.
    pub name: Arc<str>,
    /// Its backends with the weights that count.
    pub ring: Ring,
    /// Their addresses as configured, in the order of the ring's members.
    pub addresses: Vec<String>,
    /// The factor of bounded load; 0 if there is no bound.
    pub load_factor: f64,
    key: KeyPolicy,
    /// The sources in their written form.
    sources: Vec<String>,
}

impl Chart {
    /// A chart of these routes and pools; routes name pools by their position.
    pub fn new(routes: Vec<RoutePolicy>, pools: Vec<Charted>) -> Chart {
        let words = |route: &RoutePolicy| {
            let pool = pools.get(route.pool).map_or("", |pool| &pool.name);
            format!("{}{} {pool}", route.host, route.path_prefix)
        };
        let mut words: Vec<String> = routes.iter().map(words).collect();
        words.sort_unstable();
        Chart { router: Router::new(routes), routes: words, pools }
    }

    /// Where the pool of this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|pool| &*pool.name == name)
    }

    /// The pool that a request goes to. `None`: no route leads anywhere.
    #[inline]
    pub fn pool_of(&self, asking: &Asking<'_>) -> Option<usize> {
        self.router.find(asking.authority, asking.path).map(|found| found.pool)
    }

    /// Whether both lead the same requests to pools of the same names.
    pub fn routes_as(&self, other: &Chart) -> bool {
        self.routes == other.routes
    }
}

impl Charted {
    /// A pool.
    pub fn new(
        name: Arc<str>,
        ring: Ring,
        addresses: Vec<String>,
        key: KeyPolicy,
        load_factor: f64,
    ) -> Charted {
        let sources = key.sources.iter().map(ToString::to_string).collect();
        Charted { name, ring, addresses, load_factor, key, sources }
    }

    /// Has it find keys by these sources.
    pub fn with_sources(self, sources: Vec<Source>) -> Charted {
        let key = KeyPolicy { sources, on_missing: self.key.on_missing };
        Charted::new(self.name, self.ring, self.addresses, key, self.load_factor)
    }

    /// Its key sources in their written form.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// What happens to requests without a key.
    pub fn on_missing(&self) -> OnMissingKey {
        self.key.on_missing
    }

    /// How it finds keys, in words: pools with the same words find the same keys.
    pub fn policy(&self) -> String {
        format!("{}, else {}", self.sources.join(", "), self.key.on_missing)
    }

    /// Writes a request's key to `key` and gives its place, as the proxy finds it. `None`: it has none.
    #[inline]
    pub fn find(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<Place> {
        self.find_own(asking, key).or_else(|| self.find_instead(asking, key))
    }

    /// The same from the sources alone.
    #[inline]
    pub fn find_own(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<Place> {
        self.seek(asking, key).map(|(place, _)| place)
    }

    /// The same, and the position of the source that gave it. What Ringway's log says that it found counts where the pool has that source, and
    /// no source before it gives a key; a key that the log tells by its place alone is written as that.
    #[inline]
    pub fn seek(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<(Place, usize)> {
        let found = asking.found.as_ref().filter(|found| found.key != Shown::Omitted);
        let told = found.and_then(|found| Some((found.key, self.position(found.source)?)));
        let facts = asking.facts(UNKNOWN);
        let is_there =
            |source: &Source| (asking.client.is_some() || !needs_client(source)) && source.find(&facts, key);
        let before = told.map_or(self.key.sources.len(), |(_, at)| at);
        if let Some(at) = self.key.sources[..before].iter().position(is_there) {
            return Some((Place::of(key), at));
        }
        let (shown, at) = told?;
        key.clear();
        let place = match shown {
            Shown::Plain(bytes) => {
                key.extend_from_slice(bytes);
                Place::of(bytes)
            }
            Shown::Place(place) => {
                key.extend_from_slice(format!("{:016x}", place.0).as_bytes());
                place
            }
            Shown::Omitted => return None,
        };
        Some((place, at))
    }

    fn position(&self, source: &[u8]) -> Option<usize> {
        self.sources.iter().position(|words| words.as_bytes() == source)
    }

    /// What the pool takes for a key where no source is present.
    pub fn find_instead(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<Place> {
        let client = asking.client.filter(|_| self.key.on_missing == OnMissingKey::ClientAddress)?;
        key.clear();
        write_address(client, key);
        Some(Place::of(key))
    }

    /// Counts in `untold`, by source, that the log does not tell it of this request, and that it might have given another key than `by` did.
    /// `recorder` is the pool that Ringway's log is from: what stands there before the source that was found was absent.
    pub fn count_untold(
        &self,
        asking: &Asking<'_>,
        by: Option<usize>,
        recorder: Option<&Charted>,
        untold: &mut [u64],
    ) {
        let found = asking.found.as_ref();
        let absent: &[String] = match (found, recorder) {
            (Some(found), Some(pool)) if found.source != BY_ADDRESS.as_bytes() => {
                &pool.sources[..pool.position(found.source).unwrap_or(0)]
            }
            (_, Some(pool)) if asking.is_ours => &pool.sources,
            _ => &[],
        };
        let told = found.filter(|found| found.key != Shown::Omitted).map(|found| found.source);
        let sought = by.map_or(self.sources.len(), |by| by + 1);
        for (at, words) in self.sources[..sought].iter().enumerate() {
            let is_told = told == Some(words.as_bytes()) || absent.contains(words);
            untold[at] += u64::from(!is_told && is_untold(&self.key.sources[at], asking));
        }
    }

    /// Those of its sources that were counted so.
    pub fn untold<'s>(&'s self, counts: &'s [u64]) -> impl Iterator<Item = (&'s str, u64)> {
        let counted = self.sources.iter().zip(counts).filter(|(_, count)| **count > 0);
        counted.map(|(words, count)| (words.as_str(), *count))
    }
}

fn needs_client(source: &Source) -> bool {
    match source {
        Source::ClientAddress => true,
        Source::Join(parts) => parts.iter().any(needs_client),
        _ => false,
    }
}

/// Whether a log of this kind leaves out what the source is made of. Ringway's own has no queries and no fields, only what was found.
fn is_untold(source: &Source, asking: &Asking<'_>) -> bool {
    match source {
        Source::Header(name) => asking.is_ours || !matches!(name.as_str(), "referer" | "user-agent"),
        Source::Cookie(_) => true,
        Source::Query(_) | Source::Uri => asking.is_ours && asking.query.is_none(),
        Source::ClientAddress => asking.client.is_none(),
        Source::Join(parts) => parts.iter().any(|part| is_untold(part, asking)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis::records::Found, ring::Weight};

    fn pool(sources: &[&str], on_missing: OnMissingKey) -> Charted {
        let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        let ring = Ring::build([("a".into(), Weight::ONE)], 16).unwrap();
        Charted::new("p".into(), ring, vec!["127.0.0.1:1".into()], KeyPolicy { sources, on_missing }, 0.0)
    }

    #[test]
    fn keys_are_those_that_the_proxy_finds() {
        let asking = Asking { path: b"/a", query: Some(b"user=7"), ..Asking::default() };
        let known = Asking { client: Some("10.0.0.1".parse().unwrap()), ..asking };
        let find = |pool: &Charted, asking: &Asking<'_>| {
            let mut key = b"old".to_vec();
            let place = pool.find(asking, &mut key)?;
            assert_eq!(place, Place::of(&key));
            Some(String::from_utf8(key).unwrap())
        };
        let by_user = pool(&["query:user", "path"], OnMissingKey::Spread);
        assert_eq!(find(&by_user, &asking), Some("7".into()));
        let by_client = pool(&["client-address"], OnMissingKey::Spread);
        assert_eq!((find(&by_client, &asking), find(&by_client, &known)), (None, Some("10.0.0.1".into())));
        let by_header = pool(&["header:x-user"], OnMissingKey::ClientAddress);
        assert_eq!((find(&by_header, &asking), find(&by_header, &known)), (None, Some("10.0.0.1".into())));
        let mut untold = [0];
        by_header.count_untold(&known, None, None, &mut untold);
        assert_eq!(by_header.untold(&untold).collect::<Vec<_>>(), [("header:x-user", 1)]);
        assert_eq!(find(&pool(&["header:x-user"], OnMissingKey::Spread), &known), None);
    }

    #[test]
    fn what_ringway_found_counts_where_the_pool_has_that_source() {
        let by_header = pool(&["header:x-user", "path"], OnMissingKey::Spread);
        let found = |key| Some(Found { source: b"header:x-user", key });
        let mut key = Vec::new();
        let asking = Asking { path: b"/a", found: found(Shown::Plain(b"u")), ..Asking::default() };
        assert_eq!(by_header.find(&asking, &mut key), Some(Place::of(b"u")));
        let asking = Asking { found: found(Shown::Place(Place(17))), ..asking };
        assert_eq!(by_header.find(&asking, &mut key), Some(Place(17)));
        assert_eq!(key, b"0000000000000011");
        assert_eq!(pool(&["path"], OnMissingKey::Spread).find(&asking, &mut key), Some(Place::of(b"/a")));
    }

    #[test]
    fn what_ringway_found_yields_to_what_stands_before_it() {
        let found = Some(Found { source: b"header:x-user", key: Shown::Plain(b"u") });
        let asking = Asking { path: b"/a", is_ours: true, found, ..Asking::default() };
        let mut key = Vec::new();
        let by_path = pool(&["path", "header:x-user"], OnMissingKey::Spread);
        assert_eq!(by_path.seek(&asking, &mut key), Some((Place::of(b"/a"), 0)));
        let by_query = pool(&["query:u", "header:x-user"], OnMissingKey::Spread);
        assert_eq!(by_query.seek(&asking, &mut key), Some((Place::of(b"u"), 1)));
    }

    #[test]
    fn sources_that_a_log_leaves_out_are_counted_where_they_might_count() {
        let count = |pool: &Charted, recorder: &Charted, asking: &Asking<'_>| {
            let mut untold = vec![0; pool.sources().len()];
            let by = pool.seek(asking, &mut Vec::new()).map(|(_, at)| at);
            pool.count_untold(asking, by, Some(recorder), &mut untold);
            untold
        };
        let recorder = pool(&["cookie:s", "header:x-user", "uri"], OnMissingKey::Spread);
        let found = |source, key| Asking {
            path: b"/a",
            is_ours: true,
            found: Some(Found { source, key }),
            ..Asking::default()
        };
        let user = found(b"header:x-user", Shown::Plain(b"u"));
        assert_eq!(count(&recorder, &recorder, &user), [0, 0, 0]);
        let other = pool(&["header:x-tenant", "cookie:s", "query:q", "header:x-user"], OnMissingKey::Spread);
        assert_eq!(count(&other, &recorder, &user), [1, 0, 1, 0]);
        let by_address = found(BY_ADDRESS.as_bytes(), Shown::Plain(b"10.0.0.1"));
        assert_eq!(count(&other, &recorder, &by_address), [1, 0, 1, 0]);
        assert_eq!(count(&recorder, &recorder, &found(b"header:x-user", Shown::Omitted)), [0, 1, 1]);
        let nginx = Asking { path: b"/a", ..Asking::default() };
        assert_eq!(count(&recorder, &recorder, &nginx), [1, 1, 0]);
        assert_eq!(count(&pool(&["path", "header:x"], OnMissingKey::Spread), &recorder, &nginx), [0, 0]);
    }

    #[test]
    fn the_order_of_routes_does_not_matter() {
        let chart = |prefixes: [&str; 2]| {
            let route = |prefix: &str| RoutePolicy {
                host: crate::proxy::route::HostPattern::Any,
                path_prefix: prefix.into(),
                pool: 0,
                rewrite: Default::default(),
            };
            Chart::new(prefixes.map(route).into(), vec![pool(&["path"], OnMissingKey::Spread)])
        };
        assert!(chart(["/a", "/b"]).routes_as(&chart(["/b", "/a"])));
        assert!(!chart(["/a", "/b"]).routes_as(&chart(["/a", "/c"])));
    }
}
