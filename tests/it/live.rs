//! The live view: its samples agree with what the metrics count, and everybody gets the same ones.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Origin, PATIENCE, Proxy, get, process::Directory, proxy::configuration};

/// What the samples of the history add up to, by column.
async fn seen(proxy: &Proxy, column: &str) -> f64 {
    let history = proxy.api("/api/live/history").await;
    let times: Vec<f64> =
        history["times"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap()).collect();
    let Some(rates) = history["pools"]["p"][column].as_array() else { return 0.0 };
    assert_eq!(times.len(), rates.len());
    // Each sample covers about a second; the history does not say exactly how long.
    rates.iter().map(|rate| rate.as_f64().unwrap()).sum()
}

/// Asks until it is so.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pool(sample: &Value) -> &Value {
    &sample["pools"][0]
}

#[tokio::test]
async fn samples_count_what_the_metrics_count() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let proxy = Proxy::before(&[&one, &two], "").await;
    for i in 0..60 {
        assert_eq!(get(proxy.address, &format!("/{i}"), "").await.status, 200);
    }
    until("the samples have seen 60 requests", async || {
        (seen(&proxy, "requests_per_second").await - 60.0).abs() < 6.0
    })
    .await;
    proxy.counts("ringway_requests_total", &["pool=\"p\""], 60.0).await;
    proxy.counts("ringway_request_first_byte_seconds_count", &["pool=\"p\""], 60.0).await;

    let sample = proxy.api("/api/live").await;
    assert_eq!((&sample["ready"], &sample["draining"]), (&Value::from(true), &Value::from(false)));
    assert_eq!(sample["can_change"], false);
    assert_eq!(sample["revision"], proxy.view().revision);
    let told = proxy.api("/api/pools").await;
    let backends = pool(&sample)["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 2);
    for (live, told) in backends.iter().zip(told["pools"][0]["backends"].as_array().unwrap()) {
        for field in [
            "name",
            "weight",
            "configured_weight",
            "order",
            "standing",
            "since",
            "reason",
            "in_flight",
            "limit",
        ] {
            assert_eq!(live[field], told[field], "{field}");
        }
        assert!((live["share"].as_f64().unwrap() - told["share"].as_f64().unwrap()).abs() < 1e-6);
        let (p50, p99) = (live["first_byte_p50"].as_f64().unwrap(), live["first_byte_p99"].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= p99 && p99 < 10.0, "{p50} {p99}");
    }
}

#[tokio::test]
async fn first_byte_times_are_not_forgotten_when_a_backend_leaves() {
    let (one, two) = (Origin::named("one").await, Origin::named("two").await);
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &configuration(&[&one, &two], "", ""));
    let proxy = Proxy::from_file(&file).await;
    for i in 0..40 {
        get(proxy.address, &format!("/{i}"), "").await;
    }
    let name = "ringway_request_first_byte_seconds_count";
    proxy.counts(name, &["pool=\"p\""], 40.0).await;
    for origins in [&[&one][..], &[&one, &two], &[&two], &[&one, &two]] {
        directory.file("ringway.toml", &configuration(origins, "", ""));
        proxy.reloader().reload().await.unwrap();
        proxy.counts(name, &["pool=\"p\""], 40.0).await;
    }
    for i in 0..10 {
        get(proxy.address, &format!("/{i}"), "").await;
    }
    proxy.counts(name, &["pool=\"p\""], 50.0).await;
}

#[tokio::test]
async fn everybody_gets_the_same_bytes_until_the_next_sample() {
    let one = Origin::named("one").await;
    let proxy = Proxy::before(&[&one], "").await;
    until("two in a row are the same", async || {
        let (first, second) = (proxy.admin_get("/api/live").await, proxy.admin_get("/api/live").await);
        first.text() == second.text()
    })
    .await;
    let first = proxy.api("/api/live").await["time"].clone();
    until("another sample comes", async || proxy.api("/api/live").await["time"] != first).await;
}
