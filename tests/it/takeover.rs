//! A new process in the place of the running one: nothing is refused, nothing is lost, and if nothing comes of it, nothing has happened.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::support::{
    Client, Origin, eventually, get,
    process::{Running, run, signal},
    proxy::{configuration, sum},
    relay::Relay,
};

/// A configuration with a token for orders, which stands beside it.
fn with_token(origins: &[&Origin], token: &Path) -> String {
    let file = format!("[admin]\ntoken_file = \"{}\"\nallow_unauthenticated_reads = true\n", token.display());
    configuration(origins, "", "").replace("[admin]\n", &file)
}

fn upgrade(running: &Running, token: &Path) -> Output {
    let admin = running.admin.to_string();
    run(&["upgrade", "--admin", &admin, "--token-file", token.to_str().unwrap()])
}

async fn metric(running: &Running, name: &str, labels: &[&str]) -> f64 {
    sum(get(running.admin, "/metrics", "Connection: close\r\n").await.text(), name, labels)
}

struct Load {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Clients that connect anew for each request, and clients that keep their connections, by both ways.
    fn start(address: SocketAddr, unix: &Path) -> Load {
        let mut load = Load { answered: Arc::default(), stop: Arc::default(), clients: vec![] };
        for number in 0..16 {
            let (answered, stop, unix) = (load.answered.clone(), load.stop.clone(), unix.to_owned());
            load.clients.push(tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let lost = |error: std::io::Error| format!("client {number} was refused: {error}");
                    let keep = number % 2 == 0;
                    if number % 4 < 2 {
                        let stream = TcpStream::connect(address).await.map_err(lost)?;
                        requests(stream, keep, &answered, &stop).await
                    } else {
                        let stream = UnixStream::connect(&unix).await.map_err(lost)?;
                        requests(stream, keep, &answered, &stop).await
                    }
                    .map_err(|error| format!("client {number}: {error}"))?;
                }
                Ok(())
            }));
        }
        load
    }

    /// Waits for this many answers more.
    async fn runs(&self, more: u64) {
        let goal = self.answered.load(SeqCst) + more;
        let over = || self.clients.iter().any(tokio::task::JoinHandle::is_finished);
        eventually("the load runs", || self.answered.load(SeqCst) > goal || over()).await;
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Ok(()), "a request was lost");
        }
    }
}

