//! `ringway keys`: is this a good key?
//!
//! Owns what the command answers about logs whose keys are known.

use serde_json::Value;

use super::{Scene, answer, config, line, pool};

fn keys(arguments: &[&str], input: &str) -> Value {
    let (code, said, problem) =
        answer(&[&["keys", "-", "--format", "json"][..], arguments].concat(), input.as_bytes());
    assert_eq!(code, 0, "{problem}");
    serde_json::from_str(&said).unwrap()
}

fn grade(told: &Value) -> &str {
    told["pools"][0]["verdict"]["grade"].as_str().unwrap()
}

#[test]
fn many_even_keys_are_good() {
    let log: String = (0..20_000).map(|at| line(&format!("/a?user={}", at % 5000))).collect();
    let told = keys(&["--key", "query:user", "--backends", "4"], &log);
    let found = &told["pools"][0];
    assert_eq!((grade(&told), &found["requests"], &found["keyless"]), ("good", &20_000.into(), &0.into()));
    assert_eq!((&found["distinct"], &found["distinct_error"]), (&5000.0.into(), &0.0.into()));
    assert!((found["entropy"].as_f64().unwrap() - 5000_f64.log2()).abs() < 1e-6, "{found}");
    assert!((found["evenness"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!((&found["heaviest"][0]["requests"], &found["heaviest"][0]["error"]), (&4.into(), &0.into()));
    let balance = &found["balance"];
    assert_eq!((&balance["backends"], &balance["least_possible"]), (&4.into(), &1.0.into()));
    let greatest = balance["greatest_to_mean"].as_f64().unwrap();
    assert!((1.0..1.25).contains(&greatest), "{greatest}");
}

#[test]
fn one_heavy_key_bounds_what_any_ring_can_do() {
    let log: String =
        (0..4000).map(|at| line(&if at % 4 == 0 { "/hot".into() } else { format!("/{at}") })).collect();
    let told = keys(&["--key", "path", "--backends", "10"], &log);
    let found = &told["pools"][0];
    assert_eq!((grade(&told), &found["heaviest"][0]["key"]), ("poor", &"/hot".into()));
    assert!((found["heaviest"][0]["share"].as_f64().unwrap() - 0.25).abs() < 1e-9);
    assert!((found["balance"]["least_possible"].as_f64().unwrap() - 2.5).abs() < 1e-9);
    assert!(found["balance"]["greatest_to_mean"].as_f64().unwrap() >= 2.5);
    assert!(found["balance"]["share_spilled"].as_f64().unwrap() > 0.1);
    assert!(found["verdict"]["why"].as_str().unwrap().contains("25.0 % of the requests"), "{found}");
}

#[test]
fn few_keys_and_missing_keys_are_poor() {
    let few: String = (0..100).map(|at| format!("{}\n", at % 4)).collect();
    let told = keys(&["--backends", "10"], &few);
    assert_eq!((grade(&told), &told["format"]), ("poor", &"keys".into()));
    assert_eq!(told["pools"][0]["sources"], Value::Array(Vec::new()));
    let missing: String =
        (0..100).map(|at| line(&if at % 3 == 0 { format!("/?u={at}") } else { "/".into() })).collect();
    let told = keys(&["--key", "query:u"], &missing);
    assert_eq!((grade(&told), &told["pools"][0]["keyless"]), ("poor", &66.into()));
    assert!(
        told["pools"][0]["verdict"]["why"]
            .as_str()
            .unwrap()
            .starts_with("66.0 % of the requests have no key")
    );
    assert_eq!(keys(&[], "")["pools"], Value::Array(Vec::new()));
}

#[test]
fn a_configuration_gives_routes_pools_and_sources() {
    let route = "[[routes]]\npath_prefix = \"/img\"\npool = \"p\"\n[[routes]]\npath_prefix = \"/api\"\npool = \"q\"\n";
    let pools = [
        pool("p", "\"path\"", &["a", "b"]),
        pool("q", "\"query:user\"", &["a@address = \"10.0.0.1:80\", weight = 3", "b"]),
    ];
    let text = config(&[route, &pools[0], &pools[1]].concat());
    let scene = Scene::of(&text, &text);
    let log: String = ["/img/a", "/img/b", "/api?user=1", "/api", "/other"].map(line).concat();
    let told = keys(&["-c", &scene.old], &log);
    assert_eq!(
        (&told["nowhere"], &told["pools"][0]["requests"], &told["pools"][1]["requests"]),
        (&1.into(), &2.into(), &2.into())
    );
    assert_eq!(
        (&told["pools"][1]["keyless"], &told["pools"][1]["on_missing_key"]),
        (&1.into(), &"client-address".into())
    );
    // Without a key, the client's address is one: two different keys.
    assert_eq!(told["pools"][1]["distinct"], 2.0);
    let told = keys(&["-c", &scene.old, "--pool", "q", "--key", "path"], &log);
    assert_eq!(
        (told["pools"].as_array().unwrap().len(), &told["pools"][0]["sources"][0]),
        (1, &"path".into())
    );
    let (code, said, _) = answer(&["keys", "-", "-c", &scene.old], log.as_bytes());
    assert!(code == 0 && said.contains("verdict: ") && said.contains("no route leads anywhere: 1"), "{said}");
    assert_eq!(answer(&["keys", "-", "-c", &scene.old, "--pool", "r"], b"").0, 2);
    assert_eq!(answer(&["keys", "-", "-c", &scene.old], b"k1\nk2\n").0, 2);
    assert_eq!(answer(&["keys", "/nowhere"], b"").0, 1);
    assert_eq!(answer(&["keys", "-", "--key", "qwery:x"], b"").0, 2);
}
