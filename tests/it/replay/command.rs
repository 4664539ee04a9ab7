//! `ringway replay` as a command: logs, grids, plots, and what is wrong with them.

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::support::process::{Directory, run};

const POOL: &str = "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.cache]\nkey = [\"query:user\", \"path\"]\nbackends = [\
     { name = \"b1\", address = \"127.0.0.1:1\" }, { name = \"b2\", address = \"127.0.0.1:2\" }, \
     { name = \"b3\", address = \"one.example:3\" }]\n[pools.cache.load]\nfloor = 0\n";

fn said(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["replay"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn told(arguments: &[&str]) -> Value {
    let (code, out, error) = said(&[arguments, &["--format", "json"]].concat());
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&out).unwrap()
}

/// A log of nginx, with ten requests in each of 60 seconds for one of 20 paths each, and a line that is none.
fn log() -> String {
    let mut log = "what is this?\n".to_owned();
    for number in 0..600_u32 {
        let (second, path) = (number / 10, number * 7 % 20);
        writeln!(
            log,
            "10.0.0.1 - - [21/Nov/2026:10:26:{second:02} +0000] \"GET /img/{path}.png HTTP/1.1\" 200 {}",
            1000 + path
        )
        .unwrap();
    }
    log
}

#[test]
fn a_log_is_played_against_its_configuration() {
    let directory = Directory::new();
    let (config, log) = (directory.file("p.toml", POOL), directory.file("access.log", &log()));
    let (config, log) = (config.to_str().unwrap(), log.to_str().unwrap());
    let all = told(&[log, "-c", config, "--cache", "100,100kB", "--event", "30s:down:b2"]);
    assert_eq!((&all["pool"], &all["read"]["not_understood"]), (&"cache".into(), &1.into()));
    let cells = all["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        assert_eq!((&cell["requests"], &cell["refused"]), (&600.into(), &0.into()));
        // Whole seconds are spread: ten requests of 20 ms each do not meet.
        assert_eq!(cell["most_in_flight"], 1);
        // Each of 20 objects is missed once, and some a second time at another backend.
        let hits = cell["hits"].as_f64().unwrap();
        assert!((540.0 / 600.0..=580.0 / 600.0).contains(&hits), "{hits}");
        assert!(cell["changes"][0]["keys_moved"].as_f64().unwrap() > 0.2);
        assert_eq!(cell["settings"]["backends"], 3);
    }
    let (code, out, _) = said(&[log, "-c", config]);
    assert_eq!(code, Some(0));
    for wanted in
        ["pool cache: 600 requests in 59.9 s", "left out: 1 lines not understood", "b3", "over time"]
    {
        assert!(out.contains(wanted), "{wanted:?} is not in {out}");
    }
}

#[test]
fn a_grid_has_a_row_for_each_cell_and_drawings_for_each_figure() {
    let directory = Directory::new();
    let plots = directory.path().join("plots");
    let grid = [
        "--generate",
        "zipf:1.0,keys=1000,requests=5000,rate=5000",
        "--seed",
        "7",
        "--backends",
        "4,8",
        "--replicas",
        "16,160,512",
        "--factor",
        "off,1.25",
        "--floor",
        "0",
        "--cache",
        "50",
        "--svg",
        plots.to_str().unwrap(),
    ];
    let (code, out, error) = said(&grid);
    assert_eq!(code, Some(0), "{error}");
    let rows = out.lines().filter(|line| line.trim_start().starts_with(['1', '5'])).count();
    assert_eq!(rows, 12, "{out}");
    assert_eq!(said(&grid).1, out, "the same seed is the same answer");
    for file in ["imbalance.svg", "away.svg", "hits.svg"] {
        let svg = std::fs::read_to_string(plots.join(file)).unwrap();
        assert!(svg.contains("<title id=\"title\">") && svg.contains("<desc id=\"description\">"), "{file}");
        assert_eq!(svg.matches("class=\"line\"").count(), 2 * 4, "four lines and their names in {file}");
        assert!(!svg.contains("NaN") && svg.contains("prefers-color-scheme: dark"), "{file}");
    }
    let one = directory.path().join("load.svg");
    let (code, _, error) =
        said(&["--generate", "uniform,requests=9000", "--backends", "40", "--svg", one.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{error}");
    assert!(std::fs::read_to_string(Path::new(&one)).unwrap().contains("least loaded"));
}

#[test]
fn what_can_not_be_played_is_an_error_that_says_what_to_do() {
    let directory = Directory::new();
    let config = directory.file("p.toml", POOL);
    let config = config.to_str().unwrap();
    let (requests, empty) = (directory.file("access.log", &log()), directory.file("empty.log", ""));
    let keys = directory.file("keys", "a\nb\n");
    let (requests, empty, keys) =
        (requests.to_str().unwrap(), empty.to_str().unwrap(), keys.to_str().unwrap());
    let made = ["--generate", "uniform,requests=10", "--backends", "3"];
    let wrong: [(&[&str], i32, &str); 13] = [
        (
            &[requests, "-c", config, "--log-format", "apache"],
            2,
            "there is no format \"apache\"; there are: keys",
        ),
        (&[empty, "-c", config], 1, "is empty: there is nothing to play"),
        (&["/nowhere.log", "-c", config], 1, "/nowhere.log: No such file"),
        (&[requests, "--backends", "3"], 1, "give one with -c FILE"),
        (&[requests, "-c", config, "--pool", "other"], 1, "there is no pool \"other\"; there are: cache"),
        (&[keys, "-c", config], 1, "--rate 500"),
        (
            &[requests, "-c", config, "--event", "1s:down:b9"],
            2,
            "`1s:down:b9` is for a backend that is not there: there are b1, b2, b3",
        ),
        (&[requests, "-c", config, "--event", "1s:add:b1"], 2, "is there already"),
        (&[requests, "-c", config, "--event", "1s:burn:b1"], 2, "write TIME:WHAT:BACKEND"),
        (&[requests, "-c", config, "--weights", "b7=2"], 2, "the weights name \"b7\""),
        (&[made[0], made[1], made[2], made[3], "--cache", "1GiB"], 1, "bytes=10000"),
        (&[made[0], made[1], made[2], made[3], "--cache", "4000000000"], 2, "give smaller ones"),
        (&["--generate", "zipf:1.0,rat=5", "--backends", "3"], 2, "\"rat\" is not known"),
    ];
    for (arguments, code, why) in wrong {
        let (exit, out, error) = said(arguments);
        assert_eq!(exit, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(why) && out.is_empty(), "{arguments:?}: {error}");
    }
    let many: Vec<String> = (1..=257).map(|replicas| replicas.to_string()).collect();
    let (exit, _, error) = said(&[&made[..], &["--replicas", &many.join(",")]].concat());
    assert_eq!(exit, Some(2));
    assert!(error.contains("the grid has 257 cells, and 256 is the most: give fewer values"), "{error}");
}
