//! The configuration as written: every key, its kind, its default, its meaning, and where it stands.
//!
//! This is the one list of keys; documentation, schema and `effective` come from running it. Looks at each key alone;
//! what keys mean together is for [`super::meaning`]. Start at [`read`].

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    kind::{
        Choice, Flag, Integer, Kind,
        list::{HeaderName, Headers, List, NonEmpty, OWN_REQUEST_HEADERS, OWN_RESPONSE_HEADERS},
        measure, text,
    },
    section::{Located, Section, Shape},
};
use crate::{
    endpoint::Endpoint,
    proxy::{client::ForwardingHeaders, rewrite::FieldChanges, route::HostPattern},
    server::{ClientPolicy, Http2, ServerPolicy},
    telemetry::{AccessFormat, KeyInLog, LogFormat, LogPolicy},
    tls::{AcmePolicy, CertificateFiles, ClientAuth, MinVersion},
};

mod availability;
mod pool;
mod repeats;

pub(super) use pool::{Backend, Health, HealthKind, Pool};

/// The file. What could not be read is left out, and has been reported.
pub(super) struct AsWritten {
    pub(super) listeners: Vec<Listener>,
    pub(super) routes: Vec<Route>,
    /// Whether these are all routes.
    pub(super) routes_sound: bool,
    pub(super) pools: Vec<Pool>,
    /// Names of pools that are no tables.
    pub(super) broken_pools: Vec<String>,
    /// Whether there is a table of pools.
    pub(super) pools_sound: bool,
    pub(super) server: ServerPolicy,
    pub(super) client: ClientPolicy,
    pub(super) trusted_proxies: Located<Vec<IpNet>>,
    pub(super) admin: Admin,
    pub(super) log: LogPolicy,
    pub(super) access_log: AccessLog,
}

pub(super) struct Listener {
    pub(super) address: Located<Endpoint>,
    pub(super) mode: Located<u32>,
    pub(super) preface_from: Located<Vec<IpNet>>,
    pub(super) redirect: Located<u16>,
    pub(super) http2: Http2,
    pub(super) tls: Option<Tls>,
    /// The address if no name is written.
    pub(super) name: Located<String>,
}

pub(super) struct Tls {
    /// Those that could be read.
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) min_version: MinVersion,
    pub(super) client_auth: Located<ClientAuth>,
    pub(super) client_ca: Located<Option<PathBuf>>,
    pub(super) handshake_timeout: Duration,
    pub(super) hsts: Option<Arc<str>>,
    pub(super) acme: Option<Acme>,
    /// The whole table.
    pub(super) at: Option<super::finding::Span>,
}

pub(super) struct Acme {
    /// `None` if it is wrong.
    pub(super) policy: Option<AcmePolicy>,
}

pub(super) struct Route {
    pub(super) host: Located<HostPattern>,
    pub(super) path_prefix: Located<String>,
    /// `None` if it is missing or wrong.
    pub(super) pool: Option<Located<String>>,
    pub(super) replace_prefix: Located<Option<String>>,
    pub(super) request: FieldChanges,
    pub(super) response: FieldChanges,
    /// The whole route.
    pub(super) at: Option<super::finding::Span>,
}

pub(super) struct Admin {
    pub(super) address: Located<Option<SocketAddr>>,
    pub(super) token_file: Located<Option<PathBuf>>,
    pub(super) allow_unauthenticated_reads: Located<bool>,
}

pub(super) struct AccessLog {
    pub(super) format: Located<AccessLogFormat>,
    pub(super) file: Located<Option<PathBuf>>,
    pub(super) key: Located<KeyInLog>,
    pub(super) queue_lines: Located<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessLogFormat {
    Off,
    On(AccessFormat),
}

impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(format) => format.fmt(f),
        }
    }
}

