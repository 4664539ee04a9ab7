//! The answer of `ringway replay`, for people and for programs.
//!
//! Owns columns and words. Computes nothing.

use std::fmt::Write;

use serde_json::json;

use super::Played;
use crate::{
    analysis::replay::{Outcome, Settings},
    limits::REPLAY_BACK_SECONDS,
};

const FITS: &str = "a string takes all that is written";

/// Windows of load that are shown to people.
const SHOWN_WINDOWS: usize = 20;

/// Backends that are shown to people, and those whose load over time is.
const SHOWN_BACKENDS: usize = 32;
const SHOWN_COLUMNS: usize = 8;

pub(super) fn json(played: &Played) -> String {
    let read = played.read.as_ref().map(|(tale, recorded)| {
        json!({
            "lines": tale.lines,
            "not_understood": tale.bad,
            "of_other_pools": recorded.elsewhere,
            "without_key": recorded.keyless,
            "with_time_taken": recorded.with_took,
            "times_far_back": recorded.breaks,
            "objects_without_query": recorded.queryless,
        })
    });
    let told = json!({
        "pool": *played.pool,
        "source": played.source,
        "trace": played.trace,
        "read": read,
        "untold": untold(played),
        "notes": played.notes,
        "cells": played.outcomes,
    });
    serde_json::to_string_pretty(&told).expect("the answer's type is all JSON")
}

pub(super) fn describe(played: &Played) -> String {
    let mut out = String::new();
    heading(&mut out, played);
    let outcomes = &played.outcomes;
    let texts: Vec<[String; 7]> = outcomes.iter().map(|outcome| outcome.settings.texts()).collect();
    let varies: Vec<usize> =
        (0..7).filter(|at| texts.iter().any(|text| text[*at] != texts[0][*at])).collect();
    let common = (0..7).filter(|at| !varies.contains(at));
    let common = common.map(|at| format!("{} {}", Settings::NAMES[at], texts[0][at]));
    writeln!(out, "{}\n", common.collect::<Vec<_>>().join(", ")).expect(FITS);
    let has_cache = outcomes.iter().any(|outcome| outcome.hits.is_some());
    let mut titles: Vec<&str> = varies.iter().map(|at| Settings::NAMES[*at]).collect();
    titles.extend([
        "ring",
        "expected",
        "greatest/mean",
        "p99 of windows",
        "most in flight",
        "spilled",
        "away",
    ]);
    titles.extend(has_cache.then_some("hits"));
    titles.extend(outcomes.iter().any(|outcome| outcome.refused > 0).then_some("refused"));
    let rows = outcomes.iter().zip(&texts).map(|(outcome, text)| {
        let mut row: Vec<String> = varies.iter().map(|at| text[*at].clone()).collect();
        row.extend([
            ratio(outcome.ring_imbalance),
            ratio(outcome.ring_expected),
            ratio(outcome.greatest_to_mean),
            outcome.window_p99.map_or_else(dash, ratio),
            outcome.most_in_flight.to_string(),
            percent(outcome.spilled),
            percent(outcome.away),
        ]);
        row.extend(has_cache.then(|| outcome.hits.map_or_else(dash, percent)));
        if titles.contains(&"refused") {
            row.push(outcome.refused.to_string());
        }
        row
    });
    table(&mut out, &titles, &rows.collect::<Vec<_>>());
    changes(&mut out, outcomes, &texts, &varies);
    if let [outcome] = &**outcomes {
        by_backend(&mut out, outcome);
        over_time(&mut out, outcome);
    }
    out
}

