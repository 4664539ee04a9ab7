//! `ringway keys`: is this a good key?
//!
//! Owns the arguments and the wording. What is found, the analysis says.

use std::{fmt::Write, path::PathBuf};

use super::{
    Failed, FileArgument, exit, fail, load,
    lookup::printable,
    plan::{Format, bad_lines, percent},
    recorded::Reading,
    say,
};
use crate::{
    analysis::{
        chart::{Chart, Charted},
        survey::{Grade, HeavyKey, PoolSurvey, Survey, Surveyor, greatest_error},
    },
    app::chart,
    fleet::{LoadPolicy, Orders},
    proxy::{
        key::{KeyPolicy, OnMissingKey, Source},
        rewrite::Rewrite,
        route::{HostPattern, RoutePolicy},
    },
    ring::{MAX_MEMBERS, Ring, Weight},
};

/// Virtual nodes for a backend where no configuration says how many.
const REPLICAS: u32 = 512;

const FITS: &str = "a string takes all that is written";

/// Arguments of `ringway keys`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Different keys are counted exactly up to two million; of more, a sample tells, and the error is said.\n\
                        Heavy keys are found with 1024 counters for a pool: none that has a thousandth of the requests is missed.\n\
                        With at most two million different keys their counts and the entropy are exact.\n\n\
                        Examples:\n  ringway keys access.log -c ringway.toml\n  ringway keys access.log --key query:user --backends 20\n  \
                        ringway keys app.jsonl --field request.user --backends 8"
)]
pub(super) struct Arguments {
    /// Recorded traffic: a list of keys, or an access log of Ringway, nginx, Apache, HAProxy, or in JSON; - is standard input
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Configuration file: its routes, pools and key sources
    #[arg(short, long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: Option<PathBuf>,
    /// A key source such as query:user, in place of those of the configuration; may be repeated, the first one present wins
    #[arg(short, long = "key", value_name = "SOURCE")]
    sources: Vec<Source>,
    /// The pool that this is about
    #[arg(short, long)]
    pool: Option<String>,
    /// Without a configuration: how many backends there are
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "config")]
    backends: u16,
    /// How many of the heaviest keys are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    reading: Reading,
    /// How the answer is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Tells.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let chart = match &arguments.config {
        Some(file) => configured(arguments, file)?,
        None => assumed(arguments)?,
    };
    let takes_keys = match &arguments.pool {
        None if chart.pools.len() > 1 => {
            Err("these are keys, and there are several pools: say which with --pool")
        }
        _ if arguments.sources.is_empty() => Ok(()),
        _ => Err("these are keys, in which there is nothing to find with --key"),
    };
    let mut surveyor = Surveyor::new(&chart, arguments.pool.as_deref());
    let (format, tale) = arguments.reading.each(&arguments.log, takes_keys, |record| surveyor.see(record))?;
    let mut survey = surveyor.finish(format, tale, arguments.top);
    if let Some(name) = &arguments.pool {
        survey.pools.retain(|pool| pool.name == *name);
    }
    match arguments.format {
        Format::Human => say(text(&survey).trim_end()),
        Format::Json => say(&serde_json::to_string_pretty(&survey).expect("the answer's type is all JSON")),
    }
    Ok(())
}

fn configured(arguments: &Arguments, file: &std::path::Path) -> Result<Chart, Failed> {
    let config = load(&FileArgument { config: file.to_owned() })?.config;
    let mut chart = chart(&config, &Orders::default()).map_err(|error| fail(exit::CONFIG, error))?;
    if let Some(name) = &arguments.pool
        && chart.position(name).is_none()
    {
        return Err(fail(exit::USAGE, format_args!("there is no pool {name:?}")));
    }
    if !arguments.sources.is_empty() {
        let is_meant = |pool: &Charted| arguments.pool.as_deref().is_none_or(|name| *name == *pool.name);
        let with =
            |pool: Charted| if is_meant(&pool) { pool.with_sources(arguments.sources.clone()) } else { pool };
        chart.pools = chart.pools.into_iter().map(with).collect();
    }
    Ok(chart)
}

