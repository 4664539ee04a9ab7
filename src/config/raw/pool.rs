//! A pool as written.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::availability::{self, Load, Moving, Passive};
use super::repeats::{self, Repeats};
use crate::{
    config::{
        finding::Span,
        kind::{
            Choice, Flag, Integer, Kind, Share,
            list::{Headers, KeySource, List, NonEmpty, OWN_PROBE_HEADERS, Status},
            measure::{Decimal, Size, Time},
            text,
        },
        section::{Located, Section, Shape},
    },
    fleet::{Address, OnAllDown},
    preface::PrefaceVersion,
    proxy::{
        key::{KeyPolicy, OnMissingKey, Source},
        policy::{ForwardPolicy, HostHeader, OnDrain},
        trail::Explain,
    },
    ring::Weight,
    tls::{BackendTlsPolicy, MinVersion},
    upstream::Protocol,
};

/// `[pools.NAME]`
pub(in crate::config) struct Pool {
    pub(in crate::config) name: Located<String>,
    /// Whether all backends could be read; if not, nothing can be said about all of them together.
    pub(in crate::config) backends_sound: bool,
    pub(in crate::config) backends: Vec<Backend>,
    pub(in crate::config) replicas: Located<u32>,
    pub(in crate::config) on_all_down: OnAllDown,
    pub(in crate::config) resolve_interval: Duration,
    pub(in crate::config) forward: ForwardPolicy,
    pub(in crate::config) moving: Moving,
    pub(in crate::config) load: Load,
    pub(in crate::config) passive: Passive,
    pub(in crate::config) attempts: Located<usize>,
    pub(in crate::config) response_head: Located<Duration>,
    pub(in crate::config) repeats: Repeats,
    pub(in crate::config) explain: Located<Explain>,
    pub(in crate::config) connections: Connections,
    pub(in crate::config) health: Health,
    pub(in crate::config) protocol: Located<Protocol>,
    pub(in crate::config) send_preface: Option<PrefaceVersion>,
    pub(in crate::config) tls: Option<PoolTls>,
}

/// `[pools.NAME.tls]`
pub(in crate::config) struct PoolTls {
    pub(in crate::config) policy: BackendTlsPolicy,
    pub(in crate::config) key: Located<Option<PathBuf>>,
    pub(in crate::config) accepts_any: Located<bool>,
    pub(in crate::config) roots: Located<Option<PathBuf>>,
    pub(in crate::config) at: Option<Span>,
}

pub(in crate::config) struct Backend {
    /// `None` if it is missing or wrong.
    pub(in crate::config) address: Option<Located<Address>>,
    /// The address as written if no name is; `None` if what is written is wrong.
    pub(in crate::config) name: Option<Located<String>>,
    pub(in crate::config) weight: Located<Weight>,
    /// The whole backend.
    pub(in crate::config) at: Option<Span>,
}

/// `[pools.NAME.connections]`
pub(in crate::config) struct Connections {
    pub(in crate::config) max_idle: Located<usize>,
    pub(in crate::config) keep_alive: Located<Duration>,
    pub(in crate::config) max_age: Located<Duration>,
}

/// `[pools.NAME.health]`
pub(in crate::config) struct Health {
    pub(in crate::config) kind: Located<HealthKind>,
    pub(in crate::config) interval: Located<Duration>,
    pub(in crate::config) changing_interval: Located<Duration>,
    pub(in crate::config) jitter: f64,
    pub(in crate::config) timeout: Located<Duration>,
    pub(in crate::config) rise: u32,
    pub(in crate::config) fall: u32,
    pub(in crate::config) port: u16,
    pub(in crate::config) http: HttpHealth,
    pub(in crate::config) service: String,
}

/// The keys of `[pools.NAME.health]` that belong to `kind = "http"`.
pub(in crate::config) struct HttpHealth {
    pub(in crate::config) method: Located<String>,
    pub(in crate::config) path: String,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) headers: BTreeMap<String, String>,
    pub(in crate::config) status: Vec<RangeInclusive<u16>>,
    pub(in crate::config) body_contains: Located<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SendPreface(Option<PrefaceVersion>);

impl fmt::Display for SendPreface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "off",
            Some(PrefaceVersion::V1) => "v1",
            Some(PrefaceVersion::V2) => "v2",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum HealthKind {
    Tcp,
    Http,
    Grpc,
    Off,
}

impl fmt::Display for HealthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Off => "off",
        })
    }
}

