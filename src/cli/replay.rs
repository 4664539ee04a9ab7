//! `ringway replay`: what would recorded traffic have met?
//!
//! Owns the arguments, and what is told. The playing is done by [`crate::analysis::replay`].

mod source;
mod table;
mod values;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use self::{
    source::Log,
    values::{Cache, Weights},
};
use super::{Failed, FileArgument, exit, fail, load, recorded::Reading, say};
use crate::{
    analysis::{
        chart::Chart,
        records::Tale,
        replay::{
            Base, CacheSize, Event, Generator, Grid, Outcome, RecordedTale, ReplayError, Scenario, Service,
            Synthetic, Trace, draw_grid, draw_load, play,
        },
    },
    app::{chart, offline_plans},
    config::Config,
    fleet::{Moment, OnAllDown, Orders, PoolPlan},
    http1::Method,
    limits::REPLAY_EVENTS,
    proxy::{choose::Rules, policy::WhenFull},
};

/// Arguments of `ringway replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each option under \"Grid\" takes several values, with commas between; every value is played with every value of the others. What is not\n\
                  named is as the configuration has it. Without -c there is a pool of its own, of which --backends says how large it is.\n\n\
                  Examples:\n  ringway replay access.log -c ringway.toml\n  \
                  ringway replay access.log -c ringway.toml --replicas 16,160,512 --factor off,1.1,1.25,1.5 --cache 100000\n  \
                  ringway replay access.log -c ringway.toml --cache 1GiB --event 60s:down:b3 --event 120s:up:b3 --svg plots/\n  \
                  ringway replay --generate zipf:1.0,keys=100000,rate=5000 --backends 10 --factor off,1.25 --floor 0"
)]
pub(super) struct Arguments {
    /// The log, or `-` for standard input: keys, Ringway's or nginx's access log, HAProxy's, or JSON lines
    #[arg(required_unless_present = "generate", conflicts_with = "generate")]
    log: Option<PathBuf>,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: Option<PathBuf>,
    /// The pool; needed if there are several
    #[arg(short, long, requires = "config")]
    pool: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Make the traffic up: zipf:EXPONENT or uniform, then keys=, requests=, rate=, bytes=
    #[arg(long, value_name = "LAW")]
    generate: Option<Synthetic>,
    /// What chance begins with: the same seed is the same traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests in a second, by chance, whatever times the log has
    #[arg(long, value_name = "N/s", value_parser = values::rate, conflicts_with = "generate")]
    rate: Option<f64>,
    /// Play the log so many times as fast
    #[arg(long, default_value = "1", value_parser = values::speed, conflicts_with_all = ["generate", "rate"])]
    speed: f64,
    /// How long a request is in flight, where the log does not tell it
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = values::duration)]
    service_time: Duration,
    /// The same where the cache misses [default: as --service-time]
    #[arg(long, value_name = "TIME", value_parser = values::duration, requires = "cache")]
    miss_time: Option<Duration>,
    /// Take --service-time also where the log tells how long a request took
    #[arg(long)]
    ignore_took: bool,
    /// Something that happens, as TIME:WHAT:BACKEND; what is down, up, add, remove, weight, drain or restore. May be repeated
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<Event>,
    /// The width of a window in which load is compared; doubled where a long log needs it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::some_time)]
    window: Duration,
    /// How far before and after an event hits are counted
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::some_time)]
    around: Duration,
    /// Virtual nodes per unit of weight
    #[arg(long, value_delimiter = ',', value_parser = values::replicas, help_heading = "Grid")]
    replicas: Vec<u32>,
    /// Factors of bounded load; `off`: no bound
    #[arg(long, value_delimiter = ',', value_parser = values::factor, help_heading = "Grid")]
    factor: Vec<f64>,
    /// Requests in flight up to which the bound does not act
    #[arg(long, value_delimiter = ',', help_heading = "Grid")]
    floor: Vec<u32>,
    /// Numbers of backends: the first ones of the configuration, and further ones of weight 1
    #[arg(long, value_delimiter = ',', value_parser = values::backends, required_unless_present = "config", help_heading = "Grid")]
    backends: Vec<usize>,
    /// How long a backend takes to get its keys
    #[arg(long, value_delimiter = ',', value_name = "TIME", value_parser = values::duration, help_heading = "Grid")]
    ramp: Vec<Duration>,
    /// Weights, as NAME=WEIGHT,NAME=WEIGHT, or `configured`. Each repetition is one value
    #[arg(long, value_parser = values::weights, help_heading = "Grid")]
    weights: Vec<Weights>,
    /// What the cache of each backend holds: objects, or bytes with a unit; `off`: no cache
    #[arg(long, value_delimiter = ',', value_name = "SIZE", value_parser = values::cache, help_heading = "Grid")]
    cache: Vec<Cache>,
    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Draw it: into a directory, or into one file whose name ends in .svg
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
    /// Threads that play, beside the one that reads [default: as many as the machine runs at once]
    #[arg(long)]
    threads: Option<usize>,
}

