//! The Strict-Transport-Security of a listener's answers (RFC 6797 section 6.1).
//!
//! Owns which directives there may be and what they look like. Never sends one.

use std::sync::Arc;

use super::{super::quoted, Fault, Text};
use crate::config::suggest;

/// The directives that browsers know. The last one is no part of the RFC: those who collect hosts for browsers ask for it.
const DIRECTIVES: [&str; 3] = ["max-age", "includeSubDomains", "preload"];

/// The value of the header field.
pub(in crate::config) fn transport_security() -> Text<Arc<str>> {
    Text {
        noun: "a value for Strict-Transport-Security",
        pattern: Some("[mM][aA][xX]-[aA][gG][eE]".into()),
        parse: |text| judge(text).map(|()| trimmed(text).into()),
        show: |text| text.to_string(),
    }
}

/// Without the white space that a header may have (RFC 9110 section 5.6.3).
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn judge(text: &str) -> Result<(), Fault> {
    let mut seen: Vec<&str> = Vec::new();
    for directive in text.split(';').map(trimmed) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (trimmed(name), Some(trimmed(value))),
            None => (directive, None),
        };
        let Some(known) = DIRECTIVES.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            let words = DIRECTIVES.map(str::to_owned);
            return Err(Fault::new(
                format!("`{}` is no directive", quoted(name)),
                suggest::choice(name, &words),
            ));
        };
        if seen.contains(known) {
            return Err(Fault::new(
                format!("`{known}` stands in it twice"),
                "RFC 6797 section 6.1 allows one of each: remove one",
            ));
        }
        seen.push(known);
        let is_number = |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match (*known, value) {
            ("max-age", Some(value)) if is_number(value) && value.parse::<u32>().is_ok() => {}
            ("max-age", _) => {
                return Err(Fault::new(
                    "`max-age` is a whole number of seconds, up to 4294967295",
                    "write for example \"max-age=31536000\" for a year",
                ));
            }
            (_, Some(_)) => {
                return Err(Fault::new(
                    format!("`{known}` has no value"),
                    format!("write \"{known}\" alone"),
                ));
            }
            (_, None) => {}
        }
    }
    match seen.contains(&"max-age") {
        true => Ok(()),
        false => Err(Fault::new(
            "`max-age` is missing, without which browsers take it for nothing",
            format!("write \"max-age=31536000; {}\"", quoted(trimmed(text))),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_understand_is_taken_as_it_is_written() {
        for text in [
            "max-age=31536000",
            "max-age=0",
            "max-age=63072000; includeSubDomains; preload",
            "includesubdomains;MAX-AGE = 1",
        ] {
            assert_eq!((transport_security().parse)(text).ok().as_deref(), Some(text), "{text}");
        }
    }

    #[test]
    fn what_they_would_not_is_refused_with_its_reason() {
        let refused =
            |text| (transport_security().parse)(text).err().map(|fault| fault.message).unwrap_or_default();
        for (text, reason) in [
            ("includeSubDomains", "`max-age` is missing"),
            ("max-age", "whole number"),
            ("max-age=1y", "whole number"),
            ("max-age=", "whole number"),
            ("max-age=+1", "whole number"),
            ("max-age=4294967296", "whole number"),
            ("max-age=1, preload", "whole number"),
            ("max-age=1;", "`` is no directive"),
            ("max-age=1; includeSubdomain", "`includeSubdomain` is no directive"),
            ("max-age=1; max-age=2", "twice"),
            ("max-age=1; preload=yes", "`preload` has no value"),
            ("max-age=1\r\nx: y", "whole number"),
            ("max-age=1;\npreload", "is no directive"),
            ("max-age=1;\u{a0}preload", "is no directive"),
        ] {
            assert!(refused(text).contains(reason), "{text}: {}", refused(text));
        }
    }
}
