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
    Phase,
    admission::{Admission, Permit, reject},
    listen::Door,
    site::{Scene, Site},
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

/// A worker's way to its connections: the listeners that there are, and the way to all workers.
#[derive(Debug)]
pub struct Entrance {
    pub(super) arrivals: mpsc::Receiver<Accepted>,
    pub(super) scene: watch::Receiver<Arc<Scene>>,
    pub(super) reception: Reception,
}

#[derive(Clone, Debug)]
pub(super) struct Reception {
    /// The worker's own number.
    worker: usize,
    colleagues: Vec<Colleague>,
    admission: Arc<Admission>,
    opening: Vec<watch::Receiver<bool>>,
    phase: watch::Receiver<Phase>,
}

impl Entrance {
    /// One for each worker. They accept once all of `opening` have turned true, until [`Phase::Draining`]; connections that come earlier wait in
    /// the kernel.
    pub(super) fn for_workers(
        workers: usize,
        scene: &watch::Receiver<Arc<Scene>>,
        admission: &Arc<Admission>,
        opening: &[watch::Receiver<bool>],
        phase: &watch::Receiver<Phase>,
    ) -> Vec<Entrance> {
        let colleague = |_| {
            let (queue, arrivals) = mpsc::channel(HANDOVER_QUEUE);
            (Colleague { queue, load: Arc::default() }, arrivals)
        };
        let (colleagues, arrivals): (Vec<_>, Vec<_>) = (0..workers).map(colleague).unzip();
        let entrance = |(worker, arrivals)| Entrance {
            arrivals,
            scene: scene.clone(),
            reception: Reception {
                worker,
                colleagues: colleagues.clone(),
                admission: admission.clone(),
                opening: opening.to_vec(),
                phase: phase.clone(),
            },
        };
        arrivals.into_iter().enumerate().map(entrance).collect()
    }
}

impl Reception {
    /// The count of the worker's connections.
    pub(super) fn load(&self) -> Arc<AtomicUsize> {
        self.colleagues[self.worker].load.clone()
    }

    /// Begins to accept from a listener, on the worker's thread. What comes from other workers comes as arrivals: when they are
    /// closed, no worker accepts any more.
    pub(super) fn attend(&self, site: &Arc<Site>, house: &Rc<House>) {
        let doors = match site.doors_of(self.worker, self.colleagues.len()) {
            Ok(doors) => doors,
            Err(error) => {
                let listener = &site.doorway().policy.name;
                tracing::error!(listener, %error, "a worker can't accept from a listener; trying again in 100 ms");
                // Connections that the kernel gives to this worker wait until it can.
                let (again, site, house) = (self.clone(), site.clone(), house.clone());
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if !site.is_closed() {
                        again.attend(&site, &house);
                    }
                });
                return;
            }
        };
        for (number, door) in doors.into_iter().enumerate() {
            // One line for each listener.
            let tells = self.worker == 0 && number == 0;
            tokio::task::spawn_local(accept(site.clone(), door, self.clone(), house.clone(), tells));
        }
    }
}

async fn accept(site: Arc<Site>, door: Door, mut reception: Reception, house: Rc<House>, tells: bool) {
    let (mut phase, mut closed) = (reception.phase.clone(), site.watch_end());
    let mut end = std::pin::pin!(async move {
        // An error means that nobody can say so any more.
        tokio::select! {
            () = Phase::Draining.reached(&mut phase) => {}
            _ = closed.wait_for(|is_so| *is_so) => {}
        }
    });
    tokio::select! {
        biased;
        () = &mut end => return,
        is_open = opened(&mut reception.opening) => if !is_open { return },
    }
    let door = match door.open() {
        Ok(door) => door,
        Err(error) => {
            let listener = &site.doorway().policy.name;
            return tracing::error!(listener, %error, "a listener can't be watched");
        }
    };
    if tells {
        tracing::info!(listener = site.doorway().policy.name, "accepting");
    }
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            accepted = door.accept() => match accepted {
                Ok((stream, peer)) => reception.receive(&site, stream, peer, &house),
                Err(error) => pause_after(&site, &error).await,
            }
        }
    }
    // Those whose handshake is complete believe that they are connected: they are served before the door closes.
    if let Ok(door) = door.close() {
        for _ in 0..LISTEN_BACKLOG {
            match door.accept() {
                Ok((stream, peer)) => {
                    if let Ok(stream) = stream.attach() {
                        reception.receive(&site, stream, peer, &house);
                    }
                }
                Err(error) if is_of_connection(&error) => {}
                Err(_) => break,
            }
        }
    }
    if tells {
        tracing::info!(listener = site.doorway().policy.name, "accepting no more");
    }
}

/// Waits until all of them are true. `false`: one of them never will be.
async fn opened(conditions: &mut [watch::Receiver<bool>]) -> bool {
    for condition in conditions {
        // An error means that the sender is gone, and the process with it.
        if condition.wait_for(|is_so| *is_so).await.is_err() {
            return false;
        }
    }
    true
}

/// Whether an error concerns one connection and nobody else.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// An error of ours (no descriptors, no memory) needs time to pass.
async fn pause_after(site: &Site, error: &io::Error) {
    if !is_of_connection(error) {
        let listener = &site.doorway().policy.name;
        tracing::error!(listener, %error, "can't accept; trying again in 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Reception {
    fn receive(&self, site: &Arc<Site>, stream: Stream, peer: IpAddr, house: &Rc<House>) {
        let doorway = site.doorway();
        let number = self.choose();
        let colleague = &self.colleagues[number];
        // Those on this machine, and those behind a balancer, all have one address: a bound on it would bound them all together.
        let is_own = matches!(stream, Stream::Tcp(_)) && !doorway.begins_with_preface(peer);
        let address = is_own.then_some(peer);
        let Ok(permit) = self.admission.admit(site, doorway, address, &colleague.load) else {
            return;
        };
        if number == self.worker {
            return admit(house, stream, peer, permit);
        }
        // Out of this worker's runtime, into that of the other.
        let Ok(stream) = stream.detach() else { return };
        if colleague.queue.try_send(Accepted { stream, peer, permit }).is_err() {
            reject(site, Rejected::Overload);
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

    fn chosen(worker: usize, loads: &[usize]) -> usize {
        let colleague =
            |&load: &usize| Colleague { queue: mpsc::channel(1).0, load: Arc::new(AtomicUsize::new(load)) };
        let reception = Reception {
            worker,
            colleagues: loads.iter().map(colleague).collect(),
            admission: Arc::new(Admission::new(9, None)),
            opening: vec![],
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
