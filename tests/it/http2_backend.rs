//! HTTP/2 to backends: what reaches them, what comes back, how connections are shared, and what is repeated.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::{net::TcpListener, task::AbortHandle};

use super::support::{
    Client, Proxy, eventually, get,
    http2::{ask, connect, frame, section, whole},
    soon,
};

/// A backend of HTTP/2. It ends when it is dropped.
struct Backend {
    address: std::net::SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

type Seen = (Request<()>, Vec<u8>, HeaderMap);

#[derive(Default)]
struct State {
    connections: Mutex<usize>,
    /// Method, target, fields; body and trailers.
    seen: Mutex<Vec<Seen>>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// One that gathers each request and answers it as this says.
    async fn with<F, Fut>(answer: F) -> Backend
    where
        F: Fn(Request<()>, Vec<u8>, SendResponse<Bytes>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *shared.connections.lock().unwrap() += 1;
                let (state, answer) = (shared.clone(), answer.clone());
                tasks.spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    let mut tasks = tokio::task::JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (state, answer) = (state.clone(), answer.clone());
                        tasks.spawn(async move {
                            let (parts, mut body) = request.into_parts();
                            let mut bytes = Vec::new();
                            while let Some(Ok(data)) = body.data().await {
                                let _ = body.flow_control().release_capacity(data.len());
                                bytes.extend_from_slice(&data);
                            }
                            let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
                            let request = Request::from_parts(parts, ());
                            state.seen.lock().unwrap().push((request.clone(), bytes.clone(), trailers));
                            answer(request, bytes, respond).await;
                        });
                    }
                });
            }
        });
        Backend { address, state, task: task.abort_handle() }
    }

    /// One whose answer at `/long` has so many bytes, and ten elsewhere.
    async fn with_long(length: usize) -> Backend {
        Backend::with(move |request, _, mut respond| async move {
            let size = if request.uri().path() == "/long" { length } else { 10 };
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            let mut rest = Bytes::from(vec![b'x'; size]);
            while !rest.is_empty() {
                send.reserve_capacity(rest.len());
                let Some(Ok(n)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                send.send_data(rest.split_to(n), rest.is_empty()).unwrap();
            }
        })
        .await
    }

    async fn echo() -> Backend {
        Backend::with(|_, body, mut respond| async move {
            let answer = Response::builder().header("x-backend", "one").body(()).unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            let mut rest = Bytes::from(body);
            while !rest.is_empty() {
                send.reserve_capacity(rest.len());
                let Some(Ok(n)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                send.send_data(rest.split_to(n), false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            let _ = send.send_trailers(trailers);
        })
        .await
    }

    fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }
}

fn text(backends: &[&Backend], more: &str, health: &str) -> String {
    let entries: Vec<String> = backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nhttp2 = \"prior-knowledge\"\n[server]\nworkers = 1\n[admin]\naddress = \
         \"127.0.0.1:0\"\n[pools.p]\nprotocol = \"h2c\"\nbackends = [{}]\n{more}\n[pools.p.health]\n{health}\n",
        entries.join(", ")
    )
}

async fn before(backend: &Backend, more: &str) -> Proxy {
    Proxy::start(&text(&[backend], more, "kind = \"off\"")).await
}

#[tokio::test]
async fn requests_of_both_versions_arrive_whole_with_their_trailers() {
    let backend = Backend::echo().await;
    let proxy = before(&backend, "").await;
    let mut old = Client::connect(proxy.address).await;
    let payload: Vec<u8> = (0..1_500_000).map(|i| (i % 251) as u8).collect();
    for size in [0, 1, 20_000, payload.len()] {
        let body = &payload[..size];
        let head =
            format!("POST /a%2Fb?c HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\nContent-Length: {size}\r\n\r\n");
        let answer = old.send([head.as_bytes(), body].concat()).await.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, size));
        assert!(answer.body == body && answer.trailers.trim() == "x-sum: 7", "{:?}", answer.head);
        let chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n";
        let chunk = if size == 0 { String::new() } else { format!("{size:x}\r\n") };
        let end = if size == 0 { "0\r\nX-End: yes\r\n\r\n" } else { "\r\n0\r\nX-End: yes\r\n\r\n" };
        let answer = old
            .send([chunked.as_bytes(), chunk.as_bytes(), body, end.as_bytes()].concat())
            .await
            .answer()
            .await;
        assert!(answer.status == 200 && answer.body == body);
    }
    let seen = backend.seen();
    let (request, body, _) = &seen[0];
    assert_eq!(
        (request.method().as_str(), request.uri().to_string()),
        ("POST", "http://a.example/a%2Fb?c".into())
    );
    assert_eq!((&request.headers()["x-a"], body.len()), (&"b".parse().unwrap(), 0));
    assert_eq!(request.headers()["x-forwarded-for"], "127.0.0.1");
    for gone in ["host", "connection", "transfer-encoding"] {
        assert!(!seen.iter().any(|(request, ..)| request.headers().contains_key(gone)), "{gone}");
    }
    let (request, _, trailers) = &seen[3];
    assert_eq!(
        (&request.headers()["te"], &trailers["x-end"]),
        (&"trailers".parse().unwrap(), &"yes".parse().unwrap())
    );
    let mut new = connect(proxy.address).await;
    let request = Request::post("http://a.example/x").header("cookie", "a=b").body(()).unwrap();
    let (answer, mut up) = new.send_request(request, false).unwrap();
    up.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", "yes".parse().unwrap());
    up.send_trailers(trailers).unwrap();
    let answer = whole(soon("an answer", answer).await.unwrap()).await.unwrap();
    assert_eq!(
        (answer.body.as_slice(), answer.trailers.unwrap().get("x-sum").unwrap().as_bytes()),
        (&b"hello"[..], &b"7"[..])
    );
    assert_eq!(ask(&mut new, super::support::http2::get("/g")).await.unwrap().status, 200);
    // One connection for all of them, of one client and the other.
    assert_eq!(backend.connections(), 1);
    proxy.counts("ringway_upstream_connections_opened_total", &[], 1.0).await;
    proxy.counts("ringway_upstream_connections_reused_total", &[], 9.0).await;
}

