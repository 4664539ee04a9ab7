//! The written form of a key source, in configuration files, on the command line and in logs.
//!
//! Owns parsing and printing. Never sees a request.

use std::{fmt, str::FromStr};

use super::Source;

/// Segments that `path-prefix` can take at most.
const MAX_SEGMENTS: usize = 64;

/// The forms as documented, for help and "did you mean".
const FORMS: [&str; 10] = [
    "header:NAME",
    "cookie:NAME",
    "query:NAME",
    "path",
    "uri",
    "path-prefix:N",
    "path-regex:RE",
    "host",
    "method",
    "client-address",
];

/// Why a text is no [`Source`], and what to write in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub help: String,
}

impl SourceError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("path", None) => Ok(Self::Path),
            ("uri", None) => Ok(Self::Uri),
            ("host", None) => Ok(Self::Host),
            ("method", None) => Ok(Self::Method),
            ("client-address", None) => Ok(Self::ClientAddress),
            ("header", Some(name)) => {
                let name = name.to_ascii_lowercase();
                token(&name, "header").map(|()| Self::Header(name))
            }
            ("cookie", Some(name)) => token(name, "cookie").map(|()| Self::Cookie(name.into())),
            ("query", Some(name)) => query_name(name).map(|()| Self::Query(name.into())),
            ("path-prefix", Some(count)) => match count.parse::<usize>() {
                Ok(number @ 1..=MAX_SEGMENTS) if !count.starts_with('+') => Ok(Self::PathPrefix(number)),
                _ => Err(SourceError::new(
                    format!("`{count}` is not a number of path segments"),
                    format!("write a number from 1 to {MAX_SEGMENTS}, for example \"path-prefix:2\""),
                )),
            },
            ("path-regex", Some(expression)) => path_regex(expression).map(Self::PathRegex),
            _ => Err(unknown(text, kind)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Uri => f.write_str("uri"),
            Self::PathPrefix(count) => write!(f, "path-prefix:{count}"),
            Self::PathRegex(expression) => write!(f, "path-regex:{expression}"),
            Self::Host => f.write_str("host"),
            Self::Method => f.write_str("method"),
            Self::ClientAddress => f.write_str("client-address"),
            Self::Join(parts) => {
                f.write_str("[")?;
                for (i, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Header and cookie names are tokens (RFC 9110 section 5.6.2, RFC 6265 section 4.1.1).
fn token(name: &str, what: &str) -> Result<(), SourceError> {
    let help = || format!("write \"{what}:NAME\" with letters, digits and !#$%&'*+-.^_`|~ in the name");
    if name.is_empty() {
        return Err(SourceError::new(format!("the {what} name is missing"), help()));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(*c)) {
        Some(odd) => Err(SourceError::new(format!("a {what} name cannot contain {odd:?}"), help())),
        None => Ok(()),
    }
}

fn query_name(name: &str) -> Result<(), SourceError> {
    let help = "write \"query:NAME\" with the name as it stands in the URL";
    if name.is_empty() {
        return Err(SourceError::new("the parameter name is missing", help));
    }
    match name.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '&' | '=' | '#' | '?')) {
        Some(odd) => Err(SourceError::new(format!("a query parameter name cannot contain {odd:?}"), help)),
        None => Ok(()),
    }
}

fn path_regex(expression: &str) -> Result<regex::bytes::Regex, SourceError> {
    if expression.is_empty() {
        let help = "write \"path-regex:RE\", for example 'path-regex:^/users/([0-9]+)'";
        return Err(SourceError::new("the expression is missing", help));
    }
    regex::bytes::RegexBuilder::new(expression).unicode(false).build().map_err(|error| {
        // The last line of a syntax error holds the reason; the lines before draw the expression again.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        SourceError::new(
            format!("not a regular expression: {reason}"),
            "the syntax is that of https://docs.rs/regex; in '…' backslashes need no doubling",
        )
    })
}

fn unknown(text: &str, kind: &str) -> SourceError {
    let exact = FORMS.iter().find(|form| form.split(':').next() == Some(kind));
    if let Some(form) = exact {
        let (message, example) = match form.contains(':') {
            true => (format!("`{kind}` needs an argument"), format!("write \"{form}\"")),
            false => (format!("`{kind}` takes no argument"), format!("write \"{form}\"")),
        };
        return SourceError::new(message, example);
    }
    let near = FORMS
        .iter()
        .map(|form| {
            (strsim::damerau_levenshtein(form.split(':').next().unwrap_or(form), &kind.to_lowercase()), form)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2);
    let help = match near {
        Some((_, form)) => format!("did you mean \"{form}\"?"),
        // The commonest slip: the bare name of a header.
        None if text.contains('-') && token(text, "header").is_ok() => {
            format!("for the header of this name write \"header:{}\"", text.to_ascii_lowercase())
        }
        None => format!("one of {}", FORMS.map(|form| format!("\"{form}\"")).join(", ")),
    };
    SourceError::new("no such key source", help)
}
