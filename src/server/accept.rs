//! Accepting: each worker takes connections from its own share of the listeners, and passes one on where another worker has
//! fewer.
//!
//! Owns the listening sockets. Each worker has one of its own for each listener (`SO_REUSEPORT`), so a connection costs no
//! second thread and no second registration. The kernel's choice of a worker is by chance, which leaves workers idle when
//! connections are few and long: what it gets wrong is put right here. Never reads from a connection.

use std::{
    io,
    net::{self, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use super::{
    Admission, ListenerPolicy, Phase,
    admission::Permit,
    worker::{House, admit},
};
use crate::{
    limits::{HANDOVER_QUEUE, LISTEN_BACKLOG},
    tally::Rejected,
};

/// A bound address that nobody accepts from yet.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens, with the port that the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    /// One for each worker.
    sockets: Vec<net::TcpListener>,
}

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// How connections get to a worker.
#[derive(Clone, Debug)]
struct Door {
    queue: mpsc::Sender<Accepted>,
    /// Connections that the worker has.
    load: Arc<AtomicUsize>,
}

/// A worker's way to its connections: its sockets, and the doors of all workers.
#[derive(Debug)]
pub struct Entrance {
    listeners: Vec<(String, net::TcpListener)>,
    pub(super) arrivals: mpsc::Receiver<Accepted>,
    reception: Reception,
}

#[derive(Clone, Debug)]
struct Reception {
    /// The worker's own number.
    worker: usize,
    doors: Vec<Door>,
    admission: Arc<Admission>,
    proven: watch::Receiver<bool>,
    phase: watch::Receiver<Phase>,
}

impl Listener {
    /// Binds, so that the address is known and refused connections are over, before anything else starts.
    ///
    /// # Errors
    /// As the kernel has them: the address is in use, not ours, or not allowed.
    pub fn bind(policy: &ListenerPolicy, workers: usize) -> io::Result<Listener> {
        // Bound without `SO_REUSEPORT`: with it, another program of the same user could have the address already.
        let first = socket(policy.address)?;
        first.bind(&policy.address.into())?;
        let address = first.local_addr()?.as_socket().unwrap_or(policy.address);
        let mut sockets = vec![first];
        if workers > 1 {
            sockets[0].set_reuse_port(true)?;
        }
        for _ in 1..workers {
            let further = socket(address)?;
            further.set_reuse_port(true)?;
            further.bind(&address.into())?;
            sockets.push(further);
        }
        for socket in &sockets {
            socket.listen(LISTEN_BACKLOG as i32)?;
        }
        let sockets = sockets.into_iter().map(net::TcpListener::from).collect();
        Ok(Listener { name: policy.name.clone(), address, sockets })
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by what is accepted, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

impl Entrance {
    /// One for each worker. They accept once `proven` says that every backend has been looked at, until
    /// [`Phase::Draining`]; connections that come earlier wait in the kernel.
    pub fn for_workers(
        workers: usize,
        listeners: Vec<Listener>,
        admission: &Arc<Admission>,
        proven: &watch::Receiver<bool>,
        phase: &watch::Receiver<Phase>,
    ) -> Vec<Entrance> {
        let door = |_| {
            let (queue, arrivals) = mpsc::channel(HANDOVER_QUEUE);
            (Door { queue, load: Arc::default() }, arrivals)
        };
        let (doors, arrivals): (Vec<_>, Vec<_>) = (0..workers).map(door).unzip();
        let entrance = |(worker, arrivals)| Entrance {
            listeners: Vec::new(),
            arrivals,
            reception: Reception {
                worker,
                doors: doors.clone(),
                admission: admission.clone(),
                proven: proven.clone(),
                phase: phase.clone(),
            },
        };
        let mut entrances: Vec<Entrance> = arrivals.into_iter().enumerate().map(entrance).collect();
        for Listener { name, sockets, .. } in listeners {
            for (entrance, socket) in entrances.iter_mut().zip(sockets) {
                entrance.listeners.push((name.clone(), socket));
            }
        }
        entrances
    }

    /// Begins to accept, on the worker's thread. What comes from the other workers comes out of what is returned: when that is
    /// closed, no worker accepts any more. Beside it, the count of the worker's connections.
    pub(super) fn open(self, house: &Rc<House>) -> (mpsc::Receiver<Accepted>, Arc<AtomicUsize>) {
        let Entrance { listeners, arrivals, reception } = self;
        let load = reception.doors[reception.worker].load.clone();
        for (index, (name, socket)) in listeners.into_iter().enumerate() {
            tokio::task::spawn_local(accept(index, name, socket, reception.clone(), house.clone()));
        }
        (arrivals, load)
    }
}

async fn accept(
    index: usize,
    name: String,
    socket: net::TcpListener,
    mut reception: Reception,
    house: Rc<House>,
) {
    let mut phase = reception.phase.clone();
    tokio::select! {
        biased;
        () = Phase::Draining.reached(&mut phase) => return,
        // An error means that the sender is gone, and the process with it.
        proven = reception.proven.wait_for(|is_so| *is_so) => if proven.is_err() { return },
    }
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = name, %error, "a listener can't be watched"),
    };
    if reception.worker == 0 {
        tracing::info!(listener = name, "accepting");
    }
    loop {
        tokio::select! {
            biased;
            () = Phase::Draining.reached(&mut phase) => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => reception.receive(index, stream, peer, &house),
                Err(error) => pause_after(&name, &error).await,
            }
        }
    }
    // Those whose handshake is complete believe that they are connected: they are served before the door closes.
    if let Ok(socket) = socket.into_std() {
        for _ in 0..LISTEN_BACKLOG {
            match socket.accept() {
                Ok((stream, peer)) => {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        reception.receive(index, stream, peer, &house);
                    }
                }
                Err(error) if is_of_connection(&error) => {}
                Err(_) => break,
            }
        }
    }
    if reception.worker == 0 {
        tracing::info!(listener = name, "accepting no more");
    }
}

