//! Where a backend is: how an address is written and read.
//!
//! Owns the written form. Resolves nothing: that is [`crate::control`].

use std::{fmt, net::SocketAddr, path::Path, str::FromStr, sync::Arc};

use crate::endpoint::Endpoint;

/// Where a backend is: an address, a host name with a port that is resolved at start and again on a period, or a Unix socket.
///
/// Written `10.0.0.1:80`, `[::1]:80`, `cache.internal:80` or `unix:/run/cache.sock`; the port is never 0. A host name is kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address with a port.
    Socket(SocketAddr),
    /// A name to resolve.
    Name {
        /// The host name, in lower case.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(Arc<Path>),
}

impl Address {
    /// Where to connect, if that is known without asking.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Socket(address) => Some(Endpoint::Tcp(*address)),
            Self::Unix(path) => Some(Endpoint::Unix(path.clone())),
            Self::Name { .. } => None,
        }
    }

    /// The host without its port, as a certificate names it.
    pub fn host(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Socket(address) => address.ip().to_string().into(),
            Self::Name { host, .. } => host.strip_suffix('.').unwrap_or(host).into(),
            Self::Unix(_) => "localhost".into(),
        }
    }

    /// What stands in a `Host` header that means this backend. What has no address is `localhost`, as others have it.
    pub fn authority(&self) -> String {
        match self {
            Self::Socket(_) | Self::Name { .. } => self.to_string(),
            Self::Unix(_) => "localhost".into(),
        }
    }
}

/// Bytes in the path of a Unix socket (unix(7): 108 with the end).
const SOCKET_PATH_BYTES: usize = 107;

/// Why a text is no [`Address`], and what to write in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AddressError {
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub help: String,
}

impl AddressError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return read_socket_path(path).map(Self::Unix);
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return match socket.port() {
                0 => {
                    Err(AddressError::new("port 0 is no port to connect to", "write a port from 1 to 65535"))
                }
                _ => Ok(Self::Socket(socket)),
            };
        }
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.split('/').next().unwrap_or_default();
            let tls = if text.starts_with("https:") { ", and add a table [pools.NAME.tls]" } else { "" };
            let help = format!("leave the scheme out: \"{rest}\"{tls}");
            return Err(AddressError::new("this is a URL", help));
        }
        if !text.starts_with('[') && text.matches(':').count() > 1 {
            return Err(AddressError::new(
                "an IPv6 address needs brackets",
                "write \"[ADDRESS]:PORT\", for example \"[::1]:9001\"",
            ));
        }
        let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            return Err(AddressError::new("the port is missing", format!("add it: \"{text}:80\"")));
        };
        let port = match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => {
                return Err(AddressError::new(
                    format!("`{port}` is not a port"),
                    "write a port from 1 to 65535 after the last `:`",
                ));
            }
        };
        match host_name_fault(host) {
            Some(fault) => Err(AddressError::new(
                fault,
                "write \"IP:PORT\", \"[IPv6]:PORT\", \"HOST:PORT\" or \"unix:/PATH\", for example \"10.0.0.1:9001\"",
            )),
            None => Ok(Self::Name { host: host.to_ascii_lowercase(), port }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The path of a Unix socket, as it stands after `unix:`.
///
/// # Errors
/// It is not absolute, too long for the kernel, or holds control characters.
pub(crate) fn read_socket_path(path: &str) -> Result<Arc<Path>, AddressError> {
    let help = "write \"unix:/run/NAME.sock\"";
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(AddressError::new("a Unix socket needs an absolute path of a file", help));
    }
    if let Some(odd) = path.chars().find(|c| c.is_control()) {
        return Err(AddressError::new(format!("it contains {odd:?}"), help));
    }
    if path.len() > SOCKET_PATH_BYTES {
        let message = format!("the path has {} bytes; {SOCKET_PATH_BYTES} is the most", path.len());
        return Err(AddressError::new(message, "choose a shorter folder"));
    }
    Ok(Path::new(path).into())
}

/// What keeps a text from being a host name, if anything does (RFC 1123 section 2.1, with `_` let through, which
/// container networks use in names; one final dot is fine).
pub(crate) fn host_name_fault(host: &str) -> Option<String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Some("the host is missing".into());
    }
    if name.len() > 253 {
        return Some("the host name is longer than 253 characters".into());
    }
    for label in name.split('.') {
        if let Some(odd) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
            return Some(format!("a host name cannot contain {odd:?}"));
        }
        if label.is_empty() || label.len() > 63 {
            return Some("each part of a host name has 1 to 63 characters".into());
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("no part of a host name begins or ends with `-`".into());
        }
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit()).then(|| format!("`{name}` is not an IPv4 address"))
}
