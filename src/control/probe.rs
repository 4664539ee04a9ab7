//! One health check: a fresh connection, a request if the policy wants one, and a verdict.
//!
//! Owns what counts as a pass. Knows nothing of what came before or what follows from it.

use std::{collections::BTreeMap, convert::Infallible, io, ops::RangeInclusive, time::Duration};

use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Bytes, Incoming},
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;

use crate::{
    endpoint::Endpoint,
    fleet::{Address, Outcome},
    io::Stream,
    limits::PROBE_BODY_BYTES,
    upstream::{Approach, connect, is_local},
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
    /// The backend says that a service is serving, in gRPC's protocol for that.
    Grpc {
        /// The service; empty for the backend as a whole.
        service: String,
    },
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
/// It could not be checked, for want of descriptors or memory on this side.
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
            ProbeKind::Http(http) => {
                let http2 = approach.speaks_http2(&stream);
                http_check(http, stream, http2, configured).await.map_err(Failed::Answer)
            }
            ProbeKind::Grpc { service } => {
                grpc_check(service, stream, configured).await.map_err(Failed::Answer)
            }
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

/// Sends one request on a stream of its own, in the version that the pool's backends are asked in, and judges the answer.
async fn ask<B, J>(stream: Stream, http2: bool, request: Request<B>, judge: J) -> Result<(), String>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
    J: AsyncFnOnce(Response<Incoming>) -> Result<(), String>,
{
    let stream = TokioIo::new(stream);
    let text = |error: hyper::Error| error.to_string();
    // The connection has to be driven while the check waits; which of the two ends first decides nothing but the check's result.
    if http2 {
        let (mut sender, connection) = http2::handshake(Here, stream).await.map_err(text)?;
        let check = async { judge(sender.send_request(request).await.map_err(text)?).await };
        let driver = async {
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! { result = check => result, result = driver => result }
    } else {
        let (mut sender, connection) = http1::handshake(stream).await.map_err(text)?;
        let check = async { judge(sender.send_request(request).await.map_err(text)?).await };
        let driver = async {
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! { result = check => result, result = driver => result }
    }
}

/// Runs what a connection of HTTP/2 needs beside it on this thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"), " (health check)");

async fn http_check(
    probe: &HttpProbe,
    stream: Stream,
    http2: bool,
    configured: &Address,
) -> Result<(), String> {
    let host = probe.host.clone().unwrap_or_else(|| configured.authority());
    let mut request = Request::builder().method(&*probe.method);
    request = if http2 {
        let scheme = if stream.is_secure() { "https" } else { "http" };
        request.uri(format!("{scheme}://{host}{}", probe.path))
    } else {
        request.uri(&*probe.path).header("host", host).header("connection", "close")
    };
    request = request.header("user-agent", USER_AGENT);
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    ask(stream, http2, request, async |mut answer: Response<Incoming>| {
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
    })
    .await
}

/// `grpc.health.v1.Health/Check` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
async fn grpc_check(service: &str, stream: Stream, configured: &Address) -> Result<(), String> {
    let scheme = if stream.is_secure() { "https" } else { "http" };
    let uri = format!("{scheme}://{}/grpc.health.v1.Health/Check", configured.authority());
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(Full::new(Bytes::from(grpc_question(service))))
        .map_err(|error| error.to_string())?;
    ask(stream, true, request, async |answer: Response<Incoming>| {
        if answer.status() != 200 {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let said = |fields: &HeaderMap| {
            let status = fields.get("grpc-status")?.to_str().ok()?.to_owned();
            Some(status)
        };
        // An answer that is nothing but its end has the status in its head.
        let mut status = said(answer.headers());
        let mut body = Limited::new(answer.into_body(), PROBE_BODY_BYTES);
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| error.to_string())?.into_data() {
                Ok(data) => seen.extend_from_slice(&data),
                Err(frame) => status = frame.trailers_ref().and_then(said).or(status),
            }
        }
        match status.as_deref() {
            Some("0") => {}
            Some("5") => return Err("it does not know the service".to_owned()),
            Some("12") => return Err("it does not answer gRPC health checks".to_owned()),
            Some(status) => return Err(format!("grpc-status {status}")),
            None => return Err("no grpc-status".to_owned()),
        }
        match grpc_standing(&seen) {
            Some(1) => Ok(()),
            Some(2) => Err("not serving".to_owned()),
            _ => Err("its standing is not known".to_owned()),
        }
    })
    .await
}

/// A message `HealthCheckRequest { service = 1 }` with gRPC's prefix.
fn grpc_question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&message);
    bytes
}

/// The field `status` of a message `HealthCheckResponse { status = 1 }` with gRPC's prefix; 0 where it is left out.
fn grpc_standing(bytes: &[u8]) -> Option<u8> {
    let [0, a, b, c, d, message @ ..] = bytes else { return None };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_grpc_has_them() {
        assert_eq!(grpc_question(""), [0, 0, 0, 0, 0]);
        assert_eq!(grpc_question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(grpc_question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 0x01]);
        assert_eq!(grpc_standing(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(grpc_standing(&[0, 0, 0, 0, 0]), Some(0));
        for bad in [&[][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 2, 9, 1]] {
            assert_eq!(grpc_standing(bad), None);
        }
    }
}
