//! Strings with a meaning: addresses, names, hosts, paths, tokens, networks.
//!
//! One [`Text`] each, made of a parser, a way back and a pattern. Key sources and what comes in lists: [`super::list`].

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use serde_json::{Value, json};
use toml::de::DeValue;

use super::{Kind, Raw, Spot, string};
use crate::{
    config::suggest,
    endpoint::Endpoint,
    fleet::{Address, host_name_fault, read_socket_path},
    proxy::{rewrite::has_dot_segments, route::HostPattern},
};

mod authority;
mod hsts;

pub(in crate::config) use authority::{mail, proved_name, secure_url};
pub(in crate::config) use hsts::transport_security;

/// Why a text does not fit, and what to write in its place.
pub(in crate::config) struct Fault {
    pub(in crate::config) message: String,
    pub(in crate::config) help: String,
}

impl Fault {
    pub(in crate::config) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The characters of a token (RFC 9110 section 5.6.2), as a JSON Schema pattern.
pub(super) const TOKEN: &str = r"[!#$%&'*+.^_`|~0-9A-Za-z-]";

/// A string that is read by a function.
pub(in crate::config) struct Text<T> {
    /// What it is, with its article.
    noun: &'static str,
    /// Of the string, for editors; never stricter than `parse`.
    pattern: Option<String>,
    parse: fn(&str) -> Result<T, Fault>,
    show: fn(&T) -> String,
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn noun(&self) -> String {
        self.noun.into()
    }

    fn schema(&self) -> Value {
        match &self.pattern {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        }
    }

    fn literal(&self, value: &T) -> String {
        string(&(self.show)(value))
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<T> {
        let DeValue::String(text) = raw.get_ref() else {
            spot.wrong_type(raw, "a string", Some(format!("write {} in quotes", self.noun)));
            return None;
        };
        match (self.parse)(text) {
            Ok(value) => Some(value),
            Err(fault) => {
                spot.malformed(raw.span(), &fault.message, fault.help);
                None
            }
        }
    }
}

/// `None` for the empty text, which means "off" or "none" for some keys.
pub(in crate::config) struct OrEmpty<K>(pub(in crate::config) K);

impl<K: Kind> Kind for OrEmpty<K> {
    type Value = Option<K::Value>;

    fn noun(&self) -> String {
        format!("{}, or \"\"", self.0.noun())
    }

    fn schema(&self) -> Value {
        json!({ "anyOf": [{ "const": "" }, self.0.schema()] })
    }

