//! A new configuration, and operators' orders, for a proxy that runs.

use std::path::PathBuf;

use ringway::{fleet::Standing, ring::Place};
use serde_json::Value;

use super::support::{
    Client, Origin, Proxy, eventually, get,
    process::{Directory, Running as Process, ringway},
    proxy::configuration,
};

/// A proxy with a file, whose configuration can be written anew.
struct Reloading {
    proxy: Proxy,
    file: PathBuf,
    directory: Directory,
}

impl Reloading {
    /// With a token, so that changes are allowed.
    async fn before(origins: &[&Origin], pool: &str) -> Reloading {
        let directory = Directory::new();
        directory.file("token", "secret\n");
        let file = directory.file("ringway.toml", &text(&directory, origins, pool, ""));
        let proxy = Proxy::from_file(&file).await;
        Reloading { proxy, file, directory }
    }

    fn write(&self, origins: &[&Origin], pool: &str, rest: &str) {
        std::fs::write(&self.file, text(&self.directory, origins, pool, rest)).unwrap();
    }

    async fn post(&self, path: &str) -> (u16, Value) {
        post(&self.proxy, path, "Authorization: Bearer secret\r\n").await
    }

    async fn reload(&self) -> Value {
        let (status, report) = self.post("/api/reload").await;
        assert_eq!(status, 200, "{report}");
        report
    }
}

fn text(directory: &Directory, origins: &[&Origin], pool: &str, rest: &str) -> String {
    let token = directory.path().join("token");
    let state = directory.path().join("state.json");
    configuration(origins, pool, rest)
        .replace(
            "[admin]\n",
            &format!("[admin]\ntoken_file = {token:?}\nallow_unauthenticated_reads = true\n"),
        )
        .replace("[server]\n", &format!("[server]\nstate_file = {state:?}\n"))
}

async fn post(proxy: &Proxy, path: &str, fields: &str) -> (u16, Value) {
    let mut client = Client::connect(proxy.admin).await;
    client.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\n\r\n")).await;
    let answer = client.answer().await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn backends_come_and_go_with_a_reload_and_open_connections_stay() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scene = Reloading::before(&[&one], "").await;
    let mut client = Client::connect(scene.proxy.address).await;
    let path = "/some/key";
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.answer().await.text(), "one");
    scene.write(&[&one, &two], "", "");
    let report = scene.reload().await;
    assert_eq!(report["added"][0], "p/two");
    let view = scene.proxy.view();
    let owner = view.pools[0].ring.owner(Place::of(path.as_bytes())).unwrap();
    let owner = view.pools[0].member(owner).backend.name.clone();
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.answer().await.text(), &*owner);
    let share = view.pools[0].ring.share(view.pools[0].ring.index_of("two").unwrap());
    assert!((report["moved"][0]["share"].as_f64().unwrap() - share).abs() < 1e-9);
    scene.write(&[&two], "", "");
    assert_eq!(scene.reload().await["removed"][0], "p/one");
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(client.answer().await.text(), "two");
    assert_eq!(one.connections(), 1, "it was reached over one connection, which was used again");
    assert_eq!(scene.proxy.metric("ringway_config_loads_total", &["success"]).await, 3.0);
    assert_eq!(scene.proxy.metric("ringway_config_last_load_successful", &[]).await, 1.0);
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing_and_is_told_with_its_place() {
    let one = Origin::named("one").await;
    let scene = Reloading::before(&[&one], "").await;
    let before = scene.proxy.view().revision;
    scene.write(&[&one], "replicaz = 3\n", "");
    let (status, told) = scene.post("/api/reload").await;
    assert_eq!(status, 422);
    let problem = told["error"].as_str().unwrap();
    assert!(problem.contains("replicaz") && problem.contains("ringway.toml:"), "{problem}");
    // An address that can't be had is found out as well before anything changes.
    let rest = format!("[[listeners]]\nname = \"taken\"\naddress = \"{}\"\n", one.address);
    scene.write(&[&one], "replicas = 7", &rest);
    let (status, told) = scene.post("/api/reload").await;
    assert_eq!((status, told["error"].as_str().unwrap().contains("can't listen")), (422, true), "{told}");
    assert_eq!(scene.proxy.view().revision, before);
    assert_eq!(get(scene.proxy.address, "/", "").await.status, 200);
    assert_eq!(scene.proxy.metric("ringway_config_loads_total", &["failure"]).await, 2.0);
    assert_eq!(scene.proxy.metric("ringway_config_last_load_successful", &[]).await, 0.0);
}

