//! Lists and maps: key sources, networks, status ranges, probe headers.
//!
//! Every element that is wrong is reported, at its own place.

use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr};

use serde_json::{Value, json};
use toml::de::DeValue;

use super::{Kind, Raw, Spot, quoted, string, text, unsigned};
use crate::proxy::key::Source;

/// The elements of a list, read one by one; `None` if one is wrong.
fn elements<T>(items: &[Raw<'_>], mut read: impl FnMut(&Raw<'_>) -> Option<T>) -> Option<Vec<T>> {
    // All are read, so that all that is wrong is said.
    let read: Vec<Option<T>> = items.iter().map(&mut read).collect();
    read.into_iter().collect()
}

/// A list of one kind, perhaps empty.
pub(in crate::config) struct List<K>(pub(in crate::config) K);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn noun(&self) -> String {
        format!("a list, each {}", self.0.noun())
    }

    fn schema(&self) -> Value {
        json!({ "type": "array", "items": self.0.schema() })
    }

    fn literal(&self, value: &Self::Value) -> String {
        let items: Vec<String> = value.iter().map(|item| self.0.literal(item)).collect();
        format!("[{}]", items.join(", "))
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value> {
        let DeValue::Array(items) = raw.get_ref() else {
            spot.wrong_type(raw, "a list", in_brackets(raw, spot.name));
            return None;
        };
        elements(items, |item| self.0.read(item, spot))
    }
}

/// The remedy for a single value where a list is wanted.
fn in_brackets(raw: &Raw<'_>, name: &str) -> Option<String> {
    match raw.get_ref() {
        DeValue::String(text) => Some(format!("put it in brackets: `{name} = [\"{}\"]`", quoted(text))),
        _ => None,
    }
}

/// A list that is not empty.
pub(in crate::config) struct NonEmpty<K> {
    list: List<K>,
    example: &'static str,
}

impl<K> NonEmpty<K> {
    /// A list of `kind`; the example is for whoever wrote an empty one.
    pub(in crate::config) fn of(kind: K, example: &'static str) -> Self {
        Self { list: List(kind), example }
    }
}

impl<K: Kind> Kind for NonEmpty<K> {
    type Value = Vec<K::Value>;

    fn noun(&self) -> String {
        self.list.noun()
    }

    fn schema(&self) -> Value {
        json!({ "type": "array", "items": self.list.0.schema(), "minItems": 1 })
    }

    fn literal(&self, value: &Self::Value) -> String {
        self.list.literal(value)
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value> {
        let value = self.list.read(raw, spot)?;
        if value.is_empty() {
            let help = format!("write at least one, for example `{} = {}`", spot.name, self.example);
            spot.out_of_range(raw.span(), "a list that is not empty", "this is empty", Some(help));
            return None;
        }
        Some(value)
    }
}

/// A source of the key, or a join of some.
pub(in crate::config) struct KeySource;

impl KeySource {
    fn one(raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Source> {
        let DeValue::String(written) = raw.get_ref() else {
            let help = "write for example \"header:x-user-id\"; sources in a nested list are joined";
            spot.wrong_type(raw, "made of strings", Some(help.into()));
            return None;
        };
        match Source::from_str(written) {
            Ok(source) => Some(source),
            Err(error) => {
                spot.malformed(raw.span(), &error.message, error.help);
                None
            }
        }
    }
}

impl Kind for KeySource {
    type Value = Source;

    fn noun(&self) -> String {
        "a key source".into()
    }

    fn schema(&self) -> Value {
        let token = text::TOKEN;
        let one = json!({
            "type": "string",
            "pattern": format!(
                "^(path|uri|host|method|client-address|(header|cookie):{token}+|query:[!-~]+|path-prefix:[0-9]+|path-regex:.+)$"
            ),
        });
        json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }

    fn literal(&self, value: &Source) -> String {
        match value {
            Source::Join(parts) => List(KeySource).literal(parts),
            one => string(&one.to_string()),
        }
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Source> {
        let DeValue::Array(parts) = raw.get_ref() else {
            return Self::one(raw, spot);
        };
        if parts.is_empty() {
            let help = "a nested list joins sources: write [\"header:x-tenant\", \"path\"]";
            spot.out_of_range(
                raw.span(),
                "made of lists that are not empty",
                "this is empty",
                Some(help.into()),
            );
            return None;
        }
        let mut parts = elements(parts, |part| Self::one(part, spot))?;
        // A join of one is that one.
        if parts.len() == 1 { parts.pop() } else { Some(Source::Join(parts)) }
    }
}

/// Status codes: "200-399", "204" or 204.
pub(in crate::config) struct Status;

const STATUS_HELP: &str = "write a code such as 204, or a range such as \"200-399\"";

impl Status {
    fn parse(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
        let code = |text: &str| match text.trim().parse::<u16>() {
            Ok(code @ 100..=599) => Ok(code),
            Ok(_) => Err("status codes go from 100 to 599"),
            Err(_) => Err("this is no status code"),
        };
        match text.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (code(first)?, code(last)?);
                if first > last { Err("the range is empty") } else { Ok(first..=last) }
            }
            None => code(text).map(|code| code..=code),
        }
    }
}

impl Kind for Status {
    type Value = RangeInclusive<u16>;

    fn noun(&self) -> String {
        "a status code or range".into()
    }

