//! Answers the question that no other proxy answers: who owns this key, who would be chosen now, and why.
//!
//! Owns nothing: it asks the same code that routes requests, and takes no place at any backend. Pure. The command line, the API and the page
//! have their answers from here. How a question is written stands in [`asked`], answers to many at once in [`brief`].

pub mod asked;
pub mod brief;

use std::{borrow::Cow, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    Plan, PoolPlan,
    choose::{Asking, Candidates, Next, Rules, Skip},
    key::{BY_ADDRESS, Facts, OnMissingKey},
};
use crate::{
    fleet::{OnAllDown, PoolView, Standing, Tier, View},
    http1::Method,
    ring::{MemberIndex, Place},
    tally::{OffOwner, Refusal},
};

/// What part a backend has in what would happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It gets the request.
    Chosen,
    /// It is passed over.
    Skipped,
    /// It gets the request if those before it fail and the request may be repeated.
    Next,
    /// It is not looked at: the attempts end before.
    Spare,
}

/// One backend on a key's walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnerExplained {
    /// Its name.
    pub backend: String,
    /// Where it is, as configured.
    pub address: String,
    /// Whether it takes requests.
    pub standing: Standing,
    /// Why it stands so.
    pub standing_reason: String,
    /// Requests in flight there.
    pub in_flight: u64,
    /// What would become of it.
    pub part: Part,
    /// Why it is passed over, in a word: its standing, `trial`, `ramp`, `spill`, `full` or `affinity`. `null`: it is not.
    pub skipped: Option<Cow<'static, str>>,
    /// Which attempt it would be, from 1. `null`: none.
    pub attempt: Option<usize>,
    /// All that in a sentence.
    pub why: String,
}

/// The backend that a request would go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its name.
    pub backend: String,
    /// Why this one: `owner`, or the reason for not going to the owner.
    pub reason: Cow<'static, str>,
    /// The request would wait there for a place.
    pub waits: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Revision of the view that was read.
    pub revision: u64,
    /// The pool.
    pub pool: String,
    /// The key; bytes that are not UTF-8 are shown as U+FFFD. `null`: the request has none.
    pub key: Option<String>,
    /// The key's bytes in hexadecimal digits, if they are not UTF-8.
    pub key_hex: Option<String>,
    /// The source that the key came from; `null` if it was given.
    pub key_source: Option<String>,
    /// The key's place on the circle, in decimal.
    pub place: Option<String>,
    /// The same as 16 hexadecimal digits.
    pub place_hex: Option<String>,
    /// The pool's backends in the order in which this key meets them. The first owns it.
    pub owners: Vec<OwnerExplained>,
    /// Where the request would go now. `null`: nowhere, or anywhere if there is no refusal.
    pub chosen: Option<Chosen>,
    /// With which reason the request would be refused. `null`: it would not.
    pub refusal: Option<Cow<'static, str>>,
    /// And with which status.
    pub status: Option<u16>,
    /// What happens, in a sentence.
    pub summary: String,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// A key of a pool, in a GET.
    Key {
        /// The pool's name. `None`: the only one.
        pool: Option<&'a str>,
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
/// Why there is no answer: no such pool, no route, a key that is empty, a request that reaches no pool.
pub fn explain(
    view: &View,
    plan: &Plan,
    now: Instant,
    question: Question<'_>,
) -> Result<Explanation, String> {
    let mut key = Vec::new();
    let matter = Matter::find(view, plan, question, &mut key)?;
    Ok(explain_matter(view.revision, &matter, &key, now))
}

/// What a question is about, before anybody is chosen.
struct Matter<'v> {
    pool: &'v PoolView,
    plan: &'v PoolPlan,
    method: Method,
    /// Where the key came from; `None` if it was given.
    source: Option<String>,
    has_key: bool,
}

