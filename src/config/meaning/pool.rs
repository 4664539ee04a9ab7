//! A pool as meant: its backends together, its ring's size, its times.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::availability;
use crate::{
    config::{
        PoolConfig,
        effective::joined,
        finding::{Code, Draft, Findings, quoted},
        kind::measure::duration_text,
        raw::{Backend, Health, HealthKind, Pool},
        section::Located,
    },
    control::probe::{HttpProbe, ProbeKind, ProbePolicy},
    fleet::{Address, MemberPolicy},
    upstream::{Protocol, ReusePolicy},
};

/// Virtual nodes in one ring at most: what a ring costs stays below half a gigabyte.
const MAX_NODES: u64 = 8_388_608;

/// Backends of one pool at most.
const MAX_BACKENDS: usize = 65_535;

/// The pool, with all that is wrong or doubtful about it reported.
pub(super) fn mean(pool: Pool, findings: &mut Findings) -> PoolConfig {
    names_and_addresses(&pool, findings);
    if pool.backends_sound && !pool.backends.is_empty() {
        weights(&pool, findings);
    }
    times(&pool, findings);
    availability::check(&pool, findings);
    repeats(&pool, findings);
    tls(&pool, findings);
    protocol(&pool, findings);
    let path = joined("pools", &pool.name.value);
    let (health, connections) = (&pool.health, &pool.connections);
    if connections.max_idle.sound && connections.max_idle.value == 0 {
        let message = format!("`{path}.connections.max_idle = 0`: no connection to a backend is used again");
        findings.push(
            Draft::new(Code::NothingReused, connections.max_idle.at.clone(), message)
                .help("each request pays for a new connection; the default is 64"),
        );
    }
    if health.kind.sound && health.kind.value == HealthKind::Off {
        let message = format!("`{path}.health.kind = \"off\"`: nothing checks whether backends are up");
        findings.push(
            Draft::new(Code::Unprobed, health.kind.at.clone(), message)
                .help("requests find out by failing; `kind = \"tcp\"` needs nothing of a backend"),
        );
    }
    let member = |backend: &Backend| {
        let (name, address) = (backend.name.as_ref()?, backend.address.as_ref()?);
        let weight = backend.weight.value;
        Some(MemberPolicy { name: name.value.as_str().into(), address: address.value.clone(), weight })
    };
    PoolConfig {
        name: Arc::from(pool.name.value.as_str()),
        replicas: pool.replicas.value,
        members: pool.backends.iter().filter_map(member).collect(),
        on_all_down: pool.on_all_down,
        resolve_interval: pool.resolve_interval,
        reuse: ReusePolicy {
            max_idle: connections.max_idle.value,
            keep_alive: connections.keep_alive.value,
            max_age: connections.max_age.value,
        },
        passive: pool.passive.policy,
        load: pool.load.policy,
        ramp: pool.moving.ramp,
        ramp_hits: pool.moving.ramp_hits,
        min_backends: pool.moving.min_backends.value,
        max_moved_per_minute: pool.moving.max_moved_per_minute,
        probe: probe(&path, pool.health, findings),
        forward: pool.forward,
        protocol: pool.protocol.value,
        send_preface: pool.send_preface,
        tls: pool.tls.map(|tls| tls.policy),
    }
}

/// What the version of HTTP needs of other keys.
fn protocol(pool: &Pool, findings: &mut Findings) {
    protocol_of_probes(pool, findings);
    let path = joined("pools", &pool.name.value);
    let Located { value, at: Some(at), sound: true } = &pool.protocol else { return };
    let wrong = match (value, &pool.tls) {
        (Protocol::H2, None) => {
            Some(("needs TLS", "add the table `tls`, or write \"h2c\" for HTTP/2 in the clear"))
        }
        (Protocol::Auto, None) => {
            Some(("needs TLS", "add the table `tls`, in whose handshake both sides agree, or remove the key"))
        }
        (Protocol::H2c, Some(_)) => {
            Some(("is for connections in the clear", "write \"h2\", or remove the table `tls`"))
        }
        (Protocol::Http1, _) | (Protocol::H2 | Protocol::Auto, Some(_)) | (Protocol::H2c, None) => None,
    };
    if let Some((what, help)) = wrong {
        let message = format!("`{path}.protocol = \"{value}\"` {what}");
        findings.push(Draft::new(Code::ProtocolMismatch, Some(at.clone()), message).help(help));
    }
    if pool.send_preface.is_some() && *value != Protocol::Http1 {
        let message = format!("`{path}.protocol = \"{value}\"` and `send_proxy_protocol` exclude each other");
        let draft = Draft::new(Code::ProtocolMismatch, Some(at.clone()), message);
        findings.push(draft.help(
            "a connection of HTTP/2 carries the requests of many clients, and can't be introduced as one's",
        ));
    }
}

