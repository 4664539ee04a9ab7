//! From the configuration as written to the configuration as meant: relations between keys, and the policies.
//!
//! Each key is sound by itself here, or marked as not; a relation is judged only if all its sides are sound. Never
//! parses, never reads a file. Start at [`mean`]; pools are in [`pool`].

use std::collections::HashMap;

use ipnet::IpNet;

use super::{
    Config,
    effective::joined,
    finding::{Code, Draft, Findings, quoted},
    raw::{AccessLogFormat, AsWritten, Listener, Pool, Route, Tls},
    section::Located,
    suggest,
};
use crate::{
    admin::AdminPolicy,
    endpoint::Endpoint,
    proxy::{
        rewrite::Rewrite,
        route::{HostPattern, RoutePolicy},
        trail::Explain,
    },
    server::{Http2, ListenerPolicy},
    telemetry::AccessLogPolicy,
    tls::{AcmePolicy, ClientAuth, TlsPolicy},
};

mod availability;
mod pool;

/// More pools than this are a mistake of whatever wrote the file.
const MAX_POOLS: usize = 4096;

/// The configuration; worth something only if nothing was found to be wrong.
pub(super) fn mean(written: AsWritten, findings: &mut Findings) -> Config {
    listeners(&written.listeners, findings);
    written.listeners.iter().for_each(|listener| secured(listener, findings));
    let routes = routes(&written, findings);
    admin(&written, findings);
    trust(&written, findings);
    let access_log = access_log(&written, findings);
    written.pools.iter().for_each(|pool| explaining(pool, &written.trusted_proxies, findings));
    let pools = written.pools;
    if let Some(first) = pools.get(MAX_POOLS) {
        let message = format!("there are {} pools; {MAX_POOLS} is the most", pools.len());
        findings
            .push(Draft::new(Code::TooMany, first.name.at.clone(), message).label("the first one too many"));
    }
    Config {
        server: written.server,
        listeners: written
            .listeners
            .into_iter()
            .map(|listener| ListenerPolicy {
                name: listener.name.value,
                address: listener.address.value,
                mode: listener.mode.value,
                preface_from: listener.preface_from.value,
                redirect: Some(listener.redirect.value).filter(|port| *port > 0),
                tls: listener.tls.map(|written| tls(written, listener.http2)),
                http2: listener.http2,
            })
            .collect(),
        client: written.client,
        routes,
        pools: pools.into_iter().map(|pool| pool::mean(pool, findings)).collect(),
        admin: AdminPolicy {
            address: written.admin.address.value,
            token_file: written.admin.token_file.value,
            allow_unauthenticated_reads: written.admin.allow_unauthenticated_reads.value,
        },
        log: written.log,
        access_log,
    }
}

/// Trusted clients can only be told where somebody is trusted.
fn explaining(pool: &Pool, trusted: &Located<Vec<IpNet>>, findings: &mut Findings) {
    let Located { value: Explain::Trusted, at: Some(at), .. } = &pool.explain else { return };
    if trusted.sound && trusted.value.is_empty() {
        let path = joined("pools", &pool.name.value);
        let message = format!("`{path}.explain = \"trusted\"`, but nobody is trusted");
        let draft = Draft::new(Code::NoEffect, at.clone(), message);
        findings.push(draft.help("name those who may ask in `client.trusted_proxies`"));
    }
}

fn listeners(listeners: &[Listener], findings: &mut Findings) {
    let mut addresses = HashMap::new();
    let mut names: HashMap<&str, &Located<String>> = HashMap::new();
    for listener in listeners {
        let (address, name) = (&listener.address, &listener.name);
        // Port 0 is another port each time.
        let is_any = address.value.socket().is_some_and(|socket| socket.port() == 0);
        let twin = addresses.insert(&address.value, address).filter(|_| !is_any);
        if let Some(twin) = twin {
            findings.push(
                Draft::new(
                    Code::ListenTwice,
                    address.at.clone(),
                    format!("two listeners on {}", address.value),
                )
                .label("here again")
                .also(twin.at.clone(), "first defined here")
                .help(match address.value {
                    Endpoint::Tcp(_) => "remove one of them, or change its port",
                    Endpoint::Unix(_) => "remove one of them, or change its path",
                }),
            );
        }
        let namesake = names.insert(&name.value, name);
        let Some(namesake) = namesake.filter(|other| name.is_written() || other.is_written()) else {
            continue;
        };
        findings.push(
            Draft::new(
                Code::NameTwice,
                name.at.clone(),
                format!("two listeners are named `{}`", quoted(&name.value)),
            )
            .label("here again")
            .also(namesake.at.clone(), "first defined here")
            .help("metrics and logs tell listeners apart by their names: change one"),
        );
    }
}