/// Reads everything.
pub(super) fn read(root: &mut Section<'_>) -> AsWritten {
    let doc = "Where clients connect: one table for each address.";
    let listeners = root.tables("listeners", Shape::Blocks { least: 1 }, doc, listener);
    let doc = "Which requests go to which pool. Of several routes that match, one for the exact host wins over one for \
               all hosts below a domain, and that over `*`; then the longest path prefix wins. Without any route, \
               everything goes to the only pool.";
    let routes = root.tables("routes", Shape::Blocks { least: 0 }, doc, route);
    let doc =
        "The pools, each a table with a name of your choice: backends that share their keys out among them.";
    let pools = root.named("pools", text::pool_name(), doc, pool::read);
    let server = root.table("server", "The process.", server);
    let (client, trusted_proxies) = root.table("client", "Connections from clients.", client);
    let doc = "The admin listener: metrics, health, and questions about pools.";
    let admin = root.table("admin", doc, admin);
    let log = root.table("log", "Ringway's own log, on standard error.", log);
    let access_log = root.table("access_log", "One line for each request.", access_log);
    let listeners = listeners.map_or(vec![], |listed| listed.items.into_iter().flatten().collect());
    let routes_sound = routes.as_ref().map_or(!root.has("routes"), |listed| listed.sound);
    let routes = routes.map_or(vec![], |listed| listed.items);
    let pools_sound = pools.is_some();
    let (pools, broken_pools) = pools.map_or((vec![], vec![]), |named| (named.tables, named.broken));
    AsWritten {
        listeners,
        routes,
        routes_sound,
        pools,
        broken_pools,
        pools_sound,
        server,
        client,
        trusted_proxies,
        admin,
        log,
        access_log,
    }
}

fn listener(section: &mut Section<'_>) -> Option<Listener> {
    let doc = "The IP address and port to listen on, where port 0 takes any free port; or a Unix socket as \"unix:/PATH\".";
    let address = section.required("address", text::endpoint(), doc);
    let doc = "What metrics and logs call this listener.";
    let name = section.derived("name", text::name(), "the address", doc);
    let doc = "Who may connect to a Unix socket: the permissions of its file, in octal.";
    let mode = section.key("mode", text::file_mode(), 0o666, doc);
    let doc = "Networks and addresses of balancers in front whose connections begin with the PROXY protocol, version 1 or 2: from there it is \
               required and believed, from elsewhere it is not understood.";
    let preface_from = section.key("proxy_protocol_from", List(text::network()), vec![], doc);
    let doc = "The port of the listener that speaks TLS: this one then answers every request with a redirect to it; 0 means that it serves \
               requests itself.";
    let redirect = section.key("redirect_to_https", Integer::new(0, 65_535), 0, doc);
    let doc = "Whether it speaks HTTP/2: \"auto\" where it speaks TLS, with clients that ask for it in the handshake; \"prior-knowledge\" in the \
               clear too, with clients that begin with it; \"off\" with nobody.";
    let kind = Choice(&[Http2::Auto, Http2::PriorKnowledge, Http2::Off]);
    let http2 = section.key("http2", kind, Http2::Auto, doc).value;
    let doc = "The listener speaks TLS.";
    let tls = section.optional_table("tls", doc, tls);
    let address = address?;
    let name = name.unwrap_or_else(|| Located { value: address.value.to_string(), at: None, sound: true });
    section.record("name", text::name().literal(&name.value));
    Some(Listener { address, mode, preface_from, redirect, http2, tls, name })
}

