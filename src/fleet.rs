//! The one truth about pools and backends, and the pictures of it that requests read.
//!
//! Owns membership, addresses and health, and changes them in one place: [`Fleet::apply`]. Pure: no sockets, no tasks, no
//! clock of its own. Never decides for a request: that is [`crate::proxy`], on a [`View`].

mod address;
mod backend;
mod health;
mod view;

use std::{fmt, sync::Arc, time::SystemTime};

pub use address::{Address, AddressError};
pub(crate) use address::{host_name_fault, read_socket_path};
pub use backend::{Backend, Pool};
pub use health::{Health, Outcome, Thresholds};
pub use view::{MemberView, PoolView, Standing, View};

use crate::{
    endpoint::Endpoint,
    ring::{MemberIndex, Ring, RingError, Weight},
};

/// One backend as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberPolicy {
    /// What the ring hashes: a backend keeps its keys when its address changes.
    pub name: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// Its share of the ring, relative to the others. 0: on no key's walk.
    pub weight: Weight,
}

/// What to do with requests when no backend of a pool is serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAllDown {
    /// 503 with `Retry-After`.
    Refuse,
    /// Go to the key's owner all the same: for pools whose health checks are less certain than their backends.
    TryAnyway,
}

impl fmt::Display for OnAllDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnAllDown::Refuse => "refuse",
            OnAllDown::TryAnyway => "try-anyway",
        })
    }
}

/// One pool, as the fleet needs it.
#[derive(Debug)]
pub struct PoolPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Virtual nodes per unit of weight.
    pub replicas: u32,
    /// Its backends.
    pub members: Vec<MemberPolicy>,
    /// How many results in a row change a backend's standing. `None`: there are no health checks.
    pub thresholds: Option<Thresholds>,
}

/// Something that happened to a backend.
#[derive(Clone, Debug)]
pub struct Event {
    /// The pool's index.
    pub pool: usize,
    /// The backend's index in its pool's ring.
    pub member: MemberIndex,
    /// What happened.
    pub fact: Fact,
}

/// What can happen to a backend.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A probe ended.
    Probed(Outcome),
    /// Its host name was resolved, to at least one address.
    Resolved(Arc<[Endpoint]>),
    /// Its host name could not be resolved. The addresses known so far stay in use.
    NotResolved(String),
}

/// A change of a backend's standing, for the log and the metrics.
#[derive(Clone, Debug)]
pub struct Change {
    /// The pool's index.
    pub pool: usize,
    /// The backend.
    pub backend: Arc<Backend>,
    /// Standing before.
    pub from: Standing,
    /// Standing now.
    pub to: Standing,
    /// Why, in a sentence.
    pub reason: Arc<str>,
}

/// What [`Fleet::apply`] did.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Nothing that a request could notice.
    Nothing,
    /// A new view must be published; the backend stands as it stood.
    Moved,
    /// A new view must be published, and somebody told.
    Changed(Change),
}

/// All pools and backends.
#[derive(Debug)]
pub struct Fleet {
    pools: Vec<PoolState>,
    revision: u64,
}

#[derive(Debug)]
struct PoolState {
    pool: Arc<Pool>,
    ring: Arc<Ring>,
    thresholds: Option<Thresholds>,
    members: Vec<MemberState>,
}

#[derive(Debug)]
struct MemberState {
    backend: Arc<Backend>,
    addresses: Arc<[Endpoint]>,
    /// Its host name has been looked up, with whatever result, or it has none.
    looked_up: bool,
    health: Health,
    since: SystemTime,
    reason: Arc<str>,
}

impl Fleet {
    /// Builds the rings. Every backend begins unproven where there are health checks, and serving where there are none.
    ///
    /// # Errors
    /// The pool's index, and why its ring can't be built.
    pub fn new(plans: Vec<PoolPlan>, workers: usize, now: SystemTime) -> Result<Fleet, (usize, RingError)> {
        let mut pools = Vec::with_capacity(plans.len());
        let mut ids = 0..;
        for (index, plan) in plans.into_iter().enumerate() {
            let members = plan.members.iter().map(|member| (member.name.clone(), member.weight));
            let ring = Ring::build(members, plan.replicas).map_err(|error| (index, error))?;
            let mut policies = plan.members;
            policies.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
            let members = policies.into_iter().zip(&mut ids).map(|(policy, id)| {
                let (addresses, reason) = first_addresses(&policy.address);
                let (health, reason) = first_health(plan.thresholds, reason);
                let backend = Arc::new(Backend::new(id, policy, workers));
                let looked_up = !addresses.is_empty();
                MemberState { backend, addresses, looked_up, health, since: now, reason: reason.into() }
            });
            pools.push(PoolState {
                pool: Arc::new(Pool::new(plan.name, workers)),
                members: members.collect(),
                ring: Arc::new(ring),
                thresholds: plan.thresholds,
            });
        }
        Ok(Fleet { pools, revision: 0 })
    }

    /// Takes in what happened at `now`.
    pub fn apply(&mut self, event: Event, now: SystemTime) -> Applied {
        let state = &mut self.pools[event.pool];
        let member = &mut state.members[event.member.as_usize()];
        let from = member.standing();
        let mut moved = false;
        match event.fact {
            Fact::Probed(outcome) => {
                let Some(thresholds) = state.thresholds else {
                    return Applied::Nothing;
                };
                let reason = outcome.reason();
                member.health = member.health.after(outcome.is_pass(), thresholds);
                if member.standing() != from {
                    member.reason = reason;
                }
            }
            Fact::Resolved(addresses) => {
                member.looked_up = true;
                if member.addresses != addresses {
                    member.addresses = addresses;
                    moved = true;
                }
                if member.standing() != from {
                    member.reason = "its host name has an address".into();
                }
            }
            Fact::NotResolved(error) => {
                member.looked_up = true;
                if member.addresses.is_empty() {
                    member.reason = format!("its host name has no address: {error}").into();
                }
            }
        }
        let to = member.standing();
        if to == from {
            return if moved { Applied::Moved } else { Applied::Nothing };
        }
        member.since = now;
        Applied::Changed(Change {
            pool: event.pool,
            backend: member.backend.clone(),
            from,
            to,
            reason: member.reason.clone(),
        })
    }

