//! Load for benches/peers that wrk does not make: a constant rate, new connections, a fixed number of requests.
//!
//! Owns the command line and the result, one line of JSON on standard output after a line `ready`. Never paces (`drive.rs`) and never
//! reads or writes a socket (`connection.rs`).

mod connection;
mod drive;

use std::{env::args, io, net::SocketAddr, process::ExitCode};

use drive::{Load, Outcome};

const USAGE: &str = "usage: peers-load ADDRESS PREFIX PATHS CONNECTIONS keep|close (rate PER-SECOND | as-fast) \
                     (seconds N | count N)";

fn main() -> ExitCode {
    let words: Vec<String> = args().skip(1).collect();
    let Some(load) = parse(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match drive::run(&load, ready) {
        Ok(outcome) => {
            println!("{}", json(&outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("peers-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says that the connections stand, and waits for a line: whoever started this counts from there.
fn ready() -> io::Result<()> {
    println!("ready");
    io::stdin().read_line(&mut String::new()).map(drop)
}

fn parse(words: &[String]) -> Option<Load> {
    let (address, rest): (SocketAddr, _) = (words.first()?.parse().ok()?, &words[1..]);
    let [prefix, paths, connections, keep, rest @ ..] = rest else { return None };
    let (rate, rest) = match rest {
        [word, rate, rest @ ..] if word == "rate" => {
            (Some(rate.parse().ok().filter(|rate| *rate >= 1.0)?), rest)
        }
        [word, rest @ ..] if word == "as-fast" => (None, rest),
        _ => return None,
    };
    let [unit, bound] = rest else { return None };
    let bound: u64 = bound.parse().ok()?;
    Some(Load {
        address,
        prefix: prefix.clone(),
        paths: paths.parse().ok().filter(|paths| *paths > 0)?,
        connections: connections.parse().ok().filter(|connections| *connections > 0)?,
        keep: keep == "keep",
        rate,
        seconds: (unit == "seconds").then_some(bound),
        count: (unit == "count").then_some(bound),
    })
    .filter(|load| load.seconds.is_some() || load.count.is_some())
}

fn json(outcome: &Outcome) -> String {
    let at = |quantile: f64| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
    let late = |quantile: f64| outcome.lateness.value_at_quantile(quantile) as f64 / 1e3;
    let errors: Vec<String> =
        outcome.errors.iter().map(|(kind, count)| format!("\"{kind}\":{count}")).collect();
    format!(
        "{{\"requests\":{},\"bytes\":{},\"duration_us\":{},\"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\
         \"p999_us\":{:.1},\"max_us\":{:.1},\"late_p50_us\":{:.1},\"late_p99_us\":{:.1},\"errors\":{{{}}}}}",
        outcome.answered,
        outcome.bytes,
        outcome.nanoseconds / 1000,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        outcome.latency.max() as f64 / 1e3,
        late(0.5),
        late(0.99),
        errors.join(",")
    )
}
