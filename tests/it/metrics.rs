//! Metrics: counted once, whatever happens, and clean in the eyes of promtool.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use ringway::telemetry::metrics::{ALL, Kind};
use tokio::io::AsyncReadExt;

use super::support::{Client, Origin, Proxy, eventually, get, proxy::sum};

#[tokio::test]
async fn every_request_is_counted_once_however_it_ends() {
    let origin = Origin::with("one", |mut peer| async move {
        use tokio::io::AsyncWriteExt;
        while let Some(seen) = peer.request().await {
            if seen.line().contains("/wait") {
                let mut byte = [0];
                let _ = peer.stream.read(&mut byte).await;
                return;
            }
            let status = seen.line().split('/').nth(1).unwrap()[..3].to_owned();
            let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            peer.stream.write_all(reply.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::before(&[&origin], "").await;
    for (path, times) in [("/200", 5), ("/301", 4), ("/404", 3), ("/500", 2)] {
        for _ in 0..times {
            get(proxy.address, path, "").await;
        }
    }
    for i in 0..6 {
        let mut client = Client::connect(proxy.address).await;
        client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
        eventually("the backend has it", || origin.seen().len() == 14 + i + 1).await;
    }
    for _ in 0..7 {
        Client::connect(proxy.address).await.send("nonsense\r\n\r\n").await.answer().await;
    }
    for (class, count) in [("2xx", 5.0), ("3xx", 4.0), ("4xx", 3.0), ("5xx", 2.0), ("cancelled", 6.0)] {
        proxy
            .counts("ringway_requests_total", &["backend=\"one\"", &format!("class=\"{class}\"")], count)
            .await;
    }
    proxy.counts("ringway_requests_total", &["pool=\"\"", "class=\"4xx\""], 7.0).await;
    proxy.counts("ringway_requests_total", &[], 27.0).await;
    let page = proxy.admin_get("/metrics").await;
    assert_eq!(sum(page.text(), "ringway_request_duration_seconds_count", &[]), 20.0);
    assert_eq!(sum(page.text(), "ringway_requests_in_flight", &[]), 0.0);
    assert_eq!(sum(page.text(), "ringway_request_first_byte_seconds_count", &[]), 14.0);
}

#[tokio::test]
async fn promtool_finds_nothing() {
    let (one, two) = (Origin::named("one").await, Origin::named("two \\ \"quoted\"").await);
    let entries =
        [one.entry(), two.entry().replace("two \\ \"quoted\"", "two \\\\ \\\"quoted\\\"")].join(", ");
    let text = super::support::proxy::configuration(&[], "", "")
        .replace("backends = []", &format!("backends = [{entries}]"));
    let proxy = Proxy::start(&text).await;
    get(proxy.address, "/", "").await;
    let page = proxy.admin_get("/metrics").await;
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for family in ALL {
        assert!(page.text().contains(&format!("# HELP {} ", family.name)), "{} is missing", family.name);
    }
    assert!(page.text().contains("process_resident_memory_bytes"));
    let mut promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => promtool,
        Err(error) => panic!("promtool is needed (tests/run installs it): {error}"),
    };
    promtool.stdin.take().unwrap().write_all(&page.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_readme_has_every_metric_with_its_type_labels_and_meaning() {
    let readme = include_str!("../../README.md");
    let begin = readme.find("<!-- metrics:begin -->").unwrap();
    let end = readme.find("<!-- metrics:end -->").unwrap();
    let told = readme[begin + "<!-- metrics:begin -->".len()..end].trim();
    let mut table = String::from("| name | type | labels | meaning |\n|---|---|---|---|\n");
    for family in ALL {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!(
            "| `{}` | {kind} | {} | {} |\n",
            family.name,
            labels.join(", "),
            family.help
        ));
    }
    assert_eq!(told, table.trim(), "the table between the markers must be:\n{table}");
}

#[test]
fn the_reference_has_every_word_of_a_label() {
    use ringway::tally::{
        AttemptEnd, Class, Closed, HandshakeEnd, Http2Fault, MoveCause, OffOwner, Refusal, Rejected,
    };
    let reference = include_str!("../../docs/reference.md");
    let words_under = |heading: &str| -> Vec<&str> {
        let mut lines = reference.lines().skip_while(|line| *line != format!("### {heading}")).skip(1);
        let rows = lines.by_ref().take_while(|line| !line.starts_with('#'));
        rows.filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(word, _)| word).collect()
    };
    macro_rules! same {
        ($($kind:ident, $heading:literal;)*) => {$({
            let mut told = words_under($heading);
            let mut words: Vec<&str> = $kind::ALL.iter().map(|reason| reason.word()).collect();
            told.sort_unstable();
            words.sort_unstable();
            assert_eq!(told, words, "{}", $heading);
        })*};
    }
    same! {
        Class, "`class` of `ringway_requests_total`";
        Refusal, "`reason` of `ringway_refusals_total`";
        AttemptEnd, "`result` of `ringway_attempts_total`";
        OffOwner, "`reason` of `ringway_affinity_requests_total`";
        MoveCause, "`cause` of `ringway_keyspace_moved_ratio_total`";
        Rejected, "`reason` of `ringway_client_connections_rejected_total`";
        HandshakeEnd, "`result` of `ringway_tls_handshakes_total`";
        Http2Fault, "`reason` of `ringway_http2_connections_ended_total`";
        Closed, "`reason` of `ringway_upstream_connections_closed_total`";
    }
    let refusals = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    for (word, rest) in refusals {
        if let Some(refusal) = Refusal::ALL.iter().find(|refusal| refusal.word() == word)
            && let Some(Ok(status)) = rest.split(' ').next().map(str::parse::<u16>)
        {
            assert_eq!(refusal.status(), status, "{word}");
        }
    }
}

/// Every word of a text that names a metric of ours, but for what rules record under names of their own (`level:ringway_…`).
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(move |c| !is_word(c));
    words.filter(|word| word.starts_with("ringway_") && !word.contains(':'))
}

#[test]
fn rules_and_dashboard_name_no_metric_that_is_not_there() {
    let files = [
        ("rules", include_str!("../../config/prometheus/ringway.rules.yml")),
        ("their tests", include_str!("../../config/prometheus/ringway.test.yml")),
        ("dashboard", include_str!("../../config/grafana/ringway.json")),
    ];
    for (file, text) in files {
        for word in named(text) {
            let part_of = |family: &str| {
                let rest = word.strip_prefix(family);
                rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
            };
            let is_there = ALL.iter().any(|family| match family.kind {
                Kind::Histogram => part_of(family.name),
                Kind::Counter | Kind::Gauge => word == family.name,
            });
            assert!(is_there, "the {file} name {word}, which is no metric");
        }
    }
}

#[test]
fn every_metric_has_a_place_on_the_dashboard() {
    let dashboard = include_str!("../../config/grafana/ringway.json");
    for family in ALL {
        assert!(dashboard.contains(family.name), "{} is not on the dashboard", family.name);
    }
}
