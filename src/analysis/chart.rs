//! A configuration as far as it decides where requests go: routes, key sources, rings.
//!
//! Owns no decision: it asks the proxy's own router, key policies and rings. Knows no health and no load. Start at [`Chart::pool_of`] and
//! [`Charted::find`].

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::records::{Asking, Shown};
use crate::{
    http1::write_address,
    proxy::{
        key::{KeyPolicy, OnMissingKey, Source},
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
    routes: String,
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
    /// The same without what needs a client's address, if that differs.
    clientless: Option<KeyPolicy>,
    /// The sources in their written form.
    sources: Vec<String>,
}

impl Chart {
    /// A chart of these routes and pools; routes name pools by their position.
    pub fn new(routes: Vec<RoutePolicy>, pools: Vec<Charted>) -> Chart {
        let mut words = String::new();
        for route in &routes {
            let pool = pools.get(route.pool).map_or("", |pool| &pool.name);
            writeln!(words, "{}{} {pool}", route.host, route.path_prefix)
                .expect("a string takes all that is written");
        }
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
        let clientless = key.sources.iter().any(needs_client).then(|| KeyPolicy {
            sources: key.sources.iter().filter(|source| !needs_client(source)).cloned().collect(),
            on_missing: key.on_missing,
        });
        Charted { name, ring, addresses, load_factor, key, clientless, sources }
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

    /// The same from the sources alone. What Ringway's log says that it found counts, where the pool has that source; a key that the log tells
    /// by its place alone is written as that.
    #[inline]
    pub fn find_own(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<Place> {
        if let Some(found) = &asking.found
            && self.sources.iter().any(|source| source.as_bytes() == found.source)
        {
            key.clear();
            return Some(match found.key {
                Shown::Plain(bytes) => {
                    key.extend_from_slice(bytes);
                    Place::of(bytes)
                }
                Shown::Place(place) => {
                    key.extend_from_slice(format!("{:016x}", place.0).as_bytes());
                    place
                }
            });
        }
        let policy = match (asking.client, &self.clientless) {
            (None, Some(clientless)) => clientless,
            _ => &self.key,
        };
        policy.find(&asking.facts(UNKNOWN), key).map(|_| Place::of(key))
    }

    /// What the pool takes for a key where no source is present.
    pub fn find_instead(&self, asking: &Asking<'_>, key: &mut Vec<u8>) -> Option<Place> {
        let client = asking.client.filter(|_| self.key.on_missing == OnMissingKey::ClientAddress)?;
        key.clear();
        write_address(client, key);
        Some(Place::of(key))
    }

    /// Sources that no log but Ringway's own can tell, in their written form.
    pub fn untold(&self) -> Vec<&str> {
        let sources = self.key.sources.iter().zip(&self.sources);
        sources.filter(|(source, _)| is_untold(source)).map(|(_, words)| words.as_str()).collect()
    }
}

fn needs_client(source: &Source) -> bool {
    match source {
        Source::ClientAddress => true,
        Source::Join(parts) => parts.iter().any(needs_client),
        _ => false,
    }
}

fn is_untold(source: &Source) -> bool {
    match source {
        Source::Header(name) => !matches!(name.as_str(), "referer" | "user-agent"),
        Source::Cookie(_) => true,
        Source::Join(parts) => parts.iter().any(is_untold),
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
        assert_eq!(by_header.untold(), ["header:x-user"]);
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
}