fn tls(section: &mut Section<'_>) -> Tls {
    let doc = "The certificates: \"FILE\" with certificate and key in it, or { certificate, key }. Which one is shown follows from the \
               name that the client asks for; the first one is for all other names, and for clients that ask for none.";
    let example = "{ certificate = \"/etc/ringway/cert.pem\", key = \"/etc/ringway/key.pem\" }";
    let shape = Shape::Rows { short: "certificate", example };
    // Those that an authority gives need no others beside them.
    let found = match section.has("acme") && !section.has("certificates") {
        true => None,
        false => section.tables("certificates", shape, doc, certificate),
    };
    let doc = "The oldest version of TLS that is spoken.";
    let kind = Choice(&[MinVersion::Tls12, MinVersion::Tls13]);
    let min_version = section.key("min_version", kind, MinVersion::Tls12, doc).value;
    let doc = "Whether clients show certificates: they are not asked, they may, or they must.";
    let kind = Choice(&[ClientAuth::None, ClientAuth::Optional, ClientAuth::Required]);
    let client_auth = section.key("client_certificates", kind, ClientAuth::None, doc);
    let doc = "A PEM file with the certificates of those who sign clients' certificates; empty for none.";
    let client_ca = section.key("client_ca", text::OrEmpty(text::file()), None, doc);
    let doc = "How long a handshake may take.";
    let kind = measure::Time::above_zero("no handshake could end");
    let handshake_timeout = section.key("handshake_timeout", kind, Duration::from_secs(10), doc).value;
    let doc = "The Strict-Transport-Security (RFC 6797) of every answer here, in the place of a backend's; empty for none of ours.";
    let hsts = section.key("hsts", text::OrEmpty(text::transport_security()), None, doc).value;
    let doc = "The first certificate is asked for, and renewed when a third of its time is left, by ACME (RFC 8555), with the proof tls-alpn-01: \
               this listener must be what answers at port 443 of each name.";
    let acme = section.optional_table("acme", doc, acme);
    let certificates = found.map_or(vec![], |listed| listed.items.into_iter().flatten().collect());
    Tls { certificates, min_version, client_auth, client_ca, handshake_timeout, hsts, acme, at: section.at() }
}

fn acme(section: &mut Section<'_>) -> Acme {
    let doc = "The names that the certificate is for.";
    let names = section.required("names", NonEmpty::of(text::proved_name(), "[\"example.org\"]"), doc);
    let doc = "The folder in which the account and the certificate are kept. Ringway makes it, and is alone to read it.";
    let folder = section.required("folder", text::file(), doc);
    let doc = "Whom the authority may write to, as a URI; empty for nobody.";
    let contact = section.key("contact", text::OrEmpty(text::mail()), None, doc).value;
    let doc = "The authority's directory.";
    let default = "https://acme-v02.api.letsencrypt.org/directory".to_owned();
    let directory = section.key("directory", text::secure_url(), default, doc).value;
    let doc = "A PEM file with the certificates of those who sign the authority's own; empty for those that the system trusts.";
    let roots = section.key("roots", text::OrEmpty(text::file()), None, doc).value;
    let policy = names.zip(folder).map(|(names, folder)| AcmePolicy {
        names: names.value,
        contact,
        directory,
        folder: folder.value,
        roots,
    });
    Acme { policy }
}

fn certificate(section: &mut Section<'_>) -> Option<CertificateFiles> {
    let doc = "A PEM file with the certificate, and after it those that it is signed by.";
    let certificate = section.required("certificate", text::file(), doc);
    let doc = "A PEM file with its private key.";
    let key = section.derived("key", text::file(), "the certificate's file", doc);
    let doc = "A file with an OCSP answer as DER, which is stapled to the certificate; empty for none.";
    let ocsp = section.key("ocsp", text::OrEmpty(text::file()), None, doc).value;
    let certificate = certificate?.value;
    let key = key.map_or_else(|| certificate.clone(), |key| key.value);
    section.record("key", text::file().literal(&key));
    Some(CertificateFiles { certificate, key, ocsp })
}