/// How to tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables
    #[default]
    Human,
    /// One document
    Json,
}

/// What was played, for the heading.
struct Played {
    pool: Arc<str>,
    /// Where the trace came from, in words.
    source: String,
    trace: Trace,
    outcomes: Vec<Outcome>,
    /// Of a log: what was read and what was left out.
    read: Option<(Tale, RecordedTale)>,
    notes: Vec<&'static str>,
    /// Key sources of the pool that the log does not tell, and of how many requests.
    untold: Vec<(String, u64)>,
}

/// Plays.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let config = match &arguments.config {
        Some(path) => Some(load(&FileArgument { config: path.clone() })?.config),
        None => None,
    };
    let (base, pool, notes) = base(arguments, config.as_ref())?;
    let scenarios = grid(arguments).scenarios(&base).map_err(|error| fail(exit::USAGE, error))?;
    let chart = match &config {
        Some(config) => Some(chart(config, &Orders::default()).map_err(|error| fail(exit::CONFIG, error))?),
        None => None,
    };
    let name = base.plan.name.clone();
    let played = play_all(arguments, &scenarios, chart.as_ref().map(|chart| (chart, pool)));
    let (outcomes, trace, read) = played.map_err(|error| fail(exit::FAILURE, error))?;
    let source = match (&arguments.generate, &arguments.log) {
        (Some(made), _) => format!("{made}, seed {}", arguments.seed),
        (None, Some(log)) => log.display().to_string(),
        (None, None) => String::new(),
    };
    if let Some(path) = &arguments.svg {
        draw(path, &outcomes)?;
    }
    let untold =
        chart.iter().zip(&read).flat_map(|(chart, (_, told))| chart.pools[pool].untold(&told.untold));
    let untold = untold.map(|(source, count)| (source.to_owned(), count)).collect();
    let played = Played { pool: name, source, trace, outcomes, read, notes, untold };
    match arguments.format {
        Format::Human => say(table::describe(&played).trim_end()),
        Format::Json => say(&table::json(&played)),
    }
    Ok(())
}

/// What is common to all cells, the pool's position, and what is not played as it is configured.
fn base(arguments: &Arguments, config: Option<&Config>) -> Result<(Base, usize, Vec<&'static str>), Failed> {
    let mut notes = Vec::new();
    let (plan, rules, at) = match config {
        None => {
            let rules = Rules {
                attempts: 3,
                on_all_down: OnAllDown::Refuse,
                owner_only: false,
                when_full: WhenFull::Next,
            };
            (PoolPlan::new("replay", 512, vec![]), rules, 0)
        }
        Some(config) => {
            let at = pool(arguments.pool.as_deref(), config)?;
            let (plan, pool) = (offline_plans(config).swap_remove(at), &config.pools[at]);
            let when_full = match pool.forward.when_full {
                WhenFull::Queue => {
                    notes.push(
                        "when_full = \"queue\" is played as \"next\": a request that would wait goes on",
                    );
                    WhenFull::Next
                }
                other => other,
            };
            if pool.load.adaptive {
                notes.push("adaptive bounds are left out: they follow latency, which is given here");
            }
            let rules = Rules {
                attempts: pool.forward.attempts,
                on_all_down: pool.on_all_down,
                owner_only: pool.forward.affinity.binds(Method::Get),
                when_full,
            };
            (plan, rules, at)
        }
    };
    if arguments.events.len() > REPLAY_EVENTS {
        let reason = format!("there are {} events, and {REPLAY_EVENTS} is the most", arguments.events.len());
        return Err(fail(exit::USAGE, reason));
    }
    let nanos = |time: Duration| time.as_nanos() as u64;
    let hit = nanos(arguments.service_time);
    let miss = arguments.miss_time.map_or(hit, nanos);
    let service = Service { as_recorded: !arguments.ignore_took, hit, miss };
    let (window, around) = (nanos(arguments.window), nanos(arguments.around));
    let events = arguments.events.clone();
    Ok((Base { plan, rules, service, events, window, around }, at, notes))
}

