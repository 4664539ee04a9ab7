//! The side of the process that is there: starts the new one, hands it the sockets, and waits for what becomes of it.
//!
//! Owns the new process until it has taken over, and ends it if it does not. Changes nothing in this process: whoever asked for the
//! takeover acts on how it ended.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    SIGN,
    wire::{Heard, Reader, next_look, say, send},
};
use crate::{
    limits::{TAKEOVER_ANSWER, TAKEOVER_READY},
    server::Handed,
};

/// How this process was started, to be started again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked at the start, before anybody has put another file in the place of this one.
    ///
    /// # Errors
    /// The kernel does not say which file this is.
    pub fn this() -> io::Result<Program> {
        let path = std::env::current_exe()?;
        // That is how the kernel shows one that has been replaced already.
        let bare = path.as_os_str().as_bytes().strip_suffix(b" (deleted)").map(std::ffi::OsStr::from_bytes);
        let path = bare.map(PathBuf::from).unwrap_or(path);
        Ok(Program { path, arguments: std::env::args_os().collect() })
    }

    fn start(&self, standard_input: UnixStream) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        if let Some(name) = self.arguments.first() {
            command.arg0(name);
        }
        command.args(self.arguments.iter().skip(1)).env(SIGN, "1").stdin(OwnedFd::from(standard_input));
        // Those were for this process; what they name comes the other way now.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.spawn()
    }
}

/// A takeover under way. Dropped, it is given up, and the new process has ended: it would go on if this one were gone.
#[derive(Debug)]
pub struct Succession {
    is_given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<u32, String>>,
}

impl Succession {
    /// Starts the new process, in a thread of its own that ends with the takeover.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn begin(program: Program, sockets: Vec<Handed>) -> io::Result<Succession> {
        let (told, ended) = oneshot::channel();
        let is_given_up = Arc::new(AtomicBool::new(false));
        let given_up = is_given_up.clone();
        let thread = std::thread::Builder::new().name("ringway-takeover".into()).spawn(move || {
            // Nobody waits for it any more: then it has been given up.
            let _ = told.send(attempt(&program, &sockets, &given_up));
        })?;
        Ok(Succession { is_given_up, thread: Some(thread), ended })
    }

    /// Gives it up. The process that has taken over all the same, if it was too late for that.
    pub fn abandon(mut self) -> Option<u32> {
        self.is_given_up.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has told nothing.
            let _ = thread.join();
        }
        self.ended.try_recv().ok()?.ok()
    }

    /// How it ended: with the number of the process that has taken over, or with why it has not.
    ///
    /// # Errors
    /// Why not. This process goes on.
    pub async fn ended(&mut self) -> Result<u32, String> {
        (&mut self.ended).await.unwrap_or_else(|_| Err("the thread that waited for it is gone".into()))
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        self.is_given_up.store(true, Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the takeover panicked");
        }
    }
}

fn attempt(program: &Program, sockets: &[Handed], is_given_up: &AtomicBool) -> Result<u32, String> {
    // A container ends with its first process, whoever else runs in it.
    if std::process::id() == 1 {
        return Err(
            "process 1 can't leave: what runs it would take that for the end; start a new container".into()
        );
    }
    let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let mut child = program
        .start(theirs)
        .map_err(|error| format!("{} can't be started: {error}", program.path.display()))?;
    tracing::info!(pid = child.id(), program = %program.path.display(), "a new process is started to take over");
    let told = converse(&ours, sockets, &mut child, is_given_up);
    if told.is_err() {
        // An error means that it has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    // Only now: to it, our end of the conversation is our end.
    drop(ours);
    told.map(|()| child.id())
}

fn converse(
    stream: &UnixStream,
    sockets: &[Handed],
    child: &mut Child,
    is_given_up: &AtomicBool,
) -> Result<(), String> {
    let broken = |error: io::Error| format!("the new process does not listen: {error}");
    stream.set_write_timeout(Some(TAKEOVER_ANSWER)).map_err(broken)?;
    let mut reader = Reader::new();
    // If it has ended, what it said last tells more than that.
    let sent = send(stream, sockets);
    wait_for("ready", TAKEOVER_READY, stream, &mut reader, child, is_given_up)?;
    sent.map_err(broken)?;
    say(stream, "go").map_err(broken)?;
    wait_for("taken", TAKEOVER_ANSWER, stream, &mut reader, child, is_given_up)
}

fn wait_for(
    wanted: &str,
    within: Duration,
    stream: &UnixStream,
    reader: &mut Reader,
    child: &mut Child,
    is_given_up: &AtomicBool,
) -> Result<(), String> {
    let due = Instant::now() + within;
    loop {
        match reader.line(stream, next_look().min(due)).map_err(|error| error.to_string())? {
            Heard::Line(line) if line == wanted => return Ok(()),
            Heard::Line(line) => {
                return Err(line
                    .strip_prefix("error ")
                    .map_or_else(|| format!("it said {line:?}"), str::to_owned));
            }
            Heard::End => {
                return Err(format!("the new process ended before it was ready: {}", end_of(child)));
            }
            Heard::Nothing if is_given_up.load(Relaxed) => return Err("this process is to stop".into()),
            Heard::Nothing if Instant::now() >= due => {
                return Err(format!("the new process was not {wanted} within {within:?}"));
            }
            Heard::Nothing => {}
        }
    }
}

/// How a process ended whose side of the conversation is closed. One that has only closed its standard input ends here.
fn end_of(child: &mut Child) -> String {
    // An error means that it has ended.
    let _ = child.kill();
    match child.wait() {
        Ok(status) => format!("{status}; its messages say why"),
        Err(error) => error.to_string(),
    }
}
