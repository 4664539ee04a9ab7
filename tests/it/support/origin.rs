//! Backends for tests: one that answers and remembers, and one that does whatever a test wants with the socket.
//!
//! It reads HTTP with code of its own, so that the proxy's reader and this one check each other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

/// One request as an origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and fields, without the empty line.
    pub head: String,
    /// The payload.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: String,
}

impl Seen {
    /// The value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Method and target.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

/// A backend. It ends when it is dropped.
pub struct Origin {
    pub name: String,
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    task: Option<AbortHandle>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Origin {
    /// One that answers every request with 200, its name, and `x-backend: NAME`.
    pub async fn named(name: &str) -> Origin {
        let reply =
            format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        Origin::answering(name, reply.as_bytes()).await
    }

    /// One that answers `done` to every request, to those for `/slow` only when it is told to.
    pub async fn patient(name: &str) -> (Arc<Notify>, Origin) {
        let go = Arc::new(Notify::new());
        let gate = go.clone();
        let origin = Origin::with(name, move |mut peer| {
            let gate = gate.clone();
            async move {
                while let Some(seen) = peer.request().await {
                    if seen.line().contains("/slow") {
                        gate.notified().await;
                    }
                    let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
                }
            }
        })
        .await;
        (go, origin)
    }

    /// One that answers every request with these bytes.
    pub async fn answering(name: &str, reply: &[u8]) -> Origin {
        let reply = reply.to_vec();
        Origin::with(name, move |mut peer| {
            let reply = reply.clone();
            async move {
                while let Some(seen) = peer.request().await {
                    let is_head = seen.line().starts_with("HEAD ");
                    let end = if is_head { end_of_head(&reply) } else { reply.len() };
                    if peer.stream.write_all(&reply[..end]).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// One that does this with each connection.
    pub async fn with<F, Fut>(name: &str, serve: F) -> Origin
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut origin = Origin {
            name: name.into(),
            address,
            seen: Arc::default(),
            connections: Arc::default(),
            task: None,
        };
        origin.serve(listener, serve);
        origin
    }

    fn serve<F, Fut>(&mut self, listener: TcpListener, serve: F)
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (seen, connections) = (self.seen.clone(), self.connections.clone());
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = tasks.join_next() => {}
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        stream.set_nodelay(true).unwrap();
                        *connections.lock().unwrap() += 1;
                        tasks.spawn(serve(Peer { stream, input: Vec::new(), seen: seen.clone() }));
                    }
                }
            }
        });
        self.task = Some(task.abort_handle());
    }

    /// Closes the port and cuts all connections.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Comes back on the same port, answering with its name.
    pub async fn start_again(&mut self) {
        let listener = super::soon("the port is free again", async {
            loop {
                // The old listener goes when its task is really gone, which abort does not wait for.
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        let name = self.name.clone();
        self.serve(listener, move |mut peer| {
            let reply = format!(
                "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n{name}",
                name.len()
            );
            async move {
                while peer.request().await.is_some() {
                    if peer.stream.write_all(reply.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// The requests so far, probes too.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests so far that are not probes.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| !seen.line().contains("/health")).cloned().collect()
    }

    /// The only request so far.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{} saw {seen:#?}", self.name);
        seen.into_iter().next().unwrap()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// How a configuration names it.
    pub fn entry(&self) -> String {
        format!("{{ name = \"{}\", address = \"{}\" }}", self.name, self.address)
    }
}

fn end_of_head(reply: &[u8]) -> usize {
    reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
}

/// One connection from the proxy.
pub struct Peer {
    pub stream: TcpStream,
    input: Vec<u8>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Peer {
    /// The next request as a whole. `None`: the connection is over.
    pub async fn request(&mut self) -> Option<Seen> {
        let head = self.head().await?;
        let (body, trailers) = self.body(&head).await?;
        let seen = Seen { head, body, trailers };
        self.seen.lock().unwrap().push(seen.clone());
        Some(seen)
    }

    /// Reads until so many bytes are there, or the end.
    pub async fn until_bytes(&mut self, n: usize) -> usize {
        while self.input.len() < n {
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                break;
            }
        }
        self.input.len()
    }

    /// The next request's head, without its body.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    async fn body(&mut self, head: &str) -> Option<(Vec<u8>, String)> {
        let field = |name: &str| {
            head.lines().skip(1).find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if let Some(length) = field("content-length") {
            assert!(field("transfer-encoding").is_none(), "two framings: {head}");
            return Some((self.exactly(length.parse().unwrap()).await?, String::new()));
        }
        if field("transfer-encoding").is_none() {
            return Some((Vec::new(), String::new()));
        }
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8(self.until(b"\r\n").await?).unwrap();
            let size = usize::from_str_radix(&size, 16).expect("a plain chunk size");
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n");
        }
        let mut trailers = String::new();
        loop {
            let line = self.until(b"\r\n").await?;
            if line.is_empty() {
                return Some((body, trailers));
            }
            trailers.push_str(&String::from_utf8(line).unwrap());
            trailers.push('\n');
        }
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
