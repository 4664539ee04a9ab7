//! `ringway agree`: proxies that place keys alike, and those that do not, as processes.

use std::process::Output;

use ringway::{admin::Operator, fleet::Order, fleet::Standing};
use serde_json::Value;

use super::support::{
    Origin, Proxy,
    process::{Directory, ringway},
    proxy::configuration,
};

async fn agree(arguments: &[&str]) -> Output {
    let mut command = ringway(&["agree"]);
    command.args(arguments).env_remove("RINGWAY_TOKEN_FILE");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Exit code and what was found.
async fn findings(proxies: &[&Proxy], more: &[&str]) -> (Option<i32>, Value) {
    let urls: Vec<String> = proxies.iter().map(|proxy| proxy.admin.to_string()).collect();
    let mut arguments = vec!["--format", "json"];
    arguments.extend(urls.iter().map(String::as_str));
    arguments.extend(more);
    let output = agree(&arguments).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code(), value)
}

async fn three() -> Vec<Origin> {
    vec![Origin::named("a").await, Origin::named("b").await, Origin::named("c").await]
}

#[tokio::test]
async fn the_same_backends_in_another_order_agree() {
    let origins = three().await;
    let [a, b, c] = &origins[..] else { unreachable!() };
    let one = Proxy::before(&[a, b, c], "").await;
    let two = Proxy::before(&[c, a, b], "attempts = 2\n").await;
    let (code, found) = findings(&[&one, &two], &[]).await;
    assert_eq!(
        (code, &found["verdict"], &found["differences"]),
        (Some(0), &"agree".into(), &Value::Array(vec![]))
    );
    let fingerprints = |at: usize| found["proxies"][at]["pools"]["p"].clone();
    assert_eq!(fingerprints(0), fingerprints(1));
    // The same drain at both is one ring again.
    one.reloader().obey("p", "b", Order::Drain).await.unwrap();
    two.reloader().obey("p", "b", Order::Drain).await.unwrap();
    assert_eq!(findings(&[&one, &two], &[]).await.0, Some(0));
}

#[tokio::test]
async fn one_with_another_weight_is_found_and_named() {
    let origins = three().await;
    let all: Vec<&Origin> = origins.iter().collect();
    let (one, two) = (Proxy::before(&all, "").await, Proxy::before(&all, "").await);
    let weight = format!("{{ name = \"b\", address = \"{}\", weight = 2 }}", origins[1].address);
    let text = configuration(&all, "", "").replace(&origins[1].entry(), &weight);
    let three = Proxy::start(&text).await;
    let (code, found) = findings(&[&one, &three, &two], &[]).await;
    assert_eq!((code, &found["verdict"]), (Some(4), &"ring".into()));
    let differences = found["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{found}");
    let weight = &differences[0];
    assert_eq!(
        (&weight["pool"], &weight["backend"], &weight["what"]),
        (&"p".into(), &"b".into(), &"weight".into())
    );
    let alone = serde_json::json!({ "value": "2", "proxies": [three.admin.to_string()] });
    assert_eq!(weight["values"][0], alone);
    // People are told the same.
    let urls = [&one, &three, &two].map(|proxy| format!("http://{}/", proxy.admin));
    let output = agree(&urls.each_ref().map(String::as_str)).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("RING     p/b: weight: 2 at {}; 1 at ", urls[1])), "{said}");
    assert!(said.ends_with("the rings differ: keys have other owners\n"), "{said}");
}

#[tokio::test]
async fn a_drain_at_one_is_a_difference_of_the_rings_and_a_dead_backend_of_who_serves() {
    let mut origins = three().await;
    let quick = "[pools.p.health]\nkind = \"tcp\"\ninterval = \"20ms\"\nchanging_interval = \"20ms\"\nrise = 1\nfall = 1\n";
    let all: Vec<&Origin> = origins.iter().collect();
    let watching = Proxy::before(&all, quick).await;
    let (blind, drained) = (Proxy::before(&all, "").await, Proxy::before(&all, "").await);
    origins[0].stop();
    watching.sees("a", Standing::Down).await;
    let (code, found) = findings(&[&watching, &blind], &[]).await;
    assert_eq!((code, &found["verdict"]), (Some(3), &"serving".into()));
    assert_eq!(found["differences"][0]["what"], "standing");
    let word = found["differences"][0]["values"].to_string();
    assert!(word.contains("down ("), "{word}");
    drained.reloader().obey("p", "c", Order::Drain).await.unwrap();
    let (code, found) = findings(&[&watching, &blind, &drained], &[]).await;
    assert_eq!(code, Some(4));
    assert_eq!(found["differences"][0]["values"][0]["value"], "0 (by the order drain; configured: 1)");
}

#[tokio::test]
async fn who_can_t_be_asked_is_named_and_does_not_hide_what_the_others_say() {
    let origins = three().await;
    let all: Vec<&Origin> = origins.iter().collect();
    let (one, two) = (Proxy::before(&all, "").await, Proxy::before(&all[..2], "").await);
    // Bound, so that nobody else gets it, and not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = held.local_addr().unwrap().to_string();
    let (code, found) = findings(&[&one], &[&gone]).await;
    assert_eq!((code, &found["verdict"]), (Some(1), &"unreachable".into()));
    assert!(found["proxies"][1]["error"].as_str().unwrap().contains("refused"), "{found}");
    let other = gone.replace("127.0.0.1", "127.0.0.2");
    for (asked, said) in
        [([&*gone, &other], "none could be asked"), ([&one.admin.to_string(), &gone], "only one")]
    {
        let told = String::from_utf8(agree(&asked).await.stdout).unwrap();
        assert!(told.contains(said) && !told.contains("agree"), "{told}");
    }
    for wrong in [&[&*gone, &other, "--timeout", "0s"][..], &[&gone, &gone]] {
        assert_eq!(agree(wrong).await.status.code(), Some(2));
    }
    assert_eq!(findings(&[&one, &two], &[&gone]).await.0, Some(4));
}

#[tokio::test]
async fn tokens_are_shown_one_for_all_or_one_for_each() {
    let origin = Origin::named("a").await;
    let directory = Directory::new();
    let secured = |token: &str| {
        let file = directory.file(token, &format!("{token}\n"));
        let admin = format!("[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"{}\"\n", file.display());
        let text = configuration(&[&origin], "", "").replace("[admin]\naddress = \"127.0.0.1:0\"\n", &admin);
        (text, file.display().to_string())
    };
    let ((first, first_file), (second, second_file)) = (secured("one"), secured("two"));
    let (one, two) = (Proxy::start(&first).await, Proxy::start(&second).await);
    let (code, found) = findings(&[&one, &two], &[]).await;
    assert_eq!(code, Some(1));
    assert!(found["proxies"][0]["error"].as_str().unwrap().contains("--token-file"), "{found}");
    let (code, found) = findings(&[&one, &two], &["--token-file", &first_file]).await;
    assert_eq!((code, &found["proxies"][1]["error"]), (Some(1), &"the token is not its own".into()));
    let both = ["--token-file", &first_file, "--token-file", &second_file];
    assert_eq!(findings(&[&one, &two], &both).await.0, Some(0));
    let three = ["--token-file", &first_file, "--token-file", &second_file, "--token-file", &second_file];
    let output = agree(&[&["127.0.0.1:1", "127.0.0.1:2"], &three[..]].concat()).await;
    assert_eq!(output.status.code(), Some(2));
}
