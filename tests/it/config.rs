//! The configuration from outside: what it takes, what it refuses and how it says so, what it means.
//!
//! `tests/data/config` holds files that are good, doubtful and bad, the latter two with what is said of them beside
//! them. `RINGWAY_BLESS=1 cargo test` writes that anew; read the difference before it is committed.

mod any_text;
mod schema;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use ringway::{
    config::{self, Code, KeyDefault, Loaded},
    proxy::trail::Explain,
};

const MINIMAL: &str = "config/minimal.toml";
const EXAMPLE: &str = "config/ringway.toml";
const EVERYTHING: &str = "tests/data/config/good/everything.toml";

/// A listener and a pool, for tests that add to them.
const BASE: &str = r#"
pools.cache.backends = ["127.0.0.1:9001"]
listeners = [{ address = "127.0.0.1:8080" }]
"#;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn load(path: &str) -> Loaded {
    config::load(Path::new(path)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn parse(source: &str) -> Loaded {
    config::parse(source, "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The codes and places of what is wrong.
fn wrong(source: &str) -> Vec<(&'static str, usize, usize)> {
    let errors = config::parse(source, "test.toml").expect_err("this should be refused");
    let place = |finding: &config::Finding| {
        let at = finding.at.as_ref().expect("what a text has wrong has a place");
        (finding.code.id(), at.line, at.column)
    };
    errors.findings().iter().map(place).collect()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new("tests/data/config").join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Compares with what was recorded beside a file, or records it.
fn as_recorded(file: &Path, said: &str) {
    let record = file.with_extension("txt");
    let said = format!("{said}\n");
    if std::env::var_os("RINGWAY_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&record, said).unwrap();
        return;
    }
    let recorded = std::fs::read_to_string(&record).unwrap_or_default();
    assert!(recorded == said, "{} differs; now it is\n{said}", record.display());
}

#[test]
fn ten_mistakes_give_ten_located_errors() {
    let expected = [
        ("E005", 4, 11),
        ("E005", 5, 17),
        ("E009", 8, 11),
        ("E009", 11, 15),
        ("E013", 12, 8),
        ("E009", 15, 28),
        ("E008", 16, 18),
        ("E004", 17, 1),
        ("E009", 18, 13),
        ("E007", 18, 73),
    ];
    assert_eq!(wrong(&read("tests/data/config/bad/ten.toml")), expected);
}

#[test]
fn what_is_said_of_bad_files_is_as_recorded() {
    for file in files("bad") {
        let errors = config::load(&file).expect_err("a bad file");
        as_recorded(&file, &errors.render(false));
    }
}

#[test]
fn what_is_said_of_doubtful_files_is_as_recorded() {
    for file in files("doubtful") {
        let loaded = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(|warning| warning.render(false)).collect();
        as_recorded(&file, &warnings.join("\n\n"));
    }
}

#[test]
fn every_code_is_recorded() {
    let mut said = String::new();
    for file in files("bad").iter().chain(&files("doubtful")) {
        said.push_str(&std::fs::read_to_string(file.with_extension("txt")).unwrap_or_default());
    }
    for code in Code::ALL {
        // Too large for a file; tested below.
        let elsewhere = *code == Code::TooMany;
        assert!(elsewhere || said.contains(&format!("[{}]", code.id())), "{}: {}", code.id(), code.summary());
    }
}

#[test]
fn more_pools_or_backends_than_can_be_served_are_refused() {
    let mut source = String::from("listeners = [{ address = \"127.0.0.1:0\" }]\n");
    for pool in 0..4097 {
        writeln!(source, "[[routes]]\npath_prefix = \"/{pool}\"\npool = \"{pool}\"").unwrap();
        writeln!(source, "[pools.{pool}]\nbackends = [\"127.0.0.1:9001\"]").unwrap();
    }
    assert_eq!(wrong(&source), [("E018", 2 + 4096 * 5 + 3, 8)]);

    let mut source = String::from("listeners = [{ address = \"127.0.0.1:0\" }]\npools.large.replicas = 1\n");
    source.push_str("pools.large.backends = [\n");
    for backend in 0..65_536 {
        writeln!(source, "\"b{backend}:80\",").unwrap();
    }
    source.push_str("]\n");
    assert_eq!(wrong(&source), [("E018", 3 + 65_536, 1)]);
}

#[test]
fn errors_past_a_hundred_are_counted_only() {
    let mut source = String::from(BASE);
    for key in 0..250 {
        writeln!(source, "key{key} = 1").unwrap();
    }
    let errors = config::parse(&source, "test.toml").expect_err("250 unknown keys");
    assert_eq!(errors.findings().len(), 100);
    assert!(errors.to_string().ends_with("test.toml: 250 errors, of which the first 100 are shown"));
}

#[test]
fn a_file_that_is_not_there_is_one_error_without_a_place() {
    let errors = config::load(Path::new("tests/data/config/absent.toml")).expect_err("no such file");
    let [finding] = errors.findings() else { panic!("{errors}") };
    assert_eq!((finding.code, &finding.at), (Code::Unreadable, &None));
    assert!(errors.to_string().contains("tests/data/config/absent.toml"));
}

#[test]
fn colors_are_added_only_when_asked_for() {
    let errors = config::parse("workers = 1", "test.toml").expect_err("an unknown key");
    assert!(!errors.render(false).contains('\u{1b}'));
    assert!(errors.render(true).contains('\u{1b}'));
}

#[test]
fn effective_configuration_parses_to_itself() {
    let good = files("good").into_iter().chain(files("doubtful"));
    for file in good.chain([EXAMPLE.into(), MINIMAL.into()]) {
        let first = load(file.to_str().unwrap());
        let second = parse(&first.effective);
        assert_eq!(first.effective, second.effective, "{}", file.display());
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config), "{}", file.display());
    }
}

#[test]
fn effective_configuration_has_every_key() {
    let effective = load(EVERYTHING).effective;
    let names: Vec<String> = config::keys().iter().map(|key| last_part(&key.path).to_owned()).collect();
    for name in names {
        assert!(effective.contains(&format!("{name} = ")), "{name}");
    }
    // Keys of HTTP probes mean nothing without one.
    assert!(!load(MINIMAL).effective.contains("body_contains"));
}

fn last_part(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

/// The keys of a commented file with their values, commented out or not, by the paths of `keys()`.
fn keys_with_values(text: &str) -> Vec<(String, String)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        // An optional table is indented behind its mark of a comment.
        let line = line.strip_prefix("#   ").unwrap_or(line);
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let path = |header: &str| {
            header
                .replace("pools.cache", "pools.NAME")
                .replace("listeners.", "listeners[].")
                .replace("routes.", "routes[].")
        };
        if let Some(header) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            table = format!("{}[]", path(header));
        } else if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = path(header);
        } else if let Some((key, value)) = bare.split_once(" = ") {
            keys.push((format!("{table}.{key}"), value.to_owned()));
        }
    }
    keys
}

