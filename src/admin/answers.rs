//! The JSON of the admin API. Its shape is an interface: fields are added, not renamed or removed.

use std::time::SystemTime;

use serde::Serialize;

use super::State;
use crate::{
    fleet::{MemberView, PoolView, Standing, View},
    tally::Class,
};

#[derive(Serialize)]
pub(super) struct Pools {
    revision: u64,
    pools: Vec<Pool>,
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
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    name: String,
    address: String,
    resolved: Vec<String>,
    weight: String,
    share: f64,
    standing: Standing,
    since: String,
    reason: String,
    in_flight: u64,
    requests: Requests,
    probes: Probes,
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
    Pools { revision: view.revision, pools: view.pools.iter().map(pool).collect() }
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
        share,
        standing: member.standing,
        since: time(member.since),
        reason: member.reason.to_string(),
        in_flight: backend.in_flight(),
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
pub(super) struct Configuration<'a> {
    loaded: String,
    format: &'static str,
    text: &'a str,
}

/// `/api/config`
pub(super) fn config(state: &State) -> Configuration<'_> {
    Configuration { loaded: time(state.config_loaded), format: "toml", text: &state.config }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