    fn literal(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| "\"\"".into(), |value| self.0.literal(value))
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value> {
        match raw.get_ref() {
            DeValue::String(text) if text.is_empty() => Some(None),
            _ => self.0.read(raw, spot).map(Some),
        }
    }
}

/// Text without control characters.
pub(in crate::config) fn plain(noun: &'static str) -> Text<String> {
    Text { noun, pattern: None, parse: |text| without_controls(text).map(str::to_owned), show: String::clone }
}

/// The path of a file.
pub(in crate::config) fn file() -> Text<PathBuf> {
    Text {
        noun: "a file's path",
        pattern: None,
        parse: |text| without_controls(text).map(PathBuf::from),
        show: |path| path.display().to_string(),
    }
}

fn without_controls(text: &str) -> Result<&str, Fault> {
    match text.chars().find(|c| c.is_control()) {
        Some(odd) => Err(Fault::new(format!("it contains {odd:?}"), "leave control characters out")),
        None => Ok(text),
    }
}

/// The name of a backend or listener.
pub(in crate::config) fn name() -> Text<String> {
    Text {
        noun: "a name",
        pattern: Some("^[^\\u0000-\\u001f\\u007f]{1,255}$".into()),
        parse: |text| {
            if text.is_empty() || text.len() > 255 {
                return Err(Fault::new(
                    "a name has 1 to 255 bytes",
                    "without a name, the address is the name",
                ));
            }
            without_controls(text).map(str::to_owned)
        },
        show: String::clone,
    }
}

/// The name of a pool.
pub(in crate::config) fn pool_name() -> Text<String> {
    Text {
        noun: "a pool's name",
        pattern: Some("^[A-Za-z0-9_.-]{1,64}$".into()),
        parse: |text| {
            let help = "a pool's name has 1 to 64 letters, digits, `-`, `_` and `.`";
            match text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')) {
                Some(odd) => Err(Fault::new(format!("it contains {odd:?}"), help)),
                None if text.is_empty() => Err(Fault::new("it is empty", help)),
                None if text.len() > 64 => Err(Fault::new("it is too long", help)),
                None => Ok(text.to_owned()),
            }
        },
        show: String::clone,
    }
}

/// A pool, by its name. Whether that name is right is judged where the pool is.
pub(in crate::config) fn pool_reference() -> Text<String> {
    Text { parse: |text| Ok(text.to_owned()), ..pool_name() }
}

/// An address to listen on.
pub(in crate::config) fn socket() -> Text<SocketAddr> {
    Text {
        noun: "an address",
        pattern: Some("^.+:[0-9]{1,5}$".into()),
        parse: parse_socket,
        show: SocketAddr::to_string,
    }
}

fn parse_socket(text: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with('/') {
        return Err(Fault::new("this is a path", format!("for a Unix socket write \"unix:{text}\"")));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port.parse::<u16>().ok().or_else(|| text.parse::<u16>().ok());
    let shown = port.unwrap_or(8080);
    Err(match host {
        "" | "*" => Fault::new(
            "the IP address is missing",
            format!(
                "for all addresses of this machine write \"0.0.0.0:{shown}\", or \"[::]:{shown}\" with IPv6"
            ),
        ),
        "localhost" => {
            Fault::new("a listener needs an IP address, not a name", format!("write \"127.0.0.1:{shown}\""))
        }
        _ if host_name_fault(host).is_none() => Fault::new(
            "a listener needs an IP address, not a name",
            format!("write the address that it stands for, or \"0.0.0.0:{shown}\" for all of this machine"),
        ),
        _ if text.parse::<u16>().is_ok() => {
            Fault::new("the IP address is missing", format!("write for example \"127.0.0.1:{shown}\""))
        }
        _ if text.parse::<std::net::IpAddr>().is_ok() => {
            let shown = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
            Fault::new("the port is missing", format!("add it: \"{shown}:8080\""))
        }
        _ => Fault::new(
            "this is no IP address with a port",
            "write for example \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
    })
}

/// Where a listener is: an address, or a Unix socket.
pub(in crate::config) fn endpoint() -> Text<Endpoint> {
    Text {
        noun: "an address",
        pattern: Some("^(.+:[0-9]{1,5}|unix:/.+)$".into()),
        parse: |text| match text.strip_prefix("unix:") {
            Some(path) => match read_socket_path(path) {
                Ok(path) => Ok(Endpoint::Unix(path)),
                Err(error) => Err(Fault::new(error.message, error.help)),
            },
            None => parse_socket(text).map(Endpoint::Tcp),
        },
        show: Endpoint::to_string,
    }
}

/// A host's name, or its IP address, as a certificate has it.
pub(in crate::config) fn host_name() -> Text<String> {
    Text {
        noun: "a host name",
        pattern: Some("^[A-Za-z0-9._:-]+$".into()),
        parse: |text| match host_name_fault(text) {
            Some(fault) if text.parse::<std::net::IpAddr>().is_err() => {
                Err(Fault::new(fault, "write a host name, for example \"cache.internal\""))
            }
            _ => Ok(text.to_ascii_lowercase()),
        },
        show: String::clone,
    }
}

/// A protocol that a connection may change to.
pub(in crate::config) fn protocol() -> Text<String> {
    Text {
        noun: "a protocol",
        pattern: Some(format!("^{TOKEN}+(/{TOKEN}+)?$")),
        parse: |text| {
            let is_token = |part: &str| not_token(part).is_none();
            match text.to_ascii_lowercase() {
                // Requests in it would reach backends unseen: no route, no limit, no log would apply.
                name if name == "h2c" => Err(Fault::new(
                    "HTTP/2 by `Upgrade` is not passed on (RFC 9113 section 3.1 has taken it back)",
                    "leave it out",
                )),
                name if name.split('/').all(is_token) && name.split('/').count() <= 2 => Ok(name),
                _ => Err(Fault::new("this is no protocol's name", "write for example \"websocket\"")),
            }
        },
        show: String::clone,
    }
}

/// The permissions of a file.
pub(in crate::config) fn file_mode() -> Text<u32> {
    Text {
        noun: "file permissions",
        pattern: Some("^0?[0-7]{3}$".into()),
        parse: |text| match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(mode)
            }
            _ => Err(Fault::new(
                "these are no file permissions",
                "write three octal digits, for example \"0660\"",
            )),
        },
        show: |mode| format!("{mode:04o}"),
    }
}

/// Where a backend is.
pub(in crate::config) fn address() -> Text<Address> {
    Text {
        noun: "an address",
        pattern: Some("^(.+:[0-9]{1,5}|unix:/.+)$".into()),
        parse: |text| Address::from_str(text).map_err(|error| Fault::new(error.message, error.help)),
        show: Address::to_string,
    }
}

/// The hosts that a route is for.
pub(in crate::config) fn host_pattern() -> Text<HostPattern> {
    Text {
        noun: "a host",
        pattern: Some(r"^(\*|(\*\.)?[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])$".into()),
        parse: |text| HostPattern::from_str(text).map_err(|error| Fault::new(error.message, error.help)),
        show: HostPattern::to_string,
    }
}

/// The beginning of a path, in whole segments. A final slash makes no difference and is taken off.
pub(in crate::config) fn path_prefix() -> Text<String> {
    Text {
        noun: "a path",
        pattern: Some("^/[!-~]*$".into()),
        parse: |text| {
            let path = target(text)?;
            if let Some(odd) = ['?', '#', '*'].into_iter().find(|odd| path.contains(*odd)) {
                return Err(Fault::new(
                    format!("a path prefix cannot contain `{odd}`"),
                    "write whole segments, for example \"/api/v1\": what follows them matches too",
                ));
            }
            let short = path.trim_end_matches('/');
            Ok(if short.is_empty() { "/".to_owned() } else { short.to_owned() })
        },
        show: String::clone,
    }
}

/// What stands in the place of such a beginning.
pub(in crate::config) fn path_replacement() -> Text<String> {
    Text {
        parse: |text| {
            let path = (path_prefix().parse)(text)?;
            if has_dot_segments(path.as_bytes()) {
                return Err(Fault::new(
                    "this has `.` or `..` as a segment, which backends resolve",
                    "write the path that is meant",
                ));
            }
            if path.starts_with("//") {
                return Err(Fault::new("two slashes at the beginning read as a host", "write one"));
            }
            Ok(path)
        },
        ..path_prefix()
    }
}

/// The path, and query, that a probe asks for.
pub(in crate::config) fn probe_path() -> Text<String> {
    Text {
        noun: "a path",
        pattern: Some("^/[!-~]*$".into()),
        parse: |text| match target(text)?.contains('#') {
            true => Err(Fault::new("a request has no fragment", "leave out `#` and what follows")),
            false => Ok(text.to_owned()),
        },
        show: String::clone,
    }
}

/// A request target in origin form (RFC 9112 section 3.2.1), by its characters.
fn target(text: &str) -> Result<&str, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new("a path begins with `/`", format!("write \"/{}\"", super::quoted(text))));
    }
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(odd) => Err(Fault::new(
            format!("a path in a request cannot contain {odd:?}"),
            "write it percent-encoded, as `%20` for a space",
        )),
        None => Ok(text),
    }
}