pub(super) fn read(section: &mut Section<'_>, name: Located<String>) -> Pool {
    let key = key(section);
    let moving = availability::moving(section);
    let doc = "Virtual nodes of a backend of weight 1. More spread the keys more evenly, and take more memory. To \
               change it moves most keys.";
    let replicas = section.key("replicas", Integer::new(1, 65_536), 512, doc);
    let doc = "What becomes of a request while all backends are down: it is refused with 503, or sent all the same.";
    let kind = Choice(&[OnAllDown::Refuse, OnAllDown::TryAnyway]);
    let on_all_down = section.key("on_all_down", kind, OnAllDown::Refuse, doc).value;
    let doc = "The `Host` header that backends see: the client's, or the backend's own address.";
    let kind = Choice(&[HostHeader::Client, HostHeader::Backend]);
    let host_header = section.key("host_header", kind, HostHeader::Client, doc).value;
    let doc = "How many backends are tried for one request, in ring order, the owner included.";
    let attempts = section.key("attempts", Integer::new(1, 16), 3, doc);
    let doc =
        "Request bodies up to this size are kept, so that they can be sent to another backend; 0 keeps none.";
    let repeat_body_bytes = section.key("repeat_body_bytes", Size::new(0, 16 << 20), 64 << 10, doc).value;
    let doc = "The largest request body, past which it is refused with 413; 0 means no bound.";
    let max_body_bytes = section.key("max_body_bytes", Size::new(0, 1 << 40), 0_u64, doc).value;
    let doc = "The protocols that a client may change to (`Upgrade`); what passes then is not looked at. Others are not asked for.";
    let upgrades = section.key("upgrades", List(text::protocol()), vec!["websocket".to_owned()], doc).value;
    let doc = "What becomes of connections that have changed their protocol when Ringway stops: they may go on until `server.drain_timeout`, \
               or are closed at once.";
    let kind = Choice(&[OnDrain::Wait, OnDrain::Close]);
    let upgraded_on_drain = section.key("upgraded_on_drain", kind, OnDrain::Wait, doc).value;
    let doc = "What connections to backends begin with: nothing, or the client's addresses in version 1 or 2 of the PROXY protocol. Such a \
               connection is used for one request.";
    let kind = Choice(&[
        SendPreface(None),
        SendPreface(Some(PrefaceVersion::V1)),
        SendPreface(Some(PrefaceVersion::V2)),
    ]);
    let send_preface = section.key("send_proxy_protocol", kind, SendPreface(None), doc).value.0;
    let doc = "The version of HTTP that backends are asked in: \"http/1.1\"; \"h2\" over TLS, \"h2c\" in the clear, with many requests on one \
               connection; \"auto\" for whichever of the two a backend takes in the handshake of TLS.";
    let kind = Choice(&[Protocol::Http1, Protocol::H2, Protocol::H2c, Protocol::Auto]);
    let protocol = section.key("protocol", kind, Protocol::Http1, doc);
    let doc = "Whom answers tell their key's owner, the backend, the reason and the attempts, in headers (Ringway-Owner and others): nobody, trusted \
               clients that ask with the header Ringway-Explain, or everybody.";
    let kind = Choice(&[Explain::Off, Explain::Trusted, Explain::Always]);
    let explain = section.key("explain", kind, Explain::Off, doc);
    let doc = "How often host names of backends are resolved again.";
    let kind = Time::above_zero("names would be resolved without a pause");
    let resolve_interval = section.key("resolve_interval", kind, Duration::from_secs(30), doc).value;
    let doc = "The backends: \"ADDRESS\" or { name, address, weight }, or [[pools.NAME.backends]] for each.";
    let found = section.tables(
        "backends",
        Shape::Rows {
            short: "address",
            example: "\"127.0.0.1:9001\", { name = \"b\", address = \"127.0.0.1:9002\" }",
        },
        doc,
        backend,
    );
    let [connect, response_head, idle_body, total, upgraded_idle] =
        section.table("timeouts", "How long a backend may take.", timeouts);
    let repeats =
        section.table("repeats", "Requests that are sent again: how many, and after what.", repeats::read);
    let connections =
        section.table("connections", "Connections to backends that are used again.", connections);
    let health = section.table("health", "Probes: whether a backend is up.", health);
    let tls = section.optional_table(
        "tls",
        "Connections to the backends are secured by TLS, those of health checks too.",
        tls,
    );
    let load = section.table("load", "How much a backend is given at once.", availability::load);
    let passive = section.table("passive", "What requests tell about backends.", availability::passive);
    let (backends, all) = found.map_or((vec![], false), |listed| (listed.items, listed.sound));
    Pool {
        name,
        backends_sound: all
            && backends.iter().all(|backend| backend.address.is_some() && backend.weight.sound),
        backends,
        replicas,
        on_all_down,
        resolve_interval,
        forward: ForwardPolicy {
            key,
            host_header,
            attempts: attempts.value,
            repeat_body_bytes,
            repeats: repeats.policy.clone(),
            max_body_bytes: Some(max_body_bytes).filter(|bound| *bound > 0),
            connect_timeout: connect.value,
            response_head_timeout: response_head.value,
            idle_body_timeout: idle_body.value,
            total_timeout: Some(total.value).filter(|bound| !bound.is_zero()),
            upgrades,
            upgraded_idle_timeout: upgraded_idle.value,
            upgraded_on_drain,
            on_move: moving.on_move,
            move_spread: moving.move_spread,
            affinity: moving.affinity,
            when_full: load.when_full.value,
            queue: load.queue,
            queue_timeout: load.queue_timeout,
            failures: passive.failures.clone(),
            adaptive: load.policy.adaptive,
            explain: explain.value,
            warmth_header: moving.ramp_header.value.as_deref().map(str::to_ascii_lowercase),
        },
        moving,
        load,
        passive,
        attempts,
        response_head,
        repeats,
        explain,
        connections,
        health,
        protocol,
        send_preface,
        tls,
    }
}

