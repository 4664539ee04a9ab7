//! `ringway run`: the proxy, from its configuration to its last answer.
//!
//! Owns signals, and the look at the configuration's file. The first SIGTERM or SIGINT drains, a second one stops at once; SIGHUP has the
//! configuration read again, SIGUSR2 a new process take over.

use std::{io, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failed, FileArgument, exit, fail, load, runtime};
use crate::{
    admin::OperatorError,
    app::{Inherited, Running, Source, StartError, Stopped, Upgrade},
    config::Loaded,
    limits::CONFIG_LOOK,
    privileges, service,
    takeover::{Predecessor, Program, Succession},
    telemetry,
};

/// Runs until told to stop.
pub(super) fn run(file: &FileArgument) -> Result<(), Failed> {
    let mut predecessor = Predecessor::find().map_err(|error| before_failed(&error))?;
    let done = run_after(file, &mut predecessor);
    if let (Err(failed), Some(predecessor)) = (&done, &predecessor) {
        predecessor.refuse(&failed.reason);
    }
    done
}

fn before_failed(error: &io::Error) -> Failed {
    fail(exit::FAILURE, format_args!("the process before this one: {error}"))
}

/// Runs in the place of another process, if there is one. It is taken out once it has been told that this one is ready.
fn run_after(file: &FileArgument, predecessor: &mut Option<Predecessor>) -> Result<(), Failed> {
    let inherited = match predecessor {
        None => Inherited::from_service_manager()
            .map_err(|error| fail(exit::CONFIG, format_args!("from the service manager: {error}")))?,
        Some(predecessor) => {
            let sockets = predecessor.sockets().map_err(|error| before_failed(&error))?;
            Inherited { sockets, from: Source::Predecessor }
        }
    };
    // Before it is read: what changes from now on has not been.
    let seen = identity(&file.config);
    let loaded = load(file)?;
    if let Some(user) = &loaded.config.server.user {
        privileges::narrow(user);
    }
    let _log = telemetry::log::start(&loaded.config.log)
        .map_err(|error| fail(exit::CONFIG, format_args!("log level: {error}")))?;
    for warning in &loaded.warnings {
        tracing::warn!("{}: {warning}", file.config.display());
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %file.config.display(), "starting");
    runtime()?.block_on(serve((loaded, seen), inherited, predecessor, |_| {})).map(drop)
}

