//! The written form of the hosts that a route is for.
//!
//! Owns parsing and printing. Matching stands in the parent.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use crate::fleet::host_name_fault;

/// The hosts that a route is for. Written `*`, `example.org`, `*.example.org`, `192.0.2.1` or `[2001:db8::1]`;
/// never with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host, and requests without one.
    Any,
    /// This host, in lower case, without a final dot.
    Exact(String),
    /// All hosts below this one: in lower case, without the star, with the leading dot.
    Suffix(String),
}

/// Why a text is no [`HostPattern`], and what to write in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostPatternError {
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub help: String,
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let help = "write \"*\", a host such as \"example.org\", or \"*.example.org\" for all hosts below it";
        let wrong =
            |message: &str, help: &str| HostPatternError { message: message.into(), help: help.into() };
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>().map_err(|_| wrong("not an IPv6 address", help))?;
            return Ok(Self::Exact(format!("[{address}]")));
        }
        if text.contains("://") || text.contains('/') {
            return Err(wrong("a route's host has no scheme and no path", help));
        }
        if text.contains(':') {
            return Err(wrong(
                "a route's host has no port",
                "leave the port out: it does not matter for routing",
            ));
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, suffix) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        if name.contains('*') {
            return Err(wrong("a star can only stand alone or as the whole first part", help));
        }
        if name.parse::<std::net::Ipv4Addr>().is_ok() && !suffix {
            return Ok(Self::Exact(lower));
        }
        match host_name_fault(name) {
            Some(_) if !name.is_ascii() => {
                Err(wrong("a host name in a request is ASCII", "write its punycode form, \"xn--…\""))
            }
            Some(fault) => Err(wrong(&fault, help)),
            None if suffix => Ok(Self::Suffix(format!(".{name}"))),
            None => Ok(Self::Exact(lower)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}