/// One pool of equal backends.
fn assumed(arguments: &Arguments) -> Result<Chart, Failed> {
    let backends = usize::from(arguments.backends).min(MAX_MEMBERS);
    let names = (1..=backends).map(|number| (format!("backend-{number}").into(), Weight::ONE));
    let ring = Ring::build(names, REPLICAS).map_err(|error| fail(exit::USAGE, error))?;
    let sources = match &arguments.sources[..] {
        [] => vec![Source::Path],
        sources => sources.to_vec(),
    };
    let key = KeyPolicy { sources, on_missing: OnMissingKey::Spread };
    let factor = LoadPolicy::default().factor;
    let name = arguments.pool.as_deref().unwrap_or("any").into();
    let route =
        RoutePolicy { host: HostPattern::Any, path_prefix: "/".into(), pool: 0, rewrite: Rewrite::default() };
    Ok(Chart::new(vec![route], vec![Charted::new(name, ring, vec![String::new(); backends], key, factor)]))
}

macro_rules! line {
    ($out:expr, $($argument:tt)*) => { writeln!($out, $($argument)*).expect(FITS) };
}

fn text(survey: &Survey) -> String {
    let mut out = String::new();
    line!(out, "{} requests ({})", survey.requests, survey.format);
    if survey.nowhere > 0 {
        line!(out, "  no route leads anywhere: {}", survey.nowhere);
    }
    bad_lines(&mut out, survey.bad, survey.lines, &survey.bad_lines);
    for pool in &survey.pools {
        describe(&mut out, pool);
    }
    out
}

fn describe(out: &mut String, pool: &PoolSurvey) {
    let sources = if pool.sources.is_empty() { "as given".to_owned() } else { pool.sources.join(", else ") };
    line!(out, "\npool {}: key {sources}", pool.name);
    if !pool.untold.is_empty() {
        line!(out, "  note: this log does not tell `{}`", pool.untold.join("`, `"));
    }
    line!(out, "  requests        {}", pool.requests);
    line!(
        out,
        "  without a key   {} ({}), which means {}",
        pool.keyless,
        percent(pool.share_keyless),
        pool.on_missing_key
    );
    // Of requests without a key there is nothing more to say.
    if pool.keyless < pool.requests {
        describe_keys(out, pool);
    }
    let grade = match pool.verdict.grade {
        Grade::Good => "a good key",
        Grade::Fair => "a fair key",
        Grade::Poor => "not a good key",
        Grade::Unknown => "no judgement",
    };
    line!(out, "  verdict: {grade}: {}", pool.verdict.why);
}

fn describe_keys(out: &mut String, pool: &PoolSurvey) {
    let is_exact = |error: f64| {
        if error == 0.0 { "exact".to_owned() } else { format!("estimated to {}", percent(error)) }
    };
    line!(out, "  different keys  {:.0} ({})", pool.distinct, is_exact(pool.distinct_error));
    line!(
        out,
        "  entropy         {:.2} bits ({}), {} of what even use would have",
        pool.entropy,
        pool.entropy_is,
        percent(pool.evenness)
    );
    let balance = &pool.balance;
    line!(out, "  backends        {}, imbalance of the ring {:.3}", balance.backends, balance.imbalance);
    line!(
        out,
        "  greatest load   {:.3} times the mean with these requests; no ring could do better than {:.3}",
        balance.greatest_to_mean,
        balance.least_possible
    );
    if balance.load_factor > 0.0 {
        line!(
            out,
            "  bounded load    with a factor of {}, at least {} of the requests go to others",
            balance.load_factor,
            percent(balance.share_spilled)
        );
    }
    if pool.heaviest.is_empty() {
        line!(out, "  heaviest keys   none stands out");
    } else {
        let worst = pool.heaviest.iter().map(|key| key.error).max().unwrap_or(0);
        let how = match worst {
            0 => "exact".to_owned(),
            _ => format!("too high by at most {}", greatest_error(pool.requests)),
        };
        line!(out, "  heaviest keys ({how})");
        for HeavyKey { key, key_hex, requests, share, .. } in &pool.heaviest {
            let key = printable(key, key_hex.as_deref());
            line!(out, "    {:>8}  {requests:>10}  {key}", percent(*share));
        }
    }
}