/// Requests on one connection, until it is said to end. Every one of them must be answered.
async fn requests(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    keep: bool,
    answered: &AtomicU64,
    stop: &AtomicBool,
) -> Result<(), String> {
    loop {
        let mut input = Vec::new();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .map_err(|error| format!("sending: {error}"))?;
        while !input.ends_with(b"\r\n\r\none") {
            match stream.read_buf(&mut input).await {
                Ok(1..) => {}
                other => return Err(format!("{other:?} after {:?}", String::from_utf8_lossy(&input))),
            }
        }
        answered.fetch_add(1, SeqCst);
        if !keep || stop.load(SeqCst) || String::from_utf8_lossy(&input).contains("connection: close") {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takeover_under_load_refuses_no_connection_and_loses_no_request() {
    let origin = Origin::named("one").await;
    let folder = super::support::process::Directory::new();
    let path = folder.path().join("ringway.sock");
    let text = configuration(&[&origin], "", "");
    let text = format!("{text}\n[[listeners]]\naddress = \"unix:{}\"\nname = \"local\"\n", path.display());
    let mut running = Running::start(&text);
    let load = Load::start(running.address, &path);
    load.runs(500).await;
    running.signal("USR2");
    let pid = running.succeeded().await;
    // The old one is gone; with other numbers of workers, every socket is still somebody's.
    load.runs(500).await;
    let mut last = pid;
    for workers in [4, 1, 3] {
        running.write_configuration(&text.replace("workers = 2", &format!("workers = {workers}")));
        signal(last, "USR2");
        running.wait_for_line("took over");
        let before = last;
        eventually("the one before ends", || !Path::new(&format!("/proc/{before}/fd/0")).exists()).await;
        load.runs(300).await;
        last = *running.heirs().last().unwrap();
        assert_ne!(last, before);
    }
    assert!(path.exists(), "the socket's file went with a process that had handed it over");
    load.end().await;
    assert_eq!(metric(&running, "ringway_takeovers_total", &["success"]).await, 1.0);
    running.end(last).await;
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test]
async fn a_takeover_that_fails_leaves_everything_as_it_was_and_says_why() {
    let origin = Origin::named("one").await;
    let folder = super::support::process::Directory::new();
    let token = folder.file("token", "s3cret\n");
    let path = folder.path().join("ringway.sock");
    let local = |mode: &str| {
        let address = format!("address = \"unix:{}\"", path.display());
        format!("\n[[listeners]]\n{address}\nname = \"local\"\nmode = \"{mode}\"\n")
    };
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let text = with_token(&[&origin], &token);
    let mut running = Running::start(&format!("{text}{}", local("0600")));
    let mut kept = Client::connect(running.address).await;
    assert_eq!(kept.get("/", "").await.status, 200);

    running.write_configuration("[[listeners]]\naddress = \"nonsense\"\n");
    let output = upgrade(&running, &token);
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{reason}");
    assert!(reason.contains("ringway.toml") && reason.contains("nonsense"), "{reason}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let second =
        format!("\n[[listeners]]\naddress = \"{}\"\nname = \"second\"\n", taken.local_addr().unwrap());
    running.write_configuration(&format!("{text}{}{second}", local("0666")));
    let output = upgrade(&running, &token);
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && reason.contains("can't listen on"), "{reason}");
    // What the failed one was handed is still the running one's: its file, its mode, its answers.
    assert_eq!(mode(), 0o600);
    let relay = Relay::to_unix(&path).await;
    assert_eq!(get(relay.address, "/", "").await.status, 200);

    assert_eq!(metric(&running, "ringway_takeovers_total", &["failure"]).await, 2.0);
    assert_eq!(kept.get("/", "").await.header("connection"), None);
    assert_eq!(get(running.address, "/", "").await.status, 200);
    assert!(running.child.try_wait().unwrap().is_none());

    // What is right again works.
    drop(taken);
    running.write_configuration(&format!("{text}{}{second}", local("0666")));
    let output = upgrade(&running, &token);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let pid = running.succeeded().await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("process {pid} has taken over\n"));
    assert_eq!(get(running.address, "/", "").await.status, 200);
    assert_eq!(get(running.admin, "/readyz", "").await.status, 200);
    assert_eq!((mode(), get(relay.address, "/", "").await.status), (0o666, 200));
    running.end(pid).await;
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test]
async fn orders_need_the_token_and_none_is_taken_where_there_is_none() {
    let origin = Origin::named("one").await;
    let folder = super::support::process::Directory::new();
    let (token, wrong) = (folder.file("token", "s3cret\n"), folder.file("wrong", "guess\n"));
    let running = Running::start(&with_token(&[&origin], &token));
    let reason = String::from_utf8_lossy(&upgrade(&running, &wrong).stderr).into_owned();
    assert!(reason.contains("not this proxy's token"), "{reason}");
    assert_eq!(get(running.admin, "/api/upgrade", "").await.status, 405);
    let open = Running::start(&configuration(&[&origin], "", ""));
    let reason = String::from_utf8_lossy(&upgrade(&open, &token).stderr).into_owned();
    assert!(reason.contains("admin.token_file"), "{reason}");
}

#[tokio::test]
async fn the_file_that_is_there_now_is_started_and_one_that_is_no_proxy_changes_nothing() {
    let origin = Origin::named("one").await;
    let folder = super::support::process::Directory::new();
    let program = folder.path().join("ringway");
    let put = |from: &Path| {
        let new = folder.path().join("new");
        // Not by this process: whatever another test starts meanwhile would hold the file open for writing.
        assert!(std::process::Command::new("cp").args([from, &new]).status().unwrap().success());
        std::fs::rename(new, &program).unwrap();
    };
    let real = Path::new(env!("CARGO_BIN_EXE_ringway"));
    put(real);
    let mut running = Running::start_program(&program, &configuration(&[&origin], "", ""));
    for (broken, wanted) in [("false", "exit status: 1"), ("sleep", "exit status: 1")] {
        put(&Path::new("/bin").join(broken));
        running.signal("USR2");
        let line = running.wait_for_line("no other process has taken over");
        assert!(line.contains(wanted), "{line}");
    }
    std::fs::remove_file(&program).unwrap();
    running.signal("USR2");
    assert!(running.wait_for_line("no other process has taken over").contains("can't be started"));
    assert_eq!(get(running.address, "/", "").await.status, 200);
    assert_eq!(metric(&running, "ringway_takeovers_total", &["failure"]).await, 3.0);
    put(real);
    running.signal("USR2");
    let pid = running.succeeded().await;
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), program);
    running.end(pid).await;
}

