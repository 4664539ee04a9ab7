//! What passes between the two processes: lines, some with descriptors beside them.
//!
//! Owns their form and their bounds. Knows nothing of who says what when.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::Endpoint,
    limits::{TAKEOVER_LINE_BYTES, TAKEOVER_LOOK},
    server::Handed,
};

/// The first line. A process that does not know this version does not take over.
const GREETING: &str = "ringway-takeover 1";

/// Ends the list of sockets.
const END: &str = "end";

/// Descriptors beside one line. The kernel takes 253 at most.
const BESIDE: usize = 64;

/// What is said about sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    asked: Option<String>,
    address: String,
    file: Option<(u64, u64)>,
    /// The descriptors beside this line.
    count: usize,
    /// The sockets of the line before go on.
    more: bool,
}

/// Writes a line.
pub(super) fn say(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes())
}

/// Writes the greeting and all sockets.
pub(super) fn send(stream: &UnixStream, all: &[Handed]) -> io::Result<()> {
    say(stream, GREETING)?;
    for handed in all {
        for (number, some) in handed.sockets.chunks(BESIDE).enumerate() {
            let entry = Entry {
                name: handed.name.clone(),
                asked: handed.asked.as_ref().map(ToString::to_string),
                address: handed.address.to_string(),
                file: handed.file,
                count: some.len(),
                more: number > 0,
            };
            let line = serde_json::to_string(&entry).expect("names and numbers are all JSON") + "\n";
            let sockets: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            send_beside(stream, line.as_bytes(), &sockets)?;
        }
    }
    say(stream, END)
}

fn send_beside(mut stream: &UnixStream, line: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BESIDE))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let sent = sendmsg(stream, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL)?;
    // They have gone with the first byte.
    stream.write_all(&line[sent..])
}

/// The reading side.
#[derive(Debug)]
pub(super) struct Reader {
    input: Vec<u8>,
    beside: VecDeque<OwnedFd>,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Line(String),
    /// The other side is gone.
    End,
    /// Nothing in time.
    Nothing,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { input: Vec::new(), beside: VecDeque::new() }
    }

    /// The next line, if it comes before this time.
    pub(super) fn line(&mut self, stream: &UnixStream, due: Instant) -> io::Result<Heard> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Ok(Heard::Line(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.input.len() > TAKEOVER_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Heard::Nothing);
            }
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.receive(stream) {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Heard::End),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BESIDE))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.beside.extend(descriptors);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors were lost on their way: is the limit of open files too low?",
            ));
        }
        self.input.extend_from_slice(&bytes[..received.bytes]);
        Ok(received.bytes)
    }

    /// Reads the greeting and all sockets.
    pub(super) fn sockets(&mut self, stream: &UnixStream, due: Instant) -> io::Result<Vec<Handed>> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut all: Vec<Handed> = Vec::new();
        let mut is_first = true;
        loop {
            let line = match self.line(stream, due)? {
                Heard::Line(line) => line,
                Heard::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                Heard::Nothing => return Err(io::ErrorKind::TimedOut.into()),
            };
            if std::mem::take(&mut is_first) {
                if line != GREETING {
                    return Err(wrong(format!("it says {line:?}, not {GREETING:?}")));
                }
                continue;
            }
            if line == END {
                return Ok(all);
            }
            let entry: Entry = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            if entry.count > self.beside.len() {
                return Err(wrong(format!("there are no sockets for {}", entry.address)));
            }
            let sockets = self.beside.drain(..entry.count).map(Into::into);
            match all.last_mut().filter(|_| entry.more) {
                Some(last) => last.sockets.extend(sockets),
                None => all.push(Handed {
                    name: entry.name,
                    asked: entry.asked.as_deref().map(read_endpoint).transpose()?,
                    address: read_endpoint(&entry.address)?,
                    sockets: sockets.collect(),
                    file: entry.file,
                }),
            }
        }
    }
}

fn read_endpoint(text: &str) -> io::Result<Endpoint> {
    match text.strip_prefix("unix:") {
        Some(path) => Ok(Endpoint::Unix(Arc::from(Path::new(path)))),
        None => {
            let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no address"));
            text.parse().map(Endpoint::Tcp).map_err(wrong)
        }
    }
}

/// When to look again at what else may have happened.
pub(super) fn next_look() -> Instant {
    Instant::now() + TAKEOVER_LOOK
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};

    fn listening() -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&SockAddr::from(any)).unwrap();
        socket.listen(1).unwrap();
        socket
    }

    #[test]
    fn what_is_sent_arrives_however_many_there_are() {
        let sockets: Vec<Socket> = (0..150).map(|_| listening()).collect();
        let address = |socket: &Socket| socket.local_addr().unwrap().as_socket().unwrap();
        let ports: Vec<u16> = sockets.iter().map(|socket| address(socket).port()).collect();
        let first = Endpoint::Tcp(address(&sockets[0]));
        let many =
            Handed { name: "a \"b\"\n".into(), asked: None, address: first.clone(), sockets, file: None };
        let asked = Some(Endpoint::Unix(Arc::from(Path::new("/run/a b.sock"))));
        let unix = asked.clone().unwrap();
        let one = Handed {
            name: "b".into(),
            asked,
            address: unix.clone(),
            sockets: vec![listening()],
            file: Some((1, 2)),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || send(&ours, &[many, one]).map(|()| ours));
        let due = Instant::now() + Duration::from_secs(20);
        let mut reader = Reader::new();
        let all = reader.sockets(&theirs, due).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((&*all[0].name, &all[0].asked, &all[0].address), ("a \"b\"\n", &None, &first));
        assert!(all[0].sockets.iter().map(|socket| address(socket).port()).eq(ports));
        assert_eq!((&all[1].asked, &all[1].address, all[1].file), (&Some(unix.clone()), &unix, Some((1, 2))));
        let ours = sender.join().unwrap().unwrap();
        say(&ours, "error two\nlines").unwrap();
        drop(ours);
        assert_eq!(reader.line(&theirs, due).unwrap(), Heard::Line("error two lines".into()));
        assert_eq!(reader.line(&theirs, due).unwrap(), Heard::End);
    }

    #[test]
    fn another_version_and_nonsense_are_refused() {
        for text in ["ringway-takeover 2\nend\n", "ringway-takeover 1\nnonsense\n", "ringway-takeover 1\n"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(text.as_bytes()).unwrap();
            drop(ours);
            let due = Instant::now() + Duration::from_secs(20);
            assert!(Reader::new().sockets(&theirs, due).is_err(), "{text}");
        }
    }
}