/// Starts the proxy from a configuration, with what its file was when it was read; tells where it listens, and waits for its end.
pub(super) async fn serve(
    (loaded, seen): (Loaded, Option<Identity>),
    inherited: Inherited,
    predecessor: &mut Option<Predecessor>,
    started: impl FnOnce(&Running),
) -> Result<Stopped, Failed> {
    // Before anything slow: a signal that comes early must not kill the process half started.
    let mut signals = Signals::new()?;
    let program = Program::this();
    raise_file_limit();
    let mut running = Running::start_with(loaded, inherited).map_err(|error| {
        let code = match error {
            // Rights do not come by waiting.
            StartError::Bind { ref error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                exit::CONFIG
            }
            StartError::Bind { .. } => exit::TEMPORARY,
            StartError::Ring { .. }
            | StartError::Orders(_)
            | StartError::Token { .. }
            | StartError::LeftOver(_)
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
        () = ready(&running) => {}
        () = signals.stop("it is not ready yet") => return Ok(stop(running, &mut signals).await),
    }
    if let Some(before) = predecessor.as_ref() {
        tokio::select! {
            told = before.ready() => if !told.map_err(|error| before_failed(&error))? {
                tracing::warn!("the process before this one is gone: going on without a word from it");
            },
            () = signals.stop("it is not in charge yet") => return Ok(stop(running, &mut signals).await),
        }
    }
    if let Some(before) = predecessor.take() {
        running.take_charge();
        before.taken();
        tracing::info!("took over");
    } else {
        service::ready("serving");
    }
    tracing::info!("ready");
    started(&running);
    match until_ended(&mut running, &mut signals, program, seen).await {
        Some(pid) => {
            service::hand_over(pid);
            Ok(running.leave(signals.stop(DRAINING)).await)
        }
        None => Ok(stop(running, &mut signals).await),
    }
}

/// Runs until asked to stop, or until another process has taken over: its number. Until then, a new configuration is taken in when asked
/// for, or when its file changes.
async fn until_ended(
    running: &mut Running,
    signals: &mut Signals,
    program: io::Result<Program>,
    seen: Option<Identity>,
) -> Option<u32> {
    let reloader = running.reloader().clone();
    let mut heir = Heir { program, under_way: None };
    let mut looks = Looks { read: seen, last: seen };
    let mut look = tokio::time::interval(CONFIG_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let occasion = tokio::select! {
            asked = signals.next() => match asked {
                // A process that was about to take over is not to; one that has already is on its own.
                Asked::Stop => return heir.under_way.take().and_then(|(succession, _)| succession.abandon()),
                Asked::Reload => Occasion::Asked,
                Asked::Upgrade => {
                    heir.begin(running, None);
                    Occasion::Neither
                }
            },
            upgrade = running.next_upgrade() => {
                heir.begin(running, Some(upgrade));
                Occasion::Neither
            }
            ended = heir.ended() => match heir.is_there(ended, running) {
                None => Occasion::Neither,
                there => return there,
            },
            _ = look.tick() => {
                if running.is_headless() {
                    tracing::error!("the control thread is gone: nobody finds out any more who is down");
                    return None;
                }
                Occasion::Look
            }
        };
        let is_due = match occasion {
            // Refused then, with the reason: what the file says is still to be read if nobody takes over.
            Occasion::Asked if heir.under_way.is_some() => true,
            Occasion::Look if heir.under_way.is_some() => false,
            Occasion::Asked => looks.read_at(reloader.file().and_then(identity)),
            Occasion::Look if reloader.is_watched() => looks.look(reloader.file().and_then(identity)),
            Occasion::Look | Occasion::Neither => false,
        };
        if is_due {
            // It has said what came of it.
            let _ = reloader.reload().await;
        }
    }
}

/// What the configuration's file may be read for.
enum Occasion {
    /// Somebody wants it.
    Asked,
    /// It is time to look at the file.
    Look,
    /// Nothing of the kind.
    Neither,
}

/// What is known about the file. A change is taken in when two looks in a row see the same: a file that is being written can be a valid
/// configuration already, of fewer pools or backends than are meant.
struct Looks {
    /// The file as it was when it was read.
    read: Option<Identity>,
    /// The file as it was at the last look.
    last: Option<Identity>,
}

impl Looks {
    /// Looks once more. Whether it is to be read now, as this.
    fn look(&mut self, now: Option<Identity>) -> bool {
        let is_quiet = std::mem::replace(&mut self.last, now) == now;
        is_quiet && now != self.read && self.read_at(now)
    }

    /// It is read now, as this, whatever was seen of it.
    fn read_at(&mut self, now: Option<Identity>) -> bool {
        (self.read, self.last) = (now, now);
        true
    }
}

/// What tells one state of a file from another. Links are followed, so that a change of what they lead to is seen: so Kubernetes changes a
/// mounted ConfigMap.
fn identity(file: &Path) -> Option<Identity> {
    let found = file.metadata().ok()?;
    Some(Identity {
        place: (found.dev(), found.ino()),
        length: found.len(),
        modified: found.modified().ok()?,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    place: (u64, u64),
    length: u64,
    modified: SystemTime,
}

/// Drains, until a second signal at most.
async fn stop(running: Running, signals: &mut Signals) -> Stopped {
    service::stopping();
    running.stop(signals.stop(DRAINING)).await
}

/// Waits until every backend has been looked at.
async fn ready(running: &Running) {
    service::status("probing backends");
    running.ready().await;
}

/// Why nobody takes over any more.
const DRAINING: &str = "this process is draining";

/// The process after this one.
struct Heir {
    program: io::Result<Program>,
    under_way: Option<(Succession, Option<Upgrade>)>,
}

impl Heir {
    /// Has a new process take over, unless one is about to.
    fn begin(&mut self, running: &Running, answer: Option<Upgrade>) {
        match self.try_begin(running) {
            Ok(succession) => self.under_way = Some((succession, answer)),
            Err(problem) => refuse(answer, problem),
        }
    }

    fn try_begin(&self, running: &Running) -> Result<Succession, OperatorError> {
        if self.under_way.is_some() {
            return Err(OperatorError::NotNow("a takeover is under way".into()));
        }
        let sockets = running.begin_handover()?;
        let program = self.program.as_ref();
        let program = program.map_err(|error| format!("this program's own file is not known: {error}"));
        let begun = program.and_then(|program| {
            Succession::begin(program.clone(), sockets).map_err(|error| error.to_string())
        });
        begun.map_err(|why| {
            running.handover_failed();
            OperatorError::Failed(why)
        })
    }

    /// Waits until a takeover has ended.
    async fn ended(&mut self) -> Result<u32, String> {
        match &mut self.under_way {
            Some((succession, _)) => succession.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Tells everybody how it ended. The process that has taken over, if one has.
    fn is_there(&mut self, ended: Result<u32, String>, running: &Running) -> Option<u32> {
        let answer = self.under_way.take().and_then(|(_, answer)| answer);
        match ended {
            Ok(pid) => {
                tracing::info!(pid, "another process has taken over");
                if let Some(answer) = answer {
                    // Who asked may have gone.
                    let _ = answer.send(Ok(pid));
                }
                Some(pid)
            }
            Err(why) => {
                running.handover_failed();
                refuse(answer, OperatorError::Failed(why));
                None
            }
        }
    }
}

/// Tells that nothing came of a takeover: whoever asked, and the log.
fn refuse(answer: Option<Upgrade>, problem: OperatorError) {
    let (OperatorError::Refused(reason) | OperatorError::NotNow(reason) | OperatorError::Failed(reason)) =
        &problem;
    tracing::error!(reason, "no other process has taken over: this one goes on");
    if let Some(answer) = answer {
        // Who asked may have gone.
        let _ = answer.send(Err(problem));
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
    Upgrade,
}

/// SIGTERM, SIGINT, SIGHUP and SIGUSR2.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Failed> {
        let listen =
            |kind| signal(kind).map_err(|error| fail(exit::FAILURE, format_args!("signals: {error}")));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            upgrade: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next thing that is asked for.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }

    /// The next request to stop, at a time when nothing else is done.
    async fn stop(&mut self, why: &str) {
        loop {
            match self.next().await {
                Asked::Stop => return,
                Asked::Reload => tracing::warn!(why, "SIGHUP is ignored"),
                Asked::Upgrade => tracing::error!(why, "no other process takes over"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_read_once_it_is_at_rest() {
        let written =
            |length: u64| Some(Identity { place: (1, 2), length, modified: SystemTime::UNIX_EPOCH });
        let mut looks = Looks { read: written(10), last: written(10) };
        let states = [10, 10, 0, 4, 12, 12, 12, 10, 12, 12, 11, 11];
        let is_read = states.map(|length| looks.look(written(length)));
        // What was there and is there again needs no reading.
        assert_eq!(is_read.map(u8::from), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        // Who asks has it read at once, and not again by the look after that.
        assert!(looks.read_at(written(5)));
        assert_eq!([5, 5, 6].map(|length| looks.look(written(length))), [false; 3]);
        assert!(!looks.look(None), "it may be on its way to be replaced");
        assert!(looks.look(None));
    }
}