impl<'v> Matter<'v> {
    /// Finds pool and key; the key's bytes are written to `key`, in place of what it held.
    fn find(
        view: &'v View,
        plan: &'v Plan,
        question: Question<'_>,
        key: &mut Vec<u8>,
    ) -> Result<Matter<'v>, String> {
        let matter = |at: usize, method, source, has_key| Matter {
            pool: &view.pools[at],
            plan: &plan.pools[at],
            method,
            source,
            has_key,
        };
        match question {
            Question::Key { pool, key: given } => {
                let at = match pool {
                    Some(name) => pool_named(view, name)?,
                    None if view.pools.len() == 1 => 0,
                    None => return Err(format!("there are several pools: {}; say which", names(view))),
                };
                if given.is_empty() {
                    return Err("an empty key is none".into());
                }
                key.clear();
                key.extend_from_slice(given);
                Ok(matter(at, Method::Get, None, true))
            }
            Question::Request { pool, facts } => {
                let method =
                    Method::of(facts.method).map_err(|_| "the method is refused with 405".to_owned())?;
                let at = match pool {
                    Some(name) => pool_named(view, name)?,
                    None => {
                        let found = plan.router.find(facts.authority, facts.path);
                        let found = found.ok_or("no route leads from this host and path")?;
                        if found.rewrite.as_ref().is_some_and(|rewrite| !rewrite.takes(facts.path)) {
                            return Err("the path has dot segments or begins with two slashes, and its route changes paths: 400".into());
                        }
                        found.pool
                    }
                };
                let forward = &plan.pools[at].forward;
                if let Some(source) = forward.key.find(&facts, key) {
                    return Ok(matter(at, method, Some(source.to_string()), true));
                }
                key.clear();
                let by_address = forward.key.on_missing == OnMissingKey::ClientAddress;
                if by_address {
                    crate::http1::write_address(facts.client, key);
                }
                Ok(matter(at, method, by_address.then(|| BY_ADDRESS.to_owned()), by_address))
            }
        }
    }

    /// Whom a request with a key at this place would go to.
    fn rules(&self) -> Rules {
        self.plan.rules(self.method)
    }

    fn choose(&self, place: Place, rules: Rules, now: Instant, notes: bool) -> Choice<'v> {
        let asking = Candidates::new(self.pool, place, now, rules).asking();
        let mut asking = if notes { asking.noting() } else { asking };
        let (chosen, waits) = match asking.next_backend() {
            Next::Try(member, ()) => (Some(member), false),
            Next::Wait(member) => (Some(member), true),
            Next::Nobody => (None, false),
        };
        let skipped = asking.skipped().len();
        Choice { asking, chosen, waits, skipped }
    }
}

/// Who is chosen, and who was passed over for that.
struct Choice<'v> {
    asking: Asking<'v>,
    chosen: Option<MemberIndex>,
    waits: bool,
    /// How many were passed over until then.
    skipped: usize,
}

impl Choice<'_> {
    /// Why this one, or with which refusal nobody.
    fn reason(&self) -> &'static str {
        match self.chosen {
            Some(member) => self.asking.way().off_owner(member).map_or(OffOwner::AT_OWNER, OffOwner::word),
            None => self.asking.way().refusal().word(),
        }
    }

    /// Whose the key is: who is left out by an operator's order or a ramp of the pool, or the owner on the ring.
    fn owner(&self) -> Option<MemberIndex> {
        let way = self.asking.way();
        self.chosen.and_then(|member| way.owner_told(member)).or(way.owner())
    }

    fn refusal(&self) -> Option<Refusal> {
        self.chosen.is_none().then(|| self.asking.way().refusal())
    }
}

fn pool_named(view: &View, name: &str) -> Result<usize, String> {
    let found = view.pools.iter().position(|pool| &*pool.pool.name == name);
    found.ok_or_else(|| format!("there is no pool {name:?}; there are: {}", names(view)))
}

fn names(view: &View) -> String {
    let names: Vec<&str> = view.pools.iter().map(|pool| &*pool.pool.name).collect();
    names.join(", ")
}

/// The key as text, and its bytes in hexadecimal digits if it is none.
fn shown(key: &[u8]) -> (Cow<'_, str>, Option<String>) {
    match std::str::from_utf8(key) {
        Ok(text) => (text.into(), None),
        Err(_) => {
            let digits = key.iter().map(|byte| format!("{byte:02x}")).collect();
            (String::from_utf8_lossy(key), Some(digits))
        }
    }
}