/// Whether an error concerns one connection and nobody else.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// An error of ours (no descriptors, no memory) needs time to pass.
async fn pause_after(name: &str, error: &io::Error) {
    if !is_of_connection(error) {
        tracing::error!(listener = name, %error, "can't accept; trying again in 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Reception {
    fn receive(&self, listener: usize, stream: TcpStream, peer: SocketAddr, house: &Rc<House>) {
        let number = self.choose();
        let door = &self.doors[number];
        let Ok(permit) = self.admission.admit(listener, peer.ip(), &door.load) else {
            return;
        };
        if number == self.worker {
            return admit(house, stream, peer, permit);
        }
        // Out of this worker's runtime, into that of the other.
        let Ok(stream) = stream.into_std() else { return };
        if door.queue.try_send(Accepted { stream, peer, permit }).is_err() {
            self.admission.reject(listener, Rejected::Overload);
        }
    }

    /// This worker, unless another has so many fewer connections that moving this one pays.
    fn choose(&self) -> usize {
        let own = self.doors[self.worker].load.load(Relaxed);
        if own == 0 {
            return self.worker;
        }
        let loads = self.doors.iter().map(|door| door.load.load(Relaxed));
        let (least, load) = loads.enumerate().min_by_key(|(_, load)| *load).unwrap_or((self.worker, own));
        if own > load + own / 8 { least } else { self.worker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::ListenerCells;

    fn chosen(worker: usize, loads: &[usize]) -> usize {
        let door = |&load: &usize| Door { queue: mpsc::channel(1).0, load: Arc::new(AtomicUsize::new(load)) };
        let reception = Reception {
            worker,
            doors: loads.iter().map(door).collect(),
            admission: Arc::new(Admission::new(9, None, Arc::new([ListenerCells::default()]))),
            proven: watch::channel(true).1,
            phase: watch::channel(Phase::Serving).1,
        };
        reception.choose()
    }

    #[test]
    fn few_connections_are_spread_evenly_and_many_nearly_so() {
        assert_eq!(chosen(0, &[0, 0, 0]), 0);
        assert_eq!(chosen(0, &[1, 0, 0]), 1);
        assert_eq!(chosen(1, &[1, 1, 0]), 2);
        assert_eq!(chosen(1, &[1, 1, 1]), 1);
        // Moving one costs more than an eighth of difference does.
        assert_eq!(chosen(0, &[1000, 900]), 0);
        assert_eq!(chosen(0, &[1000, 800]), 1);
    }

    #[test]
    fn an_address_in_use_is_seen_and_all_workers_share_one() {
        let policy = ListenerPolicy { name: "a".into(), address: "127.0.0.1:0".parse().unwrap() };
        let first = Listener::bind(&policy, 3).unwrap();
        let same = ListenerPolicy { address: first.address, ..policy };
        let error = Listener::bind(&same, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        for socket in &first.sockets {
            assert_eq!(socket.local_addr().unwrap(), first.address);
        }
    }
}
