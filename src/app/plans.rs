//! The configuration, made into what each part is started with or changed to.
//!
//! Owns that translation. Starts nothing; of files it opens those with certificates and with operators' orders.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::StartError;
use crate::{
    config::{Config, PoolConfig},
    control::{self, WatchPolicy, probe::ProbeKind},
    endpoint::Endpoint,
    fleet::{self, Event, Fact, Fleet, Moment, Orders, Thresholds, View},
    proxy::{Plan, PoolPlan, client::TrustedProxies, route::Router},
    ring::Place,
    server::ServerPolicy,
    telemetry::access::AccessLog,
    tls::BackendTls,
    upstream::Approach,
};

/// How connections to each pool's backends begin, with what their TLS needs from its files.
///
/// # Errors
/// What is wrong with them.
pub fn load_approaches(config: &Config) -> Result<Vec<Approach>, StartError> {
    let load = |pool: &PoolConfig| {
        let loaded = pool.tls.as_ref().map(|tls| BackendTls::load(tls, pool.protocol.offers())).transpose();
        let loaded =
            loaded.map_err(|problem| StartError::BackendTls { pool: pool.name.to_string(), problem })?;
        Ok(Approach { protocol: pool.protocol, preface: pool.send_preface, tls: loaded })
    };
    config.pools.iter().map(load).collect()
}

pub(super) fn kept_orders(policy: &ServerPolicy) -> Result<Orders, StartError> {
    policy
        .state_file
        .as_deref()
        .map_or_else(|| Ok(Orders::default()), |file| control::kept_orders(file).map_err(StartError::Orders))
}

pub(super) fn make_fleet(config: &Config, orders: Orders, workers: usize) -> Result<Fleet, StartError> {
    let now = Moment { instant: Instant::now(), wall: SystemTime::now() };
    Ok(Fleet::new(fleet_plans(config), orders, workers, now)?)
}

/// The fleet's half of the configuration.
pub(super) fn fleet_plans(config: &Config) -> Vec<fleet::PoolPlan> {
    let plans = config.pools.iter().map(|pool| fleet::PoolPlan {
        name: pool.name.clone(),
        replicas: pool.replicas,
        members: pool.members.clone(),
        thresholds: match pool.probe.kind {
            ProbeKind::Off => None,
            _ => Some(Thresholds { rise: pool.probe.rise, fall: pool.probe.fall }),
        },
        passive: pool.passive.clone(),
        load: pool.load.clone(),
        ramp: pool.ramp,
        ramp_hits: if pool.forward.warmth_header.is_some() { pool.ramp_hits } else { 0.0 },
        reached: reached(pool).into(),
        min_backends: pool.min_backends,
        max_moved_per_minute: pool.max_moved_per_minute,
    });
    plans.collect()
}

/// How a pool's backends are reached, in words that differ where that differs.
fn reached(pool: &PoolConfig) -> String {
    format!("{:?} {:?} {:?}", pool.protocol, pool.send_preface, pool.tls)
}

/// The request path's half of the configuration, for so many workers.
pub fn make_plan(
    config: &Config,
    approaches: &[Approach],
    workers: usize,
    access_log: Option<AccessLog>,
) -> Plan {
    let pools = config.pools.iter().zip(approaches).map(|(pool, approach)| PoolPlan {
        forward: pool.forward.clone(),
        reuse: pool.reuse.clone(),
        on_all_down: pool.on_all_down,
        repeat_rates: pool.forward.repeats.rates(workers),
        approach: approach.clone(),
    });
    Plan {
        router: Router::new(config.routes.clone()),
        pools: pools.collect(),
        trusted: TrustedProxies {
            networks: config.client.trusted_proxies.clone(),
            headers: config.client.forwarding_headers,
        },
        via: config.client.via.clone(),
        max_requests: config.client.max_requests_in_flight,
        access_log,
    }
}

/// The fleet's half of the configuration, for questions that are asked without a running proxy: nothing is probed or looked up.
pub fn offline_plans(config: &Config) -> Vec<fleet::PoolPlan> {
    let mut plans = fleet_plans(config);
    for plan in &mut plans {
        plan.thresholds = None;
        for member in &mut plan.members {
            // Nothing is connected to: a name needs no address here.
            if let fleet::Address::Name { port, .. } = member.address {
                member.address = fleet::Address::Socket(SocketAddr::from(([0, 0, 0, 0], port)));
            }
        }
    }
    plans
}

/// A view of the pools as configured, with every backend serving: for questions that are asked without a running proxy.
///
/// # Errors
/// A pool's ring can't be built.
pub fn offline_view(config: &Config) -> Result<View, StartError> {
    let mut unwatched = config.clone();
    for pool in &mut unwatched.pools {
        pool.probe.kind = ProbeKind::Off;
    }
    let mut fleet = make_fleet(&unwatched, Orders::default(), 1)?;
    // Nothing is connected to: which address a name has does not matter here.
    let now = Moment { instant: Instant::now(), wall: SystemTime::now() };
    let anywhere: Arc<[Endpoint]> = Arc::new([Endpoint::Tcp(SocketAddr::from(([0, 0, 0, 0], 0)))]);
    for member in fleet.view().pools.iter().flat_map(|pool| &pool.members) {
        if member.backend.address.endpoint().is_none() {
            let fact = Fact::Resolved(anywhere.clone());
            fleet.apply(Event { backend: member.backend.id, fact }, now);
        }
    }
    let mut view = fleet.view();
    for member in view.pools.iter_mut().flat_map(|pool| &mut pool.members) {
        member.reason = "not known: no proxy was asked".into();
        member.ramp = None;
    }
    Ok(view)
}

/// How each pool's backends are watched.
pub(super) fn watch_policies(config: &Config, approaches: &[Approach]) -> Vec<WatchPolicy> {
    config.pools.iter().zip(approaches).map(watch_policy).collect()
}

fn watch_policy((pool, approach): (&PoolConfig, &Approach)) -> WatchPolicy {
    WatchPolicy {
        probe: pool.probe.clone(),
        approach: approach.clone(),
        resolve_interval: pool.resolve_interval,
        words: format!("{:?} {:?} {} {:?}", pool.probe, pool.resolve_interval, reached(pool), contents(pool))
            .into(),
    }
}

/// What the files for TLS to a pool's backends hold, as hashes.
fn contents(pool: &PoolConfig) -> Vec<Option<Place>> {
    let files = pool.tls.iter().flat_map(|tls| [&tls.roots, &tls.certificate, &tls.key]);
    files.flatten().map(|file| Some(Place::of(&std::fs::read(file).ok()?))).collect()
}
