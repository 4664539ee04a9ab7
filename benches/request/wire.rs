//! Both ends of the traffic, a client's and a backend's, played by one thread in turn.
//!
//! Owns the lockstep: nothing is sent before the program has come to rest, so that it finds the same bytes in the same
//! calls every time, however fast the machine is. Threads of their own would answer now before the program looks,
//! now after, and the counts would differ by what a wait costs. Never decides what is sent.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use crate::program::{PATIENCE, Program, pause};

/// One end of a connection.
pub(crate) struct End {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    closed: bool,
}

impl End {
    fn new(stream: TcpStream) -> Result<End, String> {
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true))
            .map_err(|error| format!("a socket: {error}"))?;
        Ok(End { stream, input: vec![], output: vec![], closed: false })
    }

    pub(crate) fn connect(address: SocketAddr) -> Result<End, String> {
        End::new(TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?)
    }

    /// Sends what the socket takes.
    fn push(&mut self) -> Result<(), String> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("write: {error}")),
            }
        }
        Ok(())
    }

    /// Reads what is there.
    fn pull(&mut self) -> Result<(), String> {
        let mut room = [0; 64 * 1024];
        while !self.closed {
            match self.stream.read(&mut room) {
                Ok(0) => self.closed = true,
                Ok(n) => self.input.extend_from_slice(&room[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("read: {error}")),
            }
        }
        Ok(())
    }

    /// The next message, if all of it is here.
    fn message(&mut self) -> Option<Vec<u8>> {
        let length = whole(&self.input)?;
        Some(self.input.drain(..length).collect())
    }
}

/// Where the first message ends.
fn whole(bytes: &[u8]) -> Option<usize> {
    let find = |mark: &[u8], from: usize| {
        bytes[from..].windows(mark.len()).position(|it| it == mark).map(|at| from + at + mark.len())
    };
    let body = find(b"\r\n\r\n", 0)?;
    let head = String::from_utf8_lossy(&bytes[..body]).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        // No payload here has a line with a lone zero.
        return find(b"\r\n0\r\n\r\n", body - 2);
    }
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let end = body + length.map_or(0, |length| length.parse().unwrap_or(0));
    (bytes.len() >= end).then_some(end)
}

/// All backends: they have one port, on as many loopback addresses as are wanted.
pub(crate) struct Origin {
    listener: TcpListener,
    pub(crate) port: u16,
    connections: Vec<End>,
}

impl Origin {
    pub(crate) fn bind() -> Result<Origin, String> {
        let because = |error: std::io::Error| format!("listen: {error}");
        let listener = TcpListener::bind(("0.0.0.0", 0)).map_err(because)?;
        listener.set_nonblocking(true).map_err(because)?;
        let port = listener.local_addr().map_err(because)?.port();
        Ok(Origin { listener, port, connections: vec![] })
    }

    /// Sends and reads what goes; returns the number of the connection with a whole request.
    fn serve(&mut self) -> Result<Option<usize>, String> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.connections.push(End::new(stream)?),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("accept: {error}")),
            }
        }
        let mut asked = None;
        for (number, connection) in self.connections.iter_mut().enumerate() {
            connection.push()?;
            connection.pull()?;
            if asked.is_none() && connection.message().is_some() {
                asked = Some(number);
            }
        }
        Ok(asked)
    }
}

/// Sends bytes that hold so many requests, has each answered by `answer`, and returns when the client has all answers.
pub(crate) fn exchange(
    program: &Program,
    origin: &mut Origin,
    client: &mut End,
    requests: &[u8],
    mut awaited: usize,
    answer: &[u8],
) -> Result<(), String> {
    let begun = Instant::now();
    client.output.extend_from_slice(requests);
    while awaited > 0 {
        client.push()?;
        program.rest()?;
        if let Some(number) = origin.serve()? {
            // The request may have come in while the program had not finished with sending it.
            program.rest()?;
            let connection = &mut origin.connections[number];
            connection.output.extend_from_slice(answer);
            connection.push()?;
            program.rest()?;
        }
        client.pull()?;
        while let Some(message) = client.message() {
            if !message.starts_with(b"HTTP/1.1 200 ") {
                return Err(format!("not an answer of the backend:\n{}", String::from_utf8_lossy(&message)));
            }
            awaited -= 1;
        }
        if client.closed && awaited > 0 {
            return Err("the program closed the connection before it had answered".into());
        }
        if begun.elapsed() > PATIENCE {
            return Err("the program does not answer".into());
        }
    }
    program.rest()
}

/// Waits until the program has closed this connection, and closes it too.
pub(crate) fn part(program: &Program, mut client: End) -> Result<(), String> {
    let begun = Instant::now();
    while !client.closed {
        client.pull()?;
        if begun.elapsed() > PATIENCE {
            return Err("the program does not close the connection".into());
        }
        pause();
    }
    drop(client);
    program.rest()
}
