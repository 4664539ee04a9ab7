//! The way to a running proxy: its admin listener, and the token that it may want to see.
//!
//! Owns one request and its answer. Knows no path and no meaning.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Failed, exit, fail};
use crate::limits::TAKEOVER;

/// Where the proxy is, and what it wants to see.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Door {
    /// Address of the admin listener
    #[arg(long, default_value = "127.0.0.1:9180", env = "RINGWAY_ADMIN", value_parser = admin_address)]
    pub(super) admin: SocketAddr,
    /// A file whose first line is the admin token
    #[arg(long, value_name = "FILE", env = "RINGWAY_TOKEN_FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// How long an answer may take: a new process probes all backends, rings of millions of virtual nodes take a while to build.
const LIMIT: Duration = TAKEOVER;

/// How much of that a connection may take: a proxy is near, or not there.
const CONNECT: Duration = Duration::from_secs(3);

/// Bytes of an answer that are read.
const ANSWER_BYTES: u64 = 64 << 20;

/// An address as people write it: with a scheme or without, a name or a number.
#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do until it knows whom to ask")]
pub(super) fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    match bare.parse() {
        Ok(address) => Ok(address),
        Err(_) => {
            let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if !has_port {
                return Err("write it as ADDRESS:PORT or NAME:PORT".to_owned());
            }
            let found =
                bare.to_socket_addrs().map_err(|error| format!("the name can't be looked up: {error}"))?;
            first_there(&found.collect::<Vec<_>>()).ok_or_else(|| "the name has no address".to_owned())
        }
    }
}

/// The first address of a name where somebody listens: `localhost` is `::1` as well, where a proxy rarely does. Without any, the first one,
/// so that asking tells what is wrong.
fn first_there(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let deadline = Instant::now() + CONNECT;
    let listens = |address: &&SocketAddr| {
        left(deadline).and_then(|left| TcpStream::connect_timeout(address, left)).is_ok()
    };
    match addresses {
        [] => None,
        [only] => Some(*only),
        [first, ..] => Some(*addresses.iter().find(listens).unwrap_or(first)),
    }
}

/// What is left until then, if anything is.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time")),
        left => Ok(left),
    }
}

/// A connection that ends at a time, however much or little comes before.
struct Until {
    stream: TcpStream,
    deadline: Instant,
}

impl Until {
    /// The kernel's word for a time that is over is another one on each system.
    fn late(error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"),
            _ => error,
        }
    }
}

impl Read for Until {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(into).map_err(Until::late)
    }
}

impl Write for Until {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(from).map_err(Until::late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What the proxy said.
#[derive(Debug)]
pub(super) struct Said {
    /// The status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Said {
    /// The error that a body in JSON names, or the body.
    pub(super) fn problem(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match value["error"].as_str() {
            Some(problem) => problem.to_owned(),
            None => format!("status {}: {}", self.status, String::from_utf8_lossy(&self.body).trim()),
        }
    }

    /// What an operator can do about it, as a line to follow the problem.
    pub(super) fn hint(&self, has_token: bool) -> &'static str {
        match self.status {
            401 if !has_token => "\nname the file with the token: --token-file FILE",
            _ => "",
        }
    }
}

impl Door {
    /// The token in the file, if there is one.
    pub(super) fn token(&self) -> Result<Option<String>, Failed> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", file.display())))?;
        Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
    }
}

/// Asks, on a connection of its own. All of it, from the connection to the answer's last byte, has the same limit.
///
/// # Errors
/// There is no connection, or no whole answer in time.
pub(super) fn ask(
    admin: SocketAddr,
    line: &str,
    token: Option<&str>,
    body: &[u8],
    limit: Option<Duration>,
) -> io::Result<Said> {
    let limit = limit.unwrap_or(LIMIT);
    let deadline = Instant::now() + limit;
    let stream = TcpStream::connect_timeout(&admin, limit.min(CONNECT))?;
    let mut stream = Until { stream, deadline };
    let shown = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut request = format!(
        "{line} HTTP/1.1\r\nhost: {admin}\r\n{shown}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is no whole answer"))
}

/// An answer that ends with its connection. `None`: it is none, or not whole.
fn read(answer: &[u8]) -> Option<Said> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer[end + 4..].to_vec();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_none_or(|length| length == body.len()).then_some(Said { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        let said = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!((said.status, &*said.body), (200, &b"ok"[..]));
        assert!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok").is_none());
        assert!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n").is_none());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the thread that drips has nothing else to do")]
    fn an_answer_in_drips_has_the_same_limit_as_one_at_once() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let drip = std::thread::spawn(move || {
            let (mut client, _) = socket.accept().unwrap();
            // Goes on until nobody takes it any more.
            while client.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let said = ask(address, "GET /", None, b"", Some(Duration::from_millis(200)));
        assert_eq!(said.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drip.join().unwrap();
    }

    #[test]
    fn a_name_with_several_addresses_means_the_one_that_listens() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = socket.local_addr().unwrap();
        // Bound, so that nobody else gets it, and not listening.
        let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let silent = held.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(first_there(&[silent, there]), Some(there));
        assert_eq!(first_there(&[silent, silent]), Some(silent));
        assert_eq!(first_there(&[silent]), Some(silent));
        assert_eq!(first_there(&[]), None);
    }

    #[test]
    fn addresses_may_be_written_as_locations() {
        let wanted: SocketAddr = "127.0.0.1:9180".parse().unwrap();
        for text in ["127.0.0.1:9180", "http://127.0.0.1:9180", "http://127.0.0.1:9180/"] {
            assert_eq!(admin_address(text), Ok(wanted));
        }
        for (wrong, said) in
            [("127.0.0.1", "write it as"), ("proxy", "write it as"), ("no name:1", "looked up")]
        {
            assert!(admin_address(wrong).is_err_and(|why| why.contains(said)), "{wrong}");
        }
    }
}
