//! Listeners, workers and client connections: everything between the kernel's accept queue and a request.
//!
//! Owns sockets, threads and limits on connections. Never looks into a request: that is [`crate::proxy`].

mod accept;
mod admission;
mod connection;
mod front;
mod gate;
mod handed;
mod handshakes;
mod introduction;
mod listen;
mod multiplex;
mod site;
mod worker;

use std::{fmt, path::PathBuf, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;

pub use accept::Entrance;
pub use front::{Changed, Front, FrontError, Prepared, right_needed};
pub use handed::{Handed, take_handed};
pub use site::{Doorway, Site};
pub use worker::Worker;

use crate::{endpoint::Endpoint, proxy::client::ForwardingHeaders, tls::TlsPolicy};

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPolicy {
    /// Its name in metrics and logs.
    pub name: String,
    /// Where it listens.
    pub address: Endpoint,
    /// Who may connect to a Unix socket, as file permissions.
    pub mode: u32,
    /// Whose connections begin with the PROXY protocol.
    pub preface_from: Vec<IpNet>,
    /// How it speaks TLS. `None`: it does not.
    pub tls: Option<TlsPolicy>,
    /// It sends its clients to the listener that speaks TLS on this port. `None`: it serves them.
    pub redirect: Option<u16>,
    /// Whether it speaks HTTP/2.
    pub http2: Http2,
}

/// Whether a listener speaks HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// It does not.
    Off,
    /// Where it speaks TLS, with those who ask for it in the handshake (RFC 7301).
    Auto,
    /// And in the clear, with those who begin with it (RFC 9113 section 3.3).
    PriorKnowledge,
}

impl fmt::Display for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Http2::Off => "off",
            Http2::Auto => "auto",
            Http2::PriorKnowledge => "prior-knowledge",
        })
    }
}

/// How the process runs and ends.
#[derive(Clone, Debug)]
pub struct ServerPolicy {
    /// Worker threads. 0: one for each core.
    pub workers: usize,
    /// Whom the process becomes once everything is bound. `None`: it stays who it is.
    pub user: Option<String>,
    /// Where operators' orders are kept. `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// The configuration is read again when its file changes.
    pub watch_config: bool,
    /// After the signal to stop: how long connections are still accepted while readiness says no.
    pub drain_delay: Duration,
    /// After that: how long requests may take to finish.
    pub drain_timeout: Duration,
}

/// What is asked of clients, and granted to them.
#[derive(Clone, Debug)]
pub struct ClientPolicy {
    /// Time for a request's head to arrive, from its first byte, or from the connection's beginning.
    pub request_head_timeout: Duration,
    /// Time between two requests on a connection.
    pub keep_alive_timeout: Duration,
    /// Time without a byte passing in a body, in either direction.
    pub idle_body_timeout: Duration,
    /// Bytes in a request's head.
    pub max_head_bytes: usize,
    /// Fields in a request's head.
    pub max_headers: usize,
    /// Connections in all.
    pub max_connections: usize,
    /// Requests under way in all. `None`: no bound.
    pub max_requests_in_flight: Option<usize>,
    /// Connections from one address. `None`: no bound.
    pub max_connections_per_address: Option<usize>,
    /// Networks whose forwarding headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Which headers those are, and which are written.
    pub forwarding_headers: ForwardingHeaders,
    /// Pseudonym in `Via`. `None`: no such header.
    pub via: Option<String>,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// As usual.
    Serving,
    /// Asked to stop: still accepting, but not ready.
    Leaving,
    /// Accepting no more; each connection closes after its request.
    Draining,
    /// At once.
    Stopping,
}

impl Phase {
    /// Waits until it has come this far, or until nobody can say so any more.
    pub async fn reached(self, phase: &mut watch::Receiver<Phase>) {
        // An error means that the sender is gone, and the process with it.
        let _ = phase.wait_for(|now| *now >= self).await;
    }
}