fn explain_matter(revision: u64, matter: &Matter<'_>, key: &[u8], now: Instant) -> Explanation {
    let pool = matter.pool;
    let mut explanation = Explanation {
        revision,
        pool: pool.pool.name.to_string(),
        key: None,
        key_hex: None,
        key_source: matter.source.clone(),
        place: None,
        place_hex: None,
        owners: Vec::new(),
        chosen: None,
        refusal: None,
        status: None,
        summary: String::new(),
    };
    if !matter.has_key {
        let refusal = without_key(matter, now);
        explanation.summary = match refusal {
            Some(Refusal::NoKey) => "the request has no key and is refused with 400".into(),
            Some(refusal) => format!("the request has no key, and nobody can have it: {}", refusal.status()),
            None => "the request has no key and goes to any backend that is serving".into(),
        };
        explanation.refusal = refusal.map(|refusal| refusal.word().into());
        explanation.status = refusal.map(Refusal::status);
        return explanation;
    }
    let (text, digits) = shown(key);
    let place = Place::of(key);
    let mut choice = matter.choose(place, matter.rules(), now, true);
    explanation.key = Some(text.into_owned());
    explanation.key_hex = digits;
    explanation.place = Some(place.0.to_string());
    explanation.place_hex = Some(format!("{:016x}", place.0));
    explanation.summary = summary(pool, &choice);
    explanation.refusal = choice.refusal().map(|refusal| refusal.word().into());
    explanation.status = choice.refusal().map(Refusal::status);
    explanation.chosen = choice.chosen.map(|member| Chosen {
        backend: name(pool, member),
        reason: choice.reason().into(),
        waits: choice.waits,
    });
    explanation.owners = owners(matter, place, &mut choice, now);
    explanation
}

/// The refusal of a request without a key. `None`: it goes anywhere.
fn without_key(matter: &Matter<'_>, now: Instant) -> Option<Refusal> {
    match matter.plan.forward.key.on_missing {
        OnMissingKey::Refuse => Some(Refusal::NoKey),
        // Where it begins is left to chance; whether anybody can have it is not.
        _ => matter.choose(Place(0), matter.rules().without_key(), now, false).refusal(),
    }
}

/// The walk: every backend of the ring, with what would become of it.
fn owners(matter: &Matter<'_>, place: Place, choice: &mut Choice<'_>, now: Instant) -> Vec<OwnerExplained> {
    let pool = matter.pool;
    let mut tried: Vec<MemberIndex> = choice.chosen.into_iter().collect();
    while !choice.waits
        && let Next::Try(member, ()) = choice.asking.next_backend()
    {
        tried.push(member);
    }
    let skipped = choice.asking.skipped();
    let (before, after) = skipped.split_at(choice.skipped);
    let told = |list: &[(MemberIndex, Skip)], member| {
        list.iter().find(|(skipped, _)| *skipped == member).map(|(_, why)| *why)
    };
    let takes_nobody = pool.tier == Tier::Bad && matter.plan.on_all_down == OnAllDown::Refuse;
    let rules = matter.rules();
    let ring = pool.ring_for(place, now);
    let mut walk: Vec<MemberIndex> = ring.walk(place).collect();
    if !std::ptr::eq(ring, &*pool.ring) {
        // Who has come since stands in where nobody else can.
        let further: Vec<_> = pool.ring.walk(place).filter(|member| !walk.contains(member)).collect();
        walk.extend(further);
    }
    let displaced = choice.owner().filter(|owner| walk.first() != Some(owner));
    if let Some(owner) = displaced {
        walk.retain(|member| *member != owner);
        walk.insert(0, owner);
    }
    let explain = |member: MemberIndex| {
        let view = pool.member(member);
        let attempt = tried.iter().position(|tried| *tried == member).map(|at| at + 1);
        let stands_aside = takes_nobody || !pool.tier.takes(view.standing);
        let is_chosen = attempt == Some(1);
        let skip = told(before, member)
            .or_else(|| if attempt.is_none() { told(after, member) } else { None })
            .or_else(|| stands_aside.then_some(Skip::Standing(view.standing)))
            .or_else(|| {
                (rules.owner_only && choice.asking.way().owner() != Some(member)).then_some(Skip::Affinity)
            })
            .or_else(|| (attempt.is_none() && displaced == Some(member)).then_some(Skip::Ramp))
            .filter(|_| !is_chosen);
        let part = match (is_chosen, skip, attempt) {
            (true, ..) => Part::Chosen,
            (_, Some(_), _) => Part::Skipped,
            (_, None, Some(_)) => Part::Next,
            (_, None, None) => Part::Spare,
        };
        OwnerExplained {
            backend: view.backend.name.to_string(),
            address: view.backend.address.to_string(),
            standing: view.standing,
            standing_reason: view.reason.to_string(),
            in_flight: view.backend.in_flight(),
            part,
            skipped: skip.map(|skip| skip.word().into()),
            attempt,
            why: match skip {
                Some(skip) => why_skipped(pool, member, skip, now),
                None => why_not_skipped(part, choice, member),
            },
        }
    };
    walk.into_iter().map(explain).collect()
}

