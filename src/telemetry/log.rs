//! The set-up of the program's own log, on standard error.
//!
//! Owns the thread that writes it. Nobody who logs waits for whoever reads: lines that find too many waiting are dropped,
//! because a log reader that hangs must not stop probes or requests.

use std::{fmt as std_fmt, io::IsTerminal, sync::OnceLock};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Registry, fmt,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

use crate::limits::LOG_QUEUE_LINES;

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl std_fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std_fmt::Formatter<'_>) -> std_fmt::Result {
        f.write_str(match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

/// What an operator chooses.
#[derive(Clone, Debug)]
pub struct LogPolicy {
    /// Filter directives, for example `info` or `ringway=debug`.
    pub level: String,
    /// The form.
    pub format: LogFormat,
}

/// The way to the level of a log that has been started.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Whether the level is one.
///
/// # Errors
/// It is not a list of filter directives.
pub fn check(policy: &LogPolicy) -> Result<(), String> {
    EnvFilter::try_new(&policy.level).map(drop).map_err(|error| error.to_string())
}

/// Takes another level. What can't be done, in a sentence.
pub fn change(from: &LogPolicy, to: &LogPolicy) -> Option<String> {
    if from.level == to.level {
        return None;
    }
    let filter = EnvFilter::try_new(&to.level).ok()?;
    let changed = FILTER.get()?.reload(filter);
    changed.err().map(|error| format!("the log's level stays as it was: {error}"))
}

/// Starts the log. Once in a process; a second call changes nothing. Lines that wait are written when the guard is dropped,
/// within a second.
///
/// # Errors
/// The level is not a list of filter directives.
pub fn start(policy: &LogPolicy) -> Result<WorkerGuard, String> {
    let filter = EnvFilter::try_new(&policy.level).map_err(|error| error.to_string())?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_QUEUE_LINES)
        .thread_name("ringway-log")
        .finish(std::io::stderr());
    let (filter, handle) = reload::Layer::new(filter);
    // A second log in a process is the tests' case alone.
    let _ = FILTER.set(handle);
    let registry = tracing_subscriber::registry().with(filter);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let started = match policy.format {
        LogFormat::Human => {
            let layer = fmt::layer().with_writer(writer).with_ansi(colour).with_target(false);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer().with_writer(writer).json().flatten_event(true).with_target(false);
            registry.with(layer).try_init()
        }
    };
    // Only the first proxy in a process can have the log; that is the tests' case alone.
    drop(started);
    Ok(guard)
}
