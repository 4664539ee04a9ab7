//! A TLS stream whose two directions two can use side by side, in one task.
//!
//! Owns the session behind a cell: whoever reads may have to write (RFC 8446 section 4.6.3) and the other way round. Decides nothing about
//! certificates: that is [`crate::tls`].

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// A connection's TLS session on its socket, after the handshake.
#[derive(Debug)]
pub struct Secure {
    session: RefCell<TlsStream<TcpStream>>,
    /// It must not end as if all were well.
    is_broken: Cell<bool>,
}

impl Secure {
    /// The session.
    pub fn new(stream: impl Into<TlsStream<TcpStream>>) -> Secure {
        Secure { session: RefCell::new(stream.into()), is_broken: Cell::new(false) }
    }

    /// Ready when a read may bring something, the end included. Records that still wait to be sent go on their way meanwhile.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.session.borrow_mut();
        if stream.get_ref().1.wants_write()
            && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        let (socket, session) = stream.get_ref();
        // What was decrypted already, or the end of it, needs no byte from the socket.
        if !session.wants_read() { Poll::Ready(Ok(())) } else { socket.poll_read_ready(cx) }
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // An end without a last word (RFC 8446 section 6.1) may be an attacker's: it comes as an error.
        Pin::new(&mut *self.session.borrow_mut()).poll_read(cx, into)
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write(cx, bytes)
    }

    pub(super) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_write_vectored(cx, parts)
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_flush(cx)
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.session.borrow_mut()).poll_shutdown(cx)
    }

    /// Writes what is taken at once. What of it the socket does not take yet leaves with the next wait.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(taken) => taken,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether a quiet session shows no sign of an end, as far as the runtime has been told.
    pub(super) fn seems_open(&self) -> bool {
        let mut room = [0];
        let mut into = ReadBuf::new(&mut room);
        self.poll_read(&mut Context::from_waker(Waker::noop()), &mut into).is_pending()
    }

    /// Whether closing the stream from now on tells the other end that something went wrong: then there is no last word.
    pub(super) fn close_means_reset(&self, so: bool) {
        self.is_broken.set(so);
    }

    /// Whether the last word may be said.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_broken.get()
    }

    /// What looks at the session and its socket.
    pub fn look<T>(&self, at: impl FnOnce(&TcpStream, &tokio_rustls::rustls::CommonState) -> T) -> T {
        let stream = self.session.borrow();
        let (socket, session) = stream.get_ref();
        at(socket, session)
    }
}

/// For the whole, which its owner holds, and for its halves, which are references to it.
macro_rules! both_ways {
    ($($of:ty),*) => { $(
        impl AsyncRead for $of {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Secure::poll_read(&self, cx, into)
            }
        }

        impl AsyncWrite for $of {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Secure::poll_write(&self, cx, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Secure::poll_write_vectored(&self, cx, parts)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Secure::poll_flush(&self, cx)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Secure::poll_shutdown(&self, cx)
            }
        }
    )* };
}

both_ways!(Secure, &Secure);