fn route(section: &mut Section<'_>) -> Route {
    let doc =
        "The host of the request: `*` for any, `example.org`, or `*.example.org` for all hosts below it.";
    let host = section.key("host", text::host_pattern(), HostPattern::Any, doc);
    let doc =
        "The beginning of the path, in whole segments: `/api` matches `/api` and `/api/v1`, not `/apis`.";
    let path_prefix = section.key("path_prefix", text::path_prefix(), "/".to_owned(), doc);
    let pool = section.required("pool", text::pool_reference(), "The pool that answers.");
    let doc = "What stands in the place of `path_prefix` when the request goes on: `/` takes it away; empty leaves it as it is. Key and route see \
               the path as it came.";
    let replace_prefix = section.key("replace_prefix", text::OrEmpty(text::path_replacement()), None, doc);
    let doc = "Headers of requests to this route, changed on their way to the backend.";
    let request =
        section.optional_table("request_headers", doc, |section| field_changes(section, OWN_REQUEST_HEADERS));
    let doc = "Headers of backends' answers, changed on their way to the client.";
    let response = section
        .optional_table("response_headers", doc, |section| field_changes(section, OWN_RESPONSE_HEADERS));
    Route {
        host,
        path_prefix,
        pool,
        replace_prefix,
        request: request.unwrap_or_default(),
        response: response.unwrap_or_default(),
        at: section.at(),
    }
}

