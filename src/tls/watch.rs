//! The watch over certificates' files: a thread that looks at them, and takes new ones in.
//!
//! Owns that thread. It asks for the files' identity, size and time a few times a second, which sees every way of replacing a file, symbolic
//! links that are swapped included, and needs no place in the kernel's list of watches.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::SystemTime,
};

use super::{CertificateProblem, ListenerTls, TlsProblem, upkeep::Secured};
use crate::limits::CERTIFICATE_LOOK;

/// The running watch.
#[derive(Debug)]
pub(super) struct CertificateWatch {
    thread: JoinHandle<()>,
    /// Nothing is ever sent: the watch ends when this is dropped.
    stop: SyncSender<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

/// What tells one state of a file from another. `None`: it can't be seen.
pub(super) type Stamp = Option<(u64, u64, u64, i64, i64)>;

struct Watched {
    name: String,
    tls: Arc<ListenerTls>,
    files: Vec<PathBuf>,
    /// As they were when they were read.
    read: Vec<Stamp>,
    /// As they were at the last look.
    seen: Vec<Stamp>,
    /// What was wrong with them at the last try, if it may be over at the next.
    trouble: Option<String>,
}

impl CertificateWatch {
    /// Watches the files of these listeners, whichever they are at the time.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(listeners: Secured) -> io::Result<CertificateWatch> {
        let (stop, stopped) = sync_channel(0);
        let (alive, ended) = sync_channel::<()>(0);
        let thread = std::thread::Builder::new().name("ringway-certs".into()).spawn(move || {
            run(&listeners, &stopped);
            drop(alive);
        })?;
        Ok(CertificateWatch { thread, stop, ended })
    }

    /// Ends it, or leaves it behind if it does not end: a file system that has gone away may not let it.
    pub(super) fn join(self) {
        drop(self.stop);
        if self.ended.recv_timeout(CERTIFICATE_LOOK * 4) == Err(RecvTimeoutError::Timeout) {
            return tracing::warn!("the watch over certificates hangs in a file: it is left behind");
        }
        if self.thread.join().is_err() {
            tracing::error!("the watch over certificates panicked");
        }
    }
}

fn run(listeners: &Secured, stopped: &Receiver<()>) {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        let now = listeners.load_full();
        watched.retain(|one| now.iter().any(|(_, tls)| Arc::ptr_eq(tls, &one.tls)));
        for (name, tls) in &*now {
            match watched.iter_mut().find(|one| Arc::ptr_eq(tls, &one.tls)) {
                Some(one) => one.name.clone_from(name),
                None => watched.push(Watched::new(name.clone(), tls.clone())),
            }
        }
        watched.iter_mut().for_each(Watched::look);
        watched.iter().for_each(|one| one.tls.staple(SystemTime::now()));
        if stopped.recv_timeout(CERTIFICATE_LOOK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Watched {
    fn new(name: String, tls: Arc<ListenerTls>) -> Watched {
        let read = tls.first_stamps.clone();
        Watched { name, files: tls.files(), tls, seen: read.clone(), read, trouble: None }
    }

    fn look(&mut self) {
        let now: Vec<Stamp> = self.files.iter().map(stamp).collect();
        let is_quiet = now == self.seen;
        self.seen = now;
        // Certificate and key are two files: between the one and the other they do not fit.
        if !is_quiet || self.seen == self.read {
            return;
        }
        let result = self.tls.reload();
        // What can't be read now (no descriptors, a file system that is away) is tried again; what is wrong is not.
        let is_passing =
            matches!(&result, Err(TlsProblem::Certificate(CertificateProblem::Unreadable { .. })));
        if !is_passing {
            self.read = self.seen.clone();
        }
        match result {
            Ok(()) => {
                self.trouble = None;
                tracing::info!(listener = self.name, "new certificates are in force");
            }
            Err(problem) => {
                let trouble = is_passing.then(|| problem.to_string());
                // Once for each, not four times a second.
                if trouble.is_none() || trouble != self.trouble {
                    self.tls.count_refused();
                    let what = match is_passing {
                        true => "certificates can't be read again; those in force stay",
                        false => "changed certificates are refused; the old ones stay",
                    };
                    tracing::error!(listener = self.name, %problem, "{what}");
                }
                self.trouble = trouble;
            }
        }
    }
}

pub(super) fn stamp(file: &PathBuf) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