/// The position of the pool that is played.
fn pool(named: Option<&str>, config: &Config) -> Result<usize, Failed> {
    let names = || config.pools.iter().map(|pool| &*pool.name).collect::<Vec<_>>().join(", ");
    match named {
        Some(name) => config.pools.iter().position(|pool| *pool.name == *name).ok_or_else(|| {
            fail(exit::FAILURE, format_args!("there is no pool {name:?}; there are: {}", names()))
        }),
        None if config.pools.len() == 1 => Ok(0),
        None => {
            let reason = format!("there are several pools: say which with --pool; there are: {}", names());
            Err(fail(exit::USAGE, reason))
        }
    }
}

fn grid(arguments: &Arguments) -> Grid {
    Grid {
        replicas: arguments.replicas.clone(),
        factor: arguments.factor.clone(),
        floor: arguments.floor.clone(),
        backends: arguments.backends.clone(),
        ramp: arguments.ramp.clone(),
        weights: arguments.weights.iter().map(|weights| weights.0.clone()).collect(),
        cache: arguments.cache.iter().map(|cache| cache.0).collect(),
    }
}

type Outcomes = (Vec<Outcome>, Trace, Option<(Tale, RecordedTale)>);

fn play_all(
    arguments: &Arguments,
    scenarios: &[Scenario],
    chart: Option<(&Chart, usize)>,
) -> Result<Outcomes, ReplayError> {
    let now = Moment { instant: Instant::now(), wall: SystemTime::now() };
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let needs_bytes = scenarios.iter().any(|scenario| matches!(scenario.cache, Some(CacheSize::Bytes(_))));
    if let Some(made) = arguments.generate {
        if needs_bytes && made.bytes == 0 {
            return Err(ReplayError::Trace(
                "a cache in bytes needs answers with bytes: add bytes=10000 to --generate, or give --cache in objects"
                    .to_owned(),
            ));
        }
        let trace = Generator::new(made, arguments.seed).map(Ok);
        return play(scenarios, now, threads, trace).map(|(outcomes, trace)| (outcomes, trace, None));
    }
    let log = Log {
        path: arguments.log.as_deref().unwrap_or(Path::new("-")),
        reading: &arguments.reading,
        chart,
        has_cache: scenarios.iter().any(|scenario| scenario.cache.is_some()),
        rate: arguments.rate.map(|rate| (rate, arguments.seed)),
        speed: arguments.speed,
    };
    let ((outcomes, trace), tale, recorded) = log.read_to(|trace| play(scenarios, now, threads, trace))?;
    if needs_bytes && recorded.with_bytes == 0 {
        return Err(ReplayError::Trace(
            "the log does not tell the bytes of answers: give --cache in objects".to_owned(),
        ));
    }
    Ok((outcomes, trace, Some((tale, recorded))))
}

/// What a drawing of a grid shows of each cell.
type Figure = fn(&Outcome) -> Option<f64>;

/// Draws what there is to draw: with one cell its load over time, with a grid imbalance, spill and hits by its dimensions.
fn draw(path: &Path, outcomes: &[Outcome]) -> Result<(), Failed> {
    let mut drawings = Vec::new();
    if let [outcome] = outcomes {
        drawings.push(("load.svg", draw_load(outcome)));
    } else {
        let of: [(_, _, Figure, _); 3] = [
            ("imbalance.svg", "greatest load to the mean", |outcome| Some(outcome.greatest_to_mean), 1.0),
            ("away.svg", "share of requests away from their owner", |outcome| Some(outcome.away), 0.0),
            ("hits.svg", "share of hits", |outcome| outcome.hits, 0.0),
        ];
        let drawn = of
            .into_iter()
            .filter_map(|(file, title, of, from)| Some((file, draw_grid(outcomes, title, of, from)?)));
        drawings.extend(drawn);
    }
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text)
            .map_err(|error| fail(exit::FAILURE, format_args!("can't write {}: {error}", path.display())))
    };
    if path.extension().is_some_and(|extension| extension == "svg") {
        // One file holds one drawing: the first says most.
        return drawings.first().map_or(Ok(()), |(_, drawing)| write(path, &drawing.svg()));
    }
    std::fs::create_dir_all(path)
        .map_err(|error| fail(exit::FAILURE, format_args!("can't make {}: {error}", path.display())))?;
    drawings.iter().try_for_each(|(file, drawing)| write(&path.join(file), &drawing.svg()))
}
