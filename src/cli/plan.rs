//! `ringway plan`: what would move if this configuration took the place of that one.
//!
//! Owns where the two come from and which exit code is the answer. What moves is worked out in the analysis, as for the admin listener.

mod show;

pub(super) use show::{bad_lines, percent};

use std::{net::SocketAddr, path::PathBuf};

use serde_json::Value;

use super::{
    Failed, FileArgument,
    door::{Door, admin_address, ask},
    exit, fail, load,
    recorded::Reading,
    say, say_error,
};
use crate::{
    analysis::{
        chart::Chart,
        compare::{Comparison, compare},
        drawing,
        traffic::Passage,
    },
    app::chart,
    config::Config,
    fleet::{Order, Orders},
};

/// Arguments of `ringway plan`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "ringway plan [OPTIONS] <OLD> <NEW>\n       ringway plan [OPTIONS] --admin <ADDRESS> <NEW>",
    after_help = "Exit codes:\n   0  nothing moves\n   3  keys move, and no more of them than --max-moved allows if that is given\n   \
                  4  more keys move than --max-moved allows\n   1, 2, 78  failure, wrong command line, wrong configuration\n\n\
                  What --max-moved is compared with: the share of requests that move, if --keys names recorded traffic with any request\n\
                  in it; else the greatest share of a pool's keyspace that moves. A pool that is removed has moved as a whole.\n\n\
                  Examples:\n  ringway plan ringway.toml new.toml\n  \
                  ringway plan ringway.toml new.toml --keys /var/log/nginx/access.log --max-moved 5%\n  \
                  ringway plan --admin 127.0.0.1:9180 new.toml --svg moved.svg"
)]
pub(super) struct Arguments {
    /// The configuration in force, unless --admin names a proxy that has it; and the new one
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    /// The running proxy whose configuration is the old one, with what operators ordered
    #[arg(long, value_name = "ADDRESS", value_parser = admin_address)]
    admin: Option<SocketAddr>,
    /// A file whose first line is the admin token
    #[arg(long, value_name = "FILE", env = "RINGWAY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Recorded traffic: a list of keys, or an access log of Ringway, nginx, Apache, HAProxy, or in JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The pool that a list of keys is for, if there are several
    #[arg(short, long)]
    pool: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// The share that may move, for example 5% or 0.05
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_moved: Option<f64>,
    /// How the answer is told
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Draw both rings, with what moves, to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Tables
    #[default]
    Human,
    /// One document
    Json,
}

fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim_end(), 100.0));
    let share = number.parse::<f64>().map(|number| number / unit).unwrap_or(f64::NAN);
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("write a share such as 5% or 0.05".into()) }
}

/// Tells what moves.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let read = |file: &PathBuf| load(&FileArgument { config: file.clone() }).map(|loaded| loaded.config);
    let (old, new, orders) = match (&*arguments.files, arguments.admin) {
        ([old, new], None) => (read(old)?, read(new)?, Orders::default()),
        ([new], Some(admin)) => {
            let new = read(new)?;
            let (old, orders) = running(Door { admin, token_file: arguments.token_file.clone() })?;
            (old, new, orders)
        }
        ([_], None) => {
            return Err(fail(exit::USAGE, "name two files, or the running proxy with --admin and one file"));
        }
        _ => return Err(fail(exit::USAGE, "with --admin, name one file: the new configuration")),
    };
    let (old, new) = charts(&old, &new, &orders)?;
    let mut comparison = compare(&old, &new);
    if let Some(file) = &arguments.keys {
        let mut passage = Passage::new(&old, &new, arguments.pool.as_deref());
        let (format, tale) = arguments
            .reading
            .each(file, takes_keys(arguments, [&old, &new]), |record| passage.see(record))?;
        comparison.add(passage.finish(format, tale));
    }
    if let Some(file) = &arguments.svg {
        std::fs::write(file, drawing::draw(&old, &new))
            .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", file.display())))?;
    }
    match arguments.format {
        Format::Human => say(show::text(&comparison).trim_end()),
        Format::Json => {
            say(&serde_json::to_string_pretty(&comparison).expect("the answer's type is all JSON"))
        }
    }
    verdict(&comparison, arguments.max_moved)
}

