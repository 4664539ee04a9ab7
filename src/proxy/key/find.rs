//! Finds a request's key.
//!
//! Owns the meaning of each source. Pure: it is shown a request and writes the key's bytes. What stands in a request is
//! used as it stands: nothing is decoded, so that anybody can compute the same key.

use std::net::IpAddr;

use super::{KeyPolicy, Source};
use crate::http1::{RequestHead, write_address};

/// Stands between the parts of a join. No part can contain it: it ends a line in HTTP.
pub const JOINT: u8 = b'\n';

/// A request, as far as keys and routes are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The method's name.
    pub method: &'a [u8],
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// The path as sent.
    pub path: &'a [u8],
    /// The query without its question mark.
    pub query: Option<&'a [u8]>,
    /// Whose request it is, behind trusted proxies.
    pub client: IpAddr,
    /// The header fields.
    pub fields: Fields<'a>,
}

/// The header fields of a request that came over the wire, or of one that somebody asks about.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'a> {
    /// From a client.
    Head(&'a RequestHead),
    /// From an operator: name and value.
    List(&'a [(String, String)]),
    /// From a log: those few that it tells, empty if they were absent.
    Known(&'a [(&'static str, &'a [u8])]),
}

impl<'a> Fields<'a> {
    fn value_of(self, name: &str) -> Option<&'a [u8]> {
        match self {
            Fields::Head(head) => head.value_of(name.as_bytes()),
            Fields::List(list) => {
                let named = |field: &&'a (String, String)| field.0.eq_ignore_ascii_case(name);
                list.iter().find(named).map(|field| field.1.as_bytes())
            }
            Fields::Known(list) => list.iter().find(|field| field.0 == name).map(|field| field.1),
        }
    }
}

/// The host of an authority, without its port.
pub fn host_of(authority: &[u8]) -> &[u8] {
    let end = match authority.iter().rposition(|&b| b == b']') {
        Some(end) => end + 1,
        None => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    &authority[..end]
}

impl KeyPolicy {
    /// Writes the key of this request to `key`, in place of what it held, and tells which source it came from. `None`: the
    /// request has none.
    pub fn find(&self, facts: &Facts<'_>, key: &mut Vec<u8>) -> Option<&Source> {
        self.find_at(facts, key).map(|at| &self.sources[at])
    }

    /// The same; where that source stands among the sources.
    pub(in crate::proxy) fn find_at(&self, facts: &Facts<'_>, key: &mut Vec<u8>) -> Option<usize> {
        self.sources.iter().position(|source| source.find(facts, key))
    }
}

impl Source {
    /// Writes what it finds in this request to `key`, in place of what that held. `false`: nothing.
    pub fn find(&self, facts: &Facts<'_>, key: &mut Vec<u8>) -> bool {
        key.clear();
        write(self, facts, key)
    }
}

/// Appends what the source finds. `false`: nothing, or nothing but emptiness, which is no key: all requests with an empty
/// header would have the same owner.
fn write(source: &Source, facts: &Facts<'_>, key: &mut Vec<u8>) -> bool {
    let found = match source {
        Source::Header(name) => facts.fields.value_of(name),
        Source::Cookie(name) => cookie(facts.fields.value_of("cookie"), name),
        Source::Query(name) => parameter(facts.query, name),
        Source::Path => Some(facts.path),
        Source::PathPrefix(segments) => Some(path_prefix(facts.path, *segments)),
        Source::PathRegex(regex) => capture(regex, facts.path),
        Source::Method => Some(facts.method),
        Source::Uri => {
            key.extend_from_slice(facts.path);
            if let Some(query) = facts.query {
                key.push(b'?');
                key.extend_from_slice(query);
            }
            return true;
        }
        Source::Host => {
            let host = host_of(facts.authority);
            key.extend(host.iter().map(u8::to_ascii_lowercase));
            return !host.is_empty();
        }
        Source::ClientAddress => {
            write_address(facts.client, key);
            return true;
        }
        Source::Join(parts) => {
            return parts.iter().enumerate().all(|(i, part)| {
                if i > 0 {
                    key.push(JOINT);
                }
                write(part, facts, key)
            });
        }
    };
    match found {
        Some(found) if !found.is_empty() => {
            key.extend_from_slice(found);
            true
        }
        _ => false,
    }
}

/// The value of the first cookie of this name (RFC 6265 section 4.2.1).
fn cookie<'a>(header: Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    header?.split(|&b| b == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = memchr::memchr(b'=', pair)?;
        (&pair[..at] == name.as_bytes()).then(|| &pair[at + 1..])
    })
}

