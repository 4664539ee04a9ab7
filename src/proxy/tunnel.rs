//! What follows a change of protocol (RFC 9110 section 7.8), a WebSocket for example: bytes in both directions that nobody here reads.
//!
//! Owns passing them on and the reasons to stop: both sides have ended, one broke, neither said anything for too long, or the proxy
//! drains and the pool does not want to wait. A tunnel in which nothing moves holds no buffer.

use std::{
    cell::Cell,
    io,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::exchange::ClientEnd;
use crate::{
    io::{Buffer, BufferPool, ReadHalf, WriteHalf},
    limits::BUFFER_BYTES,
    upstream::Connection,
};

/// Bytes that have passed, by direction.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// From the client to the backend.
    pub(super) received: Cell<u64>,
    /// From the backend to the client.
    pub(super) sent: Cell<u64>,
}

/// Passes bytes until it is over. `is_cut_off` is asked each time that something happens; whoever changes its answer wakes the task.
pub(super) async fn pass(
    client: &mut ClientEnd,
    connection: &mut Connection,
    buffers: &BufferPool,
    idle: Duration,
    is_cut_off: impl Fn() -> bool,
    passed: &Passed,
) {
    let last = Cell::new(Instant::now());
    let (client_reader, client_writer) = client.stream.split();
    let (reader, writer) = connection.stream.split();
    let up = Way { reader: client_reader, input: &mut client.input, writer, buffers, last: &last };
    let down = Way { reader, input: &mut connection.input, writer: client_writer, buffers, last: &last };
    let mut up = pin!(up.run(&passed.received));
    let mut down = pin!(down.run(&passed.sent));
    let (mut up_over, mut down_over) = (false, false);
    let timer = &mut client.timer;
    std::future::poll_fn(|cx| {
        // What a side said before it broke has been passed on: a broken side is over, and so is the other.
        if !up_over && let Poll::Ready(ended) = up.as_mut().poll(cx) {
            (up_over, down_over) = (true, down_over || ended.is_err());
        }
        if !down_over && let Poll::Ready(ended) = down.as_mut().poll(cx) {
            (down_over, up_over) = (true, up_over || ended.is_err());
        }
        if up_over && down_over || is_cut_off() {
            return Poll::Ready(());
        }
        timer.poll(cx, last.get() + idle)
    })
    .await;
}

/// One direction.
struct Way<'a> {
    reader: ReadHalf<'a>,
    input: &'a mut Buffer,
    writer: WriteHalf<'a>,
    buffers: &'a BufferPool,
    /// When bytes moved last, in either direction.
    last: &'a Cell<Instant>,
}

impl Way<'_> {
    /// Ends when the side that sends has ended, which the other side is told.
    async fn run(mut self, passed: &Cell<u64>) -> io::Result<()> {
        loop {
            while !self.input.is_empty() {
                let taken = self.write().await?;
                self.input.consume(taken);
                passed.set(passed.get() + taken as u64);
                self.last.set(Instant::now());
            }
            self.writer.flush().await?;
            self.buffers.take_back(self.input);
            std::future::poll_fn(|cx| self.reader.poll_read_ready(cx)).await?;
            self.buffers.lend(self.input);
            let read = std::future::poll_fn(|cx| self.input.poll_fill(&mut self.reader, cx, BUFFER_BYTES));
            if read.await? == 0 {
                return self.writer.shutdown().await;
            }
        }
    }

    async fn write(&mut self) -> io::Result<usize> {
        let (writer, bytes) = (&mut self.writer, self.input.filled());
        match std::future::poll_fn(|cx| std::pin::Pin::new(&mut *writer).poll_write(cx, bytes)).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            taken => Ok(taken),
        }
    }
}
