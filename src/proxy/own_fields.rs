//! What Ringway itself says in answers of backends.
//!
//! Owns which fields these are, and that a route which speaks of one is obeyed. Writes nothing: how is for [`super::head`].

use super::{dates::Date, rewrite::FieldChanges};

/// What a final answer says that its backend did not.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnFields<'a> {
    /// For an answer that has none.
    pub(super) date: Option<&'a Date>,
    /// In the place of the backend's (RFC 6797 section 7.1: there is one such field, or none).
    pub(super) hsts: Option<&'a str>,
}

impl<'a> OwnFields<'a> {
    /// For a client that asked by TLS, on a listener that says something about that.
    pub fn secured(hsts: &'a str) -> OwnFields<'a> {
        OwnFields { date: None, hsts: Some(hsts) }
    }

    /// Without those that the route says something about: it is obeyed.
    pub(super) fn unless_in(self, changes: Option<&FieldChanges>) -> OwnFields<'a> {
        let Some(changes) = changes else { return self };
        OwnFields {
            date: self.date.filter(|_| !changes.speak_of(b"date")),
            hsts: self.hsts.filter(|_| !changes.speak_of(HSTS.as_bytes())),
        }
    }

    /// Calls back with each, by name and value.
    pub(super) fn each(self, mut write: impl FnMut(&[u8], &[u8])) {
        if let Some(date) = self.date {
            write(b"date", date);
        }
        if let Some(hsts) = self.hsts {
            write(HSTS.as_bytes(), hsts.as_bytes());
        }
    }
}

/// How a host says that it is to be asked by TLS alone (RFC 6797 section 6.1).
pub(super) const HSTS: &str = "strict-transport-security";
