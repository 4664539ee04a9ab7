//! What a request costs: instructions and system calls of the real program, counted by valgrind's callgrind.
//!
//! `cargo bench --profile dev --bench request` prints a table, compares it with `baseline.json`, and exits with 1 if a scenario has
//! become dearer than the limit. Counts do not move with the machine's mood, so they are asserted where times can't be:
//! five runs, two of them on a busy machine, differed by at most 0.7 %, and `upload-64k` by 3 %. How to read the table
//! stands in `benches/README.md`.
//!
//! Owns the arguments and the order of things. The program under valgrind stands in [`program`], its clients and
//! backends in [`wire`], the traffic in [`scenario`], the judgement in [`baseline`]. Never measures time, and
//! never calls the library: what is counted is `ringway run` as it is shipped, over real sockets.
#![allow(missing_docs)]

mod baseline;
mod program;
mod scenario;
mod wire;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use program::Program;
use scenario::{Measured, Scenario, Setup};

const USAGE: &str = "\
cargo bench --profile dev --bench request -- [OPTIONS]

  --save            write what was counted to benches/request/baseline.json, and judge nothing
  --only A,B        these scenarios only
  --ringway PATH    this program; without it, `cargo build --release` makes one
  --profile FILE    with --only and one scenario: its profile for callgrind_annotate
  --list            the scenarios
";

struct Arguments {
    save: bool,
    list: bool,
    help: bool,
    only: Option<Vec<String>>,
    ringway: Option<PathBuf>,
    profile: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            say(&mut io::stderr(), &format!("request: {message}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let arguments = arguments(std::env::args().skip(1))?;
    let chosen = chosen(&arguments)?;
    if arguments.help {
        say(&mut io::stdout(), USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        let lines: String = chosen.iter().map(|it| format!("{:<16}{}\n", it.name, it.what)).collect();
        say(&mut io::stdout(), &lines);
        return Ok(ExitCode::SUCCESS);
    }
    let tools = baseline::Tools { rustc: version("rustc")?, valgrind: valgrind()? };
    let ringway = arguments.ringway.map_or_else(built, Ok)?;
    let mut measured = vec![];
    for setup in Setup::ALL {
        let scenarios: Vec<_> = chosen.iter().filter(|it| it.setup == setup).collect();
        if scenarios.is_empty() {
            continue;
        }
        let origin = wire::Origin::bind()?;
        let program =
            Program::start(&ringway, &setup.configuration(origin.port), arguments.profile.as_deref())?;
        measured.extend(scenario::measure(&program, origin, &scenarios, arguments.profile.is_some())?);
    }
    // In the order of the list, whatever program they shared.
    measured.sort_by_key(|one: &Measured| chosen.iter().position(|it| it.name == one.name));
    if arguments.save {
        if arguments.only.is_some() {
            return Err("--save needs all scenarios: leave --only away".into());
        }
        let (table, _) = baseline::judge(&measured, &tools, None);
        baseline::save(&measured, &tools)?;
        say(&mut io::stdout(), &table);
        return Ok(ExitCode::SUCCESS);
    }
    let (table, passed) = baseline::judge(&measured, &tools, Some(&baseline::load()?));
    say(&mut io::stdout(), &table);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found =
        Arguments { save: false, list: false, help: false, only: None, ringway: None, profile: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
        match &*word {
            // Cargo says this to every bench.
            "--bench" => {}
            "--save" => found.save = true,
            "--list" => found.list = true,
            "-h" | "--help" => found.help = true,
            "--only" => found.only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--ringway" => found.ringway = Some(value()?.into()),
            "--profile" => found.profile = Some(value()?.into()),
            _ => return Err(format!("unknown argument {word}\n\n{USAGE}")),
        }
    }
    Ok(found)
}

fn chosen(arguments: &Arguments) -> Result<Vec<Scenario>, String> {
    let mut all = scenario::all();
    if let Some(only) = &arguments.only {
        if let Some(unknown) = only.iter().find(|name| all.iter().all(|it| it.name != **name)) {
            return Err(format!("no scenario is called {unknown}; --list names them"));
        }
        all.retain(|it| only.iter().any(|name| *name == it.name));
    }
    if arguments.profile.is_some() && all.len() != 1 {
        return Err("--profile needs --only with one scenario".into());
    }
    Ok(all)
}

/// Builds the program as it is shipped. The one that cargo builds for a bench has other features, as development
/// dependencies add theirs, and the profile that this bench was built with.
fn built() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--bin", "ringway"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err("`cargo build --release` failed".into());
    }
    let of_this_bench = Path::new(env!("CARGO_BIN_EXE_ringway"));
    let target = of_this_bench.ancestors().nth(2).ok_or("there is no target directory")?;
    Ok(target.join("release").join("ringway"))
}

fn valgrind() -> Result<String, String> {
    version("valgrind").map_err(|_| {
        "valgrind is missing: `apt-get install valgrind` on Debian, or https://valgrind.org".to_owned()
    })
}

fn version(tool: &str) -> Result<String, String> {
    let output = Command::new(tool)
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A reader that has gone is no reason to fail.
fn say(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