#[tokio::test]
async fn the_new_configuration_counts_and_a_request_under_way_is_finished() {
    let (go, origin) = Origin::patient("one").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = configuration(&[&origin], "", "").replace("workers = 2", "workers = 1");
    // A delay that is for those who ask whether it is ready: nobody has to.
    let mut running = Running::start(&text.replace("[server]\n", "[server]\ndrain_delay = \"1h\"\n"));
    let mut slow = Client::connect(running.address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the backend has it", || origin.seen().len() == 1).await;
    running.write_configuration(&format!(
        "{}\n[[listeners]]\naddress = \"{free}\"\nname = \"second\"\n",
        text.replacen(
            "address = \"127.0.0.1:0\"\n",
            "address = \"127.0.0.1:0\"\nredirect_to_https = 443\n",
            1
        )
    ));
    running.signal("USR2");
    running.wait_for_line("accepting no more");
    assert_eq!(get(running.address, "/", "").await.status, 308);
    assert_eq!(get(free, "/", "").await.status, 200);
    // A second one is refused: the first process is on its way out.
    running.signal("USR2");
    assert!(running.wait_for_line("no other process takes over").contains("draining"));
    go.notify_one();
    let answer = slow.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("done", Some("close")));
    assert_eq!(running.exit_code().await, Some(0));
    let pid = *running.heirs().last().unwrap();
    assert_eq!(get(running.admin, "/readyz", "").await.status, 200);
    running.end(pid).await;
}

#[tokio::test]
async fn one_takeover_at_a_time_and_none_outlives_a_stop() {
    // Nothing answers the probe of the second configuration: the new process is not ready before that has failed.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::named("one").await;
    let text = configuration(&[&origin], "", "");
    let mut running = Running::start(&text);
    let health = "[pools.p.health]\nkind = \"http\"\npath = \"/\"\ntimeout = \"30s\"\ninterval = \"31s\"\n";
    let slow = text
        .replace("[pools.p.health]\nkind = \"off\"\n", health)
        .replace(&origin.address.to_string(), &silent.local_addr().unwrap().to_string());
    running.write_configuration(&slow);
    running.signal("USR2");
    running.wait_for_line("probing backends");
    running.signal("USR2");
    assert!(running.wait_for_line("no other process has taken over").contains("under way"));
    signal(*running.heirs().last().unwrap(), "KILL");
    assert!(running.wait_for_line("no other process has taken over").contains("signal: 9"));
    running.signal("USR2");
    running.wait_for_line("probing backends");
    assert_eq!(get(running.address, "/", "").await.status, 200);
    running.signal("TERM");
    assert_eq!(running.exit_code().await, Some(0));
    let pid = *running.heirs().last().unwrap();
    eventually("the new process is gone", || !Path::new(&format!("/proc/{pid}/fd/0")).exists()).await;
}
