//! What follows a change of protocol (RFC 9110 section 7.8), a WebSocket for example: bytes in both directions that nobody here reads.
//!
//! Owns passing them on and the reasons to stop: both sides have ended, one broke, neither said anything for too long, or the proxy
//! drains and the pool does not want to wait. A tunnel in which nothing moves holds no buffer, and none holds the picture that its request
//! came by.

use std::{
    cell::Cell,
    io,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{attempt::Attempt, client_end::ClientEnd, leaving::Leaving, record::Record};
use crate::{
    fleet::Backend,
    io::{Buffer, BufferPool, ReadHalf, WriteHalf},
    limits::BUFFER_BYTES,
    tally::{BackendCells, Closed},
    upstream::Connection,
};

/// Bytes that have passed, by direction.
#[derive(Debug, Default)]
struct Passed {
    /// From the client to the backend.
    received: Cell<u64>,
    /// From the backend to the client.
    sent: Cell<u64>,
}

/// The reasons of the proxy's own to end a tunnel.
pub(super) trait Ends {
    /// Whether it is to end now. Asked each time that something happens; whoever changes the answer wakes the task, or is asked again in
    /// time.
    fn is_due(&self, now: Instant) -> bool;

    /// When it must be asked again at the latest.
    fn next_look(&self, now: Instant) -> Option<Instant>;
}

/// A connection to a backend that has changed its protocol, with all that it needs from then on.
#[derive(Debug)]
pub(super) struct Open {
    connection: Connection,
    backend: Arc<Backend>,
    idle: Duration,
    leaving: Leaving,
}

impl Open {
    /// The connection of this attempt.
    pub(super) fn new(attempt: &Attempt<'_>, connection: Connection) -> Open {
        let Attempt { gateway, plan, member, .. } = attempt;
        let backend = member.backend.clone();
        let leaving = Leaving::new(gateway, plan, (attempt.pool.id, backend.id), attempt.place);
        Open { connection, backend, idle: plan.forward.upgraded_idle_timeout, leaving }
    }

    /// Lets the other protocol run to its end.
    pub(super) async fn run(self: Box<Self>, client: &mut ClientEnd, record: &mut Record<'_>) {
        let Open { mut connection, backend, idle, leaving } = *self;
        let gateway = record.gateway;
        let _open = Upgraded::begin(backend.cells(gateway.worker));
        client.stream.become_raw();
        let noted = Noted { record, passed: Passed::default() };
        let (buffers, ends) = (&gateway.buffers, (gateway, &leaving));
        // On the heap while it lasts: what does not come to this does not carry room for it.
        Box::pin(pass(client, &mut connection, buffers, idle, &ends, &noted.passed)).await;
        buffers.take_back(&mut connection.input);
        gateway.upstreams.close(&backend, connection, Closed::Upgraded);
    }
}

/// Notes down what has passed, also if the task is thrown away in the middle, as happens to what outlives a drain.
struct Noted<'r, 'a> {
    record: &'r mut Record<'a>,
    passed: Passed,
}

impl Drop for Noted<'_, '_> {
    fn drop(&mut self) {
        self.record.received += self.passed.received.get();
        self.record.sent += self.passed.sent.get();
    }
}

/// Counts a connection that has changed its protocol while it lasts.
struct Upgraded<'a>(&'a BackendCells);

impl<'a> Upgraded<'a> {
    fn begin(cells: &'a BackendCells) -> Upgraded<'a> {
        cells.upgrades.bump();
        Upgraded(cells)
    }
}

impl Drop for Upgraded<'_> {
    fn drop(&mut self) {
        self.0.upgrades_ended.bump();
    }
}

/// Passes bytes until it is over.
async fn pass(
    client: &mut ClientEnd,
    connection: &mut Connection,
    buffers: &BufferPool,
    idle: Duration,
    ends: &impl Ends,
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
        // A side that can't be read any more is gone, and with it both ways. One that takes nothing any more may still have something to
        // say: the other way goes on to its end.
        if !up_over && let Poll::Ready(end) = up.as_mut().poll(cx) {
            (up_over, down_over) = (true, down_over || end == End::Gone);
        }
        if !down_over && let Poll::Ready(end) = down.as_mut().poll(cx) {
            (down_over, up_over) = (true, up_over || end == End::Gone);
        }
        loop {
            let now = Instant::now();
            let silent = last.get() + idle;
            if up_over && down_over || silent <= now || ends.is_due(now) {
                return Poll::Ready(());
            }
            let look = ends.next_look(now).map_or(silent, |look| look.min(silent));
            ready!(timer.poll(cx, look));
        }
    })
    .await;
}

/// How one direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The side that sends has said its last, and the other has been told.
    Said,
    /// The side that receives takes nothing any more.
    Closed,
    /// The side that sends broke off.
    Gone,
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
    async fn run(mut self, passed: &Cell<u64>) -> End {
        loop {
            while !self.input.is_empty() {
                let Ok(taken) = self.write().await else { return End::Closed };
                self.input.consume(taken);
                passed.set(passed.get() + taken as u64);
                self.last.set(Instant::now());
            }
            if self.writer.flush().await.is_err() {
                return End::Closed;
            }
            self.buffers.take_back(self.input);
            // What an error means, the read below tells.
            let _ = std::future::poll_fn(|cx| self.reader.poll_read_ready(cx)).await;
            self.buffers.lend(self.input);
            let read = std::future::poll_fn(|cx| self.input.poll_fill(&mut self.reader, cx, BUFFER_BYTES));
            match read.await {
                Ok(0) if self.writer.shutdown().await.is_ok() => return End::Said,
                Ok(0) => return End::Closed,
                Ok(_) => {}
                Err(_) => {
                    // The other side must not take this for a proper end. A carrier that can't say so gives no choice.
                    let _ = self.writer.close_means_reset(true);
                    return End::Gone;
                }
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
