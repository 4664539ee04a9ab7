//! The program as its own process, for what only a process has: signals, exit codes, memory.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
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
    _directory: Directory,
}

impl Running {
    /// Starts it with this configuration and waits until it is ready.
    pub fn start(text: &str) -> Running {
        let directory = Directory::new();
        let file = directory.file("ringway.toml", text);
        let mut child =
            ringway(&["run", "-c", file.to_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Running { child, address: nowhere, admin: nowhere, log, _directory: directory };
        let bound = running.wait_for_line("bound;");
        running.address = address_after(&bound, "listeners=");
        running.admin = address_after(&bound, "admin=");
        running.wait_for_line(" ready");
        running
    }

    /// The next line of the log that contains this.
    pub fn wait_for_line(&self, wanted: &str) -> String {
        let mut seen = Vec::new();
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
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
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
    }
}

fn address_after(line: &str, mark: &str) -> SocketAddr {
    let rest = &line[line.find(mark).unwrap_or_else(|| panic!("no {mark} in {line}")) + mark.len()..];
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    rest[..end].trim_matches('"').parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}
