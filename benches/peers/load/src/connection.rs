//! One client connection: sends a request, reads its answer to the end.
//!
//! Never waits and never decides when to send. An answer needs a Content-Length, or, where the proxy was asked to close,
//! the end of the connection.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

const MOST_HEADERS: usize = 128;

/// How far an answer has come.
pub enum Progress {
    /// More is to come.
    Partial,
    /// The whole answer was read.
    Whole {
        /// Its status.
        status: u16,
        /// The length of its body.
        body: u64,
    },
    /// The connection broke off or spoke no HTTP that is understood here.
    Broken(&'static str),
}

/// A connection, between requests or in one.
pub struct Connection {
    pub stream: TcpStream,
    head: Vec<u8>,
    status: Option<u16>,
    body: u64,
    left: u64,
    until_end: bool,
    unsent: bool,
}

impl Connection {
    /// Begins to connect from this loopback source address; writing waits until it stands.
    pub fn open(to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        match connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        let (head, status) = (Vec::with_capacity(1024), None);
        Ok(Self { stream, head, status, body: 0, left: 0, until_end: false, unsent: false })
    }

    /// Sends a request. Where the connection does not stand yet, `ready` sends it.
    pub fn send(&mut self, request: &[u8]) -> Progress {
        self.head.clear();
        self.status = None;
        self.unsent = false;
        match self.stream.write(request) {
            Ok(written) if written == request.len() => {}
            Ok(_) => return Progress::Broken("write"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.unsent = true,
            Err(_) => return Progress::Broken("write"),
        }
        Progress::Partial
    }

    /// Whether `send` could not send yet.
    pub fn unsent(&self) -> bool {
        self.unsent
    }

    /// Reads what is there. `scratch` is room for it, `keep` whether the connection stays after the answer.
    pub fn read(&mut self, scratch: &mut [u8], keep: bool) -> Progress {
        loop {
            let read = match self.stream.read(scratch) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Partial,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Progress::Broken("read"),
            };
            if read == 0 {
                let whole = !keep && (self.until_end || self.left == 0);
                return match self.status {
                    Some(status) if whole => Progress::Whole { status, body: self.body },
                    _ => Progress::Broken("closed"),
                };
            }
            if let Some(broken) = self.take(&scratch[..read]) {
                return broken;
            }
            match self.status {
                Some(status) if keep && self.left == 0 => return Progress::Whole { status, body: self.body },
                _ if keep && read < scratch.len() => return Progress::Partial,
                _ => {}
            }
        }
    }

    /// Counts bytes of the answer: the head first, the rest only by its length.
    fn take(&mut self, bytes: &[u8]) -> Option<Progress> {
        if self.status.is_some() {
            return self.count(bytes.len() as u64);
        }
        self.head.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let length = match answer.parse(&self.head) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Progress::Broken("syntax")),
        };
        let field = |name: &str| answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        if field("transfer-encoding").is_some() {
            return Some(Progress::Broken("chunked"));
        }
        let stated = field("content-length").map(|header| str::from_utf8(header.value).ok()?.parse().ok());
        self.until_end = stated.is_none();
        self.left = match stated {
            Some(Some(left)) => left,
            Some(None) => return Some(Progress::Broken("syntax")),
            None => 0,
        };
        self.status = answer.code;
        self.body = 0;
        let body = self.head.len() - length;
        self.count(body as u64)
    }

    fn count(&mut self, bytes: u64) -> Option<Progress> {
        self.body += bytes;
        if self.until_end {
            return None;
        }
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Some(Progress::Broken("too long")),
        }
        None
    }
}
