//! What moves when one ring takes the place of another: exactly, from the arcs of both.
//!
//! Owns that comparison. It never samples keys.

use std::cmp::Ordering;

use super::{MemberIndex, Place, Ring};

/// 2^64, the number of places on the circle.
const CIRCLE: f64 = 18_446_744_073_709_551_616.0;

impl Ring {
    /// The share of the circle, from 0 to 1, whose owner has another name in `next`. Between a ring with virtual nodes and one
    /// without any, all of it moves; between two without, nothing.
    pub fn share_moved(&self, next: &Ring) -> f64 {
        let (mut own, mut others) = (self.nodes().peekable(), next.nodes().peekable());
        let (Some(&(_, first)), Some(&(_, other_first))) = (own.peek(), others.peek()) else {
            return if own.len() == others.len() { 0.0 } else { 1.0 };
        };
        // By member of `self`, the member of `next` with its name.
        let namesakes: Vec<_> = self.members().iter().map(|member| next.index_of(&member.name)).collect();
        let is_same = |a: MemberIndex, b: MemberIndex| namesakes[a.as_usize()] == Some(b);
        let (mut moved, mut from) = (0_u128, 0_u128);
        loop {
            // Up to the nearer of the two nodes, that node's member and the other ring's next one own the places.
            let (a, b) = (own.peek().copied(), others.peek().copied());
            let owners = (a.map_or(first, |(_, member)| member), b.map_or(other_first, |(_, member)| member));
            let to = match (a, b) {
                (None, None) => 1 << 64,
                (Some((Place(place), _)), None) | (None, Some((Place(place), _))) => u128::from(place) + 1,
                (Some((Place(a), _)), Some((Place(b), _))) => u128::from(a.min(b)) + 1,
            };
            if !is_same(owners.0, owners.1) {
                moved += to - from;
            }
            from = to;
            match (a, b) {
                (None, None) => return moved as f64 / CIRCLE,
                (Some(_), None) => drop(own.next()),
                (None, Some(_)) => drop(others.next()),
                (Some((a, _)), Some((b, _))) => match a.cmp(&b) {
                    Ordering::Less => drop(own.next()),
                    Ordering::Greater => drop(others.next()),
                    Ordering::Equal => drop((own.next(), others.next())),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Weight;

    fn ring(names: &[&str]) -> Ring {
        Ring::build(names.iter().map(|name| ((*name).into(), Weight::ONE)), 128).unwrap()
    }

    #[test]
    fn what_moves_is_the_share_of_who_comes_or_goes() {
        let (three, four) = (ring(&["a", "b", "c"]), ring(&["a", "b", "c", "d"]));
        let share = four.share(four.index_of("d").unwrap());
        assert!((three.share_moved(&four) - share).abs() < 1e-12);
        assert!((four.share_moved(&three) - share).abs() < 1e-12);
        assert_eq!(three.share_moved(&three), 0.0);
        let nobody = ring(&[]);
        assert_eq!((nobody.share_moved(&three), nobody.share_moved(&ring(&[]))), (1.0, 0.0));
        assert!((ring(&["x"]).share_moved(&ring(&["y"])) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn it_agrees_with_asking_for_many_keys() {
        let (before, after) = (ring(&["a", "b", "c", "d", "e"]), ring(&["b", "c", "d", "f"]));
        let name = |ring: &Ring, place| ring.member(ring.owner(place).unwrap()).name.clone();
        let keys = 40_000;
        let differ = (0..keys).filter(|key: &u32| {
            let place = Place::of(&key.to_be_bytes());
            name(&before, place) != name(&after, place)
        });
        let sampled = differ.count() as f64 / f64::from(keys);
        assert!((before.share_moved(&after) - sampled).abs() < 0.01);
    }
}