/// The value of the first parameter of this name, as written.
fn parameter<'a>(query: Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    query?.split(|&b| b == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        (&pair[..at] == name.as_bytes()).then(|| &pair[at + 1..])
    })
}

/// The path up to the end of its `n`th segment, or all of it if it has fewer.
fn path_prefix(path: &[u8], n: usize) -> &[u8] {
    let end = memchr::memchr_iter(b'/', path).nth(n).unwrap_or(path.len());
    &path[..end]
}

fn capture<'a>(regex: &regex::bytes::Regex, path: &'a [u8]) -> Option<&'a [u8]> {
    if regex.captures_len() == 1 {
        return regex.find(path).map(|found| found.as_bytes());
    }
    regex.captures(path)?.get(1).map(|found| found.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{super::OnMissingKey, *};

    fn find(sources: &[&str], path: &str, query: Option<&str>, fields: &[(&str, &str)]) -> Option<String> {
        let sources = sources.iter().map(|text| text.parse().unwrap()).collect();
        let policy = KeyPolicy { sources, on_missing: OnMissingKey::Refuse };
        find_with(&policy, path, query, fields)
    }

    fn find_with(
        policy: &KeyPolicy,
        path: &str,
        query: Option<&str>,
        fields: &[(&str, &str)],
    ) -> Option<String> {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let facts = Facts {
            method: b"GET",
            authority: b"A.example:80",
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            client: "::ffff:10.0.0.1".parse().unwrap(),
            fields: Fields::List(&fields),
        };
        let mut key = b"left over".to_vec();
        policy.find(&facts, &mut key)?;
        Some(String::from_utf8(key).unwrap())
    }

    #[test]
    fn the_first_source_that_is_present_wins() {
        let sources = ["header:x-user", "cookie:sid", "query:id", "path"];
        let all = [("X-User", "u"), ("Cookie", "a=b; sid=c")];
        assert_eq!(find(&sources, "/p", Some("id=q"), &all), Some("u".into()));
        assert_eq!(find(&sources, "/p", Some("id=q"), &all[1..]), Some("c".into()));
        assert_eq!(find(&sources, "/p", Some("x=1&id=q"), &[]), Some("q".into()));
        assert_eq!(find(&sources, "/p", None, &[("X-User", "")]), Some("/p".into()));
        assert_eq!(find(&sources[..3], "/p", Some("idx=q"), &[("Cookie", "xsid=1")]), None);
    }

    #[test]
    fn paths_are_cut_at_segments_and_captured() {
        assert_eq!(find(&["path-prefix:2"], "/a/b/c", None, &[]), Some("/a/b".into()));
        assert_eq!(find(&["path-prefix:2"], "/a", None, &[]), Some("/a".into()));
        assert_eq!(find(&["path-regex:^/room/([^/]+)"], "/room/42/x", None, &[]), Some("42".into()));
        assert_eq!(find(&["path-regex:[0-9]+"], "/room/42/x", None, &[]), Some("42".into()));
        assert_eq!(find(&["path-regex:^/room/([^/]+)"], "/hall/42", None, &[]), None);
        assert_eq!(find(&["uri"], "/a", Some("b"), &[]), Some("/a?b".into()));
    }

    #[test]
    fn a_join_needs_all_its_parts() {
        let join = Source::Join(vec!["host".parse().unwrap(), "header:x-user".parse().unwrap()]);
        let sources = vec![join, "client-address".parse().unwrap()];
        let policy = KeyPolicy { sources, on_missing: OnMissingKey::Refuse };
        assert_eq!(find_with(&policy, "/", None, &[("x-user", "u")]), Some("a.example\nu".into()));
        assert_eq!(find_with(&policy, "/", None, &[]), Some("10.0.0.1".into()));
    }
}
