//! The tasks that watch backends: for each one a loop of probes, and for each host name a loop of look-ups.
//!
//! Owns their rhythm: the first round at once, then an interval with jitter, a shorter one while something is changing.

use std::{collections::HashMap, io, sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Duration,
};

use super::{
    WatchPolicy,
    probe::{ProbeKind, ProbePolicy, probe},
    resolve::resolve,
};
use crate::{
    endpoint::Endpoint,
    fleet::{Address, Backend, Event, Fact, Fleet, Health, Outcome, Thresholds},
    limits::PROBES_IN_FLIGHT,
    upstream::Approach,
};

/// All loops. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    tasks: JoinSet<()>,
    /// By [`Backend::id`].
    running: HashMap<usize, (Arc<str>, AbortHandle)>,
    report: mpsc::Sender<Event>,
    in_flight: Arc<Semaphore>,
}

impl Watching {
    /// None yet.
    pub(super) fn new(report: mpsc::Sender<Event>) -> Watching {
        let in_flight = Arc::new(Semaphore::new(PROBES_IN_FLIGHT));
        Watching { tasks: JoinSet::new(), running: HashMap::new(), report, in_flight }
    }

    /// Watches these backends, and no others. Who is watched in the same way as before notices nothing: a probe that is under way
    /// goes on.
    pub(super) fn follow(&mut self, fleet: &Fleet, policies: &[WatchPolicy]) {
        let mut before = std::mem::take(&mut self.running);
        for (pool, backend, address) in fleet.found() {
            let policy = &policies[pool];
            let known = before.remove(&backend.id);
            if let Some(known) = known {
                if known.0 == policy.words {
                    self.running.insert(backend.id, known);
                    continue;
                }
                known.1.abort();
            }
            let watch = Watch {
                backend: backend.clone(),
                known: address.cloned(),
                report: self.report.clone(),
                in_flight: self.in_flight.clone(),
            };
            let task = self.tasks.spawn_local(watch.run(policy.clone()));
            self.running.insert(backend.id, (policy.words.clone(), task));
        }
        before.into_values().for_each(|(_, task)| task.abort());
        // Those that have ended leave nothing behind.
        while self.tasks.try_join_next().is_some() {}
    }
}

struct Watch {
    backend: Arc<Backend>,
    /// Where it is as far as is known, which holds while its name can't be looked up.
    known: Option<Endpoint>,
    report: mpsc::Sender<Event>,
    in_flight: Arc<Semaphore>,
}

impl Watch {
    async fn run(self, policy: WatchPolicy) {
        let WatchPolicy { probe, approach, resolve_interval, .. } = policy;
        let address = self.backend.address.clone();
        let Address::Name { host, port } = address else {
            return self.probes(&probe, &approach, || address.endpoint()).await;
        };
        // The first look-up comes before the first probe, which would have nowhere to go.
        // What it finds is probed from then on: the view may show it only later.
        let (found, is_at) = watch::channel(self.look_up(&host, port).await.or(self.known.clone()));
        let look_ups = async {
            loop {
                tokio::time::sleep(jittered(resolve_interval, 0.1)).await;
                let last = self.look_up(&host, port).await;
                found.send_if_modified(|at| last.is_some() && std::mem::replace(at, last.clone()) != last);
            }
        };
        tokio::join!(look_ups, self.probes(&probe, &approach, || is_at.borrow().clone()));
    }

    /// Looks the name up, tells the result, and returns the first address.
    async fn look_up(&self, host: &str, port: u16) -> Option<Endpoint> {
        let mut first = None;
        let fact = match resolve(host, port).await {
            Ok(addresses) => {
                first = addresses.first().cloned();
                Fact::Resolved(addresses)
            }
            Err(error) => {
                tracing::warn!(backend = &*self.backend.name, host, error, "a host name was not resolved");
                Fact::NotResolved(error)
            }
        };
        self.tell(fact).await;
        first
    }

    async fn probes(
        &self,
        policy: &ProbePolicy,
        approach: &Approach,
        address: impl Fn() -> Option<Endpoint>,
    ) {
        if policy.kind == ProbeKind::Off {
            return;
        }
        let thresholds = Thresholds { rise: policy.rise, fall: policy.fall };
        let mut health = Health::Unproven;
        loop {
            match self.one_probe(policy, approach, address()).await {
                Ok(outcome) => {
                    health = health.after(outcome.is_pass(), thresholds);
                    self.tell(Fact::Probed(outcome)).await;
                }
                // It says nothing about the backend.
                Err(error) => {
                    let backend = &*self.backend.name;
                    tracing::error!(backend, %error, "can't probe: this machine or process is short of something");
                }
            }
            let changing = matches!(health, Health::Up { misses: 1.. } | Health::Down { passes: 1.. });
            let pause = if changing { policy.changing_interval } else { policy.interval };
            tokio::time::sleep(jittered(pause, policy.jitter)).await;
        }
    }

    async fn one_probe(
        &self,
        policy: &ProbePolicy,
        approach: &Approach,
        address: Option<Endpoint>,
    ) -> io::Result<Outcome> {
        let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
        let Some(address) = address else {
            return Ok(Outcome::fail("its host name has no address"));
        };
        let begun = Instant::now();
        let outcome = probe(policy, approach, address, &self.backend.address).await?;
        let cells = &self.backend.probes;
        cells.took.observe(begun.elapsed());
        if outcome.is_pass() {
            cells.passed.bump()
        } else {
            cells.failed.bump()
        }
        Ok(outcome)
    }

    async fn tell(&self, fact: Fact) {
        // The receiver goes only when the process ends, and this task with it.
        let _ = self.report.send(Event { backend: self.backend.id, fact }).await;
    }
}

/// The interval, longer or shorter by chance, by up to this share of it: so that probes do not march in step.
fn jittered(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(1.0 + share * (fastrand::f64() * 2.0 - 1.0)).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{MemberPolicy, Moment, Orders, PoolPlan};

    #[tokio::test]
    async fn what_was_known_holds_while_a_name_cannot_be_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let known = Endpoint::Tcp(listener.local_addr().unwrap());
        let member = MemberPolicy {
            name: "a".into(),
            address: "no-such-host.invalid:80".parse().unwrap(),
            weight: crate::ring::Weight::ONE,
        };
        let now = Moment { instant: Instant::now(), wall: std::time::SystemTime::now() };
        let plans = vec![PoolPlan::new("p", 1, vec![member])];
        let fleet = Fleet::new(plans, Orders::default(), 1, now).unwrap();
        let (report, mut events) = mpsc::channel(8);
        let watch = Watch {
            backend: fleet.backends().next().unwrap().1.clone(),
            known: Some(known),
            report,
            in_flight: Arc::new(Semaphore::new(1)),
        };
        let seconds = Duration::from_secs;
        let probe = ProbePolicy {
            kind: ProbeKind::Tcp,
            port: None,
            interval: seconds(1),
            changing_interval: seconds(1),
            jitter: 0.0,
            timeout: seconds(10),
            rise: 1,
            fall: 1,
        };
        let policy = WatchPolicy {
            probe,
            approach: Approach::default(),
            resolve_interval: Duration::from_secs(3600),
            words: "".into(),
        };
        let probed = async {
            loop {
                match events.recv().await.unwrap().fact {
                    Fact::NotResolved(_) => {}
                    fact => return fact,
                }
            }
        };
        let fact = tokio::select! {
            () = watch.run(policy) => panic!("it never ends"),
            fact = probed => fact,
        };
        assert!(matches!(fact, Fact::Probed(Outcome::Pass)), "{fact:?}");
    }
}
