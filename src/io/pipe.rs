//! Bytes that pass from one socket to another without coming here: splice(2), through a pipe in between.
//!
//! Owns the pipes of a worker: how many there are, and that one with bytes in it is never used for another body. The kernel moves
//! references to pages; what a pipe holds at most is kernel memory, bounded by their number and size.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::limits::{PIPE_BYTES, PIPES};

/// A pipe, lent for one body.
#[derive(Debug)]
pub struct Pipe {
    way_in: OwnedFd,
    way_out: OwnedFd,
    held: usize,
    /// How many there are.
    open: Rc<Cell<usize>>,
}

impl Pipe {
    fn new(open: Rc<Cell<usize>>) -> io::Result<Pipe> {
        let (way_out, way_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The usual size does, too: a process without privileges may not get more.
        let _ = fcntl_setpipe_size(&way_in, PIPE_BYTES);
        open.set(open.get() + 1);
        Ok(Pipe { way_in, way_out, held: 0, open })
    }

    /// Takes up to `most` bytes out of the socket into the pipe, which must be empty. 0 is the end of the stream.
    pub fn poll_take(
        &mut self,
        from: &TcpStream,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "a full pipe could not be told from an empty socket");
        let moved = ready!(poll_moved(from, Interest::READABLE, cx, || {
            splice(from.as_fd(), None, &self.way_in, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
        }))?;
        self.held = moved;
        Poll::Ready(Ok(moved))
    }

    /// Gives bytes from the pipe to the socket. Ready with what is left.
    pub fn poll_give(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let moved = ready!(poll_moved(to, Interest::WRITABLE, cx, || {
            splice(
                &self.way_out,
                None,
                to.as_fd(),
                None,
                self.held,
                SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
            )
        }))?;
        self.held -= moved;
        Poll::Ready(Ok(self.held))
    }

    /// Whether bytes wait in it.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

fn poll_moved(
    socket: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
    mut act: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let is_ready = match interest {
            Interest::READABLE => socket.poll_read_ready(cx),
            _ => socket.poll_write_ready(cx),
        };
        ready!(is_ready)?;
        match socket.try_io(interest, || Ok(act()?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            moved => return Poll::Ready(moved),
        }
    }
}

/// A worker's pipes. Not shared between threads.
#[derive(Debug, Default)]
pub struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    open: Rc<Cell<usize>>,
    /// The fewest that were spare since the last sweep: nobody needed those.
    unneeded: Cell<usize>,
}

impl Pipes {
    /// A pipe, if there is one to be had. Without one, bodies are copied.
    pub fn take(&self) -> Option<Pipe> {
        let mut spare = self.spare.borrow_mut();
        if let Some(pipe) = spare.pop() {
            self.unneeded.set(self.unneeded.get().min(spare.len()));
            return Some(pipe);
        }
        if self.open.get() >= PIPES {
            return None;
        }
        Pipe::new(self.open.clone()).ok()
    }

    /// Takes it back. One with bytes in it is closed, and the bytes with it.
    pub fn give_back(&self, pipe: Pipe) {
        if pipe.is_empty() {
            self.spare.borrow_mut().push(pipe);
        }
    }

    /// Closes those that were not needed since the last time.
    pub fn sweep(&self) {
        let mut spare = self.spare.borrow_mut();
        let unneeded = self.unneeded.get().min(spare.len());
        spare.drain(..unneeded);
        self.unneeded.set(spare.len());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (here, there) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (here.unwrap(), there.unwrap().0)
    }

    #[test]
    fn bytes_pass_in_order_and_pipes_are_bounded_and_used_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((mut source, here), (there, mut sink)) = (pair().await, pair().await);
            let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
            let expected = sent.clone();
            let pipes = Pipes::default();
            let mut pipe = pipes.take().unwrap();
            let write = async move {
                source.write_all(&sent).await.unwrap();
                drop(source);
            };
            let pass = async {
                let take = async |pipe: &mut Pipe| {
                    std::future::poll_fn(|cx| pipe.poll_take(&here, cx, PIPE_BYTES)).await.unwrap()
                };
                while take(&mut pipe).await > 0 {
                    while std::future::poll_fn(|cx| pipe.poll_give(&there, cx)).await.unwrap() > 0 {}
                }
                drop(there);
            };
            let read = async {
                let mut got = Vec::new();
                sink.read_to_end(&mut got).await.unwrap();
                got
            };
            let ((), (), got) = tokio::join!(write, pass, read);
            assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
            pipes.give_back(pipe);
            let lent: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
            assert_eq!(lent.len(), PIPES);
            lent.into_iter().for_each(|pipe| pipes.give_back(pipe));
            // Those that nobody took between two sweeps go.
            pipes.sweep();
            let used = [pipes.take().unwrap(), pipes.take().unwrap()];
            used.into_iter().for_each(|pipe| pipes.give_back(pipe));
            pipes.sweep();
            assert_eq!((pipes.open.get(), pipes.spare.borrow().len()), (2, 2));
        });
    }
}
