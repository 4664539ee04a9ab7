//! One health check: a fresh connection, a request if the policy wants one, and a verdict.
//!
//! Owns what counts as a pass. Knows nothing of what came before or what follows from it.

use std::{collections::BTreeMap, io, ops::RangeInclusive, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;

use crate::{
    endpoint::Endpoint,
    fleet::{Address, Outcome},
    io::Stream,
    limits::PROBE_BODY_BYTES,
    upstream::{Approach, connect},
};

/// How a backend is checked.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// Not at all: it always serves.
    Off,
    /// A connection opens, with its TLS handshake where the pool has TLS.
    Tcp,
    /// A request is answered as wanted.
    Http(HttpProbe),
}

/// The request of a health check, and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The method.
    pub method: String,
    /// Path, and query if wanted.
    pub path: String,
    /// The `Host` header. `None`: the backend's address.
    pub host: Option<String>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The status codes that pass, as inclusive ranges.
    pub status: Vec<RangeInclusive<u16>>,
    /// Text that must stand in the first 64 KiB of the body.
    pub body_contains: Option<String>,
}

/// A pool's health checks.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePolicy {
    /// Their kind.
    pub kind: ProbeKind,
    /// Their port. `None`: the backend's own. A Unix socket has none.
    pub port: Option<u16>,
    /// Time between the end of one and the beginning of the next.
    pub interval: Duration,
    /// The same while a backend's standing is about to change.
    pub changing_interval: Duration,
    /// By which share of it the interval is made longer or shorter by chance, 0 to 1.
    pub jitter: f64,
    /// Time for one in all.
    pub timeout: Duration,
    /// Passes in a row until a backend that is down is up.
    pub rise: u32,
    /// Failures in a row until a backend that is up is down.
    pub fall: u32,
}

/// Checks the backend once, over a connection that begins as those of requests do.
///
/// # Errors
/// It could not be checked, for want of descriptors, ports or memory on this side.
pub async fn probe(
    policy: &ProbePolicy,
    approach: &Approach,
    mut address: Endpoint,
    configured: &Address,
) -> io::Result<Outcome> {
    if let (Endpoint::Tcp(socket), Some(port)) = (&mut address, policy.port) {
        socket.set_port(port);
    }
    let check = async {
        let stream = connect(&address, approach, configured, None).await?;
        match &policy.kind {
            ProbeKind::Off | ProbeKind::Tcp => Ok(()),
            ProbeKind::Http(http) => http_check(http, stream, configured).await.map_err(Failed::Answer),
        }
    };
    match tokio::time::timeout(policy.timeout, check).await {
        Ok(Ok(())) => Ok(Outcome::Pass),
        Ok(Err(Failed::Connect(error))) if is_local(&error) => Err(error),
        Ok(Err(Failed::Connect(error))) => {
            Ok(Outcome::fail(&format!("its health check failed: connect: {error}")))
        }
        Ok(Err(Failed::Answer(reason))) => Ok(Outcome::fail(&format!("its health check failed: {reason}"))),
        Err(_) => {
            Ok(Outcome::fail(&format!("its health check failed: no answer within {:?}", policy.timeout)))
        }
    }
}

enum Failed {
    Connect(io::Error),
    Answer(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Connect(error)
    }
}

/// Whether the error is about this side and says nothing about the other: no descriptors, no ports, no memory.
fn is_local(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

async fn http_check(probe: &HttpProbe, stream: Stream, configured: &Address) -> Result<(), String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let check = async {
        let host = probe.host.clone().unwrap_or_else(|| configured.authority());
        let mut request = Request::builder().method(&*probe.method).uri(&*probe.path).header("host", host);
        request =
            request.header("user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health check)"));
        request = request.header("connection", "close");
        for (name, value) in &probe.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let mut answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        if !probe.status.iter().any(|range| range.contains(&status)) {
            return Err(format!("status {status}"));
        }
        let Some(wanted) = &probe.body_contains else {
            return Ok(());
        };
        let mut seen = Vec::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            let Ok(data) = frame.into_data() else { continue };
            seen.extend_from_slice(&data[..data.len().min(PROBE_BODY_BYTES - seen.len())]);
            if memchr::memmem::find(&seen, wanted.as_bytes()).is_some() {
                return Ok(());
            }
            if seen.len() == PROBE_BODY_BYTES {
                break;
            }
        }
        Err(format!("the body does not contain {wanted:?}"))
    };
    // The connection has to be driven while the check waits; which of the two ends first decides nothing but the check's result.
    let driver = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        result = check => result,
        result = driver => result,
    }
}
