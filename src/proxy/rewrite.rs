//! What a route changes in messages on their way: the beginning of the path, and header fields.
//!
//! Owns these changes, made ready when the configuration is read. Fields that say how a message is framed or who it is from are not among
//! them: the configuration refuses those. Never changes what a request is routed by: the key and the route see it as it came.

use std::collections::BTreeMap;

/// All that one route changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path's beginning, in whole segments and without a final slash, and what stands in its place.
    pub prefix: Option<(String, String)>,
    /// In requests.
    pub request: FieldChanges,
    /// In final answers of backends.
    pub response: FieldChanges,
}

impl Rewrite {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Rewrite::default()
    }

    /// The path as the backend sees it, in up to two parts. It has been matched by the route's prefix.
    pub(super) fn path<'a>(&'a self, path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let Some((from, to)) = &self.prefix else { return (path, b"") };
        let Some(rest) = path.strip_prefix(from.as_bytes()) else { return (path, b"") };
        match (to.as_bytes(), rest) {
            (b"", b"") => (b"/", b""),
            (to, rest) => (to, rest),
        }
    }

    /// Whether the path may be changed. With dot segments (RFC 3986 section 5.2.4), written plainly or encoded, what the backend makes of
    /// it need not begin with what it was given: such a path was matched by one prefix and would be served as another. One that would begin
    /// with two slashes reads as a host to some, and as another route's path to those who take them for one.
    pub(super) fn takes(&self, path: &[u8]) -> bool {
        if self.prefix.is_none() {
            return true;
        }
        let (first, second) = self.path(path);
        !(first.iter().chain(second).take(2).eq(b"//") || has_dot_segments(path))
    }
}

/// Whether a segment is `.` or `..` for any reader that is known: for those who decode, once or more often, and take forms of UTF-8 that are
/// too long; for those to whom `%2f`, `\` and `%5c` separate segments, too; and for those who cut a segment at `;` (Java's) or NUL (C's).
pub fn has_dot_segments(path: &[u8]) -> bool {
    // How many dots the segment has so far. `None`: it has something else.
    let mut dots = Some(0);
    let mut rest = path;
    while let Some((byte, after)) = next_byte(rest) {
        rest = after;
        match byte {
            b'.' => dots = dots.map(|dots| dots + 1),
            b'/' | b'\\' | b';' => {
                if matches!(dots, Some(1 | 2)) {
                    return true;
                }
                // What stands behind a semicolon belongs to its segment, and is no beginning of one.
                dots = (byte != b';').then_some(0);
            }
            // Nobody means these: they are here to be read in two ways.
            0 | 0xc0 | 0xc1 => return true,
            0xe0 if matches!(next_byte(rest), Some((0x80..=0x9f, _))) => return true,
            0xf0 if matches!(next_byte(rest), Some((0x80..=0x8f, _))) => return true,
            _ => dots = None,
        }
    }
    matches!(dots, Some(1 | 2))
}

/// The first byte as whoever decodes it often enough reads it, and what stands behind it.
fn next_byte(path: &[u8]) -> Option<(u8, &[u8])> {
    let (first, after) = path.split_first()?;
    if *first != b'%' {
        return Some((*first, after));
    }
    let mut digits = after;
    // A per cent sign that is encoded, and one that is encoded again.
    while let [b'2', b'5', inner @ ..] = digits {
        digits = inner;
    }
    match digits {
        [high, low, behind @ ..] => {
            let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
            Some(match (value(*high), value(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', digits),
            })
        }
        _ => Some((b'%', digits)),
    }
}

/// Changes of header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Names of those that are taken away, in lower case.
    gone: Vec<String>,
    /// The lines that are added.
    lines: Vec<u8>,
    /// The same as names and values.
    added: Vec<(String, String)>,
}

