//! What moves when one ring takes the place of another: exactly, from the arcs of both.
//!
//! Owns that comparison: one walk round both rings at once, from which all figures come. It never samples keys.

use super::{MemberIndex, Place, Ring};

/// 2^64, the number of places on the circle.
const CIRCLE: f64 = 18_446_744_073_709_551_616.0;

/// Neighbouring places that have one owner before and one after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first of the places.
    pub first: Place,
    /// The last of them.
    pub last: Place,
    /// Their owner in the one ring; `None` if that has no virtual node.
    pub before: Option<MemberIndex>,
    /// Their owner in the other.
    pub after: Option<MemberIndex>,
}

impl Stretch {
    /// How many places it has.
    pub fn places(&self) -> u128 {
        u128::from(self.last.0 - self.first.0) + 1
    }
}

/// What moves from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Who had it; `None`: there was no owner.
    pub from: Option<MemberIndex>,
    /// Who gets it.
    pub to: Option<MemberIndex>,
    /// How many of the 2^64 places.
    pub places: u128,
}

impl Shift {
    /// The share of the circle, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.places as f64 / CIRCLE
    }
}

impl Ring {
    /// Shows the whole circle from place 0 on, stretch by stretch, those that stay and those that move.
    pub fn stretches(&self, next: &Ring, mut see: impl FnMut(Stretch)) {
        let ours = (self.circle.places(), self.circle.members());
        let theirs = (next.circle.places(), next.circle.members());
        // Past the last node the first one owns the places.
        let member = |(_, members): (&[Place], &[u16]), at: usize| {
            members.get(at).or(members.first()).map(|&member| MemberIndex(u32::from(member)))
        };
        let (mut at, mut other_at, mut first) = (0, 0, 0);
        loop {
            // Up to the nearer of the two nodes, that node's member and the other ring's next one own the places.
            let (node, other) = (ours.0.get(at), theirs.0.get(other_at));
            let last = [node, other].into_iter().flatten().min().map_or(u64::MAX, |place| place.0);
            // Of nodes at one place, the first one owns what lies before it.
            if last >= first {
                let (before, after) = (member(ours, at), member(theirs, other_at));
                see(Stretch { first: Place(first), last: Place(last), before, after });
            }
            at += usize::from(node.is_some_and(|place| place.0 == last));
            other_at += usize::from(other.is_some_and(|place| place.0 == last));
            let Some(further) = last.checked_add(1) else { return };
            first = further;
        }
    }

    /// Shows the stretches whose owner has another name in `next`. Between a ring with virtual nodes and one without any, all of it moves;
    /// between two without, nothing.
    pub fn stretches_moved(&self, next: &Ring, mut see: impl FnMut(Stretch)) {
        // By member of `self`, the member of `next` with its name.
        let namesakes: Vec<_> = self.members().iter().map(|member| next.index_of(&member.name)).collect();
        self.stretches(next, |stretch| {
            let namesake = stretch.before.and_then(|before| namesakes[before.as_usize()]);
            let stays = stretch.after == namesake && stretch.before.is_some() == stretch.after.is_some();
            if !stays {
                see(stretch);
            }
        });
    }

    /// The share of the circle, from 0 to 1, whose owner has another name in `next`.
    pub fn share_moved(&self, next: &Ring) -> f64 {
        let mut moved = 0;
        self.stretches_moved(next, |stretch| moved += stretch.places());
        moved as f64 / CIRCLE
    }

    /// By member of this ring, the share of the circle, from 0 to 1, that it owns here and a member of its name owns in `other`.
    pub fn shares_kept(&self, other: &Ring) -> Vec<f64> {
        let mut kept = self.arcs().to_vec();
        self.stretches_moved(other, |stretch| {
            if let Some(before) = stretch.before {
                kept[before.as_usize()] -= stretch.places();
            }
        });
        kept.into_iter().map(|arc| arc as f64 / CIRCLE).collect()
    }

    /// What moves from whom to whom, the most first. It adds up to [`share_moved`](Self::share_moved).
    pub fn shifts(&self, next: &Ring) -> Vec<Shift> {
        let (mut shifts, mut most) = (Vec::new(), AT_ONCE);
        self.stretches_moved(next, |stretch| {
            shifts.push(Shift { from: stretch.before, to: stretch.after, places: stretch.places() });
            // Rings of millions of nodes have far fewer pairs than stretches.
            if shifts.len() == most {
                merge(&mut shifts);
                most = AT_ONCE.max(2 * shifts.len());
            }
        });
        merge(&mut shifts);
        shifts.sort_unstable_by(|a, b| b.places.cmp(&a.places).then((a.from, a.to).cmp(&(b.from, b.to))));
        shifts
    }
}

/// Stretches that are listed before those of one pair become one.
const AT_ONCE: usize = 1 << 20;

/// Makes one of all that have the same ends.
fn merge(shifts: &mut Vec<Shift>) {
    shifts.sort_unstable_by_key(|shift| (shift.from, shift.to));
    shifts.dedup_by(|later, kept| {
        let is_same = (later.from, later.to) == (kept.from, kept.to);
        if is_same {
            kept.places += later.places;
        }
        is_same
    });
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
        assert_eq!(three.share_moved(&nobody), 1.0);
        assert!((ring(&["x"]).share_moved(&ring(&["y"])) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn stretches_cover_the_circle_once() {
        for (before, after) in [(&["a", "b"][..], &["a", "c"][..]), (&[], &["a"]), (&["a"], &[]), (&[], &[])]
        {
            let mut next = 0_u128;
            ring(before).stretches(&ring(after), |stretch| {
                assert_eq!(u128::from(stretch.first.0), next);
                next += stretch.places();
            });
            assert_eq!(next, 1 << 64, "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_moves_comes_to_those_who_are_new() {
        let (before, after) = (ring(&["a", "b", "c"]), ring(&["a", "b", "d"]));
        let shifts = before.shifts(&after);
        let name = |ring: &Ring, member: Option<MemberIndex>| ring.member(member.unwrap()).name.to_string();
        assert!(shifts.iter().all(|shift| name(&before, shift.from) == "c" || name(&after, shift.to) == "d"));
        let sum: f64 = shifts.iter().map(Shift::share).sum();
        assert!((sum - before.share_moved(&after)).abs() < 1e-12);
        assert!(shifts.windows(2).all(|pair| pair[0].places >= pair[1].places));
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
        let kept = before.shares_kept(&after);
        assert!((kept.iter().sum::<f64>() - (1.0 - before.share_moved(&after))).abs() < 1e-12);
        assert_eq!((kept[0], kept[4]), (0.0, 0.0), "a and e have gone");
    }
}
