//! Which pool a request goes to: host patterns and path prefixes.
//!
//! Owns matching. Paths are matched as they are sent, never decoded or normalised, because so they are forwarded.

mod host;

use std::{cmp::Reverse, collections::HashMap};

pub use host::{HostPattern, HostPatternError};

use super::{key::host_of, rewrite::Rewrite};

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePolicy {
    /// The hosts it is for.
    pub host: HostPattern,
    /// `/` matches all; matched on whole segments; without a final slash otherwise.
    pub path_prefix: String,
    /// Index into `Config::pools`.
    pub pool: usize,
    /// What it changes in messages.
    pub rewrite: Rewrite,
}

/// Where a route leads.
#[derive(Debug)]
pub struct Destination {
    /// Index of the pool.
    pub pool: usize,
    /// What is changed on the way. `None`: nothing.
    pub rewrite: Option<Rewrite>,
}

/// The routes, arranged for matching.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<String, Prefixes>,
    /// With the leading dot, longest first.
    suffixes: Vec<(String, Prefixes)>,
    any: Prefixes,
}

/// Path prefixes and where they lead, longest first.
type Prefixes = Vec<(String, Destination)>;

impl Router {
    /// Arranges routes. No two of them have the same host and prefix.
    pub fn new(routes: Vec<RoutePolicy>) -> Router {
        let mut router = Router::default();
        for RoutePolicy { host, path_prefix, pool, rewrite } in routes {
            let prefixes = match host {
                HostPattern::Any => &mut router.any,
                HostPattern::Exact(host) => router.exact.entry(host).or_default(),
                HostPattern::Suffix(suffix) => match router.suffixes.iter().position(|(s, _)| *s == suffix) {
                    Some(at) => &mut router.suffixes[at].1,
                    None => {
                        router.suffixes.push((suffix, Prefixes::new()));
                        let last = router.suffixes.len() - 1;
                        &mut router.suffixes[last].1
                    }
                },
            };
            let rewrite = Some(rewrite).filter(|rewrite| !rewrite.is_empty());
            prefixes.push((path_prefix, Destination { pool, rewrite }));
        }
        let longest_first =
            |prefixes: &mut Prefixes| prefixes.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        router.exact.values_mut().for_each(longest_first);
        router.suffixes.iter_mut().for_each(|(_, prefixes)| longest_first(prefixes));
        longest_first(&mut router.any);
        router.suffixes.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        router
    }

    /// Where this authority and path lead: the most specific host that has a matching prefix, and there the longest one.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&Destination> {
        if !(self.exact.is_empty() && self.suffixes.is_empty()) {
            let host = host_of(authority);
            let host = host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase();
            let host = String::from_utf8_lossy(&host);
            if let Some(found) = self.exact.get(&*host).and_then(|prefixes| longest(prefixes, path)) {
                return Some(found);
            }
            let below = self
                .suffixes
                .iter()
                .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
            if let Some(found) = below.into_iter().find_map(|(_, prefixes)| longest(prefixes, path)) {
                return Some(found);
            }
        }
        longest(&self.any, path)
    }
}

fn longest<'a>(prefixes: &'a Prefixes, path: &[u8]) -> Option<&'a Destination> {
    prefixes.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path)).map(|(_, found)| found)
}

/// Whole segments: `/img` covers `/img` and `/img/a`, not `/imgs`.
fn covers(prefix: &[u8], path: &[u8]) -> bool {
    prefix == b"/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_host_and_the_longest_prefix_win() {
        let route = |host: &str, prefix: &str, pool| RoutePolicy {
            host: host.parse().unwrap(),
            path_prefix: prefix.into(),
            pool,
            rewrite: Rewrite::default(),
        };
        let router = Router::new(vec![
            route("*", "/", 0),
            route("*", "/img", 1),
            route("*.example.org", "/", 2),
            route("a.example.org", "/api", 3),
            route("*.b.example.org", "/", 4),
            route("*", "/img/big", 5),
        ]);
        let pool = |host: &str, path: &str| Some(router.find(host.as_bytes(), path.as_bytes())?.pool);
        assert_eq!(pool("other", "/img/x"), Some(1));
        assert_eq!(pool("other", "/imgs"), Some(0));
        assert_eq!(pool("other", "/img/big/x"), Some(5));
        assert_eq!(pool("A.Example.ORG.:8080", "/api/v1"), Some(3));
        assert_eq!(pool("a.example.org", "/"), Some(2));
        assert_eq!(pool("x.b.example.org", "/img"), Some(4));
        assert_eq!(pool("example.org", "/"), Some(0));
        assert_eq!(pool("", "*"), Some(0));
        assert!(Router::new(vec![route("a", "/x", 0)]).find(b"a", b"/y").is_none());
    }
}
