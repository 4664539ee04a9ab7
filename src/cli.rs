//! The command line: what is asked, and which exit code is the answer.
//!
//! Owns arguments and exit codes. Each subcommand has its own file.

mod agree;
mod check;
mod config;
mod demo;
mod door;
mod generate;
mod healthcheck;
mod keys;
mod lookup;
mod operate;
mod plan;
mod recorded;
mod replay;
mod run;
#[cfg(feature = "top")]
mod top;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::config::Loaded;

/// Exit codes, after sysexits(3) where it has one.
pub mod exit {
    /// Something went wrong at run time.
    pub const FAILURE: u8 = 1;
    /// The command line is wrong (clap's own code).
    pub const USAGE: u8 = 2;
    /// Of `plan`: keys move, as many as may.
    pub const MOVES: u8 = 3;
    /// Of `plan`: more keys move than may.
    pub const MOVES_TOO_MUCH: u8 = 4;
    /// An address can't be bound: it may work later.
    pub const TEMPORARY: u8 = 75;
    /// The configuration is wrong: it will not work before somebody changes it.
    pub const CONFIG: u8 = 78;
}

/// A consistent-hash routing reverse proxy.
#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    about,
    propagate_version = true,
    after_help = "Examples:\n  ringway demo                              see it work, nothing to install\n  \
                  ringway check -c ringway.toml             is the configuration right?\n  \
                  ringway run -c ringway.toml               run the proxy\n  \
                  ringway lookup -c ringway.toml user-42    who owns this key?"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or SIGINT
    Run(FileArgument),
    /// Check a configuration; print routes, shares and expected imbalance
    Check(check::Arguments),
    /// Who owns a key, who would serve it now, and why
    Lookup(lookup::Arguments),
    /// What would move if one configuration took the place of another
    Plan(plan::Arguments),
    /// Is this a good key? What recorded traffic says
    Keys(keys::Arguments),
    /// Play recorded or made-up traffic against a configuration, or a grid of them
    Replay(Box<replay::Arguments>),
    /// Show the configuration in force, or its JSON Schema
    #[command(subcommand)]
    Config(config::Command),
    /// Run a proxy with five embedded backends to play with
    Demo(demo::Arguments),
    /// Watch a running proxy in this terminal
    #[cfg(feature = "top")]
    Top(top::Arguments),
    /// Have a running proxy read its configuration again
    Reload(door::Door),
    /// Have a backend of a running proxy get no new requests
    Drain(operate::Backend),
    /// Give a backend of a running proxy another weight
    Weight(operate::Weight),
    /// Take back a drain or another weight
    Restore(operate::Backend),
    /// Ask a running proxy whether it is ready (for container health checks)
    Healthcheck(healthcheck::Arguments),
    /// Have a new process take over from a running proxy: a new binary, without losing a connection
    Upgrade(door::Door),
    /// Ask several proxies whether they place keys alike and see the same backends up
    Agree(agree::Arguments),
    /// Print a completion script for a shell
    Completions(generate::Completions),
    /// Write man pages into a directory
    Man(generate::Man),
}

/// The configuration file.
#[derive(Debug, clap::Args)]
struct FileArgument {
    /// Configuration file
    #[arg(short, long = "config", value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: PathBuf,
}

/// How a command fails, after the reason has been told.
struct Failed {
    code: u8,
    reason: String,
}

/// Runs the program's command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Run(file) => run::run(&file),
        Command::Check(arguments) => check::run(&arguments),
        Command::Lookup(arguments) => lookup::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Demo(arguments) => demo::run(&arguments),
        #[cfg(feature = "top")]
        Command::Top(arguments) => top::run(&arguments),
        Command::Reload(door) => operate::reload(&door),
        Command::Drain(backend) => operate::drain(&backend),
        Command::Weight(weight) => operate::weigh(&weight),
        Command::Restore(backend) => operate::restore(&backend),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Upgrade(door) => operate::upgrade(&door),
        Command::Agree(arguments) => agree::run(&arguments),
        Command::Completions(arguments) => generate::completions(&arguments),
        Command::Man(arguments) => generate::man(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, .. }) => ExitCode::from(code),
    }
}

/// Reads a configuration, telling all that is wrong with it.
fn load(file: &FileArgument) -> Result<Loaded, Failed> {
    crate::config::load(&file.config).map_err(|errors| {
        say_error(&errors.render(wants_colour(&io::stderr())));
        Failed { code: exit::CONFIG, reason: errors.render(false) }
    })
}

fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints to standard output. A reader that has gone away, as with `| head`, is no failure.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Prints to standard error.
fn say_error(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Tells why, and fails with this code.
fn fail(code: u8, reason: impl std::fmt::Display) -> Failed {
    let reason = reason.to_string();
    say_error(&format!("ringway: {reason}"));
    Failed { code, reason }
}

/// A runtime for what a command does on its own thread.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(exit::FAILURE, format_args!("can't start: {error}")))
}
