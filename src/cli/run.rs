//! `ringway run`: the proxy, from its configuration to its last answer.
//!
//! Owns signals. The first SIGTERM or SIGINT drains, a second one stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failed, FileArgument, exit, fail, load, runtime};
use crate::{
    app::{Running, StartError, Stopped},
    config::Loaded,
    telemetry,
};

/// Runs until told to stop.
pub(super) fn run(file: &FileArgument) -> Result<(), Failed> {
    let loaded = load(file)?;
    let _log = telemetry::log::start(&loaded.config.log)
        .map_err(|error| fail(exit::CONFIG, format_args!("log level: {error}")))?;
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", file.config.display());
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %file.config.display(), "starting");
    runtime()?.block_on(serve(loaded, |_| {})).map(drop)
}

/// Starts the proxy, tells where it listens, and waits for its end.
pub(super) async fn serve(loaded: Loaded, started: impl FnOnce(&Running)) -> Result<Stopped, Failed> {
    // Before anything slow: a signal that comes early must not kill the process half started.
    let mut signals = Signals::new()?;
    raise_file_limit();
    let running = Running::start(loaded).map_err(|error| {
        let code = match error {
            StartError::Bind { .. } => exit::TEMPORARY,
            StartError::Ring { .. }
            | StartError::Orders(_)
            | StartError::Token { .. }
            | StartError::Tls { .. }
            | StartError::BackendTls { .. }
            | StartError::Privileges { .. }
            | StartError::AccessLog { .. } => exit::CONFIG,
            _ => exit::FAILURE,
        };
        fail(code, error)
    })?;
    let listeners: Vec<_> = running.listeners.iter().map(ToString::to_string).collect();
    let admin = running.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(listeners = listeners.join(", "), admin, "bound; probing backends");
    tokio::select! {
        () = running.ready() => {
            tracing::info!("ready");
            started(&running);
            signals.next().await;
        }
        () = signals.next() => {}
    }
    Ok(running.stop(signals.next()).await)
}

/// SIGTERM and SIGINT, and SIGHUP so that it does not kill.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failed> {
        let listen =
            |kind| signal(kind).map_err(|error| fail(exit::FAILURE, format_args!("signals: {error}")));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next request to stop.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP is ignored: a new configuration needs a restart");
                }
            }
        }
    }
}

/// Two descriptors a request: the soft limit of 1024 that shells give is soon reached.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of open files can't be raised"),
    }
}