fn field_changes(section: &mut Section<'_>, own: &'static [&'static str]) -> FieldChanges {
    let kind = || Headers { own, whose: "Ringway" };
    let doc = "Headers that take the place of all of their name.";
    let set = section.key("set", kind(), BTreeMap::new(), doc).value;
    let doc = "Headers that are added to whatever is there.";
    let add = section.key("add", kind(), BTreeMap::new(), doc).value;
    let doc = "Headers that are taken away.";
    let remove = section.key("remove", List(HeaderName { own }), vec![], doc).value;
    FieldChanges::new(&set, &add, &remove)
}

fn server(section: &mut Section<'_>) -> ServerPolicy {
    let doc = "Threads that serve requests; 0 means one for each core.";
    let workers = section.key("workers", Integer::new(0, 1024), 0, doc).value;
    let doc = "The user whom the process becomes once everything is bound and open, with that user's group alone; empty to stay who it is.";
    let user = section.key("user", text::OrEmpty(text::token("a user")), None, doc).value;
    let doc = "A file in which operators' orders (drained backends, other weights) outlive a restart; empty for none.";
    let state_file = section.key("state_file", text::OrEmpty(text::file()), None, doc).value;
    let doc = "The configuration is read again when its file, or what that is a link to, changes.";
    let watch_config = section.key("watch_config", Flag, false, doc).value;
    let doc = "After the signal to stop, how long connections are still accepted while `/readyz` already says no: time \
               for whoever balances in front to notice.";
    let drain_delay = section.key("drain_delay", measure::Time::any(), Duration::ZERO, doc).value;
    let doc = "After that, how long requests under way may take before they are cut off.";
    let drain_timeout =
        section.key("drain_timeout", measure::Time::any(), Duration::from_secs(30), doc).value;
    ServerPolicy { workers, user, state_file, watch_config, drain_delay, drain_timeout }
}

fn client(section: &mut Section<'_>) -> (ClientPolicy, Located<Vec<IpNet>>) {
    let seconds = Duration::from_secs;
    let doc = "How long a client may take to send a request's head.";
    let kind = measure::Time::above_zero("no request could be read");
    let request_head_timeout = section.key("request_head_timeout", kind, seconds(10), doc).value;
    let doc = "How long a connection may be idle between requests.";
    let kind = measure::Time::above_zero("no connection could be used again");
    let keep_alive_timeout = section.key("keep_alive_timeout", kind, seconds(75), doc).value;
    let doc = "How long a body may stand still, in either direction.";
    let kind = measure::Time::above_zero("no body could be read");
    let idle_body_timeout = section.key("idle_body_timeout", kind, seconds(60), doc).value;
    let doc = "The longest request head: request line and headers together.";
    let kind = measure::Size::new(1 << 10, 1 << 20);
    let max_head_bytes = section.key("max_head_bytes", kind, 32 << 10, doc).value;
    let doc = "The most headers in a request.";
    let max_headers = section.key("max_headers", Integer::new(1, 1000), 100, doc).value;
    let doc = "The most connections at one time.";
    let max_connections = section.key("max_connections", Integer::new(1, 10_000_000), 50_000, doc).value;
    let doc = "The most connections from one address at one time; 0 means no bound.";
    let per_address =
        section.key("max_connections_per_address", Integer::new(0, 10_000_000), 0_usize, doc).value;
    let doc =
        "The most requests under way in all; further ones are answered with 503 at once; 0 means no bound.";
    let requests = section.key("max_requests_in_flight", Integer::new(0, 10_000_000), 0_usize, doc).value;
    let doc = "Networks and addresses of proxies in front, whose `X-Forwarded-For` is believed.";
    let trusted_proxies = section.key("trusted_proxies", List(text::network()), vec![], doc);
    let doc = "Which headers tell backends about the client, and are read where a trusted proxy sent them: \"x-forwarded\" for X-Forwarded-For, \
               -Proto and -Host, \"forwarded\" for Forwarded, \"both\" (of which X-Forwarded-For is read).";
    let kind =
        Choice(&[ForwardingHeaders::XForwarded, ForwardingHeaders::Forwarded, ForwardingHeaders::Both]);
    let forwarding_headers =
        section.key("forwarding_headers", kind, ForwardingHeaders::XForwarded, doc).value;
    let doc = "The name that is added to the `Via` header of requests; empty to add none.";
    let kind = text::OrEmpty(text::token("a name"));
    let via = section.key("via", kind, Some("ringway".to_owned()), doc).value;
    let policy = ClientPolicy {
        request_head_timeout,
        keep_alive_timeout,
        idle_body_timeout,
        max_head_bytes,
        max_headers,
        max_connections,
        max_requests_in_flight: Some(requests).filter(|bound| *bound > 0),
        max_connections_per_address: Some(per_address).filter(|bound| *bound > 0),
        trusted_proxies: trusted_proxies.value.clone(),
        forwarding_headers,
        via,
    };
    (policy, trusted_proxies)
}

fn admin(section: &mut Section<'_>) -> Admin {
    let doc = "The IP address and port of the admin listener; empty for none.";
    let default = SocketAddr::from(([127, 0, 0, 1], 9180));
    let address = section.key("address", text::OrEmpty(text::socket()), Some(default), doc);
    let doc =
        "A file with the token that requests must carry as `Authorization: Bearer TOKEN`; empty for none.";
    let token_file = section.key("token_file", text::OrEmpty(text::file()), None, doc);
    let doc = "Whether reading needs no token, even where an address of the network is listened on.";
    let allow_unauthenticated_reads = section.key("allow_unauthenticated_reads", Flag, false, doc);
    Admin { address, token_file, allow_unauthenticated_reads }
}

fn log(section: &mut Section<'_>) -> LogPolicy {
    let doc = "What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, also for single parts of the \
               program, as in `info,ringway::control=debug`.";
    let level = section.key("level", text::log_level(), "info".to_owned(), doc).value;
    let doc = "Lines for people or for machines.";
    let kind = Choice(&[LogFormat::Human, LogFormat::Json]);
    let format = section.key("format", kind, LogFormat::Human, doc).value;
    LogPolicy { level, format }
}

fn access_log(section: &mut Section<'_>) -> AccessLog {
    use AccessLogFormat::{Off, On};
    let doc = "The form of a line; `off` for no access log.";
    let kind = Choice(&[Off, On(AccessFormat::Json), On(AccessFormat::Common)]);
    let format = section.key("format", kind, Off, doc);
    let doc = "The file to append to; empty for standard output.";
    let file = section.key("file", text::OrEmpty(text::file()), None, doc);
    let doc = "How a request's key stands in its line: as a hash, plainly (it may be personal data), or not at all.";
    let kind = Choice(&[KeyInLog::Hashed, KeyInLog::Plain, KeyInLog::Omit]);
    let key = section.key("key", kind, KeyInLog::Hashed, doc);
    let doc = "Lines that may wait for the disk; further ones are dropped and counted.";
    let queue_lines = section.key("queue_lines", Integer::new(1, 1_000_000), 8192, doc);
    AccessLog { format, file, key, queue_lines }
}
