//! `ringway run` under callgrind: its start, its end, what it has executed so far, and whether it sleeps.
//!
//! Owns the process and its files in cargo's directory for tests. Counts are read through `vgdb`, valgrind's own
//! console, between requests: nothing of the program's start is in them. Never talks HTTP.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longer than anything takes, also on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The names of the threads that serve requests.
const SERVING: [&str; 1] = ["ringway-work-0"];

/// `epoll_wait`, `epoll_pwait` and `epoll_pwait2`, as `/proc` numbers them.
const SLEEPS: &[&str] = if cfg!(target_arch = "x86_64") { &["232", "281", "441"] } else { &["22", "441"] };

/// glibc copies more than a few KiB with one instruction that callgrind counts once for each byte, so that copies would
/// drown everything else. With these it copies by vectors.
const COPIES: &str = "glibc.cpu.x86_rep_movsb_threshold=0x7fffffffffffffff:glibc.cpu.x86_rep_stosb_threshold=0x7fffffffffffffff";

/// jemalloc gives memory back after some time without use. A request takes a hundred times as long here, and longer
/// still on a busy machine: it would pay for that as no request does.
const NO_DECAY: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1";

/// What has been executed, in user space, by all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) instructions: u64,
    pub(crate) calls: u64,
}

/// The running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// For each thread that serves requests, the file that tells which system call it sleeps in.
    threads: Vec<PathBuf>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which has been reported then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it and waits until it is ready. Counting begins here.
    pub(crate) fn start(
        ringway: &Path,
        configuration: &str,
        profile: Option<&Path>,
    ) -> Result<Program, String> {
        let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("request-{}", std::process::id()));
        fs::create_dir_all(&room).map_err(|error| format!("{}: {error}", room.display()))?;
        let started = Program::start_in(&room, ringway, configuration, profile);
        // The program has read its configuration by now, and its log has been quoted if that was of use.
        let _ = fs::remove_dir_all(&room);
        started
    }

    fn start_in(
        room: &Path,
        ringway: &Path,
        configuration: &str,
        profile: Option<&Path>,
    ) -> Result<Program, String> {
        let (file, log) = (room.join("ringway.toml"), room.join("log"));
        let because = |error: std::io::Error| format!("{}: {error}", room.display());
        fs::write(&file, configuration).map_err(because)?;
        let out = profile.unwrap_or(Path::new("/dev/null"));
        let child = Command::new("valgrind")
            // The start is run without counting, which is five times as fast.
            .args(["-q", "--tool=callgrind", "--instr-atstart=no", "--collect-systime=yes"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .env("GLIBC_TUNABLES", COPIES)
            .env("_RJEM_MALLOC_CONF", NO_DECAY)
            .arg(ringway)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(because)?)
            .spawn()
            .map_err(|error| format!("valgrind: {error}"))?;
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Program { child, address, threads: vec![] };
        program.wait_until_ready(&log)?;
        program.find_threads()?;
        program.ask("instrumentation on")?;
        Ok(program)
    }

    fn wait_until_ready(&mut self, log: &Path) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
            if text.contains("INFO ready") {
                let address = text.split("listeners=\"").nth(1).and_then(|rest| rest.split('"').next());
                let address = address.and_then(|address| address.parse().ok());
                self.address = address.ok_or_else(|| format!("the log names no listener:\n{text}"))?;
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                return Err(format!("the program did not start:\n{text}"));
            }
            pause();
        }
    }

    /// Finds the threads that serve requests. Each gives itself its name, perhaps after the program is ready.
    fn find_threads(&mut self) -> Result<(), String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let begun = Instant::now();
        while self.threads.len() != SERVING.len() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("the program has no threads {SERVING:?} any more"));
            }
            pause();
            self.threads.clear();
            for task in fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))? {
                let task = task.map_err(|error| format!("{tasks}: {error}"))?.path();
                let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
                if SERVING.contains(&name.trim()) {
                    self.threads.push(task.join("syscall"));
                }
            }
        }
        Ok(())
    }

    /// Waits until the threads that serve requests have nothing left to do.
    pub(crate) fn rest(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let mut asleep = true;
            for thread in &self.threads {
                let call = fs::read_to_string(thread)
                    .map_err(|error| format!("{}: {error} (has the program ended?)", thread.display()))?;
                asleep &= SLEEPS.contains(&call.split(' ').next().unwrap_or_default());
            }
            if asleep {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err("the program does not come to rest".into());
            }
            pause();
        }
    }

    /// What it has executed since counting began.
    pub(crate) fn count(&self) -> Result<Count, String> {
        let status = self.ask("status internal")?;
        let mut sum = Count { instructions: 0, calls: 0 };
        // A line for each thread, "events-3: 795 4 403", and lines for its stack, "events-3-1: …".
        for line in status.lines() {
            let Some((thread, events)) = line.strip_prefix("events-").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            if thread.contains('-') {
                continue;
            }
            let mut events = events.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
            sum.instructions += events.next().unwrap_or(0);
            sum.calls += events.next().unwrap_or(0);
        }
        if sum.instructions == 0 {
            return Err(format!("this valgrind counts in another way than expected:\n{status}"));
        }
        Ok(sum)
    }

    /// Says something to valgrind.
    pub(crate) fn ask(&self, command: &str) -> Result<String, String> {
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--pid={}", self.child.id())).args(command.split(' '));
        let output = vgdb.output().map_err(|error| format!("vgdb: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "vgdb could not reach the program (it needs the right to ptrace):\n{}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Leaves the core to others for a moment.
pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_micros(20));
}