fn tls(section: &mut Section<'_>) -> PoolTls {
    let doc =
        "The name that the backends' certificates must be for; empty for the host in each one's address.";
    let server_name = section.key("server_name", text::OrEmpty(text::host_name()), None, doc).value;
    let doc = "A PEM file with the certificates of those who sign the backends' certificates; empty for those that the system trusts.";
    let roots = section.key("roots", text::OrEmpty(text::file()), None, doc);
    let doc = "A PEM file with a certificate that is shown to the backends; empty for none.";
    let certificate = section.key("certificate", text::OrEmpty(text::file()), None, doc).value;
    let doc = "A PEM file with its private key; empty for the certificate's file.";
    let key = section.key("key", text::OrEmpty(text::file()), None, doc);
    let doc = "The oldest version of TLS that is spoken.";
    let kind = Choice(&[MinVersion::Tls12, MinVersion::Tls13]);
    let min_version = section.key("min_version", kind, MinVersion::Tls12, doc).value;
    let doc = "Backends are not asked to prove who they are: whoever is on the way can read and change all. For tests.";
    let accepts_any = section.key("danger_accept_any_certificate", Flag, false, doc);
    let policy = BackendTlsPolicy {
        server_name,
        roots: roots.value.clone(),
        certificate,
        key: key.value.clone(),
        min_version,
        accepts_any_certificate: accepts_any.value,
    };
    PoolTls { policy, key, accepts_any, roots, at: section.at() }
}

/// `key` and `on_missing_key`
fn key(section: &mut Section<'_>) -> KeyPolicy {
    let doc = "Where a request's key comes from: a list of sources, of which the first one present wins. Sources are \
               `header:NAME`, `cookie:NAME`, `query:NAME`, `path`, `uri` (path and query), `path-prefix:N` (N \
               segments), `path-regex:RE` (the first group), `host`, `method` and `client-address`. A list in the \
               list joins sources: all must be present.";
    let kind = NonEmpty::of(KeySource, "[\"path\"]");
    let sources = section.key("key", kind, vec![Source::Path], doc).value;
    let doc = "What becomes of a request without a key: the client's address is the key, any backend is taken, or it \
               is refused with 400.";
    let kind = Choice(&[OnMissingKey::ClientAddress, OnMissingKey::Spread, OnMissingKey::Refuse]);
    let on_missing = section.key("on_missing_key", kind, OnMissingKey::ClientAddress, doc).value;
    KeyPolicy { sources, on_missing }
}

fn backend(section: &mut Section<'_>) -> Backend {
    let doc = "Where it is: \"IP:PORT\", \"[IPv6]:PORT\", \"HOST:PORT\" or \"unix:/PATH\".";
    let address = section.required("address", text::address(), doc);
    let doc = "What the ring hashes. A backend that keeps its name keeps its keys, whatever its address.";
    let name = section.derived("name", text::name(), "the address as written", doc);
    // A wrong name is not replaced: two of them would then seem to be one name that stands twice.
    let default = || {
        let written = section.text_of("address").filter(|_| address.is_some() && !section.has("name"));
        written.map(|written| Located { value: written.to_owned(), at: None, sound: true })
    };
    let name = name.or_else(default);
    if let Some(name) = &name {
        section.record("name", text::name().literal(&name.value));
    }
    let doc = "Its share of the keys, relative to the others; 0 for none. At most six decimals.";
    let weight = section.key("weight", Decimal, Weight::ONE, doc);
    Backend { address, name, weight, at: section.at() }
}

