//! The byte stream of a connection, whatever carries it.
//!
//! Owns the differences between carriers: all else in the program sees one kind of stream. Never looks at the bytes.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream, tcp, unix},
};

use super::Secure;
use crate::{endpoint::Endpoint, http2};

/// A connection's stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP, after the handshake.
    Secure(Box<Secure>),
    /// One of those that a connection of HTTP/2 carries.
    Multiplexed(http2::Stream),
}

macro_rules! whichever {
    ($kind:ident: $stream:expr, $it:ident => $what:expr) => {
        match $stream {
            $kind::Tcp($it) => $what,
            $kind::Unix($it) => $what,
            $kind::Secure($it) => $what,
            $kind::Multiplexed($it) => $what,
        }
    };
}

impl Stream {
    /// Opens one. What is written leaves at once.
    ///
    /// # Errors
    /// As the kernel has them.
    pub async fn connect(to: &Endpoint) -> io::Result<Stream> {
        match to {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Ready when a read may bring something, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(Stream: self, it => it.poll_read_ready(cx))
    }

    /// Writes what is taken at once. Whether it is on its way, [`Stream::is_flushed`] says.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
            Stream::Secure(stream) => stream.try_write(bytes),
            Stream::Multiplexed(stream) => {
                match stream.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                    Poll::Ready(taken) => taken,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Whether all that was taken is in the kernel's hands. What is not leaves only while somebody writes, flushes or waits to read.
    pub fn is_flushed(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Multiplexed(_) => true,
            Stream::Secure(session) => session.look(|_, session| !session.wants_write()),
        }
    }

    /// Whether a quiet stream shows no sign of an end, as far as the runtime has been told. Costs no system call.
    pub fn seems_open(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
            Stream::Secure(stream) => return stream.seems_open(),
            // Each carries one exchange: none is kept.
            Stream::Multiplexed(_) => return false,
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the kernel.
    pub fn is_open(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            // What is for the session alone is taken out first.
            Stream::Secure(stream) if stream.seems_open() => {
                stream.look(|socket, _| SockRef::from(socket).peek(&mut byte))
            }
            Stream::Secure(_) | Stream::Multiplexed(_) => return false,
        };
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the other end has closed it, asked of the kernel. Bytes that wait do not hide that there is no end yet.
    pub fn has_ended(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            Stream::Secure(stream) => stream.look(|socket, _| SockRef::from(socket).peek(&mut byte)),
            Stream::Multiplexed(_) => return false,
        };
        match peeked {
            Ok(n) => n == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Takes it out of this thread's runtime.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Stream::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Detached::Unix(stream.into_std()?),
            // A session stays where its handshake was, and a stream with its connection.
            Stream::Secure(_) | Stream::Multiplexed(_) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        })
    }

    /// The certificate that the other end has shown, as DER.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let Stream::Secure(session) = self else { return None };
        session.look(|_, session| Some(session.peer_certificates()?.first()?.to_vec()))
    }

    /// The other end's address and our own. `None`: they have none.
    pub fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let of = |socket: &TcpStream| Some((socket.peer_addr().ok()?, socket.local_addr().ok()?));
        match self {
            Stream::Tcp(socket) => of(socket),
            Stream::Unix(_) => None,
            Stream::Secure(session) => session.look(|socket, _| of(socket)),
            Stream::Multiplexed(stream) => stream.ends(),
        }
    }

    /// Whether others on the way can neither read nor change it.
    pub fn is_secure(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Secure(_) => true,
            Stream::Multiplexed(stream) => stream.is_secure(),
        }
    }

    /// The protocol that both ends have agreed on in the handshake of TLS (RFC 7301).
    pub fn agreed_protocol(&self) -> Option<Vec<u8>> {
        let Stream::Secure(session) = self else { return None };
        session.look(|_, session| session.alpn_protocol().map(<[u8]>::to_vec))
    }

    /// Whether a stream of HTTP/2 has been given up by the other end.
    pub fn is_reset(&self) -> bool {
        matches!(self, Stream::Multiplexed(stream) if stream.is_reset())
    }

    /// Nothing came in time since then. If nothing has come on the whole connection that carries the stream, it takes no further one.
    pub fn suspect(&self, since: Instant) {
        if let Stream::Multiplexed(stream) = self {
            stream.suspect(since);
        }
    }

    /// From now on bytes are bytes: what follows a change of protocol. They always are, but on a stream of HTTP/2.
    pub fn become_raw(&self) {
        if let Stream::Multiplexed(stream) = self {
            stream.become_raw();
        }
    }

    /// Says the last word of a session that has come to its proper end, for as long as `patience`. Others have none.
    pub async fn say_goodbye(&mut self, patience: Duration) {
        if let Stream::Secure(session) = self
            && session.is_sound()
        {
            // What becomes of it is the other side's matter.
            let _ = tokio::time::timeout(patience, session.shutdown()).await;
        }
    }

    /// Both directions, for two that work side by side.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Stream::Tcp(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
            Stream::Secure(stream) => (ReadHalf::Secure(stream), WriteHalf::Secure(stream)),
            Stream::Multiplexed(stream) => (ReadHalf::Multiplexed(stream), WriteHalf::Multiplexed(stream)),
        }
    }
}

