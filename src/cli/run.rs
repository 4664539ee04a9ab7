//! `ringway run`: the proxy, from its configuration to its last answer.
//!
//! Owns signals, and the look at the configuration's file. The first SIGTERM or SIGINT drains, a second one stops at once; SIGHUP has the
//! configuration read again.

use std::{os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failed, FileArgument, exit, fail, load, runtime};
use crate::{
    app::{Running, StartError, Stopped},
    config::Loaded,
    limits::CONFIG_LOOK,
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
            until_stopped(&running, &mut signals).await;
        }
        () = signals.next() => {}
    }
    Ok(running.stop(signals.next()).await)
}

/// Runs until asked to stop. Until then, a new configuration is taken in when asked for, or when its file changes.
async fn until_stopped(running: &Running, signals: &mut Signals) {
    let reloader = running.reloader();
    let mut look = tokio::time::interval(CONFIG_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = reloader.watched().map(identity);
    loop {
        let asked = tokio::select! {
            () = Signals::stop(&mut signals.terminate, &mut signals.interrupt) => return,
            _ = signals.hang_up.recv() => true,
            _ = look.tick() => false,
        };
        let now = reloader.watched().map(identity);
        if asked || (now.is_some() && seen.is_some() && now != seen) {
            // It has said what came of it.
            let _ = reloader.reload().await;
        }
        seen = now;
    }
}

/// What tells one state of a file from another. Links are followed, so that a change of what they lead to is seen: so Kubernetes changes a
/// mounted ConfigMap.
fn identity(file: &Path) -> Option<(u64, u64, u64, SystemTime)> {
    let found = file.metadata().ok()?;
    Some((found.dev(), found.ino(), found.len(), found.modified().ok()?))
}

/// SIGTERM and SIGINT, and SIGHUP.
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
    async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// The next request to stop, before it is ready or while it stops.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                () = Signals::stop(&mut self.terminate, &mut self.interrupt) => return,
                _ = self.hang_up.recv() => tracing::warn!("SIGHUP is ignored while the proxy starts or stops"),
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