/// The exit code.
fn verdict(comparison: &Comparison, most: Option<f64>) -> Result<(), Failed> {
    let share = comparison.decisive_share();
    match most {
        _ if !comparison.moves => Ok(()),
        Some(most) if share > most => {
            let reason = format!("{:.2} % moves, more than {:.2} %", share * 100.0, most * 100.0);
            say_error(&format!("ringway: {reason}"));
            Err(Failed { code: exit::MOVES_TOO_MUCH, reason })
        }
        _ => Err(Failed { code: exit::MOVES, reason: format!("{:.2} % moves", share * 100.0) }),
    }
}

/// Whether it is clear which pool a plain key is for.
fn takes_keys<'a>(arguments: &Arguments, sides: [&Chart; 2]) -> Result<(), &'a str> {
    let is_clear = |chart: &Chart| match &arguments.pool {
        Some(name) => chart.position(name).is_some(),
        None => chart.pools.len() == 1,
    };
    match (&arguments.pool, sides.into_iter().all(is_clear)) {
        (_, true) => Ok(()),
        (None, _) => Err("these are keys, and there are several pools: say which with --pool"),
        (Some(_), _) => Err("there is no pool of this name in both configurations"),
    }
}

/// Both charts, made at the same time: rings of a million virtual nodes take a while.
fn charts(old: &Config, new: &Config, orders: &Orders) -> Result<(Chart, Chart), Failed> {
    let (old, new) = std::thread::scope(|scope| {
        let old = scope.spawn(|| chart(old, orders));
        let new = chart(new, orders);
        (old.join().expect("making a chart does not panic"), new)
    });
    let failed = |error| fail(exit::CONFIG, error);
    Ok((old.map_err(failed)?, new.map_err(failed)?))
}

/// The configuration of a running proxy, and what operators ordered: that stands above any configuration, the new one too.
fn running(door: Door) -> Result<(Config, Orders), Failed> {
    let told = get(&door, "/api/config")?;
    let text = told["text"].as_str().unwrap_or_default();
    let loaded = crate::config::parse(text, "the running proxy's configuration")
        .map_err(|errors| fail(exit::FAILURE, format_args!("{}: {}", door.admin, errors.render(false))))?;
    let mut orders = Orders::default();
    let told = get(&door, "/api/pools")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut take = |pool: &Value, backend: &Value, told: &Value| {
        let order = match &*text(&told["order"]) {
            "drain" => Order::Drain,
            "weight" => match text(&told["weight"]).parse() {
                Ok(weight) => Order::Weight(weight),
                Err(error) => return Err(fail(exit::FAILURE, format_args!("{}: {error}", door.admin))),
            },
            _ => return Ok(()),
        };
        orders.set(&text(pool).into(), &text(backend).into(), order);
        Ok(())
    };
    for pool in list(&told["pools"]) {
        list(&pool["backends"])
            .iter()
            .try_for_each(|backend| take(&pool["name"], &backend["name"], backend))?;
    }
    list(&told["idle_orders"]).iter().try_for_each(|idle| take(&idle["pool"], &idle["backend"], idle))?;
    Ok((loaded.config, orders))
}

fn get(door: &Door, path: &str) -> Result<Value, Failed> {
    let token = door.token()?;
    let said = ask(door.admin, &format!("GET {path}"), token.as_deref(), b"", None)
        .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", door.admin)))?;
    if said.status == 200 {
        return Ok(serde_json::from_slice(&said.body).unwrap_or_default());
    }
    Err(fail(exit::FAILURE, format_args!("{}{}", said.problem(), said.hint(token.is_some()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(
            (share("5%"), share("0.05"), share("100 %"), share("0")),
            (Ok(0.05), Ok(0.05), Ok(1.0), Ok(0.0))
        );
        for wrong in ["5", "-1%", "x", "", "101%", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