#[tokio::test]
async fn requests_that_come_together_share_one_connection() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let backend = Backend::with(move |_, _, mut respond| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|go| *go).await.unwrap();
            let answer = Response::builder().status(204).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        }
    })
    .await;
    let proxy = before(&backend, "").await;
    let asked: Vec<_> = (0..150)
        .map(|i| tokio::spawn(async move { get(proxy.address, &format!("/{i}"), "").await.status }))
        .collect();
    eventually("all are there", || backend.seen().len() == 150).await;
    go.send_replace(true);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 204);
    }
    // A hundred on one, as the proxy and the backend agree.
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn heads_and_answers_without_bodies_mean_what_they_say() {
    let backend = Backend::with(|request, _, mut respond| async move {
        let answer = match request.method().as_str() {
            "HEAD" => Response::builder().header("content-length", 1000),
            "PUT" => Response::builder().status(304).header("etag", "\"1\""),
            "DELETE" => Response::builder().status(404),
            _ => {
                respond
                    .send_informational(
                        Response::builder().status(103).header("link", "</a>").body(()).unwrap(),
                    )
                    .unwrap();
                Response::builder().status(500)
            }
        };
        respond.send_response(answer.body(()).unwrap(), true).unwrap();
    })
    .await;
    let proxy = before(&backend, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.answer_to("HEAD").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let put = client.answer().await;
    assert_eq!((put.status, put.header("etag")), (304, Some("\"1\"")));
    client.send("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let delete = client.answer().await;
    assert_eq!((delete.status, delete.header("content-length"), delete.body.len()), (404, Some("0"), 0));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.until(b"\r\n\r\n").await.unwrap(), b"HTTP/1.1 103 \r\nlink: </a>");
    assert_eq!(client.answer().await.status, 500);
}

#[tokio::test]
async fn what_a_backend_has_not_begun_is_repeated_whatever_it_is() {
    // The first request of each connection is refused, and the second one answered.
    let refused = Arc::new(Mutex::new(0));
    let count = refused.clone();
    let backend = Backend::with(move |_, _, mut respond| {
        let count = count.clone();
        async move {
            let mut count = count.lock().unwrap();
            *count += 1;
            if *count == 1 {
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
            respond.send_response(Response::builder().status(201).body(()).unwrap(), true).unwrap();
        }
    })
    .await;
    let proxy = before(&backend, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.status, 201);
    assert_eq!(backend.seen()[1].1, b"hi");
    proxy.counts("ringway_repeats_total", &["reason=\"refused\""], 1.0).await;
}

#[tokio::test]
async fn what_a_backend_may_have_begun_is_not_repeated_where_that_is_not_safe() {
    let backend =
        Backend::with(|_, _, mut respond| async move { respond.send_reset(h2::Reason::INTERNAL_ERROR) })
            .await;
    let proxy = before(&backend, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_off_for_the_client_too() {
    let (go, gone) = tokio::sync::watch::channel(0);
    let backend = Backend::with(move |_, _, mut respond| {
        let mut gone = gone.clone();
        async move {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"hello"), false).unwrap();
            let seen = *gone.borrow();
            gone.wait_for(|go| *go > seen).await.unwrap();
            send.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let proxy = before(&backend, "").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the beginning", client.until(b"hello")).await.unwrap();
    go.send_replace(1);
    assert_eq!(soon("the end", client.until(b"0\r\n\r\n")).await, None);
    proxy.counts("ringway_requests_total", &["class=\"truncated\""], 1.0).await;
    let mut client = connect(proxy.address).await;
    let (answer, _) = client.send_request(super::support::http2::get("/"), true).unwrap();
    let mut body = soon("an answer", answer).await.unwrap().into_body();
    assert_eq!(soon("the beginning", body.data()).await.unwrap().unwrap(), "hello");
    go.send_replace(2);
    let error = soon("the end", body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_slow_client_holds_up_no_other() {
    let backend = Backend::with_long(10_000_000).await;
    let proxy = before(&backend, "").await;
    let mut slow = Vec::new();
    for _ in 0..90 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        slow.push(client);
    }
    eventually("all have been asked for", || backend.seen().len() == 90).await;
    // One more that is long and fast, through what the others leave.
    assert_eq!(get(proxy.address, "/long", "").await.body.len(), 10_000_000);
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/short", "").await.body.len(), 10);
    }
    let answer = slow[7].answer().await;
    assert_eq!(answer.body.len(), 10_000_000);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_backend_that_takes_leave_is_left() {
    // Each connection serves two requests, and takes leave with the second one's answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut served = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    served += 1;
                    if served == 2 {
                        connection.graceful_shutdown();
                    }
                    respond.send_response(Response::builder().status(204).body(()).unwrap(), true).unwrap();
                }
            });
        }
    });
    let backend = Backend { address, state: Arc::default(), task: task.abort_handle() };
    let proxy = before(&backend, "").await;
    for i in 0..20 {
        assert_eq!(get(proxy.address, &format!("/{i}"), "").await.status, 204);
    }
    proxy.counts("ringway_requests_total", &["class=\"2xx\""], 20.0).await;
}

