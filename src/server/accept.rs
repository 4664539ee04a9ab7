//! Accepting: each worker takes connections from its own share of the listeners, and passes one on where another worker has
//! fewer.
//!
//! Owns the order of accepting. Each worker has a socket of its own for each TCP listener (`SO_REUSEPORT`), so a connection costs no
//! second thread and no second registration. The kernel's choice of a worker is by chance, which leaves workers idle when
//! connections are few and long: what it gets wrong is put right here. Never reads from a connection.

use std::{
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    Admission, Listener, Phase,
    admission::Permit,
    listen::Door,
    worker::{House, admit},
};
use crate::{
    io::{Detached, Stream},
    limits::{HANDOVER_QUEUE, LISTEN_BACKLOG},
    tally::Rejected,
};

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Detached,
    pub(super) peer: IpAddr,
    pub(super) permit: Permit,
}

/// How connections get to another worker.
#[derive(Clone, Debug)]
struct Colleague {
    queue: mpsc::Sender<Accepted>,
    /// Connections that the worker has.
    load: Arc<AtomicUsize>,
}

/// A worker's way to its connections: its doors, and the way to all workers.
#[derive(Debug)]
pub struct Entrance {
    doors: Vec<(String, Door)>,
    pub(super) arrivals: mpsc::Receiver<Accepted>,
    reception: Reception,
}

#[derive(Clone, Debug)]
struct Reception {
    /// The worker's own number.
    worker: usize,
    colleagues: Vec<Colleague>,
    admission: Arc<Admission>,
    proven: watch::Receiver<bool>,
    phase: watch::Receiver<Phase>,
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
        let colleague = |_| {
            let (queue, arrivals) = mpsc::channel(HANDOVER_QUEUE);
            (Colleague { queue, load: Arc::default() }, arrivals)
        };
        let (colleagues, arrivals): (Vec<_>, Vec<_>) = (0..workers).map(colleague).unzip();
        let entrance = |(worker, arrivals)| Entrance {
            doors: Vec::new(),
            arrivals,
            reception: Reception {
                worker,
                colleagues: colleagues.clone(),
                admission: admission.clone(),
                proven: proven.clone(),
                phase: phase.clone(),
            },
        };
        let mut entrances: Vec<Entrance> = arrivals.into_iter().enumerate().map(entrance).collect();
        for Listener { name, doors, .. } in listeners {
            for (entrance, door) in entrances.iter_mut().zip(doors) {
                entrance.doors.push((name.clone(), door));
            }
        }
        entrances
    }

    /// Begins to accept, on the worker's thread. What comes from the other workers comes out of what is returned: when that is
    /// closed, no worker accepts any more. Beside it, the count of the worker's connections.
    pub(super) fn open(self, house: &Rc<House>) -> (mpsc::Receiver<Accepted>, Arc<AtomicUsize>) {
        let Entrance { doors, arrivals, reception } = self;
        let load = reception.colleagues[reception.worker].load.clone();
        for (index, (name, door)) in doors.into_iter().enumerate() {
            tokio::task::spawn_local(accept(index, name, door, reception.clone(), house.clone()));
        }
        (arrivals, load)
    }
}

async fn accept(index: usize, name: String, door: Door, mut reception: Reception, house: Rc<House>) {
    let mut phase = reception.phase.clone();
    tokio::select! {
        biased;
        () = Phase::Draining.reached(&mut phase) => return,
        // An error means that the sender is gone, and the process with it.
        proven = reception.proven.wait_for(|is_so| *is_so) => if proven.is_err() { return },
    }
    let door = match door.open() {
        Ok(door) => door,
        Err(error) => return tracing::error!(listener = name, %error, "a listener can't be watched"),
    };
    if reception.worker == 0 {
        tracing::info!(listener = name, "accepting");
    }
    loop {
        tokio::select! {
            biased;
            () = Phase::Draining.reached(&mut phase) => break,
            accepted = door.accept() => match accepted {
                Ok((stream, peer)) => reception.receive(index, stream, peer, &house),
                Err(error) => pause_after(&name, &error).await,
            }
        }
    }
    // Those whose handshake is complete believe that they are connected: they are served before the door closes.
    if let Ok(door) = door.close() {
        for _ in 0..LISTEN_BACKLOG {
            match door.accept() {
                Ok((stream, peer)) => {
                    if let Ok(stream) = stream.attach() {
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
    fn receive(&self, listener: usize, stream: Stream, peer: IpAddr, house: &Rc<House>) {
        let number = self.choose();
        let colleague = &self.colleagues[number];
        // Those on this machine, and those behind a balancer, all have one address: a bound on it would bound them all together.
        let is_own = matches!(stream, Stream::Tcp(_)) && !house.begins_with_preface(listener, peer);
        let address = is_own.then_some(peer);
        let Ok(permit) = self.admission.admit(listener, address, &colleague.load) else {
            return;
        };
        if number == self.worker {
            return admit(house, stream, peer, permit);
        }
        // Out of this worker's runtime, into that of the other.
        let Ok(stream) = stream.detach() else { return };
        if colleague.queue.try_send(Accepted { stream, peer, permit }).is_err() {
            self.admission.reject(listener, Rejected::Overload);
        }
    }

    /// This worker, unless another has so many fewer connections that moving this one pays.
    fn choose(&self) -> usize {
        let own = self.colleagues[self.worker].load.load(Relaxed);
        if own == 0 {
            return self.worker;
        }
        let loads = self.colleagues.iter().map(|colleague| colleague.load.load(Relaxed));
        let (least, load) = loads.enumerate().min_by_key(|(_, load)| *load).unwrap_or((self.worker, own));
        if own > load + own / 8 { least } else { self.worker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::ListenerCells;

    fn chosen(worker: usize, loads: &[usize]) -> usize {
        let colleague =
            |&load: &usize| Colleague { queue: mpsc::channel(1).0, load: Arc::new(AtomicUsize::new(load)) };
        let reception = Reception {
            worker,
            colleagues: loads.iter().map(colleague).collect(),
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
}
