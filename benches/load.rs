//! The bound on load and its floor: how many requests leave their owner for it, and what it does to the most loaded backend.
//!
//! `cargo bench --bench load`. A simulation in virtual time: it measures the rule, not the machine, so its figures are the
//! same wherever it runs, and in a debug build too (`--profile dev`, a minute).
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/it/simulation/crowd.rs"]
mod crowd;

use crowd::{Arrivals, Crowd, Keys};

const BACKENDS: usize = 10;
const ZIPF: Keys = Keys::Zipf(10_000, 1.2);
const FLOORS: [u32; 6] = [0, 4, 8, 16, 32, 64];
const LOADS: [u32; 9] = [2, 4, 8, 12, 16, 24, 32, 64, 128];
/// Sets of keys behind each figure: with one alone, it would show where on the ring the hottest key happens to lie.
const SEEDS: u64 = 8;
/// Requests of each.
const REQUESTS: f64 = 20_000.0;

fn main() {
    // `cargo test --benches` runs it with nothing to say.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    closed();
    println!("\nUniform keys: requests that leave their owner, by requests in flight for each backend\n");
    table(Keys::Uniform, |away, _| format!("{:.2} %", 100.0 * away));
    println!("\nZipf keys (1.2): the same, and the load of the most loaded backend relative to the mean\n");
    table(ZIPF, |away, peak| format!("{:.1} %, {peak:.2}", 100.0 * away));
}

/// Clients in closed loop. With a mean service time of 20 ms, 15 000 of them are five minutes.
fn closed() {
    println!(
        "| clients | floor | requests | above the bound | most at one backend | most / mean | at the owner |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (clients, factor, floor) in
        [(100, 0.0, 0), (100, 1.25, 0), (100, 1.25, 16), (100, 1.25, 32), (3, 1.25, 0), (3, 1.25, 16)]
    {
        let arrivals = Arrivals::Closed(clients);
        let crowd =
            Crowd { backends: BACKENDS, keys: ZIPF, arrivals, factor, floor, length: 15_000.0, seed: 1 };
        let counted = crowd.run();
        let floor = if factor == 0.0 { "not bounded".to_owned() } else { floor.to_string() };
        println!(
            "| {clients} | {floor} | {} | {} | {} | {:.2} | {:.1} % |",
            counted.requests,
            counted.above,
            counted.most,
            counted.peak,
            100.0 * (1.0 - counted.away())
        );
    }
}

fn table(keys: Keys, figure: impl Fn(f64, f64) -> String) {
    let floors: Vec<String> = FLOORS.iter().map(|floor| format!("floor {floor} |")).collect();
    println!("| in flight | not bounded | {}", floors.join(" "));
    println!("|---|---|{}", "---|".repeat(FLOORS.len()));
    for load in LOADS {
        let in_flight = f64::from(load) * BACKENDS as f64;
        let mean = |factor, floor| {
            let (mut away, mut peak) = (0.0, 0.0);
            for seed in 0..SEEDS {
                let (arrivals, length) = (Arrivals::Poisson(in_flight), REQUESTS / in_flight);
                let counted = Crowd { backends: BACKENDS, keys, arrivals, factor, floor, length, seed }.run();
                away += counted.away() / SEEDS as f64;
                peak += counted.peak / SEEDS as f64;
            }
            figure(away, peak)
        };
        let cells: Vec<String> = FLOORS.iter().map(|&floor| mean(1.25, floor)).collect();
        println!("| {load} | {} | {} |", mean(0.0, 0), cells.join(" | "));
    }
}
