//! The program as its own process, for what only a process has: signals, exit codes, memory.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

/// A directory that is removed with its owner.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        let name = format!("ringway-test-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program's binary with these arguments.
pub fn ringway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("RINGWAY_CONFIG").env_remove("RINGWAY_ADMIN");
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Output {
    ringway(arguments).output().unwrap()
}

/// `ringway run` as a process. Killed with its owner.
pub struct Running {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    log: Receiver<String>,
    directory: Directory,
    /// Processes that were started to take over.
    heirs: Arc<Mutex<Vec<u32>>>,
}

impl Running {
    /// Starts it with this configuration and waits until it is ready.
    pub fn start(text: &str) -> Running {
        Running::start_program(Path::new(env!("CARGO_BIN_EXE_ringway")), text)
    }

    /// The same from another file.
    pub fn start_program(program: &Path, text: &str) -> Running {
        let directory = Directory::new();
        let file = directory.file("ringway.toml", text);
        let mut command = Command::new(program);
        command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null());
        Running::start_command(command, directory)
    }

    /// The same, however it is started.
    pub fn start_command(command: Command, directory: Directory) -> Running {
        Running::start_and_listen(command, directory).0
    }

    /// The same, with what it said until it was ready.
    pub fn start_and_listen(mut command: Command, directory: Directory) -> (Running, Vec<String>) {
        command.env_remove("RINGWAY_CONFIG").env_remove("RINGWAY_ADMIN");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = sync_channel(10_000);
        let heirs: Arc<Mutex<Vec<u32>>> = Arc::default();
        let found = heirs.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                if line.contains("is started to take over") {
                    found.lock().unwrap().push(number_after(&line, "pid="));
                }
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Running { child, address: nowhere, admin: nowhere, log, directory, heirs };
        let mut said = Vec::new();
        let bound = running.wait_beyond("bound;", &mut said);
        running.address = address_after(&bound, "listeners=");
        running.admin = address_after(&bound, "admin=");
        running.wait_beyond(" ready", &mut said);
        (running, said)
    }

    /// Changes the configuration on disk.
    pub fn write_configuration(&self, text: &str) {
        self.directory.file("ringway.toml", text);
    }

    /// The processes that were started to take over, in their order.
    pub fn heirs(&self) -> Vec<u32> {
        self.heirs.lock().unwrap().clone()
    }

    /// Waits until another process has taken over, and this one has ended. The number of the other.
    pub async fn succeeded(&mut self) -> u32 {
        let pid = number_after(&self.wait_for_line("another process has taken over"), "pid=");
        assert_eq!(self.exit_code().await, Some(0));
        pid
    }

    /// Ends a process that has taken over, as an operator would, and waits for that.
    pub async fn end(&self, pid: u32) {
        signal(pid, "TERM");
        self.end_of(pid).await;
    }

    /// Waits for the end of such a process.
    pub async fn end_of(&self, pid: u32) {
        let gone = || !Path::new(&format!("/proc/{pid}/fd/0")).exists();
        super::eventually("the process that took over ends", gone).await;
    }

    /// The next line of the log that contains this.
    pub fn wait_for_line(&self, wanted: &str) -> String {
        self.wait_beyond(wanted, &mut Vec::new())
    }

    /// The same, with the lines before it.
    fn wait_beyond(&self, wanted: &str, seen: &mut Vec<String>) -> String {
        loop {
            match self.log.recv_timeout(super::PATIENCE) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {wanted:?} in the log:\n{}", seen.join("\n")),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub async fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < super::PATIENCE, "the process does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &*self.heirs.lock().unwrap() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// Sends a signal.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

fn number_after(line: &str, mark: &str) -> u32 {
    let rest = &line[line.find(mark).unwrap_or_else(|| panic!("no {mark} in {line}")) + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

fn address_after(line: &str, mark: &str) -> SocketAddr {
    let rest = &line[line.find(mark).unwrap_or_else(|| panic!("no {mark} in {line}")) + mark.len()..];
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    rest[..end].trim_matches('"').parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}