/// `connect`, `response_head`, `idle_body`, `total`, `upgraded_idle`
fn timeouts(section: &mut Section<'_>) -> [Located<Duration>; 5] {
    let seconds = Duration::from_secs;
    let kind = Time::above_zero("no connection could be made");
    let connect = section.key("connect", kind, seconds(1), "To connect, before the next backend is tried.");
    let kind = Time::above_zero("no answer could come");
    let doc = "From the end of the request to the head of the answer.";
    let response_head = section.key("response_head", kind, seconds(60), doc);
    let kind = Time::above_zero("no body could come");
    let idle_body =
        section.key("idle_body", kind, seconds(60), "How long a body may stand still, in either direction.");
    let doc = "The whole exchange with all its attempts, up to a change of protocol; 0 means no bound.";
    let total = section.key("total", Time::any(), Duration::ZERO, doc);
    let kind = Time::above_zero("no other protocol could be used");
    let doc = "How long a connection that has changed its protocol may be silent in both directions.";
    let upgraded_idle = section.key("upgraded_idle", kind, seconds(3600), doc);
    [connect, response_head, idle_body, total, upgraded_idle]
}

fn connections(section: &mut Section<'_>) -> Connections {
    let doc = "Idle connections kept for each worker and backend.";
    let max_idle = section.key("max_idle", Integer::new(0, 10_000), 64, doc);
    let doc =
        "How long an idle connection is kept. Below what backends allow, so that they do not close it first.";
    let kind = Time::above_zero("no connection could be used again; to reuse none, write `max_idle = 0`");
    let keep_alive = section.key("keep_alive", kind, Duration::from_secs(30), doc);
    let doc = "The age past which a connection is not used again.";
    let kind = Time::above_zero("no connection could be used again; to reuse none, write `max_idle = 0`");
    let max_age = section.key("max_age", kind, Duration::from_secs(600), doc);
    Connections { max_idle, keep_alive, max_age }
}

fn health(section: &mut Section<'_>) -> Health {
    let pause = || Time::above_zero("probes would follow each other without a pause");
    let doc = "`tcp` connects, `http` asks for a page, `grpc` asks as gRPC does (the pool's `protocol` is \"h2\" or \"h2c\"), `off` takes every backend for serving.";
    let kind = Choice(&[HealthKind::Tcp, HealthKind::Http, HealthKind::Grpc, HealthKind::Off]);
    let kind = section.key("kind", kind, HealthKind::Tcp, doc);
    let doc = "Time between probes of a backend.";
    let interval = section.key("interval", pause(), Duration::from_secs(5), doc);
    let doc = "Time between probes while a backend is changing from up to down or back; the interval, if that is shorter.";
    let changing_interval =
        section.key("changing_interval", pause(), Duration::from_secs(1).min(interval.value), doc);
    let doc = "The share of the interval by which probes are spread, so that they do not all come at once.";
    let jitter = section.key("jitter", Share, 0.1, doc).value;
    let doc =
        "How long a probe may take; at most `interval`, which it is if that is shorter than the default.";
    let timeout = Time::above_zero("every probe would fail");
    let timeout = section.key("timeout", timeout, Duration::from_secs(2).min(interval.value), doc);
    let doc = "Probes in a row that must pass before a backend is up.";
    let rise = section.key("rise", Integer::new(1, 100), 2, doc).value;
    let doc = "Probes in a row that must fail before a backend is down.";
    let fall = section.key("fall", Integer::new(1, 100), 3, doc).value;
    let doc = "The port that is probed; 0 means the backend's own.";
    let port = section.key("port", Integer::new(0, 65_535), 0, doc).value;
    let is_http = kind.value == HealthKind::Http;
    let http = section.only_if(is_http, ("kind", &kind), "\"http\"", http_health);
    let is_grpc = kind.value == HealthKind::Grpc;
    let service = section.only_if(is_grpc, ("kind", &kind), "\"grpc\"", grpc_service);
    Health { service, kind, interval, changing_interval, jitter, timeout, rise, fall, port, http }
}

fn grpc_service(section: &mut Section<'_>) -> String {
    let doc = "The service that is asked about; empty for the backend as a whole.";
    section.key("service", text::OrEmpty(text::token("a service")), None, doc).value.unwrap_or_default()
}

fn http_health(section: &mut Section<'_>) -> HttpHealth {
    let method = section.key("method", text::token("a method"), "GET".to_owned(), "The probe's method.");
    let doc = "What the probe asks for; a query is allowed.";
    let path = section.key("path", text::probe_path(), "/".to_owned(), doc).value;
    let doc = "The probe's `Host` header; empty for the backend's address.";
    let host = section.key("host", text::OrEmpty(text::authority()), None, doc).value;
    let kind = Headers { own: OWN_PROBE_HEADERS, whose: "the probe" };
    let headers = section.key("headers", kind, BTreeMap::new(), "Further headers of the probe.").value;
    let doc = "The status codes of a backend that is up: codes and ranges.";
    let kind = NonEmpty::of(Status, "[\"200-399\"]");
    let status = section.key("status", kind, vec![200..=399], doc).value;
    let doc = "Text that must stand in the answer's body; empty for no such demand.";
    let kind = text::OrEmpty(text::plain("text"));
    let body_contains = section.key("body_contains", kind, None, doc);
    HttpHealth { method, path, host, headers, status, body_contains }
}