fn protocol_of_probes(pool: &Pool, findings: &mut Findings) {
    let kind = &pool.health.kind;
    let speaks = matches!(pool.protocol.value, Protocol::H2 | Protocol::H2c) || !pool.protocol.sound;
    if kind.value == HealthKind::Grpc && kind.sound && !speaks {
        let path = joined("pools", &pool.name.value);
        let message = format!("`{path}.health.kind = \"grpc\"` needs HTTP/2");
        let draft = Draft::new(Code::ProtocolMismatch, kind.at.clone(), message);
        findings.push(draft.help(
            "gRPC is spoken over nothing else: write `protocol = \"h2c\"` in the pool, or \"h2\" with TLS",
        ));
    }
}

fn tls(pool: &Pool, findings: &mut Findings) {
    let Some(tls) = &pool.tls else { return };
    let path = joined("pools", &pool.name.value);
    if tls.accepts_any.value {
        let message = format!(
            "`{path}.tls.danger_accept_any_certificate = true`: backends need not prove who they are"
        );
        let draft = Draft::new(Code::Unverified, tls.accepts_any.at.clone(), message);
        findings.push(
            draft.help(
                "whoever is on the way can read and change all; `roots` takes certificates of your own",
            ),
        );
        if let Some(at) = tls.roots.at.clone().filter(|_| tls.roots.value.is_some()) {
            let message = format!("`{path}.tls.roots` is set, but every certificate is accepted");
            findings.push(Draft::new(Code::NoEffect, at, message).help("remove one of the two"));
        }
    }
    if let Some(at) =
        tls.key.at.clone().filter(|_| tls.key.value.is_some() && tls.policy.certificate.is_none())
    {
        let message = format!("`{path}.tls.key` is set, but there is no certificate");
        findings.push(Draft::new(Code::NoEffect, at, message).help("name its file in `certificate`"));
    }
    let mut local = pool.backends.iter().filter_map(|backend| backend.address.as_ref());
    if let Some(local) = local.find(|address| matches!(address.value, Address::Unix(_))) {
        let message = format!("TLS to {} is not spoken", local.value);
        let draft = Draft::new(Code::NotForUnix, local.at.clone(), message)
            .also(tls.at.clone(), "TLS for all backends of the pool");
        findings.push(draft.help("put it into a pool of its own, or remove the table"));
    }
}

fn names_and_addresses(pool: &Pool, findings: &mut Findings) {
    let name = quoted(&pool.name.value);
    if let Some(first) = pool.backends.get(MAX_BACKENDS) {
        let message =
            format!("the pool `{name}` has {} backends; {MAX_BACKENDS} is the most", pool.backends.len());
        findings.push(Draft::new(Code::TooMany, first.at.clone(), message).label("the first one too many"));
    }
    let mut names: HashMap<&str, &Backend> = HashMap::new();
    let mut addresses: HashMap<String, &Located<Address>> = HashMap::new();
    for backend in &pool.backends {
        let namesake = backend.name.as_ref().and_then(|own| names.insert(&own.value, backend));
        if let Some(namesake) = namesake {
            name_twice(&name, backend, namesake, findings);
            continue;
        }
        let Some(address) = &backend.address else {
            continue;
        };
        if let Some(twin) = addresses.insert(address.value.to_string(), address) {
            let message = format!("two backends of the pool `{name}` have the address {}", address.value);
            findings.push(
                Draft::new(Code::AddressTwice, address.at.clone(), message)
                    .label("here again")
                    .also(twin.at.clone(), "first defined here")
                    .help("for a larger share of the keys, give one backend a larger `weight`"),
            );
        }
    }
}

