//! The counts that the repository keeps, and the judgement of new ones by them.
//!
//! Owns `baseline.json` and the table. The limit is generous: it is to find the slip of a change, not the work of
//! another compiler. Never measures.

use std::{collections::BTreeMap, fmt::Write, fs};

use serde_json::{Value, json};

use crate::scenario::Measured;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/request/baseline.json");
const SAVE: &str = "cargo bench --profile dev --bench request -- --save";

/// How many percent more instructions fail a scenario.
const LIMIT: f64 = 10.0;
/// How many percent more system calls do: one call more for a request on a kept connection is above it.
const LIMIT_CALLS: f64 = 5.0;
/// The same where each request has a connection of its own: which events one `epoll_wait` brings together moves their number from 28.6 to 35.4.
const LIMIT_CALLS_LOOSE: f64 = 25.0;

/// What else the counts depend on.
#[derive(PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) rustc: String,
    pub(crate) valgrind: String,
}

/// What was counted when it was saved.
pub(crate) struct Baseline {
    tools: Tools,
    scenarios: BTreeMap<String, Kept>,
}

struct Kept {
    instructions: f64,
    calls: f64,
}

pub(crate) fn load() -> Result<Baseline, String> {
    let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; `{SAVE}` makes one"))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let word = |name: &str| value[name].as_str().unwrap_or("unknown").to_owned();
    let mut scenarios = BTreeMap::new();
    for (name, one) in value["scenarios"].as_object().into_iter().flatten() {
        let number = |what: &str| one[what].as_f64().ok_or_else(|| format!("{FILE}: {name} has no {what}"));
        let kept = Kept { instructions: number("instructions")?, calls: number("system_calls")? };
        scenarios.insert(name.clone(), kept);
    }
    Ok(Baseline { tools: Tools { rustc: word("rustc"), valgrind: word("valgrind") }, scenarios })
}

/// Writes a line for each scenario, so that a change of one is a change of one line.
pub(crate) fn save(measured: &[Measured], tools: &Tools) -> Result<(), String> {
    let lines: Vec<_> = measured
        .iter()
        .map(|one| {
            let numbers =
                json!({ "instructions": one.instructions.round(), "system_calls": one.calls.round_to_tenth() });
            format!("    {}: {numbers}", json!(one.name))
        })
        .collect();
    let text = format!(
        "{{\n  \"rustc\": {},\n  \"valgrind\": {},\n  \"scenarios\": {{\n{}\n  }}\n}}\n",
        json!(tools.rustc),
        json!(tools.valgrind),
        lines.join(",\n")
    );
    fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))
}

/// The table, and whether nothing is over its limit.
pub(crate) fn judge(measured: &[Measured], tools: &Tools, baseline: Option<&Baseline>) -> (String, bool) {
    let mut text = String::new();
    let (mut slips, mut gains, mut strangers) = (vec![], vec![], vec![]);
    row(&mut text, ["scenario", "instructions", "spread %", "calls", "was", "change %", "calls were"]);
    for one in measured {
        let kept = baseline.and_then(|baseline| baseline.scenarios.get(one.name));
        let change = kept.map(|kept| (one.instructions / kept.instructions - 1.0) * 100.0);
        row(
            &mut text,
            [
                one.name,
                &format!("{:.0}", one.instructions),
                &format!("{:.1}", one.spread),
                &format!("{:.1}", one.calls),
                &kept.map_or("-".into(), |kept| format!("{:.0}", kept.instructions)),
                &change.map_or("-".into(), |change| format!("{change:+.1}")),
                &kept.map_or("-".into(), |kept| format!("{:.1}", kept.calls)),
            ],
        );
        let (Some(kept), Some(change)) = (kept, change) else {
            strangers.push(one.name);
            continue;
        };
        let more_calls = (one.calls / kept.calls - 1.0) * 100.0;
        let limit_calls = if one.keeps_connections { LIMIT_CALLS } else { LIMIT_CALLS_LOOSE };
        if change > LIMIT || more_calls > limit_calls {
            slips.push(one.name);
        } else if change < -LIMIT || more_calls < -limit_calls {
            gains.push(one.name);
        }
    }
    let Some(baseline) = baseline else { return (text, true) };
    remarks(&mut text, tools, baseline, [&slips, &gains, &strangers]);
    (text, slips.is_empty() && strangers.is_empty())
}

fn row(text: &mut String, [name, rest @ ..]: [&str; 7]) {
    let _ = write!(text, "{name:<16}");
    for cell in rest {
        let _ = write!(text, "{cell:>13}");
    }
    text.push('\n');
}

fn remarks(text: &mut String, tools: &Tools, baseline: &Baseline, lists: [&Vec<&str>; 3]) {
    let kept = &baseline.tools;
    if tools != kept {
        *text += &format!(
            "\nThe baseline is of {}, {}; this is {}, {}.\n",
            kept.rustc, kept.valgrind, tools.rustc, tools.valgrind
        );
    }
    let [slips, gains, strangers] = lists.map(|names| names.join(", "));
    if !slips.is_empty() {
        *text += &format!(
            "\nOver the limit (+{LIMIT} % instructions or +{LIMIT_CALLS} % system calls, {LIMIT_CALLS_LOOSE} % where connections are not kept): {slips}.\nSee where they are \
             spent: --only NAME --profile FILE, then callgrind_annotate FILE.1, before and after the change.\nIf it is \
             intended: {SAVE}, and say so in the commit.\n"
        );
    }
    if !gains.is_empty() {
        *text += &format!("\nBelow the baseline by more than the limit: {gains}.\nKeep it: {SAVE}\n");
    }
    if !strangers.is_empty() {
        *text += &format!("\nNot in the baseline: {strangers}.\nAdd them: {SAVE}\n");
    }
}

trait RoundToTenth {
    fn round_to_tenth(self) -> f64;
}

impl RoundToTenth for f64 {
    fn round_to_tenth(self) -> f64 {
        (self * 10.0).round() / 10.0
    }
}
