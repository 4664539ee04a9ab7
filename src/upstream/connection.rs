//! One connection to a backend.
//!
//! Owns the socket and what was read from it beyond the last answer. Knows nothing about other connections.

use std::{io, mem::MaybeUninit, net::SocketAddr, time::Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::io::Buffer;

/// Why no connection came about. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(#[from] io::Error);

/// A connection that carries one exchange after the other.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// What was read and not used yet. Empty between exchanges.
    pub input: Buffer,
    /// Where it goes.
    pub address: SocketAddr,
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
    pub async fn open(addresses: &[SocketAddr]) -> Result<Connection, ConnectError> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        for &address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    let input = Buffer::default();
                    return Ok(Connection {
                        stream,
                        input,
                        address,
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

    /// Whether an idle connection shows no sign of an end, as far as the runtime has been told. Costs no system call.
    pub fn seems_open(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the kernel: for requests that can't be repeated if it turns out otherwise.
    pub fn is_open(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&self.stream).peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
