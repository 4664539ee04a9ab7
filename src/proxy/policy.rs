//! How requests to a pool are forwarded: what an operator can choose, as the request path reads it.

use std::{fmt, time::Duration};

use super::key::KeyPolicy;

/// Which `Host` a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Client,
    /// The backend's own address, as configured.
    Backend,
}

impl fmt::Display for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostHeader::Client => "client",
            HostHeader::Backend => "backend",
        })
    }
}

/// What becomes of a connection that has changed its protocol when the proxy drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrain {
    /// It may go on until the drain's deadline.
    Wait,
    /// It is closed when draining begins.
    Close,
}

impl fmt::Display for OnDrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnDrain::Wait => "wait",
            OnDrain::Close => "close",
        })
    }
}

/// Everything about forwarding that is chosen per pool.
#[derive(Clone, Debug)]
pub struct ForwardPolicy {
    /// Where the key comes from.
    pub key: KeyPolicy,
    /// Which `Host` the backend sees.
    pub host_header: HostHeader,
    /// Attempts for one request in all, each at a distinct owner. At least 1.
    pub attempts: usize,
    /// A request body of up to this many bytes is kept so that it can be sent again.
    pub repeat_body_bytes: usize,
    /// The largest request body. `None`: no bound.
    pub max_body_bytes: Option<u64>,
    /// Time for a connection to a backend to open.
    pub connect_timeout: Duration,
    /// Time from the whole request sent to the answer's head.
    pub response_head_timeout: Duration,
    /// Time without a byte passing, in a body, in either direction, at either side.
    pub idle_body_timeout: Duration,
    /// Time for the whole exchange. `None`: no bound. A change of protocol ends it.
    pub total_timeout: Option<Duration>,
    /// The protocols that a connection may change to, in lower case.
    pub upgrades: Vec<String>,
    /// Time without a byte passing after a change of protocol.
    pub upgraded_idle_timeout: Duration,
    /// What becomes of changed connections when the proxy drains.
    pub upgraded_on_drain: OnDrain,
}

impl ForwardPolicy {
    /// Whether a client may change to this protocol.
    pub fn allows_upgrade(&self, protocol: &[u8]) -> bool {
        self.upgrades.iter().any(|allowed| protocol.eq_ignore_ascii_case(allowed.as_bytes()))
    }
}
