//! What moves, as text for people.
//!
//! Owns the wording and the columns. Knows no arithmetic.

use std::fmt::Write;

use crate::{
    analysis::{
        compare::{BackendChange, Comparison, PoolChange},
        records::BadLine,
        traffic::{Keys, PoolTraffic, Traffic},
    },
    limits::ROWS_SHOWN,
};

const FITS: &str = "a string takes all that is written";

macro_rules! line {
    ($out:expr, $($argument:tt)*) => { writeln!($out, $($argument)*).expect(FITS) };
}

/// All of it.
pub(super) fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    for pool in &comparison.pools {
        describe(&mut out, pool);
    }
    let names = |names: &[String]| names.join(", ");
    if !comparison.pools_added.is_empty() {
        line!(out, "pools added: {}", names(&comparison.pools_added));
    }
    if !comparison.pools_removed.is_empty() {
        line!(out, "pools removed: {}", names(&comparison.pools_removed));
    }
    let notes = comparison.traffic.iter().flat_map(|traffic| &traffic.notes);
    for note in comparison.notes.iter().chain(notes) {
        line!(out, "note: {note}");
    }
    if let Some(traffic) = &comparison.traffic {
        if !out.ends_with("\n\n") {
            out.push('\n');
        }
        describe_traffic(&mut out, traffic);
    }
    if !comparison.moves {
        line!(out, "nothing moves");
    }
    out
}

fn describe(out: &mut String, pool: &PoolChange) {
    let (before, after) = (&pool.before, &pool.after);
    line!(out, "pool {}: {} of the keyspace moves", pool.name, percent(pool.share_moved));
    line!(
        out,
        "  imbalance {:.3} -> {:.3} (rings like these: {:.3} -> {:.3})",
        before.imbalance,
        after.imbalance,
        before.expected_imbalance,
        after.expected_imbalance
    );
    if before.replicas != after.replicas {
        line!(out, "  replicas {} -> {}", before.replicas, after.replicas);
    }
    if let Some(greatest) = &after.greatest {
        line!(out, "  greatest load: {greatest} with {} of the keyspace", percent(after.greatest_share));
    }
    let rows: Vec<_> = pool
        .backends
        .iter()
        .filter(|row| row.share_before != row.share_after || row.change != "same")
        .collect();
    if !rows.is_empty() {
        let width =
            rows.iter().take(ROWS_SHOWN).map(|row| row.name.chars().count()).max().unwrap_or(0).max(7);
        line!(out, "  {:width$}  {:>9}  {:>9}", "backend", "before", "after");
        for row in rows.iter().take(ROWS_SHOWN) {
            let (before, after) =
                (side(&row.weight_before, row.share_before), side(&row.weight_after, row.share_after));
            let line = format!("  {:width$}  {before:>9}  {after:>9}  {}", row.name, what(row));
            line!(out, "{}", line.trim_end());
        }
        more(out, rows.len());
    }
    if !pool.moved.is_empty() {
        line!(out, "  from -> to");
        for moved in pool.moved.iter().take(ROWS_SHOWN) {
            let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".into());
            line!(out, "  {:>9}  {} -> {}", percent(moved.share), name(&moved.from), name(&moved.to));
        }
        more(out, pool.moved.len() + pool.pairs_left_out);
    }
    for renamed in pool.renamed.iter().take(ROWS_SHOWN) {
        line!(
            out,
            "  hint: {} is {} now ({}). A backend's identity is its name: all its keys move. Keep the name if that is not meant",
            renamed.before,
            renamed.after,
            renamed.address
        );
    }
    out.push('\n');
}

fn side(weight: &Option<String>, share: f64) -> String {
    if weight.is_some() { percent(share) } else { "-".into() }
}

fn what(row: &BackendChange) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    match row.change {
        "same" => String::new(),
        "reweighted" => format!("weight {} -> {}", text(&row.weight_before), text(&row.weight_after)),
        "moved" => format!("{} -> {}", text(&row.address_before), text(&row.address_after)),
        other => other.to_owned(),
    }
}

fn more(out: &mut String, rows: usize) {
    if rows > ROWS_SHOWN {
        line!(out, "  and {} more", rows - ROWS_SHOWN);
    }
}

fn describe_traffic(out: &mut String, traffic: &Traffic) {
    line!(
        out,
        "recorded traffic ({}): {} of {} requests move ({})",
        traffic.format,
        traffic.moved,
        traffic.requests,
        percent(traffic.share_moved)
    );
    describe_keys(out, "  ", &traffic.keys);
    let [before, after] = traffic.keyless;
    if before + after > 0 {
        line!(out, "  without a key: {before} before, {after} after");
    }
    let [before, after] = traffic.nowhere;
    if before + after > 0 {
        line!(out, "  no route leads anywhere: {before} before, {after} after");
    }
    if traffic.to_another_pool > 0 {
        line!(out, "  to another pool: {}", traffic.to_another_pool);
    }
    bad_lines(out, traffic.bad, traffic.lines, &traffic.bad_lines);
    for pool in traffic.pools.iter().filter(|pool| pool.requests != [0; 2]) {
        describe_pool(out, pool);
    }
}

/// Lines that were not understood.
pub(in crate::cli) fn bad_lines(out: &mut String, bad: u64, lines: u64, first: &[BadLine]) {
    if bad == 0 {
        return;
    }
    line!(out, "  {bad} of {lines} lines were not understood");
    for BadLine { number, reason, text } in first {
        line!(out, "    line {number}: {reason}: {text}");
    }
}

fn describe_keys(out: &mut String, indent: &str, keys: &Keys) {
    if keys.distinct == 0.0 {
        return;
    }
    let how =
        if keys.error == 0.0 { String::new() } else { format!(", estimated to {}", percent(keys.error)) };
    line!(
        out,
        "{indent}different keys: {:.0} of {:.0} move ({}{how})",
        keys.moved,
        keys.distinct,
        percent(keys.share_moved)
    );
}

fn describe_pool(out: &mut String, pool: &PoolTraffic) {
    line!(
        out,
        "  pool {}: {} of {} requests move ({})",
        pool.name,
        pool.moved,
        pool.requests[0],
        percent(pool.share_moved)
    );
    describe_keys(out, "    ", &pool.keys);
    let [before, after] = pool.greatest_to_mean;
    line!(out, "    greatest load to mean {before:.3} -> {after:.3}");
    let rows: Vec<_> = pool.backends.iter().filter(|row| row.requests != [0; 2]).collect();
    let width = rows.iter().take(ROWS_SHOWN).map(|row| row.name.chars().count()).max().unwrap_or(0).max(7);
    line!(out, "    {:width$}  {:>12}  {:>12}", "backend", "before", "after");
    for row in rows.iter().take(ROWS_SHOWN) {
        line!(out, "    {:width$}  {:>12}  {:>12}", row.name, row.requests[0], row.requests[1]);
    }
    more(out, rows.len());
}

/// A share as a percentage, with more digits the smaller it is.
pub(in crate::cli) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent == 0.0 => "0 %".into(),
        _ if percent < 0.0001 => format!("{percent:.1e} %"),
        _ if percent < 0.01 => format!("{percent:.4} %"),
        _ => format!("{percent:.2} %"),
    }
}
