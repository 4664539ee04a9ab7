//! That a running proxy does, to the last key, what was planned; and that it can be asked itself.
//!
//! Owns that comparison. Every scene changes the file of a proxy that runs, and looks its keys up before and after.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::support::{
    Client, Origin, Proxy,
    process::{Directory, ringway},
    proxy::configuration,
};

const KEYS: usize = 2000;
const TOKEN: &str = "Authorization: Bearer secret\r\n";

struct Running {
    proxy: Proxy,
    directory: Directory,
    keys: Vec<String>,
}

/// The configuration of a proxy with these backends: name, origin, weight.
fn text(directory: &Directory, backends: &[(&str, &Origin, &str)], rest: &str) -> String {
    let entry = |(name, origin, weight): &(&str, &Origin, &str)| {
        format!("{{ name = \"{name}\", address = \"{}\", weight = {weight} }}", origin.address)
    };
    let entries: Vec<_> = backends.iter().map(entry).collect();
    configuration(&[], rest, "")
        .replace("backends = []", &format!("backends = [{}]\nramp = \"0s\"", entries.join(", ")))
        .replace("[admin]\n", &format!("[admin]\ntoken_file = {:?}\n", directory.path().join("token")))
}

impl Running {
    async fn with(backends: &[(&str, &Origin, &str)]) -> Running {
        let directory = Directory::new();
        directory.file("token", "secret\n");
        let file = directory.file("ringway.toml", &text(&directory, backends, ""));
        let keys: Vec<_> = (0..KEYS).map(|key| format!("user-{key}")).collect();
        directory.file("keys", &keys.join("\n"));
        Running { proxy: Proxy::from_file(&file).await, directory, keys }
    }

