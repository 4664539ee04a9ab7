//! Going round the ring from a place: every virtual node, or every member once.
//!
//! Owns the order in which backends are tried. It never skips a member for a reason of its own: who looks at
//! health or load filters what comes out. Start at [`Walk`].

use std::{
    iter::{Chain, FusedIterator},
    slice,
};

use super::MemberIndex;

/// The members of all virtual nodes in ring order, exactly one turn. From
/// [`Ring::nodes_from`](super::Ring::nodes_from).
#[derive(Clone, Debug)]
pub struct NodesFrom<'a> {
    nodes: Chain<slice::Iter<'a, u16>, slice::Iter<'a, u16>>,
}

impl<'a> NodesFrom<'a> {
    /// One turn over `nodes` that begins at the one with number `first`.
    pub(super) fn new(nodes: &'a [u16], first: usize) -> Self {
        let (before, after) = nodes.split_at(first);
        NodesFrom { nodes: after.iter().chain(before) }
    }
}

impl Iterator for NodesFrom<'_> {
    type Item = MemberIndex;

    #[inline]
    fn next(&mut self) -> Option<MemberIndex> {
        self.nodes.next().map(|&member| MemberIndex(u32::from(member)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.nodes.size_hint()
    }
}

impl FusedIterator for NodesFrom<'_> {}

/// The members that have a virtual node in ring order, each exactly once. From
/// [`Ring::walk`](super::Ring::walk).
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    nodes: NodesFrom<'a>,
    met: Met,
    /// Members not met so far. At 0 the walk ends at once instead of finishing the turn.
    left: usize,
}

impl<'a> Walk<'a> {
    /// A walk along `nodes`, which name `placed` different ones of `members` members.
    pub(super) fn new(nodes: NodesFrom<'a>, members: usize, placed: usize) -> Self {
        Walk { nodes, met: Met::none_of(members), left: placed }
    }
}

impl Iterator for Walk<'_> {
    type Item = MemberIndex;

    #[inline]
    fn next(&mut self) -> Option<MemberIndex> {
        if self.left == 0 {
            return None;
        }
        let met = &mut self.met;
        let next = self.nodes.find(|&member| met.insert(member))?;
        self.left -= 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Walk<'_> {}
impl FusedIterator for Walk<'_> {}

/// A set of members, one bit each.
#[derive(Clone, Debug)]
enum Met {
    Few(u128),
    Many(Box<[u64]>),
}

impl Met {
    fn none_of(members: usize) -> Self {
        if members <= u128::BITS as usize {
            Met::Few(0)
        } else {
            Met::Many(vec![0; members.div_ceil(u64::BITS as usize)].into())
        }
    }

    /// Adds a member, and says whether it is new.
    #[inline]
    fn insert(&mut self, MemberIndex(member): MemberIndex) -> bool {
        match self {
            Met::Few(bits) => {
                let bit = 1 << member;
                let new = *bits & bit == 0;
                *bits |= bit;
                new
            }
            Met::Many(words) => {
                let (word, bit) = (&mut words[(member / u64::BITS) as usize], 1 << (member % u64::BITS));
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_128_members_are_remembered_without_allocating() {
        assert!(matches!(Met::none_of(128), Met::Few(0)));
        assert!(matches!(Met::none_of(129), Met::Many(words) if words.len() == 3));
    }
}
