//! The tasks that watch backends: for each one a loop of probes, and for each host name a loop of look-ups.
//!
//! Owns their rhythm: the first round at once, then an interval with jitter, a shorter one while something is changing.

use std::{io, sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::Duration,
};

use super::{
    WatchPolicy,
    probe::{ProbeKind, ProbePolicy, probe},
    resolve::resolve,
};
use crate::{
    endpoint::Endpoint,
    fleet::{Address, Backend, Event, Fact, Health, Outcome, PoolView, Thresholds},
    limits::PROBES_IN_FLIGHT,
    ring::MemberIndex,
    upstream::Approach,
};

/// A backend and where it stands in the view.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pool: usize,
    member: MemberIndex,
    backend: Arc<Backend>,
}

impl Watched {
    /// All backends of a pool.
    pub(super) fn all_of(pool: usize, view: &PoolView) -> Vec<Watched> {
        let members = view.members.iter().zip(0..);
        members
            .map(|(member, index)| Watched {
                pool,
                member: MemberIndex(index),
                backend: member.backend.clone(),
            })
            .collect()
    }

    fn event(&self, fact: Fact) -> Event {
        Event { pool: self.pool, member: self.member, fact }
    }
}

/// Starts all loops. They end when the set is dropped.
pub(super) fn start(
    watched: &[Watched],
    policies: &[WatchPolicy],
    report: &mpsc::Sender<Event>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let in_flight = Arc::new(Semaphore::new(PROBES_IN_FLIGHT));
    for backend in watched {
        let policy = policies[backend.pool].clone();
        let watch = Watch { watched: backend.clone(), report: report.clone(), in_flight: in_flight.clone() };
        tasks.spawn_local(watch.run(policy));
    }
    tasks
}

struct Watch {
    watched: Watched,
    report: mpsc::Sender<Event>,
    in_flight: Arc<Semaphore>,
}

impl Watch {
    async fn run(self, policy: WatchPolicy) {
        let WatchPolicy { probe, approach, resolve_interval } = policy;
        let address = self.watched.backend.address.clone();
        let Address::Name { host, port } = address else {
            return self.probes(&probe, &approach, || address.endpoint()).await;
        };
        // The first look-up comes before the first probe, which would have nowhere to go.
        // What it finds is probed from then on: the view may show it only later.
        let (found, is_at) = watch::channel(self.look_up(&host, port).await);
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
                tracing::warn!(
                    backend = &*self.watched.backend.name,
                    host,
                    error,
                    "a host name was not resolved"
                );
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
                    let backend = &*self.watched.backend.name;
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
        let outcome = probe(policy, approach, address, &self.watched.backend.address).await?;
        let cells = &self.watched.backend.probes;
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
        let _ = self.report.send(self.watched.event(fact)).await;
    }
}

/// The interval, longer or shorter by chance, by up to this share of it: so that probes do not march in step.
fn jittered(interval: Duration, share: f64) -> Duration {
    interval.mul_f64(1.0 + share * (fastrand::f64() * 2.0 - 1.0)).max(Duration::from_millis(1))
}