fn tls(tls: Tls, http2: Http2) -> TlsPolicy {
    let acme = tls.acme.and_then(|acme| acme.policy);
    let own = acme.as_ref().map(AcmePolicy::certificate);
    TlsPolicy {
        certificates: own.into_iter().chain(tls.certificates).collect(),
        acme,
        min_version: tls.min_version,
        client_auth: tls.client_auth.value,
        client_ca: tls.client_ca.value,
        handshake_timeout: tls.handshake_timeout,
        hsts: tls.hsts,
        offers_http2: http2 != Http2::Off,
    }
}

/// What a listener's keys mean together.
fn secured(listener: &Listener, findings: &mut Findings) {
    let is_unix = matches!(listener.address.value, Endpoint::Unix(_));
    // What `config show` prints is no mistake.
    let is_usual = listener.mode.value == 0o666;
    if !is_unix
        && !is_usual
        && let Some(at) = listener.mode.at.clone()
    {
        let message = format!("`mode` says nothing about {}", listener.address.value);
        findings.push(Draft::new(Code::NoEffect, at, message).help("it is for Unix sockets: remove it"));
    }
    let Some(tls) = &listener.tls else { return };
    if let Some(at) = listener.redirect.at.clone().filter(|_| listener.redirect.value > 0) {
        let message = format!("{} speaks TLS and would send clients away to TLS", listener.address.value);
        findings.push(
            Draft::new(Code::NoEffect, at, message)
                .also(tls.at.clone(), "TLS")
                .help("`redirect_to_https` is for the listener that does not speak it"),
        );
    }
    if is_unix {
        let message = format!("{} cannot speak TLS", listener.address.value);
        let draft = Draft::new(Code::NotForUnix, tls.at.clone(), message);
        findings.push(
            draft
                .also(listener.address.at.clone(), "a Unix socket, which leaves this machine nowhere")
                .help("remove the table, or listen on an IP address"),
        );
    }
    let (asked, ca) = (&tls.client_auth, &tls.client_ca);
    if !asked.sound || !ca.sound {
        return;
    }
    if asked.value != ClientAuth::None && ca.value.is_none() {
        let message = format!("`client_certificates = \"{}\"` needs `client_ca`", asked.value);
        findings.push(
            Draft::new(Code::Missing, asked.at.clone(), message)
                .help("name the PEM file with the certificates of those who sign clients' certificates"),
        );
    } else if asked.value == ClientAuth::None
        && let Some(at) = ca.at.clone().filter(|_| ca.value.is_some())
    {
        let message = "`client_ca` is set, but clients are not asked for certificates";
        findings.push(
            Draft::new(Code::NoEffect, at, message)
                .help("set `client_certificates = \"required\"` or `\"optional\"`"),
        );
    }
}

fn routes(written: &AsWritten, findings: &mut Findings) -> Vec<RoutePolicy> {
    let (routes, pools) = (&written.routes, &written.pools);
    // What is missing has been reported; what it leads to is not to be reported as well.
    if !written.pools_sound || !written.routes_sound {
        return vec![];
    }
    if routes.is_empty() {
        return if written.broken_pools.is_empty() { only_pool(pools, findings) } else { vec![] };
    }
    routes_twice(routes, findings);
    let names: HashMap<&str, usize> =
        pools.iter().enumerate().map(|(index, pool)| (pool.name.value.as_str(), index)).collect();
    let mut reached = vec![false; pools.len()];
    let mut policies = Vec::new();
    for (route, pool) in routes.iter().filter_map(|route| route.pool.as_ref().map(|pool| (route, pool))) {
        match names.get(pool.value.as_str()) {
            Some(index) => {
                reached[*index] = true;
                let (host, path_prefix) = (route.host.value.clone(), route.path_prefix.value.clone());
                let rewrite = rewrite(route);
                policies.push(RoutePolicy { host, path_prefix, pool: *index, rewrite });
            }
            None if written.broken_pools.contains(&pool.value) => {}
            None => unknown_pool(pool, pools, findings),
        }
    }
    for (pool, _) in pools.iter().zip(&reached).filter(|(_, reached)| !**reached) {
        let name = quoted(&pool.name.value);
        findings.push(
            Draft::new(Code::Unreached, pool.name.at.clone(), format!("no route leads to the pool `{name}`"))
                .label("never used")
                .help(format!("add a [[routes]] with `pool = \"{name}\"`, or remove the pool")),
        );
    }
    policies
}

fn rewrite(route: &Route) -> Rewrite {
    // Both without a final slash, so that what follows them begins with one.
    let bare = |prefix: &str| prefix.trim_end_matches('/').to_owned();
    let prefix = route.replace_prefix.value.as_deref().map(|to| (bare(&route.path_prefix.value), bare(to)));
    Rewrite { prefix, request: route.request.clone(), response: route.response.clone() }
}

fn routes_twice(routes: &[Route], findings: &mut Findings) {
    let mut first: HashMap<(String, &str), &Route> = HashMap::new();
    for route in routes.iter().filter(|route| route.host.sound && route.path_prefix.sound) {
        let (host, prefix) = (route.host.value.to_string(), route.path_prefix.value.as_str());
        let Some(twin) = first.get(&(host.clone(), prefix)) else {
            first.insert((host, prefix), route);
            continue;
        };
        let message = format!("two routes for host `{}` and path `{}`", quoted(&host), quoted(prefix));
        findings.push(
            Draft::new(Code::RouteTwice, route.at.clone(), message)
                .label("here again")
                .also(twin.at.clone(), "first defined here")
                .help("only one pool can answer: remove one route, or change its `host` or `path_prefix`"),
        );
    }
}