    async fn post(&self, path: &str, fields: &str, body: &str) -> (u16, Value) {
        let mut client = Client::connect(self.proxy.admin).await;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        client.send(head).await.send(body).await;
        let answer = client.answer().await;
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    /// The owner of each key, by the proxy's own look-up. Whose backend an operator has drained is the next one's.
    async fn owners(&self) -> Vec<String> {
        let mut client = Client::connect(self.proxy.admin).await;
        let mut owners = Vec::new();
        for key in &self.keys {
            let answer = client.get(&format!("/api/lookup?pool=p&key={key}"), TOKEN).await;
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let mut owns =
                told["owners"].as_array().unwrap().iter().filter(|one| one["standing"] != "drained");
            let owner = owns.next().and_then(|one| one["backend"].as_str());
            owners.push(owner.unwrap_or("nobody").to_owned());
        }
        owners
    }

    /// The plan for this file, as the command gives it; the old side is another file, or the running proxy.
    async fn plan(&self, old: Option<&str>, new: &str) -> Value {
        let path = |name: &str| self.directory.path().join(name).to_str().unwrap().to_owned();
        let mut command = ringway(&["plan", "--format", "json", "--keys", &path("keys")]);
        match old {
            Some(old) => command.arg(path(old)),
            None => command.args(["--admin", &self.proxy.admin.to_string(), "--token-file", &path("token")]),
        };
        command.arg(path(new));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Makes the change, and compares each key with what was planned.
    async fn changes_as_planned(&self, backends: &[(&str, &Origin, &str)], rest: &str) -> usize {
        let new = text(&self.directory, backends, rest);
        self.directory.file("new.toml", &new);
        let planned = self.plan(None, "new.toml").await;
        let (status, posted) = self.post("/api/plan", TOKEN, &new).await;
        assert_eq!((status, &posted["pools"]), (200, &planned["pools"]));
        let before = self.owners().await;
        std::fs::write(self.directory.path().join("ringway.toml"), &new).unwrap();
        let (status, report) = self.post("/api/reload", TOKEN, "").await;
        assert_eq!(status, 200, "{report}");
        let after = self.owners().await;
        self.served_as(&after).await;
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let traffic = &planned["traffic"];
        assert_eq!((&traffic["requests"], &traffic["moved"]), (&KEYS.into(), &moved.into()));
        assert_eq!(
            (&traffic["keys"]["distinct"], &traffic["keys"]["moved"]),
            (&(KEYS as f64).into(), &(moved as f64).into())
        );
        let mut loads: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        before.iter().for_each(|owner| loads.entry(owner).or_default()[0] += 1);
        after.iter().for_each(|owner| loads.entry(owner).or_default()[1] += 1);
        for backend in traffic["pools"][0]["backends"].as_array().unwrap() {
            let load = loads.remove(backend["name"].as_str().unwrap()).unwrap_or_default();
            assert_eq!(backend["requests"], serde_json::json!(load), "{backend}");
        }
        assert!(loads.is_empty(), "{loads:?}");
        // A reload that adds and removes does one after the other, and tells of both.
        if let [only] = &report["moved"].as_array().unwrap()[..] {
            let share = only["share"].as_f64().unwrap();
            assert!((planned["pools"][0]["share_moved"].as_f64().unwrap() - share).abs() < 1e-12, "{report}");
        }
        // From whom to whom, for each key that moves.
        let pairs = planned["pools"][0]["moved"].as_array().unwrap();
        for (from, to) in before.iter().zip(&after).filter(|(before, after)| before != after) {
            assert!(pairs.iter().any(|pair| pair["from"] == **from && pair["to"] == **to), "{from} -> {to}");
        }
        moved
    }

    /// Real requests go where the look-up says.
    async fn served_as(&self, owners: &[String]) {
        let mut client = Client::connect(self.proxy.address).await;
        for (key, owner) in self.keys.iter().zip(owners).step_by(10) {
            let answer = client.get("/", &format!("X-Key: {key}\r\n")).await;
            let place =
                self.proxy.view().pools[0].members.iter().position(|member| *member.backend.name == **owner);
            let address = self.proxy.view().pools[0].members[place.unwrap()].backend.address.to_string();
            assert_eq!(answer.header("x-at").unwrap(), address, "{key}");
        }
    }
}

/// An origin that tells its address.
async fn origin() -> Origin {
    let mut origin = Origin::with("o", |mut peer| async move {
        let address = peer.stream.local_addr().unwrap();
        while peer.request().await.is_some() {
            let answer = format!("HTTP/1.1 200 OK\r\nx-at: {address}\r\ncontent-length: 0\r\n\r\n");
            if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    origin.name = "o".into();
    origin
}

#[tokio::test]
async fn adding_removing_reweighting_and_renaming_move_what_was_planned_to_the_last_key() {
    let (a, b, c, d) = (origin().await, origin().await, origin().await, origin().await);
    let scene = Running::with(&[("a", &a, "1"), ("b", &b, "1"), ("c", &c, "1")]).await;
    let moved =
        scene.changes_as_planned(&[("a", &a, "1"), ("b", &b, "1"), ("c", &c, "1"), ("d", &d, "1")], "").await;
    assert!((KEYS / 6..KEYS / 3).contains(&moved), "{moved} keys come to the new one");
    let moved = scene.changes_as_planned(&[("b", &b, "1"), ("c", &c, "1"), ("d", &d, "1")], "").await;
    assert!((KEYS / 6..KEYS / 3).contains(&moved), "{moved} keys leave the old one");
    assert!(scene.changes_as_planned(&[("b", &b, "2.5"), ("c", &c, "0.5"), ("d", &d, "1")], "").await > 0);
    assert!(scene.changes_as_planned(&[("b", &b, "2.5"), ("sea", &c, "0.5"), ("d", &d, "1")], "").await > 0);
    assert!(
        scene
            .changes_as_planned(&[("b", &b, "2.5"), ("sea", &c, "0"), ("d", &d, "1")], "replicas = 64")
            .await
            > 0
    );
    assert_eq!(
        scene
            .changes_as_planned(&[("d", &d, "1"), ("b", &b, "2.5"), ("sea", &c, "0")], "replicas = 64")
            .await,
        0
    );
}

#[tokio::test]
async fn what_operators_ordered_counts_before_and_after() {
    let (a, b, c) = (origin().await, origin().await, origin().await);
    let scene = Running::with(&[("a", &a, "1"), ("b", &b, "1")]).await;
    assert_eq!(scene.post("/api/pools/p/backends/a/drain", TOKEN, "").await.0, 200);
    assert_eq!(scene.post("/api/pools/p/backends/b/weight?value=0.25", TOKEN, "").await.0, 200);
    let moved = scene.changes_as_planned(&[("a", &a, "1"), ("b", &b, "1"), ("c", &c, "1")], "").await;
    assert!(
        moved > KEYS * 6 / 10,
        "{moved} keys leave the one of weight 0.25, and none comes from the drained one"
    );
    // All that would be left is drained.
    scene.directory.file("drained.toml", &text(&scene.directory, &[("a", &a, "1")], ""));
    let planned = scene.plan(None, "drained.toml").await;
    assert_eq!(
        (&planned["share_moved"], &planned["pools"][0]["moved"][0]["to"]),
        (&1.0.into(), &Value::Null)
    );
    assert_eq!(planned["traffic"]["moved"], KEYS);
    assert!(planned["notes"][0].as_str().unwrap().contains("every request is refused"));
    // Two files know nothing of orders.
    scene.directory.file("other.toml", &text(&scene.directory, &[("a", &a, "1"), ("b", &b, "1")], ""));
    let planned = scene.plan(Some("other.toml"), "new.toml").await;
    assert!(planned["traffic"]["moved"].as_u64().unwrap() < (KEYS / 2) as u64);
}

#[tokio::test]
async fn a_plan_needs_what_reading_needs_and_says_what_is_wrong() {
    let a = origin().await;
    let scene = Running::with(&[("a", &a, "1")]).await;
    let good = text(&scene.directory, &[("a", &a, "2")], "");
    assert_eq!(scene.post("/api/plan", "", &good).await.0, 401);
    let revision = scene.proxy.view().revision;
    assert_eq!(scene.post("/api/plan", TOKEN, &good).await.0, 200);
    assert_eq!(scene.proxy.view().revision, revision, "nothing has changed");
    let (status, told) = scene.post("/api/plan", TOKEN, "[pools.p]\nbackendz = []\n").await;
    let problem = told["error"].as_str().unwrap();
    assert!(status == 400 && problem.contains("new.toml:2") && problem.contains("backendz"), "{problem}");
    let (status, told) =
        scene.post("/api/plan", TOKEN, &good.replace("ramp", "replicas = 8388608\nramp")).await;
    assert_eq!(status, 400, "{told}");
    let (status, _) = scene.post("/api/plan", TOKEN, &"#".repeat(5 << 20)).await;
    assert_eq!(status, 413);
    let mut client = Client::connect(scene.proxy.admin).await;
    assert_eq!(client.get("/api/plan", TOKEN).await.status, 405);
}