#[test]
fn every_key_stands_in_the_example_with_its_default() {
    let written = keys_with_values(&read(EXAMPLE));
    for key in config::keys() {
        let mut values = written.iter().filter(|(path, _)| *path == key.path).map(|(_, value)| value);
        match &key.default {
            KeyDefault::Value(default) => {
                assert!(values.any(|value| value == default), "{} = {default}", key.path)
            }
            _ => assert!(values.next().is_some(), "{}", key.path),
        }
        assert!(key.doc.ends_with('.'), "{}: {}", key.path, key.doc);
    }
}

#[test]
fn the_example_means_the_same_as_its_required_keys_alone() {
    let example = load(EXAMPLE);
    assert!(example.warnings.is_empty());
    let required = r#"
        listeners = [{ address = "127.0.0.1:8080" }]
        pools.cache.backends = ["127.0.0.1:9001", "127.0.0.1:9002"]
    "#;
    assert_eq!(example.effective, parse(required).effective);
    assert!(load(MINIMAL).warnings.is_empty());
}

#[test]
fn what_is_commented_out_in_the_example_holds_by_default() {
    let example = read(EXAMPLE).replace("kind = \"tcp\"", "kind = \"http\"");
    let setting = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let uncommented: Vec<&str> =
        example.lines().map(|line| if setting(line) { &line[2..] } else { line }).collect();
    let uncommented = uncommented.join("\n");
    assert!(uncommented.contains("\nbody_contains = "));
    assert_eq!(parse(&uncommented).effective, parse(&example).effective);
}

