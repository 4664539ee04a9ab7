//! The service manager that has started this process, if one has: systemd, or whatever speaks as it does.
//!
//! Owns what is said to it (`sd_notify(3)`) and the sockets that come from it (`sd_listen_fds(3)`). Without such a manager, nothing here
//! does anything. What is said is a courtesy: if it can't be said, the proxy goes on.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use listenfd::ListenFd;
use socket2::Socket;

/// Another process is the service now: only that one is to be heard.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// The service is ready, and this is what it does.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// A new configuration is being taken in. To be followed by [`ready`], whatever came of it.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// The service is on its way out.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=draining");
}

/// What the service does now.
pub fn status(status: &str) {
    tell(&format!("STATUS={status}"));
}

/// Another process is the service from now on. This one says nothing any more.
pub fn hand_over(pid: u32) {
    tell(&format!("MAINPID={pid}\nREADY=1\nSTATUS=serving\nWATCHDOG=1"));
    IS_SILENT.store(true, Relaxed);
}

/// Says that the thread on which this runs still gets round to things, twice as often as the manager asks for. Ends at once if it does not
/// ask.
pub async fn heart_beat() {
    let Some(interval) = watchdog() else { return };
    loop {
        tokio::time::sleep(interval / 2).await;
        tell("WATCHDOG=1");
    }
}

/// How long this process may be silent.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    // A bound below which there would be nothing but heart beats.
    number("WATCHDOG_USEC")
        .map(Duration::from_micros)
        .filter(|interval| *interval >= Duration::from_millis(20))
}

fn tell(state: &str) {
    let Some(manager) = std::env::var_os("NOTIFY_SOCKET").filter(|_| !IS_SILENT.load(Relaxed)) else {
        return;
    };
    let told = address(&manager).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        // One that does not listen must not hold us up.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::debug!(%error, "the service manager can't be told");
    }
}

fn address(manager: &std::ffi::OsStr) -> io::Result<SocketAddr> {
    match manager.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(manager),
    }
}

/// The sockets that the manager has opened for this process, with their names. Those that listen neither at an IP address nor at a path
/// are errors when they are looked at.
///
/// # Errors
/// One of them is no stream socket.
pub fn sockets() -> io::Result<Vec<(String, Socket)>> {
    let mut given = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut sockets = Vec::with_capacity(given.len());
    for at in 0..given.len() {
        let name = names.next().unwrap_or_default();
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("socket {at} ({name:?}): {error}"));
        let socket = match given.take_tcp_listener(at) {
            Ok(Some(socket)) => Some(socket.into()),
            Ok(None) => None,
            Err(_) => given.take_unix_listener(at).map_err(told)?.map(Into::into),
        };
        sockets.extend(socket.map(|socket| (name, socket)));
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_at_a_path_or_in_the_abstract() {
        let path = address("/run/systemd/notify".as_ref()).unwrap();
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
        assert_eq!(address("@abc/d".as_ref()).unwrap().as_abstract_name(), Some(&b"abc/d"[..]));
    }
}