    fn schema(&self) -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" },
        ] })
    }

    fn literal(&self, value: &Self::Value) -> String {
        match value.start() == value.end() {
            true => format!("\"{}\"", value.start()),
            false => format!("\"{}-{}\"", value.start(), value.end()),
        }
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value> {
        let text = match raw.get_ref() {
            DeValue::Integer(code) => unsigned(code).map(|code| code.to_string()).unwrap_or_default(),
            DeValue::String(text) => text.to_string(),
            _ => {
                spot.wrong_type(raw, "made of status codes", Some(STATUS_HELP.into()));
                return None;
            }
        };
        match Self::parse(&text) {
            Ok(range) => Some(range),
            Err(fault) => {
                spot.malformed(raw.span(), fault, STATUS_HELP);
                None
            }
        }
    }
}

/// Headers with their values.
pub(in crate::config) struct Headers {
    /// Those that are decided on elsewhere (RFC 9112 section 6, RFC 9110 section 7.6.1).
    pub(in crate::config) own: &'static [&'static str],
    /// By whom.
    pub(in crate::config) whose: &'static str,
}

/// What a probe decides on.
pub(in crate::config) const OWN_PROBE_HEADERS: &[&str] =
    &["host", "connection", "content-length", "transfer-encoding", "upgrade"];

/// What forwarding decides on in requests.
pub(in crate::config) const OWN_REQUEST_HEADERS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "expect",
    "proxy-connection",
    "proxy-authorization",
    "http2-settings",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-cert-subject",
    "x-request-id",
];

/// What forwarding decides on in answers.
pub(in crate::config) const OWN_RESPONSE_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
];

/// The name of those decided on elsewhere that this one is, or is for those who read `_` as `-`.
fn own_name(own: &'static [&'static str], name: &str) -> Option<&'static str> {
    let dashed = name.replace('_', "-");
    own.iter().copied().find(|own| *own == dashed)
}

/// Why a header of this name can't be set.
fn taken(name: &str, own: &str, whose: &str) -> String {
    match name == own {
        true => format!("`{name}` is set by {whose} itself"),
        false => format!("many backends read `{name}` as `{own}`, which is set by {whose} itself"),
    }
}

/// The name of a header.
pub(in crate::config) struct HeaderName {
    /// Those that are decided on elsewhere.
    pub(in crate::config) own: &'static [&'static str],
}

impl Kind for HeaderName {
    type Value = String;

    fn noun(&self) -> String {
        "a header's name".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": format!("^{}+$", text::TOKEN) })
    }

    fn literal(&self, value: &String) -> String {
        string(value)
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<String> {
        let DeValue::String(name) = raw.get_ref() else {
            spot.wrong_type(
                raw,
                "made of strings",
                Some("write names in quotes, for example \"server\"".into()),
            );
            return None;
        };
        let name = name.to_ascii_lowercase();
        if let Some(fault) = text::not_token(&name) {
            spot.malformed(raw.span(), &format!("no header name: {fault}"), "write for example \"server\"");
        } else if let Some(own) = own_name(self.own, &name) {
            spot.malformed(raw.span(), &taken(&name, own, "Ringway"), "leave it out");
        } else {
            return Some(name);
        }
        None
    }
}

impl Kind for Headers {
    type Value = BTreeMap<String, String>;

    fn noun(&self) -> String {
        "a table of strings".into()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": format!("^{}+$", text::TOKEN) },
            "additionalProperties": { "type": "string" },
        })
    }

    fn literal(&self, value: &Self::Value) -> String {
        let items: Vec<String> =
            value.iter().map(|(name, value)| format!("{} = {}", string(name), string(value))).collect();
        if items.is_empty() { "{}".into() } else { format!("{{ {} }}", items.join(", ")) }
    }

    fn read(&self, raw: &Raw<'_>, spot: &mut Spot<'_>) -> Option<Self::Value> {
        let DeValue::Table(table) = raw.get_ref() else {
            let help = format!("write `{} = {{ accept = \"text/plain\" }}`", spot.name);
            spot.wrong_type(raw, "a table", Some(help));
            return None;
        };
        let mut headers = BTreeMap::new();
        let mut sound = true;
        for (key, value) in table {
            let name = key.get_ref().to_ascii_lowercase();
            if let Some(fault) = text::not_token(&name) {
                spot.malformed(
                    key.span(),
                    &format!("no header name: {fault}"),
                    "write for example \"accept\"",
                );
                sound = false;
            } else if let Some(own) = own_name(self.own, &name) {
                let help = match name.as_str() {
                    "host" if self.own == OWN_PROBE_HEADERS => "write it as `host` of the health check",
                    "host" => "see `host_header` of the pool",
                    _ => "leave it out",
                };
                spot.malformed(key.span(), &taken(&name, own, self.whose), help);
                sound = false;
            }
            let DeValue::String(content) = value.get_ref() else {
                spot.wrong_type(value, "made of strings", Some("put the header's value in quotes".into()));
                sound = false;
                continue;
            };
            if let Some(odd) = content.chars().find(|c| !matches!(c, ' '..='~' | '\t')) {
                spot.malformed(
                    value.span(),
                    &format!("it contains {odd:?}"),
                    "a header's value is printable ASCII",
                );
                sound = false;
            }
            if headers.insert(name, content.to_string()).is_some() {
                spot.malformed(
                    key.span(),
                    "this header is there twice",
                    "header names differ by more than case",
                );
                sound = false;
            }
        }
        sound.then_some(headers)
    }
}