#[test]
fn schema_accepts_what_is_accepted() {
    for file in files("good").into_iter().chain([EXAMPLE.into(), MINIMAL.into()]) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(schema::faults(&config::schema(), &text), Vec::<String>::new(), "{}", file.display());
        let effective = load(file.to_str().unwrap()).effective;
        assert_eq!(schema::faults(&config::schema(), &effective), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn schema_refuses_unknown_missing_and_misshapen_keys() {
    for name in ["ten", "types", "unknown-keys", "choices", "ranges", "missing", "nothing-in-lists", "empty"]
    {
        let text = read(&format!("tests/data/config/bad/{name}.toml"));
        assert!(!schema::faults(&config::schema(), &text).is_empty(), "{name}");
    }
}

#[test]
fn what_is_written_is_what_is_meant() {
    let config = load(EVERYTHING).config;
    let listeners: Vec<(&str, String)> =
        config.listeners.iter().map(|l| (l.name.as_str(), l.address.to_string())).collect();
    let local = "unix:/run/ringway/http.sock";
    let wanted = [("public", "0.0.0.0:80"), ("[::1]:8080", "[::1]:8080"), (local, local)];
    assert_eq!(listeners, wanted.map(|(name, address)| (name, address.to_owned())));
    assert_eq!(config.listeners[2].mode, 0o660);
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].key, Path::new("/var/lib/ringway/acme/example.org.pem"));
    assert_eq!(tls.acme.as_ref().unwrap().names, ["example.org", "www.example.org"]);
    assert_eq!(tls.certificates[2].key, Path::new("/etc/ringway/b.pem"));
    assert_eq!(tls.certificates[1].ocsp.as_deref(), Some(Path::new("/etc/ringway/a.ocsp")));
    assert!(config.listeners[1].tls.is_none());
    let routes: Vec<String> =
        config.routes.iter().map(|r| format!("{} {} {}", r.host, r.path_prefix, r.pool)).collect();
    assert_eq!(routes, ["example.org /api 0", "*.example.org / 1", "* /a.b.Service 2", "* / 0"]);

    let pool = &config.pools[0];
    let members: Vec<String> =
        pool.members.iter().map(|m| format!("{} {} {}", m.name, m.address, m.weight)).collect();
    assert_eq!(
        members,
        [
            "10.0.0.1:9001 10.0.0.1:9001 1",
            "Böse \"zwei\" \\ cache.internal:9002 0.25",
            "[0:0::1]:9003 [::1]:9003 0",
        ]
    );
    assert_eq!(pool.forward.key.sources[1].to_string(), "[host, cookie:session, query:room]");
    assert_eq!(pool.forward.key.sources[0].to_string(), "header:x-user-id");
    assert_eq!(pool.forward.key.sources[4].to_string(), "uri");
    assert_eq!(pool.forward.max_body_bytes, Some(10_000_000_000));
    assert_eq!(pool.forward.response_head_timeout, Duration::from_secs(90));
    assert_eq!(pool.forward.total_timeout, Some(Duration::from_secs(86_400)));
    let repeats = &pool.forward.repeats;
    assert_eq!((repeats.budget, repeats.min_per_second), (0.1, 3));
    assert_eq!(pool.forward.explain, Explain::Trusted);
    assert_eq!(repeats.per_try, Some(Duration::from_millis(1500)));
    assert_eq!(repeats.hedge_after, Some(Duration::from_secs(1)));
    assert_eq!(repeats.backoff, Some(Duration::from_millis(10)));
    assert_eq!(repeats.status, [429..=429, 502..=504]);
    assert_eq!(pool.resolve_interval, Duration::from_millis(1500));
    assert_eq!(pool.probe.timeout, Duration::from_nanos(1_001_001));
    assert_eq!(config.client.max_head_bytes, 65_536);
    assert_eq!(config.client.trusted_proxies[2].to_string(), "192.0.2.7/32");
    assert_eq!((config.client.via, config.admin.address), (None, None));
}

#[test]
fn listeners_on_any_free_port_do_not_clash() {
    let source = BASE.replace(
        "[{ address = \"127.0.0.1:8080\" }]",
        "[{ address = \"127.0.0.1:0\" }, { address = \"127.0.0.1:0\" }]",
    );
    assert_eq!(parse(&source).config.listeners.len(), 2);
}

#[test]
fn an_error_in_one_place_does_not_hide_one_elsewhere() {
    let good = read(MINIMAL);
    let second = "[server]\nworkers = -1\n";
    let lines = good.lines().count();
    for mistake in
        ["x", "x = ", "x = \"", "x = [1", "[x", "[[x]", "x: 1", "x = 1 y = 2", "x = 08", "= 1", "x = {a=1"]
    {
        let found = wrong(&format!("{good}{mistake}\n{second}"));
        assert!(found.contains(&("E007", lines + 3, 11)), "{mistake}: {found:?}");
        let found = wrong(&format!("{mistake}\n{second}{good}"));
        assert!(found.contains(&("E007", 3, 11)), "{mistake}: {found:?}");
        // One of them may also be an unknown key; nothing else is wrong.
        assert!(found.len() <= 3 && !found.iter().any(|(code, ..)| *code == "E006"), "{mistake}: {found:?}");
    }
}
