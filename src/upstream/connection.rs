//! One connection to a backend.
//!
//! Owns the socket and what was read from it beyond the last answer. Knows nothing about other connections.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use tokio::io::AsyncWriteExt;

use crate::{
    endpoint::Endpoint,
    fleet::Address,
    io::{Buffer, Secure, Stream},
    preface::{self, Ends, PrefaceVersion},
    tls::BackendTls,
};

/// Why no connection came about. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(#[from] io::Error);

impl ConnectError {
    /// Whether it says nothing about the backend.
    pub fn is_local(&self) -> bool {
        is_local(&self.0)
    }
}

/// Whether an error is about this side and says nothing about the other: no descriptors, no memory. An address that can't be reached from
/// here, or ports that have run out towards it, are another matter: another backend may do.
pub fn is_local(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

/// Which version of HTTP backends are asked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS, as agreed in the handshake.
    H2,
    /// HTTP/2 in the clear, by prior knowledge.
    H2c,
    /// Whichever of the two a backend takes in the handshake of TLS.
    Auto,
}

impl Protocol {
    /// What is offered in the handshake (RFC 7301).
    pub fn offers(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Http1 | Protocol::H2c => vec![b"http/1.1".to_vec()],
            Protocol::H2 => vec![b"h2".to_vec()],
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http1 => "http/1.1",
            Protocol::H2 => "h2",
            Protocol::H2c => "h2c",
            Protocol::Auto => "auto",
        })
    }
}

/// How connections to the backends of a pool begin.
#[derive(Clone, Debug, Default)]
pub struct Approach {
    /// What is spoken.
    pub protocol: Protocol,
    /// Which version of the PROXY protocol is said first, in the clear. `None`: neither.
    pub preface: Option<PrefaceVersion>,
    /// The TLS that follows, if any does.
    pub tls: Option<BackendTls>,
}

/// Opens a stream as the pool's backends want it. `configured` is whose host the backend must prove to be, `ends` what it is told of the
/// client.
///
/// # Errors
/// The connection, or its handshake, did not come about.
pub async fn connect(
    to: &Endpoint,
    approach: &Approach,
    configured: &Address,
    ends: Option<Ends>,
) -> io::Result<Stream> {
    let mut stream = Stream::connect(to).await?;
    if let Some(version) = approach.preface {
        let mut bytes = Vec::new();
        preface::write(version, ends, &mut bytes);
        stream.write_all(&bytes).await?;
    }
    let Some(tls) = &approach.tls else { return Ok(stream) };
    let Stream::Tcp(stream) = stream else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS over a Unix socket is not spoken"));
    };
    let name = tls.name_for(&configured.host()).map_err(io::Error::other)?;
    // On the heap: few connections need the room.
    let session = Box::pin(tls.connector().connect(name, stream)).await?;
    if approach.protocol == Protocol::H2 && session.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the backend does not speak HTTP/2"));
    }
    Ok(Stream::Secure(Box::new(Secure::new(session))))
}

impl Approach {
    /// Whether a stream that has been opened speaks HTTP/2.
    pub fn speaks_http2(&self, stream: &Stream) -> bool {
        match self.protocol {
            Protocol::Http1 => false,
            Protocol::H2 | Protocol::H2c => true,
            Protocol::Auto => stream.agreed_protocol().is_some_and(|protocol| protocol == b"h2"),
        }
    }
}

/// A connection that carries one exchange after the other.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// What was read and not used yet. Empty between exchanges.
    pub input: Buffer,
    /// Where it goes.
    pub address: Endpoint,
    /// When it was opened.
    pub born: Instant,
    /// It has carried an exchange before.
    pub reused: bool,
    /// Its last answer had no body. A backend that sends one all the same may do so after the head has been read and the
    /// connection kept: before the next exchange the kernel is asked.
    pub suspect: bool,
}

impl Connection {
    /// One that has carried nothing.
    pub(super) fn new(stream: Stream, address: Endpoint, born: Instant) -> Connection {
        Connection { stream, input: Buffer::default(), address, born, reused: false, suspect: false }
    }

    /// Whether it is a stream of HTTP/2.
    pub fn is_stream(&self) -> bool {
        matches!(self.stream, Stream::Multiplexed(_))
    }

    /// Opens one to the first of the addresses that takes it. Each has its part of the time that is left, the same for all that have not been
    /// tried: one that swallows everything leaves some to those after it. The last one is to be stopped by whoever waits.
    ///
    /// # Errors
    /// The last address's error.
    pub async fn open(
        (addresses, limit): (&[Endpoint], Duration),
        approach: &Approach,
        configured: &Address,
        ends: Option<Ends>,
    ) -> Result<Connection, ConnectError> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        let due = Instant::now() + limit;
        for (address, left) in addresses.iter().zip((0..addresses.len()).rev()) {
            let connect = connect(address, approach, configured, ends);
            let connected = if left == 0 {
                connect.await
            } else {
                let part = due.saturating_duration_since(Instant::now()) / (left as u32 + 1);
                let connected = tokio::time::timeout(part, connect).await;
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match connected {
                Ok(stream) => return Ok(Connection::new(stream, address.clone(), Instant::now())),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[tokio::test]
    async fn an_address_that_swallows_everything_leaves_time_to_the_others() {
        // A listener without room for another connection answers none.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let swallows = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let connect = || tokio::net::TcpStream::connect(swallows);
        while let Ok(Ok(client)) = tokio::time::timeout(Duration::from_millis(200), connect()).await {
            waiting.push(client);
        }
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = there.local_addr().map(|address| (address, there)).unwrap();
        let addresses = [swallows, swallows, there.0].map(Endpoint::from);
        let (approach, configured) = (Approach::default(), "127.0.0.1:1".parse().unwrap());
        let limit = Duration::from_secs(3);
        let opening = Connection::open((&addresses, limit), &approach, &configured, None);
        let opened = tokio::time::timeout(limit, opening).await;
        assert_eq!(opened.expect("in time").unwrap().address, addresses[2]);
        drop(waiting);
    }
}
