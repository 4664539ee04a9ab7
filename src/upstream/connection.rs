//! One connection to a backend.
//!
//! Owns the socket and what was read from it beyond the last answer. Knows nothing about other connections.

use std::{io, time::Instant};

use crate::{
    endpoint::Endpoint,
    io::{Buffer, Secure, Stream},
    tls::BackendTls,
};

/// Why no connection came about. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(#[from] io::Error);

/// How the connections of a backend are secured, and the host that it must prove to be.
#[derive(Clone, Copy, Debug)]
pub struct Secured<'a> {
    /// The pool's TLS.
    pub tls: &'a BackendTls,
    /// The host in the backend's address.
    pub host: &'a str,
}

/// Opens a stream, and secures it if that is wanted.
///
/// # Errors
/// The connection, or its handshake, did not come about.
pub async fn connect(to: &Endpoint, secured: Option<Secured<'_>>) -> io::Result<Stream> {
    let stream = Stream::connect(to).await?;
    let Some(Secured { tls, host }) = secured else { return Ok(stream) };
    let Stream::Tcp(stream) = stream else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS over a Unix socket is not spoken"));
    };
    let name = tls.name_for(host).map_err(io::Error::other)?;
    // On the heap: few connections need the room.
    let session = Box::pin(tls.connector().connect(name, stream)).await?;
    Ok(Stream::Secure(Box::new(Secure::new(session))))
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
    /// Opens one to the first of the addresses that takes it.
    ///
    /// # Errors
    /// The last address's error.
    pub async fn open(
        addresses: &[Endpoint],
        secured: Option<Secured<'_>>,
    ) -> Result<Connection, ConnectError> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        for address in addresses {
            match connect(address, secured).await {
                Ok(stream) => {
                    return Ok(Connection {
                        stream,
                        input: Buffer::default(),
                        address: address.clone(),
                        born: Instant::now(),
                        reused: false,
                        suspect: false,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}
