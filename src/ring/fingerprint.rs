//! The fingerprint of a ring: what two proxies compare to know that they place keys alike.
//!
//! Owns the text that is hashed and the forms it is shown in. It never covers addresses or the order of
//! listing. Start at [`Fingerprint::short`], the form for a metric.

use std::fmt;

use sha1::{Digest, Sha1};

use super::RingMember;

/// SHA-1 over a ring's version, replicas, names and weights. Shown in full as 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 20]);

impl Fingerprint {
    /// The first 32 bits as an unsigned integer, which a metric's floating point number holds exactly.
    pub fn short(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The digest of `head`, `replicas` and the members, one a line. The members come in byte order of their
    /// names.
    pub(super) fn of<'a>(head: &str, replicas: u32, members: impl Iterator<Item = &'a RingMember>) -> Self {
        let mut digest = Sha1::new_with_prefix(format!("{head}\nreplicas={replicas}\n"));
        for member in members {
            digest.update(format!("{}\t{}\n", member.name, member.weight));
        }
        Fingerprint(digest.finalize().into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
