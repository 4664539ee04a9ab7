//! The JSON of the admin API. Its shape is an interface: fields are added, not renamed or removed.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::State;
use crate::{
    fleet::{MemberView, Order, PoolView, Standing, View},
    tally::Class,
};

#[derive(Serialize)]
pub(super) struct Pools {
    revision: u64,
    pools: Vec<Pool>,
    idle_orders: Vec<IdleOrder>,
}

/// An order about a backend that is not there.
#[derive(Serialize)]
struct IdleOrder {
    pool: String,
    backend: String,
    order: &'static str,
    /// `null` with a drain.
    weight: Option<String>,
}

#[derive(Serialize)]
struct Pool {
    name: String,
    replicas: u32,
    virtual_nodes: usize,
    fingerprint: String,
    serving_fingerprint: String,
    imbalance: f64,
    expected_imbalance: f64,
    serving: usize,
    ramp: Option<f64>,
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    name: String,
    address: String,
    resolved: Vec<String>,
    weight: String,
    configured_weight: String,
    order: &'static str,
    share: f64,
    standing: Standing,
    since: String,
    reason: String,
    said: Said,
    ramp: Option<f64>,
    in_flight: u64,
    limit: Option<u32>,
    waiting: u32,
    requests: Requests,
    probes: Probes,
}

/// Who says what about a backend.
#[derive(Serialize)]
struct Said {
    probes: &'static str,
    probes_because: String,
    requests: &'static str,
    requests_because: String,
    times_away: u32,
}

#[derive(Serialize)]
struct Requests {
    total: u64,
    success: u64,
    redirect: u64,
    client_error: u64,
    server_error: u64,
    cancelled: u64,
}

#[derive(Serialize)]
struct Probes {
    passed: u64,
    failed: u64,
    transitions: u64,
}

/// `/api/pools`
pub(super) fn pools(view: &View) -> Pools {
    let idle = |(pool, backend, order): (&str, &str, Order)| IdleOrder {
        pool: pool.to_owned(),
        backend: backend.to_owned(),
        order: order.word(),
        weight: match order {
            Order::Weight(weight) => Some(weight.to_string()),
            Order::None | Order::Drain => None,
        },
    };
    Pools {
        revision: view.revision,
        pools: view.pools.iter().map(pool).collect(),
        idle_orders: view.idle_orders().map(idle).collect(),
    }
}

fn pool(view: &PoolView) -> Pool {
    let ring = &view.ring;
    let backends = view.members.iter().zip(ring.shares()).map(|(member, share)| backend(member, share));
    Pool {
        name: view.pool.name.to_string(),
        replicas: ring.replicas(),
        virtual_nodes: ring.node_count(),
        fingerprint: ring.fingerprint().to_string(),
        serving_fingerprint: view.serving_fingerprint.to_string(),
        imbalance: ring.imbalance(),
        expected_imbalance: ring.expected_imbalance(),
        serving: view.serving,
        ramp: view.turn.as_ref().map(|turn| turn.ramp.progress(Instant::now())),
        backends: backends.collect(),
    }
}

fn backend(member: &MemberView, share: f64) -> Backend {
    let backend = &member.backend;
    let requests = |class: Class| backend.sum(|cells| cells.requests.at(class as usize).get());
    Backend {
        name: backend.name.to_string(),
        address: backend.address.to_string(),
        resolved: member.addresses.iter().map(ToString::to_string).collect(),
        weight: member.weight.to_string(),
        configured_weight: member.configured.to_string(),
        order: member.order.word(),
        share,
        standing: member.standing,
        since: time(member.since),
        reason: member.reason.to_string(),
        said: Said {
            probes: member.health.word(),
            probes_because: member.health_reason.to_string(),
            requests: member.trust.word(),
            requests_because: member.trust_reason.to_string(),
            times_away: member.penalty,
        },
        ramp: member.ramp.map(|ramp| ramp.progress(Instant::now())),
        in_flight: backend.in_flight(),
        limit: backend.load.limit(),
        waiting: backend.load.waiting(),
        requests: Requests {
            total: Class::ALL.iter().map(|&class| requests(class)).sum(),
            success: requests(Class::Success),
            redirect: requests(Class::Redirect),
            client_error: requests(Class::ClientError),
            server_error: requests(Class::ServerError),
            cancelled: requests(Class::Cancelled),
        },
        probes: Probes {
            passed: backend.probes.passed.get(),
            failed: backend.probes.failed.get(),
            transitions: backend.probes.transitions.get(),
        },
    }
}

#[derive(Serialize)]
pub(super) struct Configuration {
    loaded: String,
    format: &'static str,
    text: String,
}

/// `/api/config`
pub(super) fn config(state: &State) -> Configuration {
    let in_force = state.in_force.load();
    Configuration { loaded: time(in_force.loaded), format: "toml", text: in_force.config.clone() }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
