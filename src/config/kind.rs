//! The kinds of values: for each, what fits, what is said of what does not, how it is written and described.
//!
//! Owns one value at a time; knows neither tables nor what a key is for. Start at [`Kind`]; the plain kinds are
//! here, lists and what Ringway has of its own in [`list`] and [`text`].

use std::{fmt, marker::PhantomData};

use serde_json::{Value, json};
use toml::{
    Spanned,
    de::{DeFloat, DeInteger, DeValue},
};

use super::{
    finding::{Code, Draft, Findings, Span, quoted},
    suggest,
};

pub(super) mod list;
pub(super) mod measure;
pub(super) mod text;

/// A value as the TOML parser gives it.
pub(super) type Raw<'s> = Spanned<DeValue<'s>>;

/// What fits a key.
pub(super) trait Kind {
    /// What it is read into.
    type Value;

    /// What fits, for a sentence: "an integer", "a duration such as \"30s\"".
    fn noun(&self) -> String;

    /// The bounds for documentation, for example "0 to 1024"; empty if the noun says it all.
    fn bounds(&self) -> String {
        String::new()
    }

    /// The JSON Schema of what fits.
    fn schema(&self) -> Value;

    /// A value as TOML, in the one form that `effective` uses.
    fn literal(&self, value: &Self::Value) -> String;

    /// Reads a value, or says in `spot` all that is wrong with it.
    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value>;
}

/// The key whose value is being read, and where to say what is wrong with it.
pub(super) struct Spot<'a> {
    /// The key with the tables that it is in: `pools.cache.replicas`.
    pub(super) path: String,
    /// The key alone.
    pub(super) name: &'a str,
    pub(super) findings: &'a mut Findings,
}

impl Spot<'_> {
    /// Reports a value of a type that does not fit.
    pub(super) fn wrong_type(&mut self, raw: &Raw<'_>, wanted: &str, help: Option<String>) {
        let is = described(raw.get_ref());
        let message = format!("`{}` must be {wanted}, not {is}", self.path);
        self.push(Code::WrongType, raw.span(), message, "", help);
    }

    /// Reports text of the right type that cannot be understood.
    pub(super) fn malformed(&mut self, span: Span, fault: &str, help: impl Into<String>) {
        let message = format!("`{}`: {fault}", self.path);
        self.push(Code::Malformed, span, message, "", Some(help.into()));
    }

    /// Reports a value outside its bounds.
    pub(super) fn out_of_range(&mut self, span: Span, bounds: &str, fault: &str, help: Option<String>) {
        let message = format!("`{}` must be {bounds}", self.path);
        self.push(Code::OutOfRange, span, message, fault, help);
    }

    fn push(&mut self, code: Code, span: Span, message: String, label: &str, help: Option<String>) {
        let mut draft = Draft::new(code, span, message).label(label);
        if let Some(help) = help {
            draft = draft.help(help);
        }
        self.findings.push(draft);
    }
}

/// A value's type, for a sentence.
fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// An integer from 0 up, or why it is none.
pub(super) fn unsigned(raw: &DeInteger<'_>) -> Result<u64, &'static str> {
    if raw.as_str().starts_with('-') {
        return Err("too small");
    }
    u64::from_str_radix(raw.as_str(), raw.radix()).map_err(|_| "too large")
}

/// A finite decimal number.
fn decimal(raw: &DeFloat<'_>) -> Option<f64> {
    raw.as_str().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A string as a TOML basic string; what is written is JSON too.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An integer between two bounds.
pub(super) struct Integer<T> {
    min: u64,
    max: u64,
    of: PhantomData<T>,
}

impl<T> Integer<T> {
    /// Both bounds fit.
    pub(super) fn new(min: u64, max: u64) -> Self {
        Self { min, max, of: PhantomData }
    }
}

impl<T: TryFrom<u64> + fmt::Display> Kind for Integer<T> {
    type Value = T;

    fn noun(&self) -> String {
        "an integer".into()
    }

    fn bounds(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }

    fn literal(&self, value: &T) -> String {
        value.to_string()
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<T> {
        let number = match raw.get_ref() {
            DeValue::Integer(number) => unsigned(number),
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                spot.wrong_type(
                    raw,
                    "an integer",
                    Some(format!("leave the quotes out: `{} = {text}`", spot.name)),
                );
                return None;
            }
            _ => {
                spot.wrong_type(raw, "an integer", Some(format!("write a number from {}", self.bounds())));
                return None;
            }
        };
        let fault = match number {
            Ok(number) if number < self.min => "too small",
            Ok(number) if number > self.max => "too large",
            Ok(number) => return T::try_from(number).ok(),
            Err(fault) => fault,
        };
        spot.out_of_range(raw.span(), &format!("from {}", self.bounds()), fault, None);
        None
    }
}

/// A number between 0 and 1.
pub(super) struct Share;

impl Kind for Share {
    type Value = f64;

    fn noun(&self) -> String {
        "a number".into()
    }

    fn bounds(&self) -> String {
        "0 to 1".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }

    fn literal(&self, value: &f64) -> String {
        // Debug keeps the point: `1.0`, not `1`; and every digit that matters.
        format!("{value:?}")
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<f64> {
        let number = match raw.get_ref() {
            DeValue::Integer(number) => unsigned(number).ok().filter(|n| *n <= 1).map(|n| n as f64),
            DeValue::Float(number) => decimal(number),
            _ => {
                spot.wrong_type(raw, "a number", Some(format!("for example `{} = 0.1`", spot.name)));
                return None;
            }
        };
        // Adding zero makes -0.0 plain zero.
        let share = number.filter(|n| (0.0..=1.0).contains(n)).map(|n| n + 0.0);
        if share.is_none() {
            spot.out_of_range(raw.span(), "from 0 to 1", "outside", Some("0.1 means a tenth".into()));
        }
        share
    }
}

/// True or false.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn noun(&self) -> String {
        "a boolean".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }

    fn literal(&self, value: &bool) -> String {
        value.to_string()
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<bool> {
        if let DeValue::Boolean(value) = raw.get_ref() {
            return Some(*value);
        }
        spot.wrong_type(
            raw,
            "a boolean",
            Some(format!("write `{0} = true` or `{0} = false`, without quotes", spot.name)),
        );
        None
    }
}

/// One of a few words. Each value's `Display` is its word.
pub(super) struct Choice<T: 'static>(pub(super) &'static [T]);

impl<T: fmt::Display + Copy> Choice<T> {
    fn words(&self) -> Vec<String> {
        self.0.iter().map(T::to_string).collect()
    }
}

impl<T: fmt::Display + Copy> Kind for Choice<T> {
    type Value = T;

    fn noun(&self) -> String {
        suggest::one_of(&self.words())
    }

    fn schema(&self) -> Value {
        json!({ "type": "string", "enum": self.words() })
    }

    fn literal(&self, value: &T) -> String {
        string(&value.to_string())
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<T> {
        let DeValue::String(text) = raw.get_ref() else {
            spot.wrong_type(raw, "a string", Some(format!("write {}", self.noun())));
            return None;
        };
        let words = self.words();
        if let Some(at) = words.iter().position(|word| word == text) {
            return self.0.get(at).copied();
        }
        let message = format!("`{}` cannot be \"{}\"", spot.path, quoted(text));
        let help = suggest::choice(text, &words);
        spot.push(Code::NotAChoice, raw.span(), message, "", Some(help));
        None
    }
}