fn why_skipped(pool: &PoolView, member: MemberIndex, skip: Skip, now: Instant) -> String {
    let view = pool.member(member);
    let in_flight = view.backend.in_flight();
    match skip {
        Skip::Standing(standing) => format!("it is {}: {}", standing.word(), view.reason),
        Skip::Trial => "it is on trial, and the requests that decide have been given to it".into(),
        Skip::Ramp => {
            let ramp = view.ramp.or(pool.turn.as_ref().map(|turn| turn.ramp));
            let progress = ramp.map_or(0.0, |ramp| ramp.progress(now)) * 100.0;
            format!("it gets its keys one after the other, this one later ({progress:.0} % have moved)")
        }
        Skip::Loaded => {
            let most = view.bound.most(pool.pool.in_flight() + 1);
            format!("it has {in_flight} requests in flight, and its share is {most}")
        }
        Skip::Full => match (view.backend.load.waiting(), view.backend.load.limit()) {
            (0, Some(limit)) => format!("it has {in_flight} requests in flight, and may have {limit}"),
            (0, None) => "it has as many requests as it may have".into(),
            (waiting, _) => format!("it is full, and {waiting} requests wait for it"),
        },
        Skip::Affinity => "it is not the owner, and nobody else may serve the key".into(),
    }
}

fn why_not_skipped(part: Part, choice: &Choice<'_>, member: MemberIndex) -> String {
    match part {
        Part::Chosen if choice.waits => "it is where the request would wait for a place".into(),
        Part::Chosen if choice.owner() == Some(member) => "it owns the key and may have it".into(),
        Part::Chosen => "it is the first that may have it".into(),
        Part::Next => "it is asked next if that fails and the request may be repeated".into(),
        Part::Skipped | Part::Spare => "it would not be asked: the attempts end before".into(),
    }
}

fn name(pool: &PoolView, member: MemberIndex) -> String {
    pool.member(member).backend.name.to_string()
}

fn summary(pool: &PoolView, choice: &Choice<'_>) -> String {
    let way = choice.asking.way();
    let Some(owner) = choice.owner() else {
        return "no backend of the pool is on the ring".into();
    };
    let owner_name = name(pool, owner);
    match choice.chosen {
        None => {
            let why = match way.refusal() {
                Refusal::Full => "the backends that could have it are full",
                Refusal::OwnerDown => "it is not serving, and nobody else may",
                _ => "no backend of the pool is serving",
            };
            format!("{owner_name} owns the key; {why}: 503")
        }
        Some(member) if member == owner && choice.waits => {
            format!("{owner_name} owns the key, and the request waits there for a place")
        }
        Some(member) if member == owner => format!("{owner_name} owns the key and gets the request"),
        Some(member) => {
            let why = match way.off_owner(member) {
                Some(OffOwner::Spill) => "has more than its share of the load".to_owned(),
                Some(OffOwner::OwnerFull) => "is full".to_owned(),
                Some(OffOwner::Ramp) => "has not been given it yet".to_owned(),
                _ => format!("is {}", pool.member(owner).standing.word()),
            };
            format!("{owner_name} owns the key but {why}; {} stands in", name(pool, member))
        }
    }
}
