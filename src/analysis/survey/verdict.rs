//! The judgement on a key, in a word and a sentence.
//!
//! Owns the thresholds, each with its reason. Counts nothing.

use serde::Serialize;

use super::PoolSurvey;

/// Whether it is a good key.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// In a word.
    pub grade: Grade,
    /// In a sentence.
    pub why: String,
}

/// A judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The ring does with it what a ring can do.
    Good,
    /// It works, at a price that the sentence names.
    Fair,
    /// The ring can't help it.
    Poor,
    /// There is nothing to judge by.
    #[default]
    Unknown,
}

/// With fewer different keys for a backend, chance decides: one in twenty backends would get none.
const KEYS_FOR_A_BACKEND: f64 = 3.0;

/// And up to so many, how many it gets differs by a third or so between backends.
const FEW_FOR_A_BACKEND: f64 = 20.0;

/// A load that bounded load would have to cut by half or more of what is above the mean.
const TOO_MUCH: f64 = 1.5;

/// A load that a pool with some reserve carries.
const BEARABLE: f64 = 1.25;

impl Verdict {
    /// Of what was found; `top` is the share of the heaviest key.
    pub(super) fn of(found: &PoolSurvey, top: f64) -> Verdict {
        let (balance, percent) = (&found.balance, |share: f64| format!("{:.1} %", share * 100.0));
        let (backends, keys) = (balance.backends, found.distinct);
        let per_backend = keys / backends.max(1) as f64;
        let least = balance.least_possible;
        let heavy = || {
            format!(
                "one key has {} of the requests, so some backend has at least {least:.2} times the mean, whatever the ring",
                percent(top)
            )
        };
        let say = |grade, why: String| Verdict { grade, why };
        if found.requests == 0 || keys == 0.0 && found.keyless == 0 {
            say(Grade::Unknown, "there are no requests to judge by".into())
        } else if found.share_keyless >= 0.5 {
            say(Grade::Poor, format!("{} of the requests have no key", percent(found.share_keyless)))
        } else if per_backend < KEYS_FOR_A_BACKEND {
            say(Grade::Poor, format!("{keys:.0} different keys are too few for {backends} backends"))
        } else if least > TOO_MUCH {
            say(Grade::Poor, heavy())
        } else if found.share_keyless >= 0.1 {
            say(
                Grade::Fair,
                format!(
                    "{} of the requests have no key; the others spread well enough",
                    percent(found.share_keyless)
                ),
            )
        } else if per_backend < FEW_FOR_A_BACKEND {
            say(
                Grade::Fair,
                format!("{keys:.0} different keys for {backends} backends: chance decides who gets more"),
            )
        } else if least > BEARABLE {
            say(Grade::Fair, heavy())
        } else if balance.greatest_to_mean > TOO_MUCH {
            let greatest = balance.greatest_to_mean;
            say(
                Grade::Fair,
                format!(
                    "heavy keys meet on one backend: it has {greatest:.2} times the mean{}",
                    spilled(found)
                ),
            )
        } else {
            let greatest = balance.greatest_to_mean;
            say(
                Grade::Good,
                format!(
                    "the busiest of {backends} backends has {greatest:.2} times the mean{}",
                    spilled(found)
                ),
            )
        }
    }
}

fn spilled(found: &PoolSurvey) -> String {
    let balance = &found.balance;
    if balance.load_factor == 0.0 || balance.greatest_to_mean <= balance.load_factor {
        return String::new();
    }
    let share = balance.share_spilled * 100.0;
    format!("; with a load factor of {} some {share:.1} % of the requests go to others", balance.load_factor)
}
