//! Relays: a port of the loopback that leads somewhere else, so that the kit's raw client and origins reach every kind of transport.

use std::{future::Future, net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{AbortHandle, JoinSet},
};

/// A running relay. It ends, with all its connections, when it is dropped.
pub struct Relay {
    /// Where to connect. Of no use for one that listens on a Unix socket.
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// A port that leads to whatever `open` opens for each connection. One that can't be opened closes the connection.
    pub async fn to<F, Fut, S>(open: F) -> Relay
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let far = open();
                tasks.spawn(async move {
                    if let Ok(mut far) = far.await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Relay { address, task: task.abort_handle() }
    }

    /// A port that leads to a Unix socket.
    pub async fn to_unix(path: &Path) -> Relay {
        let path = path.to_owned();
        Relay::to(move || UnixStream::connect(path.clone())).await
    }

    /// A port that speaks TLS and leads to one that does not.
    pub async fn from_tls(config: rustls::ServerConfig, to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tasks.spawn(async move {
                    let Ok(mut near) = acceptor.accept(near).await else { return };
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Relay { address, task: task.abort_handle() }
    }

    /// A Unix socket that leads to a port.
    pub async fn from_unix(path: &Path, to: SocketAddr) -> Relay {
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                tasks.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Relay { address: to, task: task.abort_handle() }
    }
}
