//! The service manager: what it is told, and what it hands over.

use std::{
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::Path,
    process::{Command, Stdio},
};

use super::support::{
    Origin, PATIENCE, get,
    process::{Directory, Running},
    proxy::configuration,
};

/// A manager that listens to what it is told.
struct Manager {
    socket: UnixDatagram,
    folder: Directory,
}

impl Manager {
    fn new() -> Manager {
        let folder = Directory::new();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, folder }
    }

    /// Waits until it is told something that begins so.
    fn hears(&self, wanted: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let length =
                self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("never told {wanted}: {error}"));
            let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if told.starts_with(wanted) {
                return told;
            }
        }
    }
}

#[tokio::test]
async fn the_manager_is_told_of_readiness_life_succession_and_the_end() {
    let manager = Manager::new();
    let origin = Origin::named("one").await;
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&origin], "", ""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "-c", file.to_str().unwrap()]).stdin(Stdio::null());
    command.env("NOTIFY_SOCKET", manager.folder.path().join("notify")).env("WATCHDOG_USEC", "100000");
    let mut running = Running::start_command(command, directory);
    assert_eq!(manager.hears("READY=1"), "READY=1\nSTATUS=serving");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    running.signal("USR2");
    let pid = running.succeeded().await;
    assert!(manager.hears("MAINPID=").starts_with(&format!("MAINPID={pid}\nREADY=1\n")));
    // The first process has ended: these are the second one's.
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    super::support::process::signal(pid, "TERM");
    manager.hears("STOPPING=1");
    running.end_of(pid).await;
}

/// `ringway run` with one socket from the service manager.
fn with_socket(socket: impl Into<OwnedFd>, name: &str, file: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_ringway")]).arg(file);
    command.env("LISTEN_FDNAMES", name).stdin(Stdio::from(socket.into()));
    command
}

#[tokio::test]
async fn sockets_of_the_manager_are_listened_on_and_stay_when_it_ends() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let origin = Origin::named("one").await;
    let directory = Directory::new();
    let text = configuration(&[&origin], "", "").replacen("127.0.0.1:0", &address.to_string(), 1);
    let file = directory.file("ringway.toml", &text);
    let mut running =
        Running::start_command(with_socket(socket.try_clone().unwrap(), "web", &file), directory);
    assert_eq!(running.address, address);
    for _ in 0..8 {
        assert_eq!(get(address, "/", "").await.status, 200);
    }
    // A takeover hands it on.
    running.signal("USR2");
    let pid = running.succeeded().await;
    for _ in 0..8 {
        assert_eq!(get(address, "/", "").await.status, 200);
    }
    running.end(pid).await;
    assert!(std::net::TcpStream::connect(address).is_ok(), "the manager's socket is closed");
}

#[tokio::test]
async fn a_unix_socket_of_the_manager_keeps_its_file() {
    let folder = Directory::new();
    let path = folder.path().join("web.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let origin = Origin::named("one").await;
    let directory = Directory::new();
    let text = configuration(&[&origin], "", "");
    let text = format!("{text}\n[[listeners]]\naddress = \"unix:{}\"\nname = \"local\"\n", path.display());
    let file = directory.file("ringway.toml", &text);
    let mut running = Running::start_command(with_socket(socket, "", &file), directory);
    let relay = super::support::Relay::to_unix(&path).await;
    assert_eq!(get(relay.address, "/", "").await.status, 200);
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_that_is_for_no_listener_is_an_error_that_names_it() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let origin = Origin::named("one").await;
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&origin], "", ""));
    let output = with_socket(socket, "web", &file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains(&address) && told.contains("web"), "{told}");
    // What listens for nothing is no use either.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = with_socket(socket, "dns", &file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && told.contains("dns"), "{told}");
}