fn name_twice(pool: &str, backend: &Backend, namesake: &Backend, findings: &mut Findings) {
    let written = |backend: &Backend| backend.name.as_ref().and_then(|name| name.at.clone());
    let place = |backend: &Backend| written(backend).or_else(|| backend.at.clone());
    let help = match written(backend).or(written(namesake)) {
        Some(_) => "the ring tells backends apart by their names: change one",
        None => "remove one; if both are meant, give each a `name`",
    };
    let name = backend.name.as_ref().map(|name| quoted(&name.value)).unwrap_or_default();
    findings.push(
        Draft::new(
            Code::NameTwice,
            place(backend),
            format!("two backends of the pool `{pool}` are named `{name}`"),
        )
        .label("here again")
        .also(place(namesake), "first defined here")
        .help(help),
    );
}

fn weights(pool: &Pool, findings: &mut Findings) {
    let path = joined("pools", &pool.name.value);
    if pool.backends.iter().all(|backend| backend.weight.value.is_zero()) {
        let first = pool.backends.first().and_then(|backend| backend.weight.at.clone());
        findings.push(
            Draft::new(
                Code::NoWeight,
                first,
                format!("all backends of the pool `{}` have weight 0", quoted(&pool.name.value)),
            )
            .label("no keys for this one, nor for the others")
            .help("give at least one backend a weight above 0"),
        );
    }
    if !pool.replicas.sound {
        return;
    }
    let replicas = pool.replicas.value;
    let nodes = total_nodes(pool, replicas);
    if nodes > MAX_NODES {
        let help = match most_replicas(pool, replicas) {
            0 => "no `replicas` fits: make the weights smaller, only their relation matters".to_owned(),
            most => format!("with these weights, `replicas = {most}` or less fits"),
        };
        let at = pool.replicas.at.clone().or_else(|| pool.name.at.clone());
        let message = format!("`{path}` would have {nodes} virtual nodes; {MAX_NODES} is the most");
        findings.push(
            Draft::new(Code::RingTooLarge, at, message)
                .label(format!(
                    "`replicas` is {replicas}{}",
                    if pool.replicas.is_written() { "" } else { " by default" }
                ))
                .help(help),
        );
    }
    for backend in &pool.backends {
        forced_node(backend, replicas, findings);
    }
}

/// Warns of a weight that would be rounded to no virtual node at all, were one not the least.
fn forced_node(backend: &Backend, replicas: u32, findings: &mut Findings) {
    let exact = u128::from(replicas) * u128::from(backend.weight.value.millionths());
    if exact == 0 || exact >= 500_000 {
        return;
    }
    let name = backend.name.as_ref().map(|name| quoted(&name.value)).unwrap_or_default();
    let least = format!("{:.6}", 1.0 / f64::from(replicas));
    let least = least.trim_end_matches('0').trim_end_matches('.');
    let message = format!("the weight of `{name}` is below one virtual node");
    findings.push(
        Draft::new(Code::ForcedNode, backend.weight.at.clone(), message)
            .label("gets one virtual node, which is more than its share")
            .help(format!("use weights from {least} up, or more `replicas`; 0 gives no keys")),
    );
}

/// The most replicas below `unfit` that fit; 0 if none do.
fn most_replicas(pool: &Pool, unfit: u32) -> u32 {
    let (mut fit, mut unfit) = (0, unfit);
    while unfit - fit > 1 {
        let middle = fit + (unfit - fit) / 2;
        let half = if total_nodes(pool, middle) > MAX_NODES { &mut unfit } else { &mut fit };
        *half = middle;
    }
    fit
}

fn total_nodes(pool: &Pool, replicas: u32) -> u64 {
    pool.backends.iter().fold(0, |sum, backend| sum.saturating_add(backend.weight.value.nodes(replicas)))
}

/// The pairs of times of which one must fit into the other.
fn times(pool: &Pool, findings: &mut Findings) {
    let path = joined("pools", &pool.name.value);
    let (health, connections) = (&pool.health, &pool.connections);
    let table = format!("{path}.health");
    let interval = ("interval", &health.interval);
    let why = "a probe must end before the next one begins";
    fits(&table, ("timeout", &health.timeout), interval, why, findings);
    let why = "probes become more frequent while something changes, not less";
    fits(&table, ("changing_interval", &health.changing_interval), interval, why, findings);
    let passive = &pool.passive;
    let cap = ("max_ejection", &passive.max_ejection);
    let why = "the first ejection can't be longer than the longest";
    fits(&format!("{path}.passive"), ("ejection", &passive.ejection), cap, why, findings);
    let why = "no connection idles longer than it may live";
    let age = ("max_age", &connections.max_age);
    fits(&format!("{path}.connections"), ("keep_alive", &connections.keep_alive), age, why, findings);
    let why = "an attempt that may be followed by another is given up before the last one would be";
    let head = ("timeouts.response_head", &pool.response_head);
    fits(&format!("{path}.repeats"), ("per_try", &pool.repeats.per_try), head, why, findings);
    let why = "another backend is asked while the first one may still answer";
    let first = match pool.repeats.per_try.value.is_zero() {
        true => head,
        false => ("per_try", &pool.repeats.per_try),
    };
    fits(&format!("{path}.repeats"), ("hedge_after", &pool.repeats.hedge_after), first, why, findings);
}