#[tokio::test]
async fn an_answer_that_breaks_the_rules_is_no_answer() {
    let cases: [(&str, Vec<u8>); 9] = [
        ("no status", section(&[("x-a", "b")])),
        ("a status that is none", section(&[(":status", "20x")])),
        ("four digits", section(&[(":status", "0200")])),
        ("two of them", section(&[(":status", "200"), (":status", "200")])),
        ("a change of protocol", section(&[(":status", "101")])),
        ("upper case", section(&[(":status", "200"), ("X-A", "b")])),
        ("a line end", section(&[(":status", "200"), ("x-a", "b\r\nc: d")])),
        ("connection", section(&[(":status", "200"), ("connection", "close")])),
        ("two lengths", section(&[(":status", "200"), ("content-length", "1"), ("content-length", "1")])),
    ];
    for (what, head) in cases {
        let origin = says([frame(1, 4, 1, &head), frame(0, 1, 1, b"x")].concat()).await;
        let config = text(&[], "attempts = 1", "kind = \"off\"")
            .replace("backends = []", &format!("backends = [\"{}\"]", origin.address));
        let proxy = Proxy::start(&config).await;
        assert_eq!(get(proxy.address, "/", "").await.status, 502, "{what}");
        proxy.counts("ringway_attempts_total", &["result=\"protocol\""], 1.0).await;
    }
}

