//! The access log: one line a request, which nothing that a client sends can break.

use super::support::{Client, Origin, Proxy, eventually, process::Directory, proxy::configuration};

async fn lines_of(format: &str, key: &str) -> (Vec<String>, String) {
    let directory = Directory::new();
    let file = directory.path().join("access.log");
    let origin = Origin::named("one").await;
    let rest =
        format!("[access_log]\nformat = \"{format}\"\nfile = \"{}\"\nkey = \"{key}\"\n", file.display());
    let proxy = Proxy::start(&configuration(&[&origin], "", &rest)).await;
    let mut client = Client::connect(proxy.address).await;
    client.get("/a\"b\u{9b}?secret=1", "x-key: us\u{e9}r\r\n").await;
    client.get("/plain", "").await;
    let mut bad = Client::connect(proxy.address).await;
    bad.send("GET /\r\n\r\n").await;
    bad.answer().await;
    drop((client, bad));
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("three lines", || read().lines().count() >= 3).await;
    proxy.stop().await;
    // Each worker hands its lines over for itself.
    let mut lines: Vec<String> = read().lines().map(str::to_owned).collect();
    let place = |line: &String| {
        ["/a", "/plain", "-"].iter().position(|path| {
            line.contains(&format!("{path}\""))
                || line.contains(&format!(" {path} "))
                || (*path == "/a" && line.contains("/a\\"))
        })
    };
    lines.sort_by_key(place);
    (lines, read())
}

#[tokio::test]
async fn json_lines_are_json_and_printable() {
    let (lines, text) = lines_of("json", "hashed").await;
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text}");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let odd: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(odd["path"], "/a\"b\\xc2\\x9b");
    let plain: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(plain["path"], "/plain");
    assert_eq!(plain["status"], 200);
    assert_eq!(
        (&plain["owner"], &plain["backend"], &plain["reason"]),
        (&"one".into(), &"one".into(), &"owner".into())
    );
    assert_eq!(plain["attempts"], 1);
    assert_eq!(plain["key_source"], "path");
    assert_eq!(plain["key"], format!("{:016x}", ringway::ring::Place::of(b"/plain").0));
    assert!(plain["request_id"].as_str().unwrap().len() == 32);
    assert!(!text.contains("secret"));
    let refused: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    assert_eq!((&refused["status"], &refused["refusal"]), (&400.into(), &"malformed".into()));
    assert!(refused["owner"].is_null() && refused["reason"].is_null(), "{refused}");
    assert!(refused["request_id"].as_str().unwrap().len() == 32);
}

#[tokio::test]
async fn a_plain_key_is_said_to_be_one() {
    let (lines, _) = lines_of("json", "plain").await;
    let plain: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((&plain["key"], &plain["key_is"]), (&"/plain".into(), &"plain".into()));
    let (lines, _) = lines_of("json", "hashed").await;
    let hashed: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert!(hashed.get("key_is").is_none(), "{hashed}");
}

#[tokio::test]
async fn the_common_format_is_as_tools_know_it() {
    let (lines, _) = lines_of("common", "omit").await;
    let line = &lines[1];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.ends_with("\"GET /plain HTTP/1.1\" 200 3"), "{line}");
}

#[tokio::test]
async fn lines_that_can_t_be_written_are_counted() {
    let origin = Origin::named("one").await;
    let rest = "[access_log]\nformat = \"json\"\nfile = \"/dev/full\"\n";
    let proxy = Proxy::start(&configuration(&[&origin], "", rest)).await;
    let mut client = Client::connect(proxy.address).await;
    for _ in 0..10 {
        client.get("/", "").await;
    }
    proxy.counts("ringway_access_log_dropped_lines_total", &[], 10.0).await;
}

#[tokio::test]
async fn a_source_with_signs_of_its_own_stands_in_a_line_that_is_json() {
    let directory = Directory::new();
    let file = directory.path().join("access.log");
    let origin = Origin::named("one").await;
    let source = "path-regex:^/\"?(\\d+)é?";
    let log = format!("[access_log]\nformat = \"json\"\nfile = \"{}\"\n", file.display());
    let proxy = Proxy::start(&configuration(&[&origin], &format!("key = ['{source}']"), &log)).await;
    let mut client = Client::connect(proxy.address).await;
    client.get("/1", "").await;
    drop(client);
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("a line", || read().ends_with('\n')).await;
    proxy.stop().await;
    assert!(read().bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{}", read());
    let line: serde_json::Value = serde_json::from_str(read().trim_end()).unwrap();
    assert_eq!(line["key_source"], source);
}
