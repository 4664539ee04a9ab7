//! The demo's backends: small HTTP servers that say their name, and can be stopped, slowed and broken.
//!
//! Owns their thread and the little listener that commands them. Nothing here is used by the proxy.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::watch, task::JoinSet};

/// All backends of a demo. Their thread ends with the process.
pub(super) struct Stage {
    /// Where commands are taken: `POST /NAME/stop`.
    pub(super) control: SocketAddr,
    backends: Vec<Arc<Backend>>,
}

struct Backend {
    name: String,
    address: SocketAddr,
    running: watch::Sender<bool>,
    mood: AtomicU8,
    answered: AtomicU64,
}

/// How a backend behaves while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mood {
    Well,
    Slow,
    Failing,
    Flapping,
}

impl Backend {
    fn mood(&self) -> Mood {
        match self.mood.load(Relaxed) {
            1 => Mood::Slow,
            2 => Mood::Failing,
            3 => Mood::Flapping,
            _ => Mood::Well,
        }
    }

    fn set_mood(&self, mood: Mood) {
        self.mood.store(mood as u8, Relaxed);
    }
}

impl Stage {
    /// Starts so many backends on free loopback ports.
    pub(super) fn start(count: u8) -> io::Result<Stage> {
        let bind = || {
            let socket = TcpListener::bind(("127.0.0.1", 0))?;
            socket.set_nonblocking(true)?;
            io::Result::Ok((socket.local_addr()?, socket))
        };
        let (control, commands) = bind()?;
        let (mut backends, mut sockets) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let (address, socket) = bind()?;
            backends.push(Arc::new(Backend {
                name: format!("cache-{number}"),
                address,
                running: watch::Sender::new(true),
                mood: AtomicU8::new(Mood::Well as u8),
                answered: AtomicU64::new(0),
            }));
            sockets.push(socket);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stage = Stage { control, backends: backends.clone() };
        std::thread::Builder::new().name("demo-backends".into()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = JoinSet::new();
                for (backend, socket) in backends.iter().zip(sockets) {
                    tasks.spawn(live(backend.clone(), socket));
                    tasks.spawn(flap(backend.clone()));
                }
                tasks.spawn(take_commands(commands, backends.into()));
                while tasks.join_next().await.is_some() {}
            });
        })?;
        Ok(stage)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.iter().map(|backend| &*backend.name)
    }

    /// Their names and addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.backends.iter().map(|backend| (&*backend.name, backend.address))
    }
}

/// One backend's life: up and down as it is told. Down means that its port is closed and its connections are cut.
async fn live(backend: Arc<Backend>, socket: TcpListener) {
    let mut running = backend.running.subscribe();
    let mut socket = Some(socket);
    loop {
        let bound = match socket.take() {
            Some(socket) => Ok(socket),
            None => bind_again(backend.address),
        };
        let listener = bound.and_then(tokio::net::TcpListener::from_std);
        match listener {
            Ok(listener) => {
                tokio::select! {
                    () = serve(&backend, listener) => {}
                    _ = running.wait_for(|running| !running) => {}
                }
            }
            Err(error) => {
                tracing::warn!(backend = backend.name, %error, "demo: the backend can't listen");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        if running.wait_for(|running| *running).await.is_err() {
            return;
        }
    }
}

fn bind_again(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve(backend: &Arc<Backend>, listener: tokio::net::TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let backend = backend.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| answer(backend.clone(), request));
                    let mut server = http1::Builder::new();
                    // A proxy that goes away breaks its connections: no news.
                    let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

async fn answer(
    backend: Arc<Backend>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mood = backend.mood();
    let is_probe = request.uri().path() == "/health";
    if mood == Mood::Slow && !is_probe {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if mood == Mood::Failing {
        return Ok(reply(StatusCode::INTERNAL_SERVER_ERROR, format!("{} fails\n", backend.name)));
    }
    if is_probe {
        return Ok(reply(StatusCode::OK, "well\n".into()));
    }
    let count = backend.answered.fetch_add(1, Relaxed) + 1;
    let line = format!(
        "{} answers {} {} (its request number {count})\n",
        backend.name,
        request.method(),
        request.uri()
    );
    Ok(reply(StatusCode::OK, line))
}

/// A flapping backend is down for three seconds out of eight.
async fn flap(backend: Arc<Backend>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if backend.mood() == Mood::Flapping {
            backend.running.send_replace(false);
            tokio::time::sleep(Duration::from_secs(3)).await;
            backend.running.send_replace(true);
        }
    }
}

async fn take_commands(socket: TcpListener, backends: Arc<[Arc<Backend>]>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "demo: no commands can be taken"),
    };
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let backends = backends.clone();
                clients.spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let answer = command(&backends, request.method(), request.uri().path());
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let mut server = http1::Builder::new();
                    let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

fn command(backends: &[Arc<Backend>], method: &Method, path: &str) -> Response<Full<Bytes>> {
    let usage = || "POST /NAME/stop, start, slow, fail, flap or heal\n".to_owned();
    let mut parts = path.trim_matches('/').split('/');
    let (name, verb) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(backend) = backends.iter().find(|backend| backend.name == name) else {
        return reply(StatusCode::NOT_FOUND, usage());
    };
    if method != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED, usage());
    }
    match verb {
        "stop" => drop(backend.running.send_replace(false)),
        "start" => drop(backend.running.send_replace(true)),
        "slow" => backend.set_mood(Mood::Slow),
        "fail" => backend.set_mood(Mood::Failing),
        "flap" => backend.set_mood(Mood::Flapping),
        "heal" => {
            backend.set_mood(Mood::Well);
            backend.running.send_replace(true);
        }
        _ => return reply(StatusCode::NOT_FOUND, usage()),
    }
    reply(StatusCode::OK, format!("{name}: {verb}\n"))
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer
}