#[tokio::test]
async fn what_a_reload_does_not_touch_keeps_its_health() {
    let (mut one, two) = (Origin::named("one").await, Origin::named("two").await);
    let health =
        "ramp = \"0s\"\n[pools.p.passive]\nconsecutive = 1\nejection = \"1h\"\nmax_ejection = \"1h\"\n";
    let scene = Reloading::before(&[&one, &two], health).await;
    one.stop();
    eventually_ejected(&scene, "one").await;
    let three = Origin::named("three").await;
    scene.write(&[&one, &two, &three], health, "");
    scene.reload().await;
    scene.proxy.sees("one", Standing::Ejected).await;
    scene.proxy.sees("three", Standing::Serving).await;
}

/// Sends requests until one has found out.
async fn eventually_ejected(scene: &Reloading, backend: &str) {
    for key in 0..10_000 {
        assert_eq!(get(scene.proxy.address, &format!("/{key}"), "").await.status, 200);
        let view = scene.proxy.view();
        let pool = &view.pools[0];
        if pool.member(pool.ring.index_of(backend).unwrap()).standing == Standing::Ejected {
            return;
        }
    }
    panic!("{backend} was not ejected");
}

#[tokio::test]
async fn a_reload_that_leaves_too_few_backends_is_refused() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scene = Reloading::before(&[&one, &two], "min_backends = 2").await;
    scene.write(&[&one], "min_backends = 1", "");
    scene.reload().await;
    scene.write(&[&two, &one], "min_backends = 2", "");
    scene.reload().await;
    scene.write(&[&two], "min_backends = 2", "");
    assert_eq!(scene.post("/api/reload").await.0, 422);
}

#[tokio::test]
async fn drained_backend_gets_no_new_request_and_a_restart_does_not_forget_it() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scene = Reloading::before(&[&one, &two], "").await;
    let (status, obeyed) = scene.post("/api/pools/p/backends/one/drain").await;
    assert_eq!((status, &obeyed["not_kept"]), (200, &Value::Null), "{obeyed}");
    for key in 0..50 {
        assert_eq!(get(scene.proxy.address, &format!("/{key}"), "").await.text(), "two");
    }
    // A reload leaves the order in force, and so does a restart.
    scene.reload().await;
    scene.proxy.sees("one", Standing::Drained).await;
    let again = Proxy::from_file(&scene.file).await;
    again.sees("one", Standing::Drained).await;
    let told = again.api("/api/pools").await;
    assert_eq!(told["pools"][0]["backends"][0]["order"], "drain");
    assert_eq!(scene.post("/api/pools/p/backends/one/restore").await.0, 200);
    scene.proxy.sees("one", Standing::Serving).await;
    assert_eq!(scene.post("/api/pools/p/backends/one/weight?value=0.25").await.0, 200);
    let told = scene.proxy.api("/api/pools").await;
    let backend = &told["pools"][0]["backends"][0];
    assert_eq!((&backend["weight"], &backend["configured_weight"]), (&"0.25".into(), &"1".into()));
}

#[tokio::test]
async fn orders_that_a_restart_will_forget_are_warned_of() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scene = Reloading::before(&[&one, &two], "").await;
    assert_eq!(scene.post("/api/pools/p/backends/one/drain").await.0, 200);
    let text = std::fs::read_to_string(&scene.file).unwrap();
    let at = |line: &&str| line.starts_with("state_file");
    let line = text.lines().find(at).unwrap();
    for other in ["state_file = \"/nonexistent/state.json\"", ""] {
        std::fs::write(&scene.file, text.replace(line, other)).unwrap();
        let report = scene.reload().await;
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("operators' orders are not kept"), "{warnings}");
    }
    std::fs::write(&scene.file, text).unwrap();
    assert!(!scene.reload().await["warnings"].to_string().contains("not kept"));
    // The backend goes, and the order about it stays until it is taken back.
    scene.write(&[&two], "", "");
    scene.reload().await;
    let told = scene.proxy.api("/api/pools").await;
    assert_eq!(
        (&told["idle_orders"][0]["backend"], &told["idle_orders"][0]["order"]),
        (&"one".into(), &"drain".into())
    );
    assert_eq!(scene.post("/api/pools/p/backends/one/restore").await.0, 200);
    assert_eq!(scene.proxy.api("/api/pools").await["idle_orders"], serde_json::json!([]));
}

