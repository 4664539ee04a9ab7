//! The configuration: one TOML file, read into the policies of all other modules.
//!
//! Everything that is wrong is said at once, each with its place, its reason and its remedy. Never opens anything but
//! the file itself. It is read in two stages: `raw` is the file as written, key by key; `meaning` looks at keys
//! together and makes the policies. Under both lie `section`, a reader for one table, and `kind`, the kinds of
//! values. Start at [`parse`].

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    admin::AdminPolicy,
    control::probe::ProbePolicy,
    fleet::{LoadPolicy, MemberPolicy, OnAllDown, PassivePolicy},
    preface::PrefaceVersion,
    proxy::{policy::ForwardPolicy, route::RoutePolicy},
    server::{ClientPolicy, ListenerPolicy, ServerPolicy},
    telemetry::{AccessLogPolicy, LogPolicy},
    tls::BackendTlsPolicy,
    upstream::{Protocol, ReusePolicy},
};

mod describe;
mod effective;
mod finding;
mod kind;
mod meaning;
mod raw;
mod section;
mod suggest;
mod syntax;

pub use describe::{KeyDefault, KeyDoc, keys, schema};
pub use finding::{Code, ConfigErrors, Finding, Place};

use effective::{Entry, Node};
use finding::{Document, Draft, Findings};
use section::Section;

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A pool: which backends, how they are reached, and how one of them is chosen.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Its name, of letters, digits, `-`, `_` and `.`.
    pub name: Arc<str>,
    /// Virtual nodes for each unit of weight.
    pub replicas: u32,
    /// The backends, in the order of the file; names are unique.
    pub members: Vec<MemberPolicy>,
    /// What happens while all are down.
    pub on_all_down: OnAllDown,
    /// How often host names are resolved again.
    pub resolve_interval: Duration,
    /// How requests are forwarded.
    pub forward: ForwardPolicy,
    /// How connections are used again.
    pub reuse: ReusePolicy,
    /// How backends are probed.
    pub probe: ProbePolicy,
    /// What requests tell about backends.
    pub passive: PassivePolicy,
    /// How much a backend is given at once.
    pub load: LoadPolicy,
    /// How long a backend takes to get its keys.
    pub ramp: Duration,
    /// The share of hits with which a ramp goes on, where it goes by hits.
    pub ramp_hits: f64,
    /// A reload that leaves fewer backends with a weight is refused.
    pub min_backends: usize,
    /// The share of keys that may move in a minute. 0: no bound.
    pub max_moved_per_minute: f64,
    /// Which version of HTTP they are asked in.
    pub protocol: Protocol,
    /// Which version of the PROXY protocol connections to the backends begin with. `None`: neither.
    pub send_preface: Option<PrefaceVersion>,
    /// How connections to the backends are secured. `None`: not at all.
    pub tls: Option<BackendTlsPolicy>,
}

/// A configuration that is right, with all defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process.
    pub server: ServerPolicy,
    /// At least one.
    pub listeners: Vec<ListenerPolicy>,
    /// The client side.
    pub client: ClientPolicy,
    /// At least one; no two for the same requests.
    pub routes: Vec<RoutePolicy>,
    /// At least one, in the order of the file.
    pub pools: Vec<PoolConfig>,
    /// The admin listener.
    pub admin: AdminPolicy,
    /// The log.
    pub log: LogPolicy,
    /// `None` if there is none.
    pub access_log: Option<AccessLogPolicy>,
}

/// What a good file gives.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where it was read from, if from a file.
    pub file: Option<PathBuf>,
    /// What is allowed but doubtful.
    pub warnings: Vec<Finding>,
    /// The same configuration as a TOML document in which every key is written; it parses to the same again.
    pub effective: String,
    /// The same with what may be secret hidden, for the admin listener.
    pub public: String,
}

/// Reads a configuration from TOML. `file_name` is for messages only.
///
/// # Errors
///
/// All that is wrong, up to a hundred findings.
pub fn parse(source: &str, file_name: &str) -> Result<Loaded, ConfigErrors> {
    // Editors on some systems put a byte order mark in front.
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let document = Arc::new(Document::new(file_name, source));
    let mut findings = Findings::new(Arc::clone(&document));
    let Some(text) = syntax::repaired(document.text(), &mut findings) else {
        return Err(findings.into_errors());
    };
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    let (written, mut entries, mut findings) = Section::run(table.get_ref(), findings, raw::read);
    let config = meaning::mean(written, &mut findings);
    let warnings = findings.finish()?;
    write_routes(&config, &mut entries);
    let effective = effective::render(&entries);
    effective::hide_secrets(&mut entries);
    Ok(Loaded { effective, public: effective::render(&entries), config, warnings, file: None })
}

/// Reads a configuration from a file.
///
/// # Errors
///
/// As [`parse`], and if the file cannot be read, is not UTF-8, or is longer than 64 MiB.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    let unreadable = |message: String, help: &str| {
        let mut findings = Findings::new(Arc::new(Document::new(&name, "")));
        findings.push(Draft::new(Code::Unreadable, None, message).help(help));
        findings.into_errors()
    };
    let failed = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "a first file is two tables long: see `config/minimal.toml`",
            std::io::ErrorKind::PermissionDenied => "the user that Ringway runs as must be able to read it",
            _ => "it must be a file with TOML text",
        };
        unreadable(format!("cannot read the configuration: {error}"), help)
    };
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(failed)?.take(MAX_FILE_BYTES + 1);
    let length = file.read_to_end(&mut bytes).map_err(failed)?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(unreadable("the configuration is too long".to_owned(), "the most is 64 MiB"));
    }
    let source = String::from_utf8(bytes).map_err(|error| not_utf8(&name, &error))?;
    parse(&source, &name).map(|loaded| Loaded { file: Some(path.to_owned()), ..loaded })
}

/// Points at the first byte that is not UTF-8.
fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> ConfigErrors {
    let text = String::from_utf8_lossy(error.as_bytes());
    // Up to that byte the two texts are the same.
    let at = error.utf8_error().valid_up_to();
    let mut findings = Findings::new(Arc::new(Document::new(name, &text)));
    let message = "the configuration is not UTF-8";
    let draft = Draft::new(Code::Unreadable, at..at + 1, message);
    findings.push(draft.label("this byte").help("save the file as UTF-8"));
    findings.into_errors()
}

/// Where no route is written, the one that is meant is written into `effective`.
fn write_routes(config: &Config, entries: &mut Vec<Entry>) {
    let written = entries.iter().any(|(name, _)| name == "routes");
    let (false, [route]) = (written, config.routes.as_slice()) else {
        return;
    };
    let Some(pool) = config.pools.get(route.pool) else {
        return;
    };
    let value = |name: &str, text: &str| (name.to_owned(), Node::Value(kind::string(text)));
    let host = route.host.to_string();
    let route = vec![
        value("host", &host),
        value("path_prefix", &route.path_prefix),
        value("pool", &pool.name),
        value("replace_prefix", ""),
    ];
    let after_listeners = entries.len().min(1);
    entries.insert(after_listeners, ("routes".into(), Node::Tables(vec![route])));
}