/// A stream on its way from one thread's runtime to another's.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Has this thread's runtime watch it.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Detached::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Detached::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// What comes in.
#[derive(Debug)]
pub enum ReadHalf<'a> {
    /// By TCP.
    Tcp(tcp::ReadHalf<'a>),
    /// By a Unix socket.
    Unix(unix::ReadHalf<'a>),
    /// By TLS.
    Secure(&'a Secure),
    /// By HTTP/2.
    Multiplexed(&'a http2::Stream),
}

impl ReadHalf<'_> {
    /// Ready when a read may bring something, the end included.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ReadHalf::Tcp(half) => AsRef::<TcpStream>::as_ref(half).poll_read_ready(cx),
            ReadHalf::Unix(half) => AsRef::<UnixStream>::as_ref(half).poll_read_ready(cx),
            ReadHalf::Secure(half) => half.poll_read_ready(cx),
            ReadHalf::Multiplexed(half) => half.poll_read_ready(cx),
        }
    }

    /// The bare socket, if the bytes on it are the bytes that are meant: what passes there may pass unseen.
    pub fn bare(&self) -> Option<&TcpStream> {
        match self {
            ReadHalf::Tcp(half) => Some(half.as_ref()),
            ReadHalf::Unix(_) | ReadHalf::Secure(_) | ReadHalf::Multiplexed(_) => None,
        }
    }
}

/// What goes out.
#[derive(Debug)]
pub enum WriteHalf<'a> {
    /// By TCP.
    Tcp(tcp::WriteHalf<'a>),
    /// By a Unix socket.
    Unix(unix::WriteHalf<'a>),
    /// By TLS.
    Secure(&'a Secure),
    /// By HTTP/2.
    Multiplexed(&'a http2::Stream),
}

impl WriteHalf<'_> {
    /// As [`ReadHalf::bare`].
    pub fn bare(&self) -> Option<&TcpStream> {
        match self {
            WriteHalf::Tcp(half) => Some(half.as_ref()),
            WriteHalf::Unix(_) | WriteHalf::Secure(_) | WriteHalf::Multiplexed(_) => None,
        }
    }

    /// Whether closing the stream from now on tells the other end that something went wrong.
    ///
    /// # Errors
    /// The carrier has no way to say so: a Unix socket has none.
    pub fn close_means_reset(&self, so: bool) -> io::Result<()> {
        match self {
            WriteHalf::Tcp(half) => {
                let socket: &TcpStream = half.as_ref();
                SockRef::from(socket).set_linger(so.then_some(Duration::ZERO))
            }
            WriteHalf::Unix(_) if so => Err(io::ErrorKind::Unsupported.into()),
            // A stream of HTTP/2 that was not ended is reset.
            WriteHalf::Unix(_) | WriteHalf::Multiplexed(_) => Ok(()),
            WriteHalf::Secure(half) => {
                half.close_means_reset(so);
                half.look(|socket, _| SockRef::from(socket).set_linger(so.then_some(Duration::ZERO)))
            }
        }
    }
}

macro_rules! read_whichever {
    ($name:ident $(<$life:lifetime>)?) => {
        impl AsyncRead for $name$(<$life>)? {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                whichever!($name: self.get_mut(), it => Pin::new(it).poll_read(cx, into))
            }
        }
    };
}

macro_rules! write_whichever {
    ($name:ident $(<$life:lifetime>)?) => {
        impl AsyncWrite for $name$(<$life>)? {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                whichever!($name: self.get_mut(), it => Pin::new(it).poll_write(cx, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                whichever!($name: self.get_mut(), it => Pin::new(it).poll_write_vectored(cx, parts))
            }

            fn is_write_vectored(&self) -> bool {
                whichever!($name: self, it => it.is_write_vectored())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                whichever!($name: self.get_mut(), it => Pin::new(it).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                whichever!($name: self.get_mut(), it => Pin::new(it).poll_shutdown(cx))
            }
        }
    };
}

read_whichever!(Stream);
write_whichever!(Stream);
read_whichever!(ReadHalf<'_>);
write_whichever!(WriteHalf<'_>);
