//! The ring: which backend owns a key, and in which order the others come after it.
//!
//! Owns the placement of virtual nodes and keys (`ring/1`: SHA-1, first 8 bytes, big-endian). It is a
//! function of the set of (name, weight) and `replicas` alone. It never knows an address, health, a clock or
//! a socket. Start at [`Ring::build`] and [`Ring::owner`]; `circle` finds nodes, `walk` goes on from one.

mod balance;
mod build;
mod circle;
mod difference;
mod fingerprint;
mod walk;
mod weight;

use std::{fmt, sync::Arc};

use sha1::{Digest, Sha1};

use circle::Circle;

pub use build::{MAX_MEMBERS, MAX_VIRTUAL_NODES, RingError};
pub use difference::{Shift, Stretch};
pub use fingerprint::Fingerprint;
pub use walk::{NodesFrom, Walk};
pub use weight::{Weight, WeightError};

/// A position on the circle 0 ..= 2^64 − 1, which wraps around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

impl Place {
    /// The place of bytes: the first 8 bytes of their SHA-1 digest, read as a big-endian integer.
    #[inline]
    pub fn of(bytes: &[u8]) -> Place {
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 20]>::from(Sha1::digest(bytes));
        Place(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// A member's position in [`Ring::members`]. It has a meaning only together with the ring it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(pub u32);

impl MemberIndex {
    /// The same number, for indexing a slice that is parallel to [`Ring::members`].
    #[inline]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// One backend as the ring knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingMember {
    /// The name, which alone decides where the virtual nodes lie.
    pub name: Arc<str>,
    /// The weight, which decides how many there are. A member of weight 0 has none and owns nothing.
    pub weight: Weight,
}

/// A consistent-hash ring of virtual nodes. It does not change once built.
///
/// It takes 14 to 18 bytes for a virtual node: 8 for its place, 2 for its member, 4 to 8 for the look-up
/// table.
///
/// ```
/// use ringway::ring::{Place, Ring, Weight};
///
/// let pool = ["cache-1", "cache-2", "cache-3"].map(|name| (name.into(), Weight::ONE));
/// let ring = Ring::build(pool, 512)?;
/// let owner = ring.owner(Place::of(b"user-42")).expect("the pool is not empty");
/// assert_eq!(&*ring.member(owner).name, "cache-3");
/// # Ok::<(), ringway::ring::RingError>(())
/// ```
pub struct Ring {
    replicas: u32,
    members: Box<[RingMember]>,
    circle: Circle,
    /// By member: how many of the 2^64 places it owns.
    arcs: Box<[u128]>,
    /// Members that have a virtual node.
    placed: usize,
    fingerprint: Fingerprint,
}

impl Ring {
    /// All members in byte order of the name, those of weight 0 too.
    pub fn members(&self) -> &[RingMember] {
        &self.members
    }

    /// One member.
    ///
    /// # Panics
    ///
    /// If `index` comes from another ring and is past the end of this one.
    #[inline]
    pub fn member(&self, index: MemberIndex) -> &RingMember {
        &self.members[index.as_usize()]
    }

    /// Where the member of this name stands in [`members`](Self::members).
    pub fn index_of(&self, name: &str) -> Option<MemberIndex> {
        let found = self.members.binary_search_by(|member| (*member.name).cmp(name)).ok()?;
        Some(MemberIndex(u32::try_from(found).expect("a ring has at most 65 535 members")))
    }

    /// Virtual nodes per unit of weight, as given to [`build`](Self::build).
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// The owner of a place: the member of the first virtual node at or after it, past the last one the
    /// first. `None` if no member has a virtual node.
    #[inline]
    pub fn owner(&self, place: Place) -> Option<MemberIndex> {
        let first = self.circle.first_at(place)?;
        Some(MemberIndex(u32::from(self.circle.members()[first])))
    }

    /// The members of all virtual nodes clockwise from the owner's node, exactly one turn. A member comes as
    /// often as it has virtual nodes. Does not allocate.
    pub fn nodes_from(&self, place: Place) -> NodesFrom<'_> {
        let first = self.circle.first_at(place).unwrap_or(0);
        NodesFrom::new(self.circle.members(), first)
    }

    /// The members in ring order from the owner on: each that has a virtual node exactly once.
    /// Allocates nothing in rings of up to 128 members, and once in larger ones.
    pub fn walk(&self, place: Place) -> Walk<'_> {
        Walk::new(self.nodes_from(place), self.members.len(), self.placed)
    }

    /// How many virtual nodes there are.
    pub fn node_count(&self) -> usize {
        self.circle.members().len()
    }

    /// All virtual nodes in ring order from place 0 on. At one place the member of the smaller name comes
    /// first.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (Place, MemberIndex)> {
        let owner_of = |(&place, &member): (&Place, &u16)| (place, MemberIndex(u32::from(member)));
        self.circle.places().iter().zip(self.circle.members()).map(owner_of)
    }

    /// The virtual nodes clockwise from the owner's node of a place, exactly one turn.
    pub fn nodes_after(&self, place: Place) -> impl Iterator<Item = (Place, MemberIndex)> {
        let first = self.circle.first_at(place).unwrap_or(0);
        let (places_before, places) = self.circle.places().split_at(first);
        let (members_before, members) = self.circle.members().split_at(first);
        let nodes = places.iter().zip(members).chain(places_before.iter().zip(members_before));
        nodes.map(|(&place, &member)| (place, MemberIndex(u32::from(member))))
    }

    /// SHA-1 over replicas, names and weights. Two rings with one fingerprint place every key alike.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The fingerprint of those members alone for which `serves` says yes; what it covers begins with other
    /// bytes, so it differs from [`fingerprint`](Self::fingerprint) also when all of them serve.
    pub fn serving_fingerprint(&self, mut serves: impl FnMut(MemberIndex) -> bool) -> Fingerprint {
        let serving = (0..).map(MemberIndex).zip(&self.members).filter(|(index, _)| serves(*index));
        Fingerprint::of("ring/1 serving", self.replicas, serving.map(|(_, member)| member))
    }
}

impl fmt::Debug for Ring {
    /// A summary: a ring may have millions of virtual nodes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("replicas", &self.replicas)
            .field("members", &self.members.len())
            .field("nodes", &self.node_count())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