/// Without routes, everything goes to the only pool.
fn only_pool(pools: &[Pool], findings: &mut Findings) -> Vec<RoutePolicy> {
    if let [first, second, ..] = pools {
        let name = quoted(&first.name.value);
        let message = format!("there are {} pools and no routes", pools.len());
        findings.missing(
            Draft::new(Code::NoRoute, second.name.at.clone(), message)
                .label("which requests are for this pool?")
                .also(first.name.at.clone(), "and which for this one?")
                .help(format!("add a [[routes]] for each, for example with `path_prefix = \"/\"` and `pool = \"{name}\"`")),
        );
    }
    vec![RoutePolicy {
        host: HostPattern::Any,
        path_prefix: "/".into(),
        pool: 0,
        rewrite: Rewrite::default(),
    }]
}

fn unknown_pool(pool: &Located<String>, pools: &[Pool], findings: &mut Findings) {
    let names = || pools.iter().map(|pool| pool.name.value.as_str());
    let help = match suggest::nearest(&pool.value, names()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if pools.len() == 1 => {
            format!("the only pool is {}", suggest::all_of(&names().map(quoted).collect::<Vec<_>>()))
        }
        None if pools.len() <= 8 => {
            let names: Vec<String> = names().map(quoted).collect();
            format!("the pools are {}", suggest::all_of(&names))
        }
        None => format!("add [pools.{}], or name another pool", quoted(&pool.value)),
    };
    let message = format!("there is no pool `{}`", quoted(&pool.value));
    findings.missing(Draft::new(Code::UnknownPool, pool.at.clone(), message).help(help));
}

fn admin(written: &AsWritten, findings: &mut Findings) {
    let (address, token) = (&written.admin.address, &written.admin.token_file);
    let open = &written.admin.allow_unauthenticated_reads;
    let Some(socket) = address.value.filter(|_| address.sound) else {
        return;
    };
    let twin = written
        .listeners
        .iter()
        .find(|listener| listener.address.value == Endpoint::Tcp(socket) && socket.port() != 0);
    if let Some(twin) = twin {
        let default = if address.is_written() { "" } else { ", by default" };
        // Whichever is written can be pointed at; the listener always is.
        let (at, also) = match &address.at {
            Some(at) => (Some(at.clone()), twin.address.at.clone()),
            None => (twin.address.at.clone(), None),
        };
        findings.push(
            Draft::new(Code::ListenTwice, at, format!("the admin listener is on {socket} too{default}"))
                .also(also, "clients connect here")
                .help("give `admin.address` another port, or switch it off with \"\""),
        );
    }
    if socket.ip().is_loopback() || !token.sound || !open.sound {
        return;
    }
    if open.value {
        let what = if token.value.is_some() { "even without the token" } else { "and there is no token" };
        findings.push(
            Draft::new(
                Code::AdminReadable,
                open.at.clone(),
                format!("anyone who reaches {socket} can read it, {what}"),
            )
            .also(address.at.clone(), "not a loopback address")
            .help("this is right if a firewall or a network policy keeps others away"),
        );
    } else if token.value.is_none() {
        findings.push(
            Draft::new(
                Code::AdminOpen,
                address.at.clone(),
                format!("the admin listener on {socket} needs a token"),
            )
            .label("not a loopback address")
            .help(
                "set `token_file`, or `allow_unauthenticated_reads = true` if the network is to be trusted",
            ),
        );
    }
}

fn trust(written: &AsWritten, findings: &mut Findings) {
    let trusted = &written.trusted_proxies;
    if let Some(all) = trusted.value.iter().find(|network| network.prefix_len() == 0) {
        findings.push(
            Draft::new(
                Code::TrustsAll,
                trusted.at.clone(),
                format!("`client.trusted_proxies` contains {all}"),
            )
            .label("every client can claim any address")
            .help("name the networks of the proxies in front only"),
        );
    }
}

fn access_log(written: &AsWritten, findings: &mut Findings) -> Option<AccessLogPolicy> {
    let log = &written.access_log;
    if let AccessLogFormat::On(format) = log.format.value {
        let (file, key, queue_lines) = (log.file.value.clone(), log.key.value, log.queue_lines.value);
        return Some(AccessLogPolicy { format, file, key, queue_lines });
    }
    if let Some(file) = log.file.at.clone().filter(|_| log.format.sound && log.file.value.is_some()) {
        findings.push(
            Draft::new(Code::NoEffect, file, "`access_log.file` is set, but the access log is off")
                .also(log.format.at.clone(), "off here")
                .help("set `format = \"json\"` or `format = \"common\"`"),
        );
    }
    None
}
