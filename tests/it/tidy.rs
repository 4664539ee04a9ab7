//! The tree checks itself: directions of dependency, headers, sizes, and that documents name what there is.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// A file's text up to its unit tests, and its name below the root.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        (path.strip_prefix(&root).unwrap().display().to_string(), code)
    };
    rust_files(&root.join("src")).into_iter().map(read).collect()
}

/// The lines of code: neither blank nor comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

#[test]
fn every_file_says_what_it_owns() {
    for (name, text) in sources() {
        let header: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(!header.is_empty(), "{name} has no header");
        let exempt = [
            "src/cli/check.rs",
            "src/cli/config.rs",
            "src/cli/generate.rs",
            "src/cli/healthcheck.rs",
            "src/cli/lookup.rs",
        ];
        let leaf =
            exempt.contains(&&*name) || name == "src/lib.rs" || name == "src/main.rs" || header.len() == 1;
        assert!(leaf || header.len() >= 2, "{name}'s header says too little");
    }
}

#[test]
fn no_file_outgrows_a_room() {
    for (name, text) in sources() {
        let lines = code(&text).count();
        assert!(lines <= 400, "{name} has {lines} lines of code: split it at a noun");
    }
}

#[test]
fn dependencies_point_one_way() {
    // Who may not name whom: each what stands above it, and some more.
    const TOP: &[&str] = &["config", "app", "cli"];
    const RUNNING: &[&str] = &["upstream", "telemetry", "proxy", "server", "control", "admin"];
    let rules: [(&str, &[&[&str]]); 16] = [
        ("ring", &[&["fleet", "http1", "io"], RUNNING, TOP]),
        ("http1", &[&["fleet", "ring", "http2", "io"], RUNNING, TOP]),
        ("http2", &[&["fleet", "ring", "io"], RUNNING, TOP]),
        ("io", &[&["fleet", "ring", "http1"], RUNNING, TOP]),
        ("tally", &[&["fleet", "ring", "http1", "http2", "io"], RUNNING, TOP]),
        ("fleet", &[&["io", "http1"], RUNNING, TOP]),
        ("upstream", &[&["telemetry", "proxy", "server", "control", "admin"], TOP]),
        ("telemetry", &[&["upstream", "proxy", "server", "control", "admin"], TOP]),
        ("proxy", &[&["server", "control", "admin"], TOP]),
        ("server", &[&["control", "admin"], TOP]),
        ("takeover", &[&["fleet", "proxy", "control", "admin", "upstream", "telemetry"], TOP]),
        ("control", &[&["proxy", "admin"], TOP]),
        ("admin", &[&["control"], TOP]),
        ("threads", &[&["fleet", "ring", "http1", "http2", "io"], RUNNING, TOP]),
        ("analysis", &[&["io", "upstream", "telemetry", "server", "control", "admin"], TOP]),
        ("app", &[&["cli"]]),
    ];
    for (name, text) in sources() {
        let module = name.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        let Some((_, forbidden)) = rules.iter().find(|(rule, _)| *rule == module) else {
            continue;
        };
        for line in code(&text) {
            for other in forbidden.iter().copied().flatten() {
                // The standard library has an `io`, too.
                let in_group = line.starts_with(&format!("{other}::")) && !line.starts_with("io::{self");
                let named = line.contains(&format!("crate::{other}::")) || in_group;
                assert!(!named, "{name} names {other}: {line}");
            }
        }
    }
}

#[test]
fn what_decides_is_pure() {
    let pure = |name: &str| {
        ["src/ring", "src/fleet", "src/http1", "src/http2", "src/analysis"]
            .iter()
            .any(|part| name.starts_with(part))
            || [
                "key",
                "route",
                "head",
                "repeat",
                "budget",
                "choose",
                "client",
                "explain",
                "request_body",
                "form",
            ]
            .iter()
            .any(|part| name.starts_with(&format!("src/proxy/{part}")))
    };
    // Tests make the time that they hand in.
    let is_judged = |name: &str| pure(name) && !name.ends_with("/tests.rs");
    for (name, text) in sources().into_iter().filter(|(name, _)| is_judged(name)) {
        for line in code(&text) {
            for banned in ["tokio", "hyper", "Instant::now", "SystemTime::now"] {
                assert!(!line.contains(banned), "{name} is not pure: {line}");
            }
        }
    }
}

#[test]
fn every_configuration_key_stands_in_the_example_with_its_default() {
    let example = fs::read_to_string(root().join("config/ringway.toml")).unwrap();
    for key in ringway::config::keys() {
        let last = key.path.rsplit('.').next().unwrap().trim_end_matches("[]");
        assert!(example.contains(last), "{} is not in config/ringway.toml", key.path);
    }
}

#[test]
fn the_tree_speaks_of_itself_alone() {
    let mut files = rust_files(&root().join("src"));
    files.extend(rust_files(&root().join("tests")));
    files.extend(["README.md", "CHANGELOG.md", "Dockerfile", "Cargo.toml"].map(|name| root().join(name)));
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for banned in ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "<<mea".to_owned() + "sure"] {
            assert!(!text.contains(&banned), "{} contains {banned}", path.display());
        }
    }
}
