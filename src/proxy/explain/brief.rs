//! Short answers to many questions: what stands in one row of a table.
//!
//! Owns the row, and the form of many questions in one text: a key in each line, or a question as JSON. Pure. A key costs little more than its
//! hash: nothing is noted down about those that are passed over.

use std::{borrow::Cow, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    Explanation, Matter, OwnerExplained, Plan, Question,
    asked::{Asked, Workspace},
    explain_matter, shown, without_key,
};
use crate::{fleet::View, ring::Place, tally::Refusal};

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brief<'a> {
    /// The pool.
    #[serde(borrow)]
    pub pool: Cow<'a, str>,
    /// The key; bytes that are not UTF-8 are shown as U+FFFD. `null`: the request has none.
    #[serde(borrow)]
    pub key: Option<Cow<'a, str>>,
    /// The key's bytes in hexadecimal digits, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hex: Option<String>,
    /// The source that the key came from, if it was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_source: Option<String>,
    /// The key's place on the circle as 16 hexadecimal digits.
    #[serde(borrow)]
    pub place_hex: Option<Cow<'a, str>>,
    /// Who owns the key.
    #[serde(borrow)]
    pub owner: Option<Cow<'a, str>>,
    /// Who would get the request now. `null`: nobody, or anybody if there is no status.
    #[serde(borrow)]
    pub chosen: Option<Cow<'a, str>>,
    /// Why: `owner`, the reason for not going to the owner, `no_key`, or that of the refusal.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// The status of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl<'a> From<&'a Explanation> for Brief<'a> {
    fn from(whole: &'a Explanation) -> Brief<'a> {
        let owner = whole.owners.first().map(|owner: &OwnerExplained| owner.backend.as_str().into());
        let reason = match (&whole.chosen, &whole.refusal) {
            (Some(chosen), _) => &*chosen.reason,
            (None, Some(refusal)) => refusal,
            (None, None) => "no_key",
        };
        Brief {
            pool: whole.pool.as_str().into(),
            key: whole.key.as_deref().map(Cow::from),
            key_hex: whole.key_hex.clone(),
            key_source: whole.key_source.clone(),
            place_hex: whole.place_hex.as_deref().map(Cow::from),
            owner,
            chosen: whole.chosen.as_ref().map(|chosen| chosen.backend.as_str().into()),
            reason: reason.into(),
            status: whole.status,
        }
    }
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// [`Brief`].
    Brief,
    /// [`Explanation`].
    Full,
}

/// What a line of questions is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// A key, whichever bytes that is.
    Keys,
    /// [`Asked`] as JSON.
    Json,
}

/// How an answer came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Somebody would get the request.
    Served,
    /// It would be refused.
    Refused,
    /// There is no answer to such a question.
    Failed,
}

/// What stands in a line where there is no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unanswered {
    /// Why not.
    pub error: String,
}

/// The lines of a text, without their ends. No key has a carriage return in it: HTTP does not allow one.
pub fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = (!text.is_empty()).then(|| text.split(|byte| *byte == b'\n'));
    lines.into_iter().flatten().map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Answers line after line from one picture, at one time.
pub struct Answerer<'v> {
    view: &'v View,
    plan: &'v Plan,
    now: Instant,
    /// The pool of questions that name none.
    pool: Option<&'v str>,
    lines: Lines,
    space: Workspace,
    key: Vec<u8>,
}

impl<'v> Answerer<'v> {
    /// One that answers from these.
    pub fn new(
        view: &'v View,
        plan: &'v Plan,
        now: Instant,
        pool: Option<&'v str>,
        lines: Lines,
    ) -> Answerer<'v> {
        Answerer { view, plan, now, pool, lines, space: Workspace::default(), key: Vec::new() }
    }

    /// The short answer to a line.
    ///
    /// # Errors
    /// Why there is none.
    pub fn brief(&mut self, line: &[u8]) -> Result<Brief<'_>, String> {
        let matter = self.matter(line)?;
        Ok(brief(&matter, &self.key, self.now))
    }

    /// The long one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn full(&mut self, line: &[u8]) -> Result<Explanation, String> {
        let matter = self.matter(line)?;
        Ok(explain_matter(self.view.revision, &matter, &self.key, self.now))
    }

    /// Appends the answer as a line of JSON.
    pub fn write(&mut self, line: &[u8], detail: Detail, out: &mut Vec<u8>) -> Came {
        const JSON: &str = "the answers' types are all JSON";
        let status = match detail {
            Detail::Brief => self.brief(line).map(|brief| {
                serde_json::to_writer(&mut *out, &brief).expect(JSON);
                brief.status
            }),
            Detail::Full => self.full(line).map(|full| {
                serde_json::to_writer(&mut *out, &full).expect(JSON);
                full.status
            }),
        };
        let came = match status {
            Ok(None) => Came::Served,
            Ok(Some(_)) => Came::Refused,
            Err(error) => {
                serde_json::to_writer(&mut *out, &Unanswered { error }).expect(JSON);
                Came::Failed
            }
        };
        out.push(b'\n');
        came
    }

    fn matter(&mut self, line: &[u8]) -> Result<Matter<'v>, String> {
        match self.lines {
            Lines::Keys => {
                let question = Question::Key { pool: self.pool, key: line };
                Matter::find(self.view, self.plan, question, &mut self.key)
            }
            Lines::Json => {
                let mut asked: Asked = serde_json::from_slice(line).map_err(|error| error.to_string())?;
                if asked.pool.is_none() {
                    asked.pool = self.pool.map(str::to_owned);
                }
                let question = asked.question(self.plan, &mut self.space)?;
                Matter::find(self.view, self.plan, question, &mut self.key)
            }
        }
    }
}

fn brief<'a>(matter: &Matter<'a>, key: &'a [u8], now: Instant) -> Brief<'a> {
    let pool = matter.pool;
    let name = |member| &*pool.member(member).backend.name;
    let mut brief = Brief {
        pool: (*pool.pool.name).into(),
        key: None,
        key_hex: None,
        key_source: matter.source.clone(),
        place_hex: None,
        owner: None,
        chosen: None,
        reason: "no_key".into(),
        status: None,
    };
    if !matter.has_key {
        let refusal = without_key(matter, now);
        brief.status = refusal.map(Refusal::status);
        brief.reason = refusal.map_or("no_key", Refusal::word).into();
        return brief;
    }
    let place = Place::of(key);
    let choice = matter.choose(place, matter.rules(), now, false);
    let (text, digits) = shown(key);
    brief.key = Some(text);
    brief.key_hex = digits;
    brief.place_hex = Some(format!("{:016x}", place.0).into());
    brief.owner = choice.owner().map(|owner| name(owner).into());
    brief.chosen = choice.chosen.map(|chosen| name(chosen).into());
    brief.reason = choice.reason().into();
    brief.status = choice.refusal().map(Refusal::status);
    brief
}
