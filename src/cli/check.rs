//! `ringway check`: is this configuration right, and what will it do?

use std::{fmt::Write, io};

use super::{Failed, FileArgument, exit, fail, load, say, say_error, wants_colour};
use crate::{
    app::{load_approaches, offline_view, surroundings},
    config::Loaded,
    fleet::PoolView,
    tls::ListenerTls,
};

/// Arguments of `ringway check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: FileArgument,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Say nothing if all is well
    #[arg(short, long)]
    quiet: bool,
}

/// Checks, certificates and other files too. Binds nothing, resolves nothing.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let loaded = load(&arguments.file)?;
    for warning in &loaded.warnings {
        say_error(&warning.render(wants_colour(&io::stderr())));
    }
    let config = &loaded.config;
    let mut doubts = surroundings::doubts(config, Some(&arguments.file.config));
    doubts.extend(surroundings::exposed(config));
    for doubt in &doubts {
        say_error(&format!("warning: {doubt}"));
    }
    let mut problems = 0;
    for fault in surroundings::faults(config) {
        say_error(&format!("error: {fault}"));
        problems += 1;
    }
    for listener in &config.listeners {
        for problem in listener.tls.iter().flat_map(ListenerTls::problems) {
            say_error(&format!("error: listener {:?}: {problem}", listener.name));
            problems += 1;
        }
    }
    if problems > 0 {
        let what = if problems == 1 { "something" } else { "things" };
        return Err(fail(
            exit::CONFIG,
            format_args!("{}: {what} that it names cannot be used", arguments.file.config.display()),
        ));
    }
    load_approaches(&loaded.config).map_err(|error| fail(exit::CONFIG, error))?;
    if !arguments.quiet {
        say(report(&loaded)?.trim_end());
    }
    if arguments.deny_warnings && !(loaded.warnings.is_empty() && doubts.is_empty()) {
        return Err(fail(exit::CONFIG, "warnings are denied"));
    }
    if !arguments.quiet {
        say(&format!("\n{} is valid", arguments.file.config.display()));
    }
    Ok(())
}

fn report(loaded: &Loaded) -> Result<String, Failed> {
    let config = &loaded.config;
    let view = offline_view(config).map_err(|error| fail(exit::CONFIG, error))?;
    let mut out = String::new();
    const FITS: &str = "a string takes all that is written";
    for listener in &config.listeners {
        writeln!(out, "listener {} on {}", listener.name, listener.address).expect(FITS);
    }
    writeln!(out, "\nroutes").expect(FITS);
    for route in &config.routes {
        let pool = &config.pools[route.pool].name;
        writeln!(out, "  {}{} -> {pool}", route.host, route.path_prefix).expect(FITS);
    }
    for (pool, view) in config.pools.iter().zip(&view.pools) {
        let sources: Vec<_> = pool.forward.key.sources.iter().map(ToString::to_string).collect();
        let missing = pool.forward.key.on_missing;
        writeln!(out, "\npool {}: key {}, else {missing}", pool.name, sources.join(", else ")).expect(FITS);
        describe_ring(&mut out, view);
    }
    Ok(out)
}

fn describe_ring(out: &mut String, view: &PoolView) {
    const FITS: &str = "a string takes all that is written";
    let ring = &view.ring;
    writeln!(out, "  ring {}, {} virtual nodes", ring.fingerprint(), ring.node_count()).expect(FITS);
    writeln!(
        out,
        "  imbalance {:.3}: the busiest backend gets {:.1} % more keys than its weight asks for (rings like this: {:.3})",
        ring.imbalance(),
        (ring.imbalance() - 1.0) * 100.0,
        ring.expected_imbalance()
    )
    .expect(FITS);
    let width = ring.members().iter().map(|member| member.name.chars().count()).max().unwrap_or(0);
    for (member, share) in ring.members().iter().zip(ring.shares()) {
        let percent = share * 100.0;
        writeln!(out, "    {:width$}  {percent:6.2} % of all keys, weight {}", member.name, member.weight)
            .expect(FITS);
    }
}