    /// The picture as it is now, under the next revision.
    pub fn view(&mut self) -> View {
        self.revision += 1;
        let pools = self.pools.iter().map(|state| {
            let members = state.members.iter().map(|member| MemberView {
                backend: member.backend.clone(),
                addresses: member.addresses.clone(),
                standing: member.standing(),
                since: member.since,
                reason: member.reason.clone(),
            });
            PoolView::new(state.pool.clone(), state.ring.clone(), members.collect())
        });
        View::new(self.revision, pools.collect())
    }

    /// Whether every backend has been looked up and, where there are health checks, has had its first result.
    pub fn is_proven(&self) -> bool {
        let mut members = self.pools.iter().flat_map(|pool| &pool.members);
        members.all(|member| member.looked_up && member.health != Health::Unproven)
    }
}

impl MemberState {
    fn standing(&self) -> Standing {
        if self.backend.weight.is_zero() {
            Standing::Drained
        } else if self.addresses.is_empty() {
            Standing::Unresolved
        } else {
            match self.health {
                Health::Unwatched | Health::Up { .. } => Standing::Serving,
                Health::Unproven => Standing::Unproven,
                Health::Down { .. } => Standing::Down,
            }
        }
    }
}

fn first_addresses(address: &Address) -> (Arc<[Endpoint]>, Option<&'static str>) {
    match address.endpoint() {
        Some(endpoint) => (Arc::new([endpoint]), None),
        None => (Arc::new([]), Some("its host name is not resolved yet")),
    }
}

fn first_health(thresholds: Option<Thresholds>, reason: Option<&'static str>) -> (Health, &'static str) {
    match thresholds {
        Some(_) => (Health::Unproven, reason.unwrap_or("not probed yet")),
        None => (Health::Unwatched, reason.unwrap_or("there are no health checks")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str]) -> PoolPlan {
        let members = names.iter().map(|name| MemberPolicy {
            name: (*name).into(),
            address: "127.0.0.1:1".parse().unwrap(),
            weight: Weight::ONE,
        });
        PoolPlan {
            name: "p".into(),
            replicas: 16,
            members: members.collect(),
            thresholds: Some(Thresholds { rise: 2, fall: 2 }),
        }
    }

    fn probe(fleet: &mut Fleet, member: u32, outcome: Outcome) -> Applied {
        let event = Event { pool: 0, member: MemberIndex(member), fact: Fact::Probed(outcome) };
        fleet.apply(event, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn a_change_of_health_shares_the_ring_and_grows_the_revision_by_one() {
        let mut fleet = Fleet::new(vec![plan(&["a", "b"])], 1, SystemTime::UNIX_EPOCH).unwrap();
        let first = fleet.view();
        assert!(matches!(probe(&mut fleet, 0, Outcome::Pass), Applied::Changed(_)));
        let second = fleet.view();
        assert!(Arc::ptr_eq(&first.pools[0].ring, &second.pools[0].ring));
        assert_eq!((first.revision, second.revision), (1, 2));
        assert_eq!(second.pools[0].serving, 1);
    }

    #[test]
    fn the_first_result_decides_alone_and_later_ones_need_their_number() {
        let mut fleet = Fleet::new(vec![plan(&["a"])], 1, SystemTime::UNIX_EPOCH).unwrap();
        assert!(!fleet.is_proven());
        assert!(matches!(probe(&mut fleet, 0, Outcome::Pass), Applied::Changed(_)));
        assert!(fleet.is_proven());
        assert!(matches!(probe(&mut fleet, 0, Outcome::fail("no")), Applied::Nothing));
        let Applied::Changed(change) = probe(&mut fleet, 0, Outcome::fail("again")) else {
            panic!("still up")
        };
        assert_eq!((change.from, change.to, &*change.reason), (Standing::Serving, Standing::Down, "again"));
        assert!(matches!(probe(&mut fleet, 0, Outcome::Pass), Applied::Nothing));
        assert!(matches!(probe(&mut fleet, 0, Outcome::Pass), Applied::Changed(_)));
    }

    #[test]
    fn a_name_that_stops_resolving_keeps_its_addresses() {
        let mut plan = plan(&["a"]);
        plan.members[0].address = "cache.internal:80".parse().unwrap();
        plan.thresholds = None;
        let mut fleet = Fleet::new(vec![plan], 1, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(fleet.view().pools[0].members[0].standing, Standing::Unresolved);
        let member = MemberIndex(0);
        let found = Fact::Resolved(Arc::new([Endpoint::Tcp("127.0.0.1:1".parse().unwrap())]));
        assert!(!fleet.is_proven(), "nobody knows yet where its backend is");
        fleet.apply(Event { pool: 0, member, fact: found }, SystemTime::UNIX_EPOCH);
        assert!(fleet.is_proven());
        fleet
            .apply(Event { pool: 0, member, fact: Fact::NotResolved("gone".into()) }, SystemTime::UNIX_EPOCH);
        assert_eq!(fleet.view().pools[0].members[0].standing, Standing::Serving);
    }
}
