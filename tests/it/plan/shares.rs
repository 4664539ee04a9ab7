//! What is true of the difference of any two rings.
//!
//! Owns the properties; the rings come from chance.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use ringway::ring::{Place, Ring, Weight};

type Members = BTreeMap<String, Weight>;

fn members() -> impl Strategy<Value = Members> {
    let weight = prop_oneof!["[0-3]", "[0-2]\\.[0-9]{1,3}"].prop_map(|text| text.parse().unwrap());
    prop::collection::btree_map("[ab][0-9]?", weight, 0..10)
}

fn ring(members: &Members, replicas: u32) -> Ring {
    Ring::build(members.iter().map(|(name, weight)| (name.as_str().into(), *weight)), replicas).unwrap()
}

fn owner(ring: &Ring, place: Place) -> Option<String> {
    Some(ring.member(ring.owner(place)?).name.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_stretch_has_the_owners_that_the_rings_name(
        before in members(), after in members(), replicas in 0_u32..40, others in 0_u32..40,
    ) {
        let (before, after) = (ring(&before, replicas), ring(&after, others));
        let mut places = 0;
        let mut wrong = None;
        before.stretches(&after, |stretch| {
            places += stretch.places();
            for place in [stretch.first, stretch.last, Place(stretch.first.0.midpoint(stretch.last.0))] {
                if (before.owner(place), after.owner(place)) != (stretch.before, stretch.after) {
                    wrong = Some(stretch);
                }
            }
        });
        prop_assert_eq!(wrong, None);
        prop_assert_eq!(places, 1_u128 << 64);
    }

    #[test]
    fn shares_per_pair_add_up_to_what_moves_and_to_what_each_gains(
        before in members(), after in members(), replicas in 1_u32..40, others in 1_u32..40,
    ) {
        let (before, after) = (ring(&before, replicas), ring(&after, others));
        let shifts = before.shifts(&after);
        let sum: f64 = shifts.iter().map(|shift| shift.share()).sum();
        prop_assert!((sum - before.share_moved(&after)).abs() < 1e-12);
        let back = after.shifts(&before);
        prop_assert_eq!(shifts.len(), back.len());
        prop_assert_eq!(shifts.iter().map(|s| s.places).sum::<u128>(), back.iter().map(|s| s.places).sum::<u128>());
        // What a name has afterwards is what it had, less what left, and what came.
        let mut held: HashMap<String, i128> = HashMap::new();
        for (ring, arcs, sign) in [(&before, before.arcs(), 1), (&after, after.arcs(), -1)] {
            for (member, arc) in ring.members().iter().zip(arcs) {
                *held.entry(member.name.to_string()).or_default() += sign * *arc as i128;
            }
        }
        for shift in &shifts {
            let from = shift.from.map(|from| before.member(from).name.to_string());
            let to = shift.to.map(|to| after.member(to).name.to_string());
            prop_assert_ne!(&from, &to);
            from.into_iter().for_each(|from| *held.entry(from).or_default() -= shift.places as i128);
            to.into_iter().for_each(|to| *held.entry(to).or_default() += shift.places as i128);
        }
        prop_assert!(held.values().all(|rest| *rest == 0), "{held:?}");
    }

    #[test]
    fn shares_per_pair_agree_with_asking_for_many_keys(
        before in members(), after in members(), replicas in 1_u32..40,
    ) {
        const KEYS: u32 = 4000;
        let (before, after) = (ring(&before, replicas), ring(&after, replicas));
        let mut sampled: HashMap<_, f64> = HashMap::new();
        for key in 0..KEYS {
            let place = Place::of(&key.to_be_bytes());
            let pair = (owner(&before, place), owner(&after, place));
            if pair.0 != pair.1 {
                *sampled.entry(pair).or_default() += 1.0 / f64::from(KEYS);
            }
        }
        for shift in before.shifts(&after) {
            let pair = (
                shift.from.map(|from| before.member(from).name.to_string()),
                shift.to.map(|to| after.member(to).name.to_string()),
            );
            let found = sampled.remove(&pair).unwrap_or(0.0);
            // Six standard deviations, and something for shares that are tiny.
            let bound = 6.0 * (shift.share() * (1.0 - shift.share()) / f64::from(KEYS)).sqrt() + 0.001;
            prop_assert!((found - shift.share()).abs() < bound, "{pair:?}: {found} {}", shift.share());
        }
        prop_assert!(sampled.is_empty(), "{sampled:?}");
    }
}