/// A backend that says this to the first request, and closes.
async fn says(frames: Vec<u8>) -> super::support::Origin {
    super::support::Origin::with("one", move |mut peer| {
        let frames = frames.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            // The proxy's preface and settings, and then the first request, whatever they are.
            peer.stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            let before = peer.until_bytes(88).await;
            peer.until_bytes(before + 50).await;
            peer.stream.write_all(&frames).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_has_come_whole_counts_though_the_connection_is_gone() {
    let head = section(&[(":status", "200"), ("content-length", "5")]);
    let goaway = frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let origin = says([frame(1, 4, 1, &head), frame(0, 1, 1, b"hello"), goaway].concat()).await;
    let config = text(&[], "attempts = 1", "kind = \"off\"")
        .replace("backends = []", &format!("backends = [\"{}\"]", origin.address));
    let proxy = Proxy::start(&config).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}

#[tokio::test]
async fn a_connection_that_has_idled_for_its_time_is_closed_though_nobody_asks_again() {
    let (closed, is_closed) = tokio::sync::watch::channel(false);
    let origin = super::support::Origin::with("one", move |mut peer| {
        let closed = closed.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            peer.stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            let before = peer.until_bytes(88).await;
            peer.until_bytes(before + 50).await;
            peer.stream.write_all(&frame(1, 5, 1, &section(&[(":status", "204")]))).await.unwrap();
            let _ = peer.stream.read_to_end(&mut Vec::new()).await;
            closed.send_replace(true);
        }
    })
    .await;
    let config = text(&[], "connections.keep_alive = \"100ms\"", "kind = \"off\"")
        .replace("backends = []", &format!("backends = [\"{}\"]", origin.address));
    let proxy = Proxy::start(&config).await;
    assert_eq!(get(proxy.address, "/", "").await.status, 204);
    eventually("it is closed", || *is_closed.borrow()).await;
    proxy.counts("ringway_upstream_connections_closed_total", &["reason=\"idle\""], 1.0).await;
}

#[tokio::test]
async fn an_end_that_comes_late_is_no_reason_for_a_reset() {
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    let origin = super::support::Origin::with("one", move |mut peer| {
        let said = said.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            let head = section(&[(":status", "200"), ("content-length", "5")]);
            peer.stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            let mut seen = peer.until_bytes(88).await;
            for stream in [1, 3] {
                seen = peer.until_bytes(seen + 50).await;
                // The end of the first stream comes with the second answer.
                let late = if stream == 3 { frame(0, 1, 1, &[]) } else { vec![] };
                let answer = [late, frame(1, 4, stream, &head), frame(0, 0, stream, b"hello")].concat();
                peer.stream.write_all(&answer).await.unwrap();
            }
            peer.stream.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
            peer.until_bytes(seen + 17).await;
            said.send(peer.take_rest()).await.unwrap();
        }
    })
    .await;
    let config = text(&[], "attempts = 1", "kind = \"off\"")
        .replace("backends = []", &format!("backends = [\"{}\"]", origin.address));
    let proxy = Proxy::start(&config).await;
    for _ in 0..2 {
        assert_eq!(get(proxy.address, "/", "").await.text(), "hello");
    }
    let bytes = soon("what the backend heard", heard.recv()).await.unwrap();
    let mut rest = &bytes[24..];
    let mut kinds = Vec::new();
    while let Some(head) = rest.first_chunk::<9>() {
        kinds.push(head[3]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        rest = &rest[9 + length..];
    }
    // Requests and what they need, and no RST_STREAM.
    assert!(kinds.iter().filter(|kind| **kind == 1).count() == 2 && !kinds.contains(&3), "{kinds:?}");
}

#[tokio::test]
async fn payload_before_a_head_is_no_answer() {
    let origin = says(frame(0, 1, 1, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let config = text(&[], "attempts = 1", "kind = \"off\"")
        .replace("backends = []", &format!("backends = [\"{}\"]", origin.address));
    let proxy = Proxy::start(&config).await;
    assert_eq!(get(proxy.address, "/", "").await.status, 502);
    proxy.counts("ringway_attempts_total", &["result=\"protocol\""], 1.0).await;
}

#[tokio::test]
async fn a_download_that_is_given_up_leaves_the_connection_to_others() {
    let backend = Backend::with_long(50_000_000).await;
    let proxy = before(&backend, "").await;
    for i in 0..30 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        soon("some of it", client.exactly(100_000 + 7777 * i)).await.unwrap();
        drop(client);
        proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
        assert_eq!(get(proxy.address, "/short", "").await.body, b"xxxxxxxxxx", "{i}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_backend_that_resets_streams_keeps_its_connection() {
    let backend =
        Backend::with(|_, _, mut respond| async move { respond.send_reset(h2::Reason::INTERNAL_ERROR) })
            .await;
    let proxy = before(&backend, "attempts = 1").await;
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/", "").await.status, 502);
    }
    assert_eq!((backend.connections(), backend.seen().len()), (1, 20));
}

#[tokio::test]
async fn grpc_health_checks_are_asked_and_understood() {
    for (status, standing, wanted) in [("0", 1_u8, true), ("0", 2, false), ("5", 1, false), ("12", 0, false)]
    {
        let backend = Backend::with(move |request, body, mut respond| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(body, b"\0\0\0\0\x05\n\x03a.B");
            let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            send.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, standing]), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            let _ = send.send_trailers(trailers);
        })
        .await;
        let proxy =
            Proxy::start(&text(&[&backend], "", "kind = \"grpc\"\nservice = \"a.B\"\nrise = 1\nfall = 1"))
                .await;
        let view = proxy.view();
        let member = &view.pools[0].members[0];
        assert_eq!(member.standing == ringway::fleet::Standing::Serving, wanted, "{}", member.reason);
        proxy.counts("ringway_backend_serving", &[], f64::from(u8::from(wanted))).await;
    }
    // And pages, in the pool's protocol.
    let backend = Backend::echo().await;
    let proxy = Proxy::start(&text(&[&backend], "", "kind = \"http\"\npath = \"/up\"")).await;
    proxy.counts("ringway_backend_serving", &[], 1.0).await;
    assert_eq!(backend.seen()[0].0.uri().path(), "/up");
}

#[tokio::test]
async fn a_deadline_of_grpc_is_kept() {
    let backend = Backend::with(|_, _, respond| async move {
        let _held = respond;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = before(&backend, "").await;
    let mut client = connect(proxy.address).await;
    let request = Request::post("http://a.example/s/m")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "100m")
        .body(())
        .unwrap();
    let answer = ask(&mut client, request).await.unwrap();
    assert_eq!((answer.status, answer.field("grpc-status")), (200, "4"), "{answer:?}");
}

#[tokio::test]
async fn slow_and_busy_answers_are_had_from_the_next_owner() {
    let busy = Backend::with(|request, _, mut respond| async move {
        if request.uri().path().starts_with("/slow") {
            std::future::pending::<()>().await;
        }
        let answer = Response::builder().status(503).body(()).unwrap();
        let mut send = respond.send_response(answer, false).unwrap();
        send.send_data(Bytes::from_static(b"busy"), true).unwrap();
    })
    .await;
    let good = Backend::echo().await;
    let more = "passive.consecutive = 0\nrepeats.status = [503]\nrepeats.per_try = \"50ms\"\n";
    let proxy = Proxy::start(&text(&[&busy, &good], more, "kind = \"off\"")).await;
    let ring = proxy.view().pools[0].ring.clone();
    let path = |word: &str| {
        let owns = |path: &String| {
            let owner = ring.owner(ringway::ring::Place::of(path.as_bytes())).unwrap();
            *ring.member(owner).name == *busy.address.to_string()
        };
        (0..).map(|i| format!("/{word}{i}")).find(owns).unwrap()
    };
    let mut old = Client::connect(proxy.address).await;
    let mut new = connect(proxy.address).await;
    for word in ["busy", "slow"] {
        let path = path(word);
        assert_eq!(old.get(&path, "").await.status, 200);
        old.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")).await;
        assert_eq!(old.answer().await.body, b"hi");
        let request = Request::get(format!("http://a.example{path}")).body(()).unwrap();
        let (answer, _) = new.send_request(request, true).unwrap();
        assert_eq!(soon("an answer", answer).await.unwrap().status(), 200);
        // A POST is sent once, and has what came of it.
        if word == "busy" {
            old.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")).await;
            assert_eq!(old.answer().await.status, 503);
        }
    }
    proxy.counts("ringway_repeats_total", &["reason=\"status\""], 3.0).await;
    proxy.counts("ringway_repeats_total", &["reason=\"per_try_timeout\""], 3.0).await;
    assert_eq!((busy.seen().len(), good.seen().len()), (7, 6));
    // Or beside it.
    let more = "repeats.hedge_after = \"20ms\"\n";
    let proxy = Proxy::start(&text(&[&busy, &good], more, "kind = \"off\"")).await;
    let request = Request::get(format!("http://a.example{}", path("slow"))).body(()).unwrap();
    let (answer, _) = connect(proxy.address).await.send_request(request, true).unwrap();
    assert_eq!(soon("an answer", answer).await.unwrap().status(), 200);
    proxy.counts("ringway_attempts_total", &["result=\"hedged\""], 1.0).await;
    proxy.counts("ringway_requests_in_flight", &[], 0.0).await;
    // An empty body has its end there, too, and its trailers.
    for (end, sum) in [("0\r\n\r\n", None), ("0\r\nx-sum: 1\r\n\r\n", Some("1"))] {
        let mut client = Client::connect(proxy.address).await;
        let put = format!("PUT {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path("slow"));
        client.send(put + end).await;
        assert_eq!(client.answer().await.status, 200);
        let (request, body, trailers) = good.seen().pop().unwrap();
        assert_eq!((request.method().as_str(), body.len()), ("PUT", 0));
        assert_eq!(trailers.get("x-sum").map(|sum| sum.to_str().unwrap()), sum);
    }
}
