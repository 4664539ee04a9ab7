//! Answers the question that no other proxy answers: who owns this key, who would be chosen now, and why.
//!
//! Owns nothing: it asks the same code that routes requests. Pure.

use std::time::Instant;

use serde::Serialize;

use super::{
    Plan, PoolPlan,
    choose::{Candidates, Next},
    key::{Facts, OnMissingKey},
};
use crate::{
    fleet::{PoolView, Standing, View},
    http1::Method,
    ring::{MemberIndex, Place},
    tally::{OffOwner, Refusal},
};

/// One backend on a key's walk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OwnerExplained {
    /// Its name.
    pub backend: String,
    /// Where it is, as configured.
    pub address: String,
    /// Whether it takes requests.
    pub standing: Standing,
    /// Why it stands so.
    pub standing_reason: String,
}

/// The backend that a request would go to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    /// Its name.
    pub backend: String,
    /// Why this one: `owner`, or the reason for not going to the owner.
    pub reason: &'static str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Revision of the view that was read.
    pub revision: u64,
    /// The pool.
    pub pool: String,
    /// The key; bytes that are not UTF-8 are shown as U+FFFD. `null`: the request has none.
    pub key: Option<String>,
    /// The source that the key came from; `null` if it was given.
    pub key_source: Option<String>,
    /// The key's place on the circle, in decimal.
    pub place: Option<String>,
    /// The same as 16 hexadecimal digits.
    pub place_hex: Option<String>,
    /// The pool's backends in the order in which this key meets them.
    pub owners: Vec<OwnerExplained>,
    /// Where the request would go now. `null`: nowhere.
    pub chosen: Option<Chosen>,
    /// What happens, in a sentence.
    pub summary: String,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// A key of a pool.
    Key {
        /// The pool's name.
        pool: &'a str,
        /// The key.
        key: &'a [u8],
    },
    /// A request, as it would come from a client. The pool is found by the routes unless it is named.
    Request {
        /// The pool's name.
        pool: Option<&'a str>,
        /// The request.
        facts: Facts<'a>,
    },
}

/// Answers.
///
/// # Errors
/// Why there is no answer: no such pool, no route.
pub fn explain(
    view: &View,
    plan: &Plan,
    now: Instant,
    question: Question<'_>,
) -> Result<Explanation, String> {
    let find = |name: &str| {
        let found = view.pools.iter().position(|pool| &*pool.pool.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = view.pools.iter().map(|pool| &*pool.pool.name).collect();
            format!("there is no pool {name:?}; there are: {}", names.join(", "))
        })
    };
    match question {
        Question::Key { pool, key } => {
            let at = find(pool)?;
            Ok(explain_key((view, at), &plan.pools[at], now, Some(key), None))
        }
        Question::Request { pool, facts } => {
            let at = match pool {
                Some(name) => find(name)?,
                None => {
                    plan.router
                        .find(facts.authority, facts.path)
                        .ok_or("no route leads from this host and path")?
                        .pool
                }
            };
            let mut key = Vec::new();
            let forward = &plan.pools[at].forward;
            let source = forward.key.find(&facts, &mut key).map(ToString::to_string);
            if source.is_none() && forward.key.on_missing == OnMissingKey::ClientAddress {
                crate::http1::write_address(facts.client, &mut key);
                let source = Some("client-address (no key)".to_owned());
                return Ok(explain_key((view, at), &plan.pools[at], now, Some(&key), source));
            }
            let key = source.is_some().then_some(&key[..]);
            Ok(explain_key((view, at), &plan.pools[at], now, key, source))
        }
    }
}

fn explain_key(
    (view, at): (&View, usize),
    plan: &PoolPlan,
    now: Instant,
    key: Option<&[u8]>,
    source: Option<String>,
) -> Explanation {
    let pool = &view.pools[at];
    let mut explanation = Explanation {
        revision: view.revision,
        pool: pool.pool.name.to_string(),
        key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
        key_source: source,
        place: None,
        place_hex: None,
        owners: Vec::new(),
        chosen: None,
        summary: match plan.forward.key.on_missing {
            OnMissingKey::Refuse => "the request has no key and is refused with 400".into(),
            _ => "the request has no key and goes to any backend that is serving".into(),
        },
    };
    let Some(key) = key else { return explanation };
    let place = Place::of(key);
    explanation.place = Some(place.0.to_string());
    explanation.place_hex = Some(format!("{:016x}", place.0));
    explanation.owners = pool.ring_for(place, now).walk(place).map(|member| owner(pool, member)).collect();
    let rules = plan.rules(Method::Get);
    let mut candidates = Candidates::new(pool, place, now, rules).asking();
    let chosen = match candidates.next_backend() {
        Next::Try(member, _) | Next::Wait(member) => Some(member),
        Next::Nobody => None,
    };
    explanation.summary = summary(pool, &candidates, chosen);
    explanation.chosen = chosen.map(|member| Chosen {
        backend: name(pool, member),
        reason: candidates.off_owner(member).map_or("owner", |reason| reason.word()),
    });
    explanation
}

fn name(pool: &PoolView, member: MemberIndex) -> String {
    pool.member(member).backend.name.to_string()
}

fn owner(pool: &PoolView, member: MemberIndex) -> OwnerExplained {
    let member = pool.member(member);
    OwnerExplained {
        backend: member.backend.name.to_string(),
        address: member.backend.address.to_string(),
        standing: member.standing,
        standing_reason: member.reason.to_string(),
    }
}

fn summary(pool: &PoolView, candidates: &Candidates<'_>, chosen: Option<MemberIndex>) -> String {
    let Some(owner) = candidates.owner() else {
        return "no backend of the pool is on the ring".into();
    };
    let owner_name = name(pool, owner);
    match chosen {
        None => {
            let why = match candidates.refusal() {
                Refusal::Full => "the backends that could have it are full",
                Refusal::OwnerDown => "it is not serving, and nobody else may",
                _ => "no backend of the pool is serving",
            };
            format!("{owner_name} owns the key; {why}: 503")
        }
        Some(member) if member == owner => format!("{owner_name} owns the key and gets the request"),
        Some(member) => {
            let why = match candidates.off_owner(member) {
                Some(OffOwner::Spill) => "has more than its share of the load".to_owned(),
                Some(OffOwner::OwnerFull) => "is full".to_owned(),
                Some(OffOwner::Ramp) => "has not been given it yet".to_owned(),
                _ => format!("is {}", pool.member(owner).standing.word()),
            };
            format!("{owner_name} owns the key but {why}; {} stands in", name(pool, member))
        }
    }
}
