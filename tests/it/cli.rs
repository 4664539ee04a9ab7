//! The command line: what it prints, and its exit codes.

use std::net::TcpListener;

use super::support::{
    Origin,
    process::{Directory, Running, ringway, run},
    proxy::configuration,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn ten_mistakes_give_ten_located_errors_and_nothing_is_bound() {
    let directory = Directory::new();
    let mistakes = include_str!("../data/config/bad/ten.toml");
    let file = directory.file("ten.toml", mistakes);
    for command in ["check", "run"] {
        let output = run(&[command, "-c", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78));
        let said = text(&output.stderr);
        let located = said.lines().filter(|line| line.contains("ten.toml:")).count();
        assert!(located >= 10, "{said}");
        assert!(said.contains("10 errors"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_address_in_use_is_a_temporary_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new();
    let file = directory.file(
        "taken.toml",
        &format!(
            "[[listeners]]\naddress = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n[pools.p]\nbackends = [\"127.0.0.1:9\"]\n",
            taken.local_addr().unwrap()
        ),
    );
    let output = run(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(75));
    assert!(text(&output.stderr).contains("can't listen on 127.0.0.1:"), "{}", text(&output.stderr));
}

#[test]
fn check_prints_routes_shares_and_imbalance() {
    let output = run(&["check", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/config/ringway.toml")]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for wanted in ["routes", "% of all keys", "imbalance", "is valid"] {
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn lookup_names_the_owner_and_who_comes_next() {
    let directory = Directory::new();
    let file = directory.file(
        "p.toml",
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nkey = [\"header:x-user\"]\nbackends = [\
         { name = \"cache-1\", address = \"127.0.0.1:1\" }, { name = \"cache-2\", address = \"127.0.0.1:2\" }, \
         { name = \"cache-3\", address = \"127.0.0.1:3\" }]\n",
    );
    let file = file.to_str().unwrap();
    let output = run(&["lookup", "-c", file, "user-42"]);
    let said = text(&output.stdout);
    assert!(said.contains("owner   cache-3 (127.0.0.1:3)") && said.contains("then    cache-1"), "{said}");
    let output = run(&["lookup", "-c", file, "--uri", "/x", "-H", "X-User: user-42", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["key"], &told["chosen"]["backend"]), (&"user-42".into(), &"cache-3".into()));
    assert_eq!(told["place"], "7520668995729545241");
    for (wrong, said) in [
        (&["-c", file, "--pool", "q", "x"][..], "there is no pool"),
        (&["-c", file], "--uri"),
        (&["-c", file, "--key-hex", "0g"], "hexadecimal"),
        (&["-c", file, "--uri", "/", "-H", "x"], "NAME:VALUE"),
        (&["x"], "--admin"),
        (&["--admin", "nowhere", "x"], "NAME:PORT"),
    ] {
        let output = run(&[&["lookup"], wrong].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn show_prints_what_parses_again_and_schema_is_json() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");
    let shown = text(&run(&["config", "show", "-c", example]).stdout);
    let again = ringway::config::parse(&shown, "shown.toml").unwrap();
    assert_eq!(again.effective.trim(), shown.trim());
    let schema: serde_json::Value = serde_json::from_slice(&run(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["pools"].is_object());
}

#[tokio::test]
async fn healthcheck_asks_a_running_proxy() {
    let origin = Origin::named("one").await;
    let running = Running::start(&configuration(&[&origin], "", ""));
    let ask = |arguments: &[&str]| ringway(arguments).output().unwrap().status.code();
    let admin = running.admin.to_string();
    assert_eq!(ask(&["healthcheck", "--admin", &admin]), Some(0));
    assert_eq!(ask(&["healthcheck", "--live", "--admin", &admin]), Some(0));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(ask(&["healthcheck", "--admin", &nobody]), Some(1));
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
    let directory = Directory::new();
    assert!(run(&["man", "-o", directory.path().to_str().unwrap()]).status.success());
    let pages = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(pages >= 9, "{pages} pages");
}

#[tokio::test]
async fn the_demo_works_as_it_prints() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let mut child =
        ringway(&["demo", "--seconds", "60"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let printed = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().contains("Ctrl-C ends it") {
                break;
            }
        }
        lines
    })
    .await
    .unwrap();
    let commands: Vec<_> = printed.iter().filter_map(|line| line.trim().strip_prefix("curl ")).collect();
    assert_eq!(commands.len(), 10, "{printed:#?}");
    let curl = |command: &str| {
        let parts = command.split('\'').enumerate();
        let arguments = parts.flat_map(|(i, part)| match i % 2 {
            1 => vec![part],
            _ => part.split_whitespace().collect(),
        });
        let output = std::process::Command::new("curl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let name = |answer: &str| answer.split(' ').next().unwrap().to_owned();
    let owner = name(&curl(commands[0]));
    assert_eq!(name(&curl(commands[1])), owner);
    let told: serde_json::Value = serde_json::from_str(&curl(commands[2])).unwrap();
    assert_eq!(told["chosen"]["backend"], *owner);
    assert!(curl(commands[3]).contains("stop"));
    let stand_in = name(&curl(commands[4]));
    assert_ne!(stand_in, owner);
    assert_eq!(told["owners"][1]["backend"], *stand_in);
    assert!(curl(commands[5]).contains("start"));
    super::support::soon("its keys return", async {
        while name(&curl(commands[6])) != owner {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    curl(commands[7]);
    assert!(curl(commands[8]).contains("cache-1"));
    assert!(curl(commands[9]).contains("ringway_requests_total"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn what_root_was_needed_for_is_given_up() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing to give up");
        return;
    }
    let text = |user: &str| {
        format!(
            "[server]\nuser = \"{user}\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [pools.p]\nbackends = [\"127.0.0.1:9\"]\n[pools.p.health]\nkind = \"off\"\n"
        )
    };
    let running = Running::start(&text("nobody"));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    for task in std::fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), vec![nobody.uid.to_string(); 4]);
        assert_eq!(field("Gid:"), vec![nobody.gid.to_string(); 4]);
        assert_eq!((field("Groups:"), field("CapEff:")), (vec![], vec!["0".repeat(16)]));
    }
    let directory = Directory::new();
    let file = directory.file("ringway.toml", &text("ringway-nobody-has-this-name"));
    let ended = super::support::process::run(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(78));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("there is no user \"ringway-nobody-has-this-name\""), "{said}");
}

#[test]
fn traffic_of_which_nothing_is_understood_is_no_ground_for_a_judgement() {
    let directory = Directory::new();
    let log = directory.file("log", "{\"user\":\"a\"}\n{\"user\":\"b\"}\n");
    let log = log.to_str().unwrap();
    let output = run(&["keys", log]);
    let told = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{told}");
    assert!(told.contains("none of 2 lines was understood as json") && told.contains("--field"), "{told}");
    let output = run(&["keys", log, "--field", "user"]);
    assert!(output.status.success() && text(&output.stdout).contains("2 requests (json)"));
}

#[test]
fn keys_that_are_no_text_are_shown_byte_by_byte_and_requests_without_any_have_no_load() {
    let directory = Directory::new();
    let log = directory.path().join("bytes");
    std::fs::write(&log, b"a\xff\n").unwrap();
    let told = text(&run(&["keys", log.to_str().unwrap()]).stdout);
    assert!(told.contains("  a\\xff\n"), "{told}");
    let line = "1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n";
    let log = directory.file("log", line);
    let told = text(&run(&["keys", log.to_str().unwrap(), "--key", "query:user"]).stdout);
    assert!(told.contains("without a key   1") && !told.contains("load"), "{told}");
}
