//! Where a request's key comes from: the sources, as configured.
//!
//! Owns what a source is. How it is written stands in `written`, how it finds a key in a request in `find`.

mod find;
mod written;

use std::fmt;

pub use find::{Facts, Fields, JOINT, host_of};
pub use written::SourceError;

/// One source of a key.
///
/// Written `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri`, `path-prefix:N`, `path-regex:RE`, `host`,
/// `method` or `client-address`; a join is a nested list of these.
#[derive(Clone, Debug)]
pub enum Source {
    /// A request header; the name is in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
    /// The path.
    Path,
    /// Path and query.
    Uri,
    /// The first so many segments of the path.
    PathPrefix(usize),
    /// What the expression captures first in the path, or matches if it captures nothing. It sees bytes: classes
    /// such as `\w` and the flag `i` mean ASCII.
    PathRegex(regex::bytes::Regex),
    /// The host, without port.
    Host,
    /// The method.
    Method,
    /// The client's address.
    ClientAddress,
    /// All of these together; absent if one is.
    Join(Vec<Source>),
}

/// What to do with a request in which no source is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissingKey {
    /// The client's address is the key.
    ClientAddress,
    /// Any backend.
    Spread,
    /// Answer 400.
    Refuse,
}

/// What the source is called of a request without a key whose client's address is the key.
pub const BY_ADDRESS: &str = "client-address (no key)";

/// How a pool finds a request's key.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    /// The first one present wins.
    pub sources: Vec<Source>,
    /// What if none is.
    pub on_missing: OnMissingKey,
}

impl fmt::Display for OnMissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientAddress => "client-address",
            Self::Spread => "spread",
            Self::Refuse => "refuse",
        })
    }
}
