//! What a change would move: that a running proxy does it to the last key, and what the command answers in odd cases.
//!
//! Here: the command line. `proxy` compares with a running one, `shares` holds what is true of every pair of rings.

mod keys;
mod proxy;
mod shares;

use std::{io::Write, path::Path, process::Stdio};

use serde_json::Value;

use super::support::process::{Directory, ringway};

/// A configuration with these pools and whatever else, in TOML.
fn config(rest: &str) -> String {
    format!("[[listeners]]\naddress = \"127.0.0.1:1\"\n{rest}")
}

/// A pool of these backends, each at an address of its own unless it has one.
fn pool(name: &str, key: &str, backends: &[&str]) -> String {
    let entry = |(at, name): (usize, &&str)| match name.split_once('@') {
        Some((name, rest)) => format!("{{ name = \"{name}\", {rest} }}"),
        None => format!("{{ name = \"{name}\", address = \"10.0.0.{at}:80\" }}"),
    };
    let backends: Vec<_> = backends.iter().enumerate().map(entry).collect();
    format!("[pools.{name}]\nkey = [{key}]\nbackends = [{}]\n", backends.join(", "))
}

fn simple(backends: &[&str]) -> String {
    config(&pool("p", "\"path\"", backends))
}

/// Exit code, standard output and standard error of `ringway` with these arguments and input.
fn answer(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = ringway(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who is not interested in the input closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

struct Scene {
    directory: Directory,
    old: String,
    new: String,
}

impl Scene {
    fn of(old: &str, new: &str) -> Scene {
        let directory = Directory::new();
        let path = |name: &str, text: &str| directory.file(name, text).to_str().unwrap().to_owned();
        let (old, new) = (path("old.toml", old), path("new.toml", new));
        Scene { directory, old, new }
    }

    fn plan(&self, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
        answer(&[&["plan", &self.old, &self.new][..], arguments].concat(), input)
    }

    fn json(&self, arguments: &[&str], input: &[u8]) -> (i32, Value) {
        let (code, said, problem) = self.plan(&[&["--format", "json"][..], arguments].concat(), input);
        (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{problem}")))
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A line of the combined format.
fn line(target: &str) -> String {
    format!("192.0.2.1 - - [21/Nov/2026:10:26:20 +0000] \"GET {target} HTTP/1.1\" 200 5 \"-\" \"-\"\n")
}

#[test]
fn nothing_moves_between_a_file_and_itself() {
    let scene = Scene::of(
        &simple(&["a", "b"]),
        &simple(&["b@address = \"10.0.0.1:80\"", "a@address = \"10.0.0.0:80\""]),
    );
    let (code, said, _) = scene.plan(&[], b"");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("pool p: 0 % of the keyspace moves") && said.contains("nothing moves"), "{said}");
    let (code, told) = scene.json(&["--max-moved", "0"], b"");
    assert_eq!(
        (code, &told["moves"], &told["pools"][0]["moved"]),
        (0, &false.into(), &Value::Array(Vec::new()))
    );
    let same = answer(&["plan", &scene.old, &scene.old], b"");
    assert_eq!(same.0, 0, "{}", same.1);
}

#[test]
fn the_exit_code_tells_how_much_moves() {
    let scene = Scene::of(&simple(&["a", "b", "c"]), &simple(&["a", "b", "c", "d"]));
    for (most, code) in [(None, 3), (Some("60%"), 3), (Some("0.6"), 3), (Some("10%"), 4), (Some("0"), 4)] {
        let arguments: Vec<&str> = most.map_or(vec![], |most| vec!["--max-moved", most]);
        assert_eq!(scene.plan(&arguments, b"").0, code, "{most:?}");
    }
    assert_eq!(scene.plan(&["--max-moved", "much"], b"").0, 2);
    assert!(scene.plan(&["--max-moved", "1%"], b"").2.contains("more than 1.00 %"));
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let scene = Scene::of(&simple(&["a"]), "[pools.p]\nbackendz = []\n");
    let (code, said, problem) = scene.plan(&[], b"");
    assert_eq!((code, &*said), (78, ""));
    assert!(problem.contains("new.toml:2") && problem.contains("backendz"), "{problem}");
    assert_eq!(answer(&["plan", &scene.old], b"").0, 2);
    assert_eq!(answer(&["plan"], b"").0, 2);
    assert_eq!(answer(&["plan", &scene.old, "/nowhere.toml"], b"").0, 78);
    assert_eq!(Scene::of(&simple(&["a"]), &simple(&["a"])).plan(&["--keys", "/nowhere"], b"").0, 1);
}

#[test]
fn what_is_renamed_is_hinted_at() {
    let scene = Scene::of(&simple(&["a", "b"]), &simple(&["a", "bee@address = \"10.0.0.1:80\""]));
    let (code, said, _) = scene.plan(&[], b"");
    assert_eq!(code, 3);
    assert!(said.contains("hint: b is bee now (10.0.0.1:80)"), "{said}");
    let (_, told) = scene.json(&[], b"");
    assert_eq!(told["pools"][0]["renamed"][0]["after"], "bee");
    let lost = told["pools"][0]["backends"][1]["share_before"].as_f64().unwrap();
    assert!(told["pools"][0]["share_moved"].as_f64().unwrap() >= lost);
}

#[test]
fn replicas_weights_and_addresses_are_told() {
    let with = |replicas: u32, rest: &str| format!("{}replicas = {replicas}\n", simple(&["a", "b", rest]));
    let scene =
        Scene::of(&with(100, "c@address = \"10.0.0.3:80\""), &with(200, "c@address = \"10.0.0.3:81\""));
    let (_, told) = scene.json(&[], b"");
    let pool = &told["pools"][0];
    assert_eq!((&pool["before"]["replicas"], &pool["after"]["replicas"]), (&100.into(), &200.into()));
    assert!(pool["share_moved"].as_f64().unwrap() > 0.05);
    assert_eq!(pool["backends"][2]["change"], "moved");
    let scene = Scene::of(
        &with(100, "c@address = \"10.0.0.3:80\""),
        &with(100, "c@address = \"10.0.0.3:80\", weight = 0"),
    );
    let (_, told) = scene.json(&[], b"");
    let row = &told["pools"][0]["backends"][2];
    assert_eq!(
        (&row["change"], &row["weight_after"], &row["share_after"]),
        (&"reweighted".into(), &"0".into(), &0.0.into())
    );
    let moved = told["pools"][0]["share_moved"].as_f64().unwrap();
    assert!((moved - row["share_before"].as_f64().unwrap()).abs() < 1e-12, "its keys alone move");
}

#[test]
fn a_renamed_pool_has_another_identity_and_the_same_keys() {
    let named = |name: &str| config(&pool(name, "\"path\"", &["a", "b"]));
    let scene = Scene::of(&named("images"), &named("pictures"));
    let (code, told) = scene.json(&["--keys", "-"], line("/x").as_bytes());
    assert_eq!(
        (code, &told["pools_added"][0], &told["pools_removed"][0]),
        (3, &"pictures".into(), &"images".into())
    );
    assert!(told["notes"].to_string().contains("pool images has become pictures"), "{told}");
    assert_eq!((&told["traffic"]["moved"], &told["traffic"]["to_another_pool"]), (&1.into(), &1.into()));
}

#[test]
fn pools_that_are_alike_are_not_guessed_to_be_each_other() {
    let pools = |names: &[&str]| -> String {
        let route = |name: &&str| format!("[[routes]]\npath_prefix = \"/{name}\"\npool = \"{name}\"\n");
        let routes: String = names.iter().map(route).collect();
        routes + &names.iter().map(|name| pool(name, "\"path\"", &["a", "b"])).collect::<String>()
    };
    let scene = Scene::of(&config(&pools(&["p", "q"])), &config(&pools(&["r", "s"])));
    let (_, told) = scene.json(&[], b"");
    assert_eq!(told["pools_removed"].as_array().unwrap().len(), 2);
    assert!(!told["notes"].to_string().contains("has become"), "{told}");
}

#[test]
fn requests_that_another_route_takes_move_to_another_pool() {
    let two = [pool("p", "\"path\"", &["a"]), pool("q", "\"path\"", &["a"])].concat();
    let route =
        |prefix: &str, name: &str| format!("[[routes]]\npath_prefix = \"{prefix}\"\npool = \"{name}\"\n");
    let scene = Scene::of(
        &config(&[route("/", "p"), two.clone()].concat()),
        &config(&[route("/", "p"), route("/img", "q"), two].concat()),
    );
    let log: String = ["/a", "/img/x?1", "/img/y", "/imgs"].map(line).concat();
    let (code, told) = scene.json(&["--keys", "-"], log.as_bytes());
    let traffic = &told["traffic"];
    assert_eq!(
        (code, &traffic["moved"], &traffic["to_another_pool"], &traffic["requests"]),
        (3, &2.into(), &2.into(), &4.into())
    );
    assert_eq!(
        (&traffic["pools"][0]["requests"][1], &traffic["pools"][1]["requests"][1]),
        (&2.into(), &2.into())
    );
    assert!(told["notes"].to_string().contains("routes differ"));
}

#[test]
fn requests_without_a_key_or_a_route_are_counted_apart() {
    let keyed = format!("{}on_missing_key = \"spread\"\n", pool("p", "\"query:user\"", &["a", "b"]));
    let old = config(&format!("[[routes]]\npath_prefix = \"/img\"\npool = \"p\"\n{keyed}"));
    let new = config(&format!(
        "[[routes]]\npath_prefix = \"/img\"\npool = \"p\"\n{}",
        keyed.replace("query:user", "path")
    ));
    let log: String = ["/img", "/img?user=", "/img?user=7", "/other?user=7"].map(line).concat();
    let scene = Scene::of(&old, &new);
    let (_, told) = scene.json(&["--keys", "-"], log.as_bytes());
    assert_eq!(told["traffic"]["nowhere"], serde_json::json!([1, 1]));
    assert_eq!(told["traffic"]["keyless"], serde_json::json!([2, 0]));
    assert!(told["notes"].to_string().contains("key sources differ"));
    let (code, said, _) = Scene::of(&old, &old).plan(&["--keys", "-"], log.as_bytes());
    assert_eq!(code, 0);
    assert!(said.contains("without a key: 2 before, 2 after"), "{said}");
}

#[test]
fn a_log_may_be_empty_broken_long_or_binary() {
    let scene = Scene::of(&simple(&["a", "b"]), &simple(&["a", "b", "c"]));
    let (code, told) = scene.json(&["--keys", "-"], b"");
    assert_eq!(
        (code, &told["traffic"]["requests"], &told["traffic"]["keys"]["distinct"]),
        (3, &0.into(), &0.0.into())
    );
    // Without a request, the bound is for the keyspace.
    assert_eq!(scene.plan(&["--keys", "-", "--max-moved", "1%"], b"").0, 4);
    let mut log = [line("/a"), line("/b"), "nonsense\n".into()].concat().into_bytes();
    log.extend(vec![b'x'; 3 << 20]);
    log.extend(b"\n\xff\xfe\"\n");
    log.extend(line("/\\xff\\xfe").as_bytes());
    let file = scene.file("access.log", &log);
    let (_, told) = scene.json(&["--keys", &file], b"");
    let traffic = &told["traffic"];
    assert_eq!((&traffic["requests"], &traffic["lines"], &traffic["bad"]), (&3.into(), &6.into(), &3.into()));
    assert_eq!(
        (&traffic["bad_lines"][0]["number"], &traffic["bad_lines"][1]["reason"]),
        (&3.into(), &"it is too long".into())
    );
    let (_, said, _) = scene.plan(&["--keys", &file], b"");
    assert!(
        said.contains("3 of 6 lines were not understood") && said.contains("line 3: there is no [time]"),
        "{said}"
    );
}

#[test]
fn a_list_of_keys_needs_to_know_its_pool() {
    let two =
        config(&[pool("p", "\"path\"", &["a"]), pool("q", "\"path\"", &["a", "b"])].concat().replace(
            "[pools.p]",
            "[[routes]]\npool = \"p\"\n[[routes]]\nhost = \"q\"\npool = \"q\"\n[pools.p]",
        ));
    let scene = Scene::of(&two, &two);
    let (code, _, problem) = scene.plan(&["--keys", "-"], b"k1\nk2\n");
    assert_eq!(code, 2);
    assert!(problem.contains("say which with --pool"), "{problem}");
    assert_eq!(scene.plan(&["--keys", "-", "--pool", "r"], b"k1\n").0, 2);
    let (_, told) = scene.json(&["--keys", "-", "--pool", "q"], b"k1\nk2\n\xff\n");
    assert_eq!(
        (&told["traffic"]["pools"][1]["requests"][0], &told["traffic"]["format"]),
        (&3.into(), &"keys".into())
    );
    let json = b"{\"request\":{\"user\":\"u1\"}}\n{\"request\":{}}\n";
    let (_, told) = scene.json(&["--keys", "-", "--pool", "q", "--field", "request.user"], json);
    assert_eq!((&told["traffic"]["requests"], &told["traffic"]["keyless"][0]), (&2.into(), &1.into()));
    assert_eq!(scene.plan(&["--keys", "-", "--field", "a", "--log-format", "combined"], b"").0, 2);
    assert_eq!(scene.plan(&["--keys", "-", "--log-format", "squid"], b"").0, 2);
}

#[test]
fn what_a_log_cannot_tell_is_said() {
    let keyed = config(&pool("p", "\"header:x-user\", \"path\"", &["a", "b"]));
    let (_, said, _) = Scene::of(&keyed, &keyed).plan(&["--keys", "-"], line("/a").as_bytes());
    assert!(said.contains("this log does not tell `header:x-user`"), "{said}");
    let own = br#"{"path":"/a","key_source":"header:x-user","key":"00000000000000ff","request_id":"r"}"#;
    let (_, said, _) = Scene::of(&keyed, &keyed).plan(&["--keys", "-"], own);
    assert!(!said.contains("does not tell"), "{said}");
    let tenant = config(&pool("p", "\"header:x-tenant\"", &["a", "b"]));
    let (_, said, _) = Scene::of(&keyed, &tenant).plan(&["--keys", "-"], own);
    let wanted = "pool p of the new configuration: this log does not tell `header:x-tenant` (requests: 1)";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_source_before_the_one_that_the_log_found_takes_its_keys() {
    let by_user = config(&pool("p", "\"header:x-user\"", &["a", "b", "c"]));
    let by_path = config(&pool("p", "\"path\", \"header:x-user\"", &["a", "b", "c"]));
    let line = |at| {
        format!(
            "{{\"path\":\"/{at}\",\"key_source\":\"header:x-user\",\"key\":\"u{at}\",\"request_id\":\"r\"}}\n"
        )
    };
    let log: String = (0..300).map(line).collect();
    let (_, told) = Scene::of(&by_user, &by_path).json(&["--keys", "-"], log.as_bytes());
    let moved = told["traffic"]["moved"].as_u64().unwrap();
    assert!((150..250).contains(&moved), "{moved}");
    assert_eq!(told["traffic"]["notes"], serde_json::json!([]));
}

#[test]
fn a_drawing_is_written() {
    let scene = Scene::of(&simple(&["a", "b"]), &simple(&["a", "b", "c"]));
    let file = scene.file("moved.svg", "");
    assert_eq!(scene.plan(&["--svg", &file], b"").0, 3);
    let drawing = std::fs::read_to_string(Path::new(&file)).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.contains("role=\"img\"") && drawing.contains("<desc"));
    assert_eq!(scene.plan(&["--svg", "/nowhere/x.svg"], b"").0, 1);
}
