//! The circle: virtual nodes sorted by place, and the table that leads to the right one at once.
//!
//! Owns order, search and the arcs between neighbours. It never hashes, and knows members only as numbers.
//! Start at [`Circle::first_at`].

use std::mem;

use super::Place;

/// Virtual nodes for a slot of the table, at most, on average.
const NODES_PER_SLOT: usize = 8;

/// Places and members stand in two arrays because a search reads many places and then one member.
pub(super) struct Circle {
    places: Box<[Place]>,
    /// By node, its member.
    members: Box<[u16]>,
    /// By the top bits of a place, the first node that has these top bits or larger ones. Four to eight nodes to a
    /// slot: about a cache line of places. A table with a slot for each node saves steps, and loses more than that
    /// because it falls out of the cache itself. Empty if there are no nodes.
    table: Box<[u32]>,
    /// How far a place is shifted right to give its slot.
    shift: u32,
}

impl Circle {
    /// Sorts nodes that are listed by member: the first `counts[0]` places belong to member 0, and so on.
    pub(super) fn of_runs(listed: &[Place], counts: &[usize]) -> Self {
        if listed.is_empty() {
            return Circle { places: [].into(), members: [].into(), table: [].into(), shift: 63 };
        }
        // Two slots at least: a shift by all 64 bits is not defined.
        let slots = (listed.len().next_power_of_two() / NODES_PER_SLOT).max(2);
        let shift = u64::BITS - slots.trailing_zeros();
        let slot = |place: Place| (place.0 >> shift) as usize;

        // A counting sort by slot: hashes are spread evenly, so that afterwards a node is a few steps from its
        // place.
        let mut table = vec![0_u32; slots];
        listed.iter().for_each(|&place| table[slot(place)] += 1);
        let mut start = 0;
        for entry in &mut table {
            start += mem::replace(entry, start);
        }
        let mut places = vec![Place(0); listed.len()];
        let mut members = vec![0_u16; listed.len()];
        let mut rest = listed;
        for (&count, member) in counts.iter().zip(0_u16..) {
            let (own, others) = rest.split_at(count);
            for &place in own {
                let next_free = &mut table[slot(place)];
                places[*next_free as usize] = place;
                members[*next_free as usize] = member;
                *next_free += 1;
            }
            rest = others;
        }
        // Each entry has moved on to where the next slot starts.
        table.copy_within(..slots - 1, 1);
        table[0] = 0;
        sort_nearly_sorted(&mut places, &mut members);
        Circle { places: places.into(), members: members.into(), table: table.into(), shift }
    }

    /// By node in ring order, its place.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// By node in ring order, its member.
    pub(super) fn members(&self) -> &[u16] {
        &self.members
    }

    /// The first node at or after a place; past the last one, the first. `None` if there are no nodes.
    #[inline]
    pub(super) fn first_at(&self, place: Place) -> Option<usize> {
        let start = *self.table.get((place.0 >> self.shift) as usize)? as usize;
        let steps = self.places[start..].iter().position(|&node| node >= place);
        Some(steps.map_or(0, |steps| start + steps))
    }

    /// By member, how many places lie between its nodes and the ones before them. They add up to 2^64.
    pub(super) fn arcs(&self, members: usize) -> Box<[u128]> {
        let mut arcs = vec![0; members];
        if let (Some(first), Some(last)) = (self.places.first(), self.places.last()) {
            let mut before = *last;
            for (place, &member) in self.places.iter().zip(&self.members) {
                arcs[usize::from(member)] += u128::from(place.0.wrapping_sub(before.0));
                before = *place;
            }
            if first == last {
                arcs[usize::from(self.members[0])] = 1 << 64;
            }
        }
        arcs.into()
    }
}

/// Insertion sort by place. It is stable, so that members at one place stay in the order of their numbers.
fn sort_nearly_sorted(places: &mut [Place], members: &mut [u16]) {
    for end in 1..places.len() {
        let mut at = end;
        while at > 0 && places[at - 1] > places[at] {
            places.swap(at - 1, at);
            members.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(runs: &[&[u64]]) -> Circle {
        let listed: Vec<_> = runs.concat().into_iter().map(Place).collect();
        let counts: Vec<_> = runs.iter().map(|run| run.len()).collect();
        Circle::of_runs(&listed, &counts)
    }

    fn owner(circle: &Circle, place: u64) -> u16 {
        circle.members()[circle.first_at(Place(place)).unwrap()]
    }

    #[test]
    fn members_at_one_place_stand_in_the_order_of_their_numbers() {
        let circle = circle(&[&[7, u64::MAX], &[3, 7], &[u64::MAX, 3]]);
        assert_eq!(circle.places(), [3, 3, 7, 7, u64::MAX, u64::MAX].map(Place));
        assert_eq!(circle.members(), [1, 2, 0, 1, 0, 2]);
        assert_eq!((owner(&circle, 3), owner(&circle, 4), owner(&circle, 8)), (1, 0, 0));
        assert_eq!(circle.arcs(3).as_ref(), [(1 << 64) - 4, 4, 0]);
    }

    #[test]
    fn both_ends_of_the_circle_can_be_nodes() {
        let circle = circle(&[&[0], &[u64::MAX]]);
        assert_eq!((owner(&circle, 0), owner(&circle, 1), owner(&circle, u64::MAX)), (0, 1, 1));
        assert_eq!(circle.arcs(2).as_ref(), [1, u128::from(u64::MAX)]);
    }

    #[test]
    fn a_place_past_the_last_node_belongs_to_the_first() {
        let circle = circle(&[&[10], &[1 << 63], &[20]]);
        assert_eq!((owner(&circle, (1 << 63) + 1), owner(&circle, u64::MAX), owner(&circle, 0)), (0, 0, 0));
    }

    #[test]
    fn nodes_that_share_one_place_own_the_whole_circle_by_the_first() {
        assert_eq!(circle(&[&[5], &[5]]).arcs(2).as_ref(), [1 << 64, 0]);
        assert_eq!(circle(&[&[0]]).arcs(1).as_ref(), [1 << 64]);
    }

    #[test]
    fn nodes_crowded_into_one_slot_are_found() {
        let crowd: Vec<u64> = (0..100).rev().map(|step| step * 3).collect();
        let circle = circle(&[&crowd]);
        for place in 0..297 {
            assert_eq!(circle.first_at(Place(place)), Some(place.div_ceil(3) as usize));
        }
        assert_eq!(circle.first_at(Place(298)), Some(0));
    }

    #[test]
    fn nothing_is_found_on_an_empty_circle() {
        let circle = circle(&[&[], &[]]);
        assert_eq!(circle.first_at(Place(0)), None);
        assert_eq!(circle.first_at(Place(u64::MAX)), None);
        assert_eq!(circle.arcs(2).as_ref(), [0, 0]);
    }
}
