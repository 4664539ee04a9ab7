//! The read buffer of a connection, and the spare ones that a worker keeps.
//!
//! Owns capacity: a buffer grows only when its user says so, up to a bound that its user gives.

use std::{
    cell::RefCell,
    io,
    pin::pin,
    task::{Context, Poll},
};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{BUFFER_BYTES, SPARE_BUFFERS};

/// Bytes that were read and not used yet. An empty one that never read anything holds no memory.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// The bytes that wait to be used.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Takes the first `n` waiting bytes as used.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.filled().len(), "more consumed than was read");
        self.start += n;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Whether a read has no room left within `bound` bytes of waiting data.
    pub fn is_full(&self, bound: usize) -> bool {
        self.filled().len() >= bound
    }

    /// Makes room for at least one byte, for `bound` in all, and reads once. 0 is the end of the stream.
    ///
    /// The caller sees to it that the buffer is not full for this bound.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
        bound: usize,
    ) -> Poll<io::Result<usize>> {
        let room = self.make_room(bound);
        debug_assert!(room > 0, "a full buffer can't be filled");
        let mut limited = (&mut self.bytes).limit(room);
        // `read_buf` holds nothing between polls, so one made for each poll loses nothing.
        pin!(from.read_buf(&mut limited)).poll(cx)
    }

    /// Moves waiting bytes to the front if the end is reached, grows towards `bound`, and tells the room that is there.
    fn make_room(&mut self, bound: usize) -> usize {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(bound.min(BUFFER_BYTES));
        }
        if self.bytes.len() == self.bytes.capacity() && self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() == self.bytes.capacity() && self.bytes.len() < bound {
            let target = (self.bytes.capacity() * 2).min(bound);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.capacity() - self.bytes.len()
    }

    /// Grows to at least `capacity` bytes, for a body that is known to be long.
    pub fn grow(&mut self, capacity: usize) {
        if self.bytes.capacity() < capacity {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}

/// A worker's spare buffers. Not shared between threads.
#[derive(Debug, Default)]
pub struct BufferPool {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Gives memory to a buffer that has none.
    pub fn lend(&self, buffer: &mut Buffer) {
        if buffer.bytes.capacity() == 0
            && let Some(bytes) = self.spare.borrow_mut().pop()
        {
            buffer.bytes = bytes;
        }
    }

    /// Takes an empty buffer's memory back. A buffer with waiting bytes keeps it.
    pub fn take_back(&self, buffer: &mut Buffer) {
        if !buffer.is_empty() || buffer.bytes.capacity() == 0 {
            return;
        }
        let bytes = std::mem::take(&mut buffer.bytes);
        buffer.start = 0;
        self.recycle(bytes);
    }

    /// A spare vector to build output in.
    pub fn output(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a vector back for later, if it has the usual size.
    pub fn recycle(&self, mut bytes: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if bytes.capacity() == BUFFER_BYTES && spare.len() < SPARE_BUFFERS {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fill(buffer: &mut Buffer, mut from: &[u8], bound: usize) -> usize {
        std::future::poll_fn(|cx| buffer.poll_fill(&mut from, cx, bound)).await.unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn keeps_order_over_consume_and_growth() {
        run(async {
            let mut buffer = Buffer::default();
            assert_eq!(fill(&mut buffer, b"hello", 8).await, 5);
            buffer.consume(3);
            assert_eq!(fill(&mut buffer, b"abcdefgh", 8).await, 3);
            assert_eq!(buffer.filled(), b"loabc");
            assert_eq!(fill(&mut buffer, b"xyz1234", 8).await, 3);
            assert_eq!(buffer.filled(), b"loabcxyz");
            assert!(buffer.is_full(8));
            assert_eq!(fill(&mut buffer, b"12345678", 16).await, 8);
            assert_eq!(buffer.filled(), b"loabcxyz12345678");
        });
    }

    #[test]
    fn memory_goes_back_only_when_nothing_waits() {
        run(async {
            let pool = BufferPool::default();
            let mut buffer = Buffer::default();
            fill(&mut buffer, b"hello", BUFFER_BYTES).await;
            pool.take_back(&mut buffer);
            assert_eq!(buffer.filled(), b"hello");
            buffer.consume(5);
            pool.take_back(&mut buffer);
            assert_eq!(buffer.bytes.capacity(), 0);
            assert_eq!(pool.spare.borrow().len(), 1);
        });
    }
}
