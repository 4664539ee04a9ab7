//! The accepting thread: takes connections from the listeners and hands each to the least busy worker.
//!
//! Owns the listening sockets. One thread accepts for all workers: distribution by the kernel (`SO_REUSEPORT`) leaves
//! workers idle when connections are few and long. Never reads from a connection.

use std::{
    io,
    net::{self, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::{Admission, ListenerPolicy, Phase, admission::Permit};
use crate::{limits::LISTEN_BACKLOG, tally::Rejected};

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens, with the port that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    socket: net::TcpListener,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// The end of a worker that the accepting thread holds.
#[derive(Clone, Debug)]
pub struct Door {
    pub(super) queue: mpsc::Sender<Accepted>,
    /// Connections that the worker has.
    pub(super) load: Arc<AtomicUsize>,
}

/// The accepting thread.
#[derive(Debug)]
pub struct Acceptor {
    thread: JoinHandle<()>,
}

impl Listener {
    /// Binds, so that the address is known and refused connections are over, before anything else starts.
    ///
    /// # Errors
    /// As the kernel has them: the address is in use, not ours, or not allowed.
    pub fn bind(policy: &ListenerPolicy) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(policy.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Inherited by what is accepted, which saves a system call for each connection.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&policy.address.into())?;
        socket.listen(LISTEN_BACKLOG as i32)?;
        let socket = net::TcpListener::from(socket);
        Ok(Listener { name: policy.name.clone(), address: socket.local_addr()?, socket })
    }
}

impl Acceptor {
    /// Starts the thread. It accepts once `proven` says that every backend has been looked at, until
    /// [`Phase::Draining`]; connections that come earlier wait in the kernel.
    ///
    /// # Errors
    /// No thread or no runtime can be had.
    pub fn start(
        listeners: Vec<Listener>,
        doors: Vec<Door>,
        admission: Arc<Admission>,
        proven: watch::Receiver<bool>,
        phase: watch::Receiver<Phase>,
    ) -> io::Result<Acceptor> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("ringway-accept".into()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for (index, listener) in listeners.into_iter().enumerate() {
                    let door = Distribution { index, doors: doors.clone(), admission: admission.clone() };
                    tasks.spawn(accept(listener, door, proven.clone(), phase.clone()));
                }
                drop(doors);
                while tasks.join_next().await.is_some() {}
            });
        })?;
        Ok(Acceptor { thread })
    }

    /// Waits for its end, which comes with the phase.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the accepting thread panicked");
        }
    }
}

async fn accept(
    listener: Listener,
    distribution: Distribution,
    mut proven: watch::Receiver<bool>,
    mut phase: watch::Receiver<Phase>,
) {
    let Listener { name, address, socket } = listener;
    tokio::select! {
        biased;
        () = Phase::Draining.reached(&mut phase) => return,
        is_proven = until(&mut proven) => if !is_proven { return },
    }
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = name, %error, "a listener can't be watched"),
    };
    tracing::info!(listener = name, %address, "accepting");
    loop {
        tokio::select! {
            biased;
            () = Phase::Draining.reached(&mut phase) => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => distribution.hand_over(stream, peer),
                Err(error) => pause_after(&name, &error).await,
            }
        }
    }
    // Those whose handshake is complete believe that they are connected: they are served before the door closes.
    while let Some(Ok((stream, peer))) = at_once(socket.accept()).await {
        distribution.hand_over(stream, peer);
    }
    tracing::info!(listener = name, "accepting no more");
}

/// The future's result, if it is there without waiting.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(out) => Poll::Ready(Some(out)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Waits until it is so. `false`: it never will be.
async fn until(fact: &mut watch::Receiver<bool>) -> bool {
    fact.wait_for(|is_so| *is_so).await.is_ok()
}

/// An error of the connection concerns nobody else; one of ours (no descriptors, no memory) needs time to pass.
async fn pause_after(name: &str, error: &io::Error) {
    let of_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !of_connection {
        tracing::error!(listener = name, %error, "can't accept; trying again in 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where one listener's connections go.
struct Distribution {
    index: usize,
    doors: Vec<Door>,
    admission: Arc<Admission>,
}

impl Distribution {
    fn hand_over(&self, stream: TcpStream, peer: SocketAddr) {
        let least = self.doors.iter().min_by_key(|door| door.load.load(Relaxed));
        let door = least.expect("there is at least one worker");
        let Ok(permit) = self.admission.admit(self.index, peer.ip(), &door.load) else {
            return;
        };
        // Out of this thread's runtime, into that of the worker.
        let Ok(stream) = stream.into_std() else { return };
        if door.queue.try_send(Accepted { stream, peer, permit }).is_err() {
            self.admission.reject(self.index, Rejected::Overload);
        }
    }
}