fn heading(out: &mut String, played: &Played) {
    let Some(first) = played.outcomes.first() else { return };
    let trace = &played.trace;
    let hottest = trace.hottest.map(|share| format!(", the hottest of which has {}", percent(share)));
    writeln!(
        out,
        "pool {}: {} requests in {:.1} s, from {}\n{}{:.0} different keys{}",
        played.pool,
        trace.requests,
        first.seconds,
        played.source,
        if trace.keys_error > 0.0 { "about " } else { "" },
        trace.keys,
        hottest.unwrap_or_default()
    )
    .expect(FITS);
    if let Some((tale, recorded)) = &played.read {
        let left_out = [
            (tale.bad, "lines not understood"),
            (recorded.elsewhere, "requests of other pools"),
            (recorded.keyless, "requests without a key"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = left_out.map(|(count, what)| format!("{count} {what}")).collect();
        if !words.is_empty() {
            writeln!(out, "left out: {}", words.join(", ")).expect(FITS);
        }
        for bad in &tale.bad_lines {
            writeln!(out, "  line {}: {}: {}", bad.number, bad.reason, bad.text).expect(FITS);
        }
        if recorded.queryless > 0 {
            writeln!(
                out,
                "note: this log has no queries (requests: {}): what a cache knows is told apart by host, path and key, so there may be more hits here than in truth",
                recorded.queryless
            )
            .expect(FITS);
        }
        if recorded.breaks > 0 {
            writeln!(
                out,
                "note: times in the log go back by more than {REPLAY_BACK_SECONDS} s, how often: {}; what came then is played on from there",
                recorded.breaks
            )
            .expect(FITS);
        }
    }
    if let Some(untold) = untold(played) {
        writeln!(out, "note: {untold}").expect(FITS);
    }
    for note in &played.notes {
        writeln!(out, "note: {note}").expect(FITS);
    }
}

/// What the log could not tell about keys.
fn untold(played: &Played) -> Option<String> {
    let told = |(source, count): &(String, u64)| format!("{source} (requests: {count})");
    let untold: Vec<String> = played.untold.iter().map(told).collect();
    (!untold.is_empty()).then(|| {
        format!(
            "this log does not tell {}: keys are those of the pool's other sources, or the client's address",
            untold.join(", ")
        )
    })
}

fn changes(out: &mut String, outcomes: &[Outcome], texts: &[[String; 7]], varies: &[usize]) {
    if outcomes.iter().all(|outcome| outcome.changes.is_empty()) {
        return;
    }
    let mut titles: Vec<&str> = varies.iter().map(|at| Settings::NAMES[*at]).collect();
    titles.extend(["event", "keys moved", "requests moved", "hits before", "hits after"]);
    let mut rows = Vec::new();
    for (outcome, text) in outcomes.iter().zip(texts) {
        for change in &outcome.changes {
            let mut row: Vec<String> = varies.iter().map(|at| text[*at].clone()).collect();
            row.push(change.event.clone());
            row.push(percent(change.keys_moved));
            row.push(change.requests_moved.map_or_else(dash, percent));
            row.push(change.hits_before.map_or_else(dash, percent));
            row.push(change.hits_after.map_or_else(dash, percent));
            rows.push(row);
        }
    }
    out.push('\n');
    table(out, &titles, &rows);
}

/// By backend, what a single cell came to.
fn by_backend(out: &mut String, outcome: &Outcome) {
    let mut titles = vec!["backend", "requests", "of fair", "for others", "mean in flight", "most"];
    let has_cache = outcome.hits.is_some();
    titles.extend(has_cache.then_some("hits"));
    let mut ranked: Vec<_> = outcome.backends.iter().collect();
    ranked.sort_by_key(|backend| std::cmp::Reverse(backend.requests));
    let rows = ranked.iter().take(SHOWN_BACKENDS).map(|backend| {
        let of_fair = if backend.fair > 0.0 { ratio(backend.requests as f64 / backend.fair) } else { dash() };
        let mut row = vec![
            backend.backend.clone(),
            backend.requests.to_string(),
            of_fair,
            backend.for_others.to_string(),
            format!("{:.1}", backend.mean_in_flight),
            backend.most_in_flight.to_string(),
        ];
        row.extend(has_cache.then(|| backend.hits.map_or_else(dash, percent)));
        row
    });
    out.push('\n');
    table(out, &titles, &rows.collect::<Vec<_>>());
    if ranked.len() > SHOWN_BACKENDS {
        writeln!(out, "and {} more", ranked.len() - SHOWN_BACKENDS).expect(FITS);
    }
}

/// And by time.
fn over_time(out: &mut String, outcome: &Outcome) {
    let has_cache = outcome.hits.is_some();
    let mut titles = vec!["from", "requests/s", "greatest/mean", "spilled"];
    titles.extend(has_cache.then_some("hits"));
    // Load by backend, as far as a terminal is wide.
    let each = if outcome.backends.len() <= SHOWN_COLUMNS { &outcome.backends[..] } else { &[] };
    titles.extend(each.iter().map(|backend| &*backend.backend));
    let step = outcome.windows.len().div_ceil(SHOWN_WINDOWS).max(1);
    let rows = outcome.windows.iter().step_by(step).map(|span| {
        let requests: u32 = span.requests.iter().sum();
        let part =
            |count: u32| if requests == 0 { dash() } else { percent(f64::from(count) / f64::from(requests)) };
        let mut row = vec![
            format!("{:.0}s", span.from),
            format!("{:.0}", f64::from(requests) / outcome.window_seconds),
            span.greatest_to_mean.map_or_else(dash, ratio),
            part(span.spilled),
        ];
        row.extend(has_cache.then(|| part(span.hits.iter().sum())));
        let loads = span.requests.iter().take(each.len());
        row.extend(loads.map(|requests| format!("{:.0}", f64::from(*requests) / outcome.window_seconds)));
        row
    });
    let which =
        if step == 1 { String::new() } else { format!(", one of {step} shown; --format json has all") };
    writeln!(
        out,
        "\nover time, in windows of {} s{which}; requests/s, in all{}",
        outcome.window_seconds,
        if each.is_empty() { "" } else { " and at each backend" }
    )
    .expect(FITS);
    table(out, &titles, &rows.collect::<Vec<_>>());
}

fn ratio(value: f64) -> String {
    format!("{value:.3}")
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn dash() -> String {
    "-".to_owned()
}

/// Columns as wide as they need to be; names to the left, figures to the right.
fn table(out: &mut String, titles: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([titles[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).zip(titles).map(|((cell, width), title)| match *title {
            "backend" | "event" | "weights" => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end()).expect(FITS);
    };
    line(&mut titles.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}
