//! One connection to a backend.
//!
//! Owns the socket and what was read from it beyond the last answer. Knows nothing about other connections.

use std::{io, time::Instant};

use crate::{
    endpoint::Endpoint,
    io::{Buffer, Stream},
};

/// Why no connection came about. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(#[from] io::Error);

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
    pub async fn open(addresses: &[Endpoint]) -> Result<Connection, ConnectError> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        for address in addresses {
            match Stream::connect(address).await {
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