#[tokio::test]
async fn changes_need_the_token() {
    let one = Origin::named("one").await;
    let scene = Reloading::before(&[&one], "").await;
    assert_eq!(post(&scene.proxy, "/api/reload", "").await.0, 401);
    assert_eq!(post(&scene.proxy, "/api/reload", "Authorization: Bearer secreT\r\n").await.0, 401);
    assert_eq!(scene.post("/api/nothing").await.0, 404);
    assert_eq!(scene.post("/api/pools/p/backends/nobody/drain").await.0, 422);
    assert_eq!(scene.post("/api/pools/p/backends/one/weight?value=x").await.0, 400);
    let without = Proxy::before(&[&one], "").await;
    assert_eq!(post(&without, "/api/reload", "").await.0, 403);
}

#[tokio::test]
async fn the_command_line_asks_for_the_same() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let scene = Reloading::before(&[&one, &two], "").await;
    let token = scene.directory.path().join("token");
    let (admin, token) = (scene.proxy.admin.to_string(), token.to_str().unwrap().to_owned());
    let run = |arguments: Vec<&'static str>| {
        let door = ["--admin".to_owned(), admin.clone(), "--token-file".to_owned(), token.clone()];
        let mut command = ringway(&arguments);
        tokio::task::spawn_blocking(move || command.args(door).output().unwrap())
    };
    let drained = run(vec!["drain", "p", "one"]).await.unwrap();
    assert!(drained.status.success(), "{drained:?}");
    scene.proxy.sees("one", Standing::Drained).await;
    assert!(run(vec!["restore", "p", "one"]).await.unwrap().status.success());
    let reloaded = run(vec!["reload"]).await.unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(
        String::from_utf8_lossy(&reloaded.stdout).starts_with("reloaded; backends: 0 added"),
        "{reloaded:?}"
    );
    scene.write(&[&one], "replicaz = 1", "");
    let refused = run(vec!["reload"]).await.unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("replicaz"), "{refused:?}");
}

#[tokio::test]
async fn the_access_log_that_was_moved_away_is_begun_anew() {
    let one = Origin::named("one").await;
    let directory = Directory::new();
    directory.file("token", "secret\n");
    let log = directory.path().join("access.log");
    let rest = format!("[access_log]\nformat = \"json\"\nfile = {log:?}\n");
    let file = directory.file("ringway.toml", &text(&directory, &[&one], "", &rest));
    let scene = Reloading { proxy: Proxy::from_file(&file).await, file, directory };
    get(scene.proxy.address, "/first", "").await;
    let moved = scene.directory.path().join("access.log.1");
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    eventually("the first line is written", || lines(&log).contains("/first")).await;
    std::fs::rename(&log, &moved).unwrap();
    scene.reload().await;
    get(scene.proxy.address, "/second", "").await;
    eventually("the second line is written", || lines(&log).contains("/second")).await;
    assert!(!lines(&moved).contains("/second"));
    scene.proxy.stop().await;
}

#[tokio::test]
async fn a_signal_or_a_link_that_is_swapped_has_the_file_read_again() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let watched = |origins: &[&Origin]| {
        configuration(origins, "", "").replace("[server]\n", "[server]\nwatch_config = true\n")
    };
    // As Kubernetes mounts a ConfigMap: a link to a directory that is swapped as a whole.
    let directory = Directory::new();
    let mount = directory.path().to_owned();
    for (name, text) in [("first", watched(&[&one])), ("second", watched(&[&one, &two]))] {
        std::fs::create_dir(mount.join(name)).unwrap();
        std::fs::write(mount.join(name).join("ringway.toml"), text).unwrap();
    }
    std::os::unix::fs::symlink("first", mount.join("data")).unwrap();
    let mut command = ringway(&["run", "-c"]);
    command.arg(mount.join("data").join("ringway.toml"));
    let process = Process::start_command(command, directory);
    std::os::unix::fs::symlink("second", mount.join("next")).unwrap();
    std::fs::rename(mount.join("next"), mount.join("data")).unwrap();
    process.wait_for_line("reloaded; backends: 1 added, 0 removed");
    std::fs::write(mount.join("second").join("ringway.toml"), watched(&[&two]).replace("true", "false"))
        .unwrap();
    process.wait_for_line("reloaded; backends: 0 added, 1 removed");
    process.signal("HUP");
    process.wait_for_line("reloaded; backends: 0 added, 0 removed");
    assert_eq!(get(process.address, "/", "").await.text(), "two");
}