/// A token (RFC 9110 section 5.6.2): a method, a pseudonym.
pub(in crate::config) fn token(noun: &'static str) -> Text<String> {
    Text {
        noun,
        pattern: Some(format!("^{TOKEN}+$")),
        parse: |text| match not_token(text) {
            Some(fault) => {
                Err(Fault::new(fault, "write letters, digits and !#$%&'*+-.^_`|~, without spaces"))
            }
            None => Ok(text.to_owned()),
        },
        show: String::clone,
    }
}

/// What keeps a text from being a token, if anything does.
pub(super) fn not_token(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty".into());
    }
    let odd = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(*c));
    odd.map(|odd| format!("it contains {odd:?}"))
}

/// The Host header of a probe.
pub(in crate::config) fn authority() -> Text<String> {
    Text {
        noun: "a host",
        pattern: Some("^[!-~]+$".into()),
        parse: |text| match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | '@' | '?' | '#'))
        {
            Some(odd) => Err(Fault::new(
                format!("a host cannot contain {odd:?}"),
                "write a host, with a port if needed, for example \"example.org\"",
            )),
            None => Ok(text.to_owned()),
        },
        show: String::clone,
    }
}

/// A network or a single address.
pub(in crate::config) fn network() -> Text<IpNet> {
    Text {
        noun: "a network",
        pattern: Some("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$".into()),
        parse: |text| {
            let single = text.parse::<std::net::IpAddr>().map(IpNet::from);
            let Ok(network) = single.or_else(|_| text.parse::<IpNet>()) else {
                let help = "write for example \"10.0.0.0/8\", \"192.0.2.7\" or \"2001:db8::/32\"";
                return Err(Fault::new("this is no network and no address", help));
            };
            if network.trunc() != network {
                let (whole, one) = (network.trunc(), network.addr());
                return Err(Fault::new(
                    "the address has bits beyond the prefix",
                    format!("write \"{whole}\" for the network or \"{one}\" for the one address"),
                ));
            }
            Ok(network)
        },
        show: |network| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        },
    }
}

/// What the log lets through: a level, or directives for parts of the program (`info,ringway::control=debug`).
pub(in crate::config) fn log_level() -> Text<String> {
    Text {
        noun: "a log level",
        pattern: None,
        parse: |text| {
            for directive in text.split(',') {
                let (_, level) = directive.rsplit_once('=').unwrap_or(("", directive));
                let level = level.trim().to_ascii_lowercase();
                if !LEVELS.contains(&level.as_str()) {
                    let words = LEVELS.map(str::to_owned);
                    let fault = format!("`{}` is no level", super::quoted(&level));
                    return Err(Fault::new(fault, suggest::choice(&level, &words)));
                }
            }
            Ok(text.to_owned())
        },
        show: String::clone,
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
