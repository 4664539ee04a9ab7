//! A stream of HTTP/2 in the clothes of a connection.
//!
//! Owns nothing: it translates between the traits that bytes pass through and [`crate::http2::Stream`], which knows no runtime.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::Stream;

macro_rules! both_ways {
    ($($of:ty),*) => { $(
        impl AsyncRead for $of {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let room = into.remaining();
                Stream::poll_read(&self, cx, room, &mut |bytes| into.put_slice(bytes)).map_ok(|_| ())
            }
        }

        impl AsyncWrite for $of {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Stream::poll_write(&self, cx, bytes)
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                // What was taken leaves with the connection, whoever waits for what.
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.shut_down();
                Poll::Ready(Ok(()))
            }
        }
    )* };
}

both_ways!(Stream, &Stream);
