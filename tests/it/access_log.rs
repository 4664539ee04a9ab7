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
    eventually("two lines", || read().lines().count() >= 2).await;
    proxy.stop().await;
    (read().lines().map(str::to_owned).collect(), read())
}

#[tokio::test]
async fn json_lines_are_json_and_printable() {
    let (lines, text) = lines_of("json", "hashed").await;
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let odd: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(odd["path"], "/a\\\"b\\xc2\\x9b");
    let plain: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
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
}

#[tokio::test]
async fn the_common_format_is_as_tools_know_it() {
    let (lines, _) = lines_of("common", "omit").await;
    let line = lines.last().unwrap();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.ends_with("\"GET /plain HTTP/1.1\" 200 3"), "{line}");
}
