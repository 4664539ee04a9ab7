//! Backends that die under load, as processes do: at once, in the middle of everything.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use ringway::fleet::Standing;

use super::support::{Client, Origin, Proxy, eventually, proxy::configuration};

/// The backend's side of the test: this test binary, started again to run nothing but the function below.
struct Victim {
    child: Child,
    address: SocketAddr,
}

impl Victim {
    fn start(address: SocketAddr) -> Victim {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "failover::be_a_backend", "--ignored", "--nocapture", "--test-threads=1"])
            .env("RINGWAY_TEST_BACKEND", address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Victim { child, address }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: a backend, when the environment says so.
#[test]
#[ignore = "a backend for `a_backend_killed_under_load_costs_no_request`"]
fn be_a_backend() {
    let Ok(address) = std::env::var("RINGWAY_TEST_BACKEND") else {
        return;
    };
    let listener = TcpListener::bind(&address).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let (mut input, mut part) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = stream.read(&mut part) {
                input.extend_from_slice(&part[..n]);
                while let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                    input.drain(..at + 4);
                    let reply = b"HTTP/1.1 200 OK\r\nx-backend: victim\r\ncontent-length: 6\r\n\r\nvictim";
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_killed_under_load_costs_no_request() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut victim = Victim::start(free);
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let entries = format!(
        "{}, {}, {{ name = \"victim\", address = \"{}\" }}",
        one.entry(),
        two.entry(),
        victim.address
    );
    let health = "[pools.p.health]\ninterval = \"200ms\"\nchanging_interval = \"10ms\"\n";
    let text = configuration(&[], health, "").replace("backends = []", &format!("backends = [{entries}]"));
    let proxy = Proxy::start(&text).await;
    proxy.sees("victim", Standing::Serving).await;
    let (answered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let address = proxy.address;
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (answered, stop) = (answered.clone(), stop.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut i = number;
                while !stop.load(SeqCst) {
                    let answer = client.get(&format!("/{i}"), "").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, SeqCst);
                    i += 16;
                }
            })
        })
        .collect();
    for round in 1..=3 {
        let before = answered.load(SeqCst);
        eventually("the load runs", || answered.load(SeqCst) > before + 200).await;
        victim.kill();
        proxy.sees("victim", Standing::Down).await;
        victim = Victim::start(victim.address);
        proxy.sees("victim", Standing::Serving).await;
        assert!(answered.load(SeqCst) > before, "round {round}");
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    proxy.counts("ringway_refusals_total", &[], 0.0).await;
}
