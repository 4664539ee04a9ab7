//! A client that writes raw bytes and reads answers with code of its own.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::soon;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Answer {
    /// The value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Which backend answered.
    pub fn backend(&self) -> &str {
        self.header("x-backend").unwrap_or_else(|| panic!("not from a backend: {self:?}"))
    }
}

/// One connection to the proxy.
pub struct Client {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = soon("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, input: Vec::new() }
    }

    /// Sends bytes as they are. A proxy that has closed already is no failure: the answer tells.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        self
    }

    /// Sends a GET.
    pub async fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).await;
        self.answer().await
    }

    /// The next answer to a request with any method but HEAD.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The next answer to a request with this method.
    pub async fn answer_to(&mut self, method: &str) -> Answer {
        soon("an answer", self.read_answer(method)).await.expect("an answer, not the connection's end")
    }

    /// The next answer, or `None` if the connection ends without one.
    pub async fn maybe_answer(&mut self) -> Option<Answer> {
        soon("an answer or the end", self.read_answer("GET")).await
    }

    /// The same for a request with this method.
    pub async fn maybe_answer_to(&mut self, method: &str) -> Option<Answer> {
        soon("an answer or the end", self.read_answer(method)).await
    }

    async fn read_answer(&mut self, method: &str) -> Option<Answer> {
        let (status, head) = loop {
            let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n").await?).into_owned();
            let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
            if status >= 200 {
                break (status, head);
            }
        };
        let mut answer = Answer { status, head, body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || status == 204 || status == 304 {
            return Some(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            assert!(answer.header("content-length").is_none(), "two framings: {answer:?}");
            self.read_chunks(&mut answer).await?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.exactly(length).await?;
        } else {
            while self.more().await.is_some() {}
            answer.body = std::mem::take(&mut self.input);
        }
        Some(answer)
    }

    async fn read_chunks(&mut self, answer: &mut Answer) -> Option<()> {
        loop {
            let size = String::from_utf8(self.until(b"\r\n").await?).unwrap();
            let size = usize::from_str_radix(&size, 16).expect("a plain chunk size");
            if size == 0 {
                break;
            }
            let data = self.exactly(size).await?;
            answer.body.extend(data);
            assert_eq!(self.exactly(2).await?, b"\r\n");
        }
        loop {
            let line = self.until(b"\r\n").await?;
            if line.is_empty() {
                return Some(());
            }
            answer.trailers.push_str(&String::from_utf8(line).unwrap());
            answer.trailers.push('\n');
        }
    }

    /// Whether the proxy closes the connection without sending anything further.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = soon("the connection's end", self.stream.read_to_end(&mut rest)).await;
        assert!(
            rest.is_empty() && self.input.is_empty(),
            "bytes after the last answer: {rest:?} {:?}",
            self.input
        );
        // A reset is an end too.
        let _ = read;
        true
    }

    /// Bytes up to a mark, which is taken too.
    pub async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.input.windows(mark.len()).position(|window| window == mark) {
                let part = self.input[..at].to_vec();
                self.input.drain(..at + mark.len());
                return Some(part);
            }
            self.more().await?;
        }
    }

    /// What has been read and not been asked for yet.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// So many bytes.
    pub async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.input.len() < n {
            self.more().await?;
        }
        Some(self.input.drain(..n).collect())
    }

    async fn more(&mut self) -> Option<()> {
        let n = self.stream.read_buf(&mut self.input).await.ok()?;
        (n > 0).then_some(())
    }
}

/// A GET on a connection of its own.
pub async fn get(address: SocketAddr, path: &str, fields: &str) -> Answer {
    Client::connect(address).await.get(path, fields).await
}