impl FieldChanges {
    /// Sets fields in the place of all of their name, adds fields, and removes some. Names are in lower case.
    pub fn new(
        set: &BTreeMap<String, String>,
        add: &BTreeMap<String, String>,
        remove: &[String],
    ) -> FieldChanges {
        let gone = set.keys().chain(remove).cloned().collect();
        let mut lines = Vec::new();
        for (name, value) in set.iter().chain(add) {
            lines.extend_from_slice(name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        let pair = |(name, value): (&String, &String)| (name.clone(), value.clone());
        FieldChanges { gone, lines, added: set.iter().chain(add).map(pair).collect() }
    }

    /// The same changes with further fields, and without all that have one of these names.
    pub(super) fn with(mut self, gone: &[&str], fields: &[(&str, String)]) -> FieldChanges {
        self.gone.extend(gone.iter().map(|name| (*name).to_owned()));
        for (name, value) in fields {
            self.lines.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            self.added.push(((*name).to_owned(), value.clone()));
        }
        self
    }

    /// Whether fields of this name go.
    pub(super) fn take_away(&self, name: &[u8]) -> bool {
        self.gone.iter().any(|gone| name.eq_ignore_ascii_case(gone.as_bytes()))
    }

    /// Whether fields of this name go or come.
    pub(super) fn speak_of(&self, name: &[u8]) -> bool {
        self.take_away(name) || self.added.iter().any(|(added, _)| added.as_bytes() == name)
    }

    /// What is added, by name and value.
    pub(super) fn added(&self) -> &[(String, String)] {
        &self.added
    }

    /// What is added, as lines.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_in_whole_segments() {
        let changed = |from: &str, to: &str, path: &str| {
            let rewrite = Rewrite { prefix: Some((from.into(), to.into())), ..Rewrite::default() };
            let (first, second) = rewrite.path(path.as_bytes());
            String::from_utf8([first, second].concat()).unwrap()
        };
        assert_eq!(changed("/api", "", "/api/v1"), "/v1");
        assert_eq!(changed("/api", "", "/api"), "/");
        assert_eq!(changed("/api", "", "/api/"), "/");
        assert_eq!(changed("/api", "/x/y", "/api"), "/x/y");
        assert_eq!(changed("/api", "/x/y", "/api/%2Fz"), "/x/y/%2Fz");
        assert_eq!(changed("", "/x", "/z"), "/x/z");
        // Not a path.
        assert_eq!(changed("", "/x", "*"), "/x*");
    }

    #[test]
    fn dot_segments_are_seen_in_every_dress() {
        let rewrite = Rewrite { prefix: Some(("/api".into(), "/x".into())), ..Rewrite::default() };
        for path in [
            "/api/..",
            "/api/../admin",
            "/api/./x",
            "/api/.",
            "/api/%2e%2E/x",
            "/api/.%2e/x",
            "/api/a%2f../x",
            "/api/a%2F%2e%2e",
            "/api/..%2fx",
            "/api/..\\x",
            "/api/x%5c..%5Cy",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/.;/x",
            "/api/..;",
            "/api/%2e%2e%3b/x",
            "/api/x;/..",
            "/api/%252e%252e/x",
            "/api/%25252E./x",
            "/api/..%252fx",
            "/api/..%253Bx",
            "/api/%c0%ae%C0%AE/x",
            "/api/%e0%80%ae/x",
            "/api/%f0%80%80%ae/x",
            "/api/.%00./x",
        ] {
            assert!(!rewrite.takes(path.as_bytes()), "{path}");
        }
        for path in [
            "/api/...",
            "/api/..a",
            "/api/a..",
            "/api/.a/b.",
            "/api/%2e%2e%2e",
            "/api/%41..",
            "/api/x//y",
            "/api/a%2fb",
            "/api/;a..",
            "/api/a;../b",
            "/api/%25",
            "/api/..%25",
            "/api/100%",
            "/api/%2",
            "/api/%e0%a4%85/%f0%9f%98%80",
            "/api/%e9t%E9",
        ] {
            assert!(rewrite.takes(path.as_bytes()), "{path}");
        }
        assert!(Rewrite::default().takes(b"/a/../b"));
    }

    #[test]
    fn no_path_is_made_to_begin_with_two_slashes() {
        let takes = |from: &str, to: &str, path: &str| {
            let rewrite = Rewrite { prefix: Some((from.into(), to.into())), ..Rewrite::default() };
            rewrite.takes(path.as_bytes())
        };
        assert!(!takes("/api", "", "/api//x") && !takes("/api", "", "/api//"));
        assert!(takes("/api", "", "/api/x//y") && takes("/api", "", "/api/") && takes("/api", "", "/api"));
        assert!(takes("/api", "/v2", "/api//x"));
    }
}