/// What is set for repeats and can't be meant.
fn repeats(pool: &Pool, findings: &mut Findings) {
    let (attempts, repeats) = (&pool.attempts, &pool.repeats);
    let path = joined("pools", &pool.name.value);
    if repeats.status.value.iter().any(|range| *range.start() < 400) {
        let message = format!("`{path}.repeats.status` has codes below 400");
        let draft = Draft::new(Code::OutOfRange, repeats.status.at.clone(), message);
        findings.push(draft.help("such answers are what was asked for: write codes from 400 to 599"));
    }
    if attempts.value > 1 || !attempts.sound {
        return;
    }
    let per_try = (!repeats.per_try.value.is_zero()).then_some(("per_try", &repeats.per_try.at));
    let hedge = (!repeats.hedge_after.value.is_zero()).then_some(("hedge_after", &repeats.hedge_after.at));
    let status = (!repeats.status.value.is_empty()).then_some(("status", &repeats.status.at));
    for (name, at) in [per_try, status, hedge].into_iter().flatten() {
        let Some(at) = at.clone() else { continue };
        let message = format!("`{path}.repeats.{name}` is set, but nothing is repeated");
        let draft =
            Draft::new(Code::NoEffect, at, message).also(attempts.at.clone(), "one attempt for each request");
        findings.push(draft.help("remove it, or allow more `attempts`"));
    }
}

type Named<'a> = (&'static str, &'a Located<Duration>);

/// Reports a duration that is longer than the one it must fit into.
fn fits(table: &str, inner: Named<'_>, outer: Named<'_>, why: &str, findings: &mut Findings) {
    let ((name, inner), (outer_name, outer)) = (inner, outer);
    if !inner.sound || !outer.sound || inner.value <= outer.value {
        return;
    }
    let shown = |located: &Located<Duration>| match located.is_written() {
        true => duration_text(located.value),
        false => format!("{} by default", duration_text(located.value)),
    };
    let draft = match &inner.at {
        Some(at) => {
            Draft::new(Code::Longer, at.clone(), format!("`{table}.{name}` is longer than `{outer_name}`"))
                .label(format!("`{outer_name}` is {}", shown(outer)))
                .also(outer.at.clone(), "")
        }
        None => Draft::new(
            Code::Longer,
            outer.at.clone(),
            format!("`{table}.{outer_name}` is shorter than `{name}`"),
        )
        .label(format!("`{name}` is {}", shown(inner))),
    };
    let most = duration_text(outer.value);
    findings.push(draft.help(format!("{why}: write `{name} = \"{most}\"` or less")));
}

fn probe(path: &str, health: Health, findings: &mut Findings) -> ProbePolicy {
    let http = health.http;
    let kind = match health.kind.value {
        HealthKind::Off => ProbeKind::Off,
        HealthKind::Tcp => ProbeKind::Tcp,
        HealthKind::Grpc => ProbeKind::Grpc { service: health.service },
        HealthKind::Http => {
            if http.method.value == "HEAD" && http.body_contains.value.is_some() {
                let message =
                    format!("`{path}.health.body_contains` looks into answers to HEAD, which have no body");
                findings.push(
                    Draft::new(Code::NoBody, http.body_contains.at.clone(), message)
                        .also(http.method.at.clone(), "no body")
                        .help("write `method = \"GET\"`"),
                );
            }
            ProbeKind::Http(HttpProbe {
                method: http.method.value,
                path: http.path,
                host: http.host,
                headers: http.headers,
                status: http.status,
                body_contains: http.body_contains.value,
            })
        }
    };
    ProbePolicy {
        kind,
        port: Some(health.port).filter(|port| *port > 0),
        interval: health.interval.value,
        changing_interval: health.changing_interval.value,
        jitter: health.jitter,
        timeout: health.timeout.value,
        rise: health.rise,
        fall: health.fall,
    }
}
