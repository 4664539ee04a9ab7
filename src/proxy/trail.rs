//! Where a request went, and why: the header fields in which an answer says so to clients that may know.
//!
//! Owns the names and forms of these fields. The words in them are those of the metrics, the access log and `lookup`. Never tells a key.

use std::fmt;

use crate::http1::RequestHead;

/// With this header a trusted client asks for the fields.
pub const ASKS: &[u8] = b"ringway-explain";

/// All names of fields. What backends say under them does not pass where they are told.
pub(super) const NAMES: &[&str] = &[OWNER, BACKEND, REASON, KEY_SOURCE, ATTEMPTS, REPEATED];

const OWNER: &str = "ringway-owner";
const BACKEND: &str = "ringway-backend";
const REASON: &str = "ringway-reason";
const KEY_SOURCE: &str = "ringway-key-source";
const ATTEMPTS: &str = "ringway-attempts";
const REPEATED: &str = "ringway-repeated";

/// Whom answers tell where their requests went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explain {
    /// Nobody.
    Off,
    /// Clients at trusted addresses that ask.
    Trusted,
    /// Everybody.
    Always,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Explain::Off => "off",
            Explain::Trusted => "trusted",
            Explain::Always => "always",
        })
    }
}

impl Explain {
    /// Whether the client of this request is told.
    pub(super) fn tells(self, is_trusted: bool, head: &RequestHead) -> bool {
        match self {
            Explain::Off => false,
            Explain::Trusted => is_trusted && head.value_of(ASKS).is_some(),
            Explain::Always => true,
        }
    }
}

/// What there is to tell.
#[derive(Debug, Default)]
pub(super) struct Trail<'a> {
    /// The key's owner.
    pub(super) owner: Option<&'a str>,
    /// The backend that answered, or was tried last.
    pub(super) backend: Option<&'a str>,
    /// Why that one, or why none.
    pub(super) reason: Option<&'static str>,
    /// The source that the key came from.
    pub(super) key_source: Option<String>,
    /// Attempts made.
    pub(super) attempts: u32,
    /// How those ended that were followed by another.
    pub(super) repeated: Vec<&'static str>,
}

impl Trail<'_> {
    /// As names and values.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let repeated = (!self.repeated.is_empty()).then(|| self.repeated.join(", "));
        let fields = [
            (OWNER, self.owner.map(printable)),
            (BACKEND, self.backend.map(printable)),
            (REASON, self.reason.map(str::to_owned)),
            (KEY_SOURCE, self.key_source.as_deref().map(printable)),
            (ATTEMPTS, Some(self.attempts.to_string())),
            (REPEATED, repeated),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// As a field's value: what is not printable ASCII is written as `%` and two hexadecimal digits, as in a URI.
fn printable(text: &str) -> String {
    let is_inside = |at: usize| at > 0 && at + 1 < text.len();
    let write = |(at, byte): (usize, u8)| match byte {
        b' ' if is_inside(at) => " ".to_owned(),
        b'!'..=b'~' if byte != b'%' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().enumerate().map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_field_is_encoded() {
        assert_eq!(printable("path-regex:^/a b"), "path-regex:^/a b");
        assert_eq!(printable(" Böse\r\n100% "), "%20B%C3%B6se%0D%0A100%25%20");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let trail = Trail { reason: Some("no_backend"), ..Trail::default() };
        assert_eq!(
            trail.fields(),
            [("ringway-reason", "no_backend".to_owned()), ("ringway-attempts", "0".into())]
        );
        assert!(trail.fields().iter().all(|(name, _)| NAMES.contains(name)));
    }
}
