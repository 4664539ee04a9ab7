//! HTTP/2 for tests, twice: a client that follows the rules (the `h2` crate), and one that writes whatever frames a test wants.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// A connection that follows the rules.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    speak(TcpStream::connect(address).await.unwrap()).await
}

/// The same over any stream.
pub async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Bytes> {
    let (send, connection) = soon("HTTP/2", h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move {
        // How it ends, the requests tell.
        let _ = connection.await;
    });
    soon("HTTP/2", send.ready()).await.unwrap()
}

/// An answer as a whole.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads an answer to its end.
pub async fn whole(answer: Response<RecvStream>) -> Result<Whole, h2::Error> {
    let (parts, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = soon("payload", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    let trailers = soon("trailers", body.trailers()).await?;
    Ok(Whole { status: parts.status.as_u16(), fields: parts.headers, body: bytes, trailers })
}

/// Sends a request without a body.
pub async fn ask(send: &mut SendRequest<Bytes>, request: Request<()>) -> Result<Whole, h2::Error> {
    let mut ready = soon("a turn", send.clone().ready()).await?;
    let (answer, _) = ready.send_request(request, true)?;
    whole(soon("an answer", answer).await?).await
}

/// A GET.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Writes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field section in the simplest form: nothing compressed.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut string = |text: &str| {
        assert!(text.len() < 127 + 128);
        if text.len() < 127 {
            bytes.push(text.len() as u8);
        } else {
            bytes.extend([127, (text.len() - 127) as u8]);
        }
        bytes.extend_from_slice(text.as_bytes());
    };
    let mut parts = Vec::new();
    for (name, value) in fields {
        string(name);
        string(value);
        parts.push(());
    }
    // Each field begins with a byte that says: a name and a value follow.
    let mut out = Vec::new();
    let mut rest = &bytes[..];
    for () in parts {
        out.push(0);
        for _ in 0..2 {
            let (length, head) =
                if rest[0] == 127 { (127 + rest[1] as usize, 2) } else { (rest[0] as usize, 1) };
            out.extend_from_slice(&rest[..head + length]);
            rest = &rest[head + length..];
        }
    }
    out
}

/// What every good request has.
pub const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "a.example")];

/// A connection that writes what it is told.
pub struct Raw {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Raw {
    /// Connected, with the preface and empty settings sent.
    pub async fn connect(address: SocketAddr) -> Raw {
        let mut raw =
            Raw { stream: soon("connect", TcpStream::connect(address)).await.unwrap(), input: Vec::new() };
        raw.stream.set_nodelay(true).unwrap();
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Sends bytes. A proxy that has closed already is no failure: what it said tells.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a whole request.
    pub async fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(frame(HEADERS, 5, stream, &section(fields))).await;
    }

    /// The next frame, or `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        soon("a frame", async {
            loop {
                if let Some(head) = self.input.first_chunk::<9>() {
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                    if self.input.len() >= 9 + length {
                        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                        let (kind, flags) = (head[3], head[4]);
                        let payload = self.input[9..9 + length].to_vec();
                        self.input.drain(..9 + length);
                        return Some(Frame { kind, flags, stream, payload });
                    }
                }
                if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                    return None;
                }
            }
        })
        .await
    }

    /// The next frame of this kind.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// How it ends: the code of `GOAWAY`, or of the reset of this stream. `None`: without a word.
    pub async fn verdict(&mut self, stream: u32) -> Option<(&'static str, u32)> {
        loop {
            let frame = self.next().await?;
            let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            match frame.kind {
                RST_STREAM if frame.stream == stream => return Some(("stream", code(0))),
                GOAWAY => return Some(("connection", code(4))),
                _ => {}
            }
        }
    }

    /// The status of the answer on this stream, if it is one that has a number in the static table.
    pub async fn status(&mut self, stream: u32) -> Option<u16> {
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS && frame.stream == stream {
                return Some(match frame.payload[..] {
                    [first @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][first as usize - 0x88],
                    [8, 3, ref digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
                    ref other => panic!("no status: {other:x?}"),
                });
            }
            assert!(frame.kind != RST_STREAM && frame.kind != GOAWAY, "{frame:?}");
        }
    }
}
