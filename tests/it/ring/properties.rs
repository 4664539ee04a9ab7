//! What holds for every ring: who owns what, what moves when membership changes, how shares follow weights.
//!
//! Owns the properties. It never names a placement: that is for the recorded vectors.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use ringway::ring::{Place, Ring, Weight};

use super::{Members, build, name};

/// What is left of the members without the one of this number in order.
fn without(members: &Members, number: usize) -> (String, Members) {
    let name = members.keys().nth(number % members.len()).unwrap().clone();
    let mut rest = members.clone();
    rest.remove(&name);
    (name, rest)
}

fn weight() -> impl Strategy<Value = Weight> {
    let written = prop_oneof!["[0-3]", "[0-2]\\.[0-9]{1,3}", Just("1".to_owned()), Just("0".to_owned())];
    written.prop_map(|written: String| written.parse().unwrap())
}

/// Names that often are beginnings of others or end in digits, where careless hashing goes wrong.
fn members() -> impl Strategy<Value = Members> {
    prop::collection::btree_map("[ab]-?[0-9]{0,3}|[a-z0-9.:]{1,20}|\\PC{1,8}", weight(), 1..10)
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    prop::collection::vec(any::<u64>().prop_map(Place), 20)
}

/// Where a search could go wrong: at each virtual node, on either side of it, and at the ends of the circle.
fn edges(ring: &Ring) -> Vec<Place> {
    let nodes = ring.nodes().flat_map(|(Place(at), _)| [at.wrapping_sub(1), at, at.wrapping_add(1)]);
    nodes.chain([0, 1, u64::MAX - 1, u64::MAX]).map(Place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_of_listing_does_not_matter(
        listed in members().prop_map(|members| members.into_iter().collect::<Vec<_>>()).prop_shuffle(),
        replicas in 0_u32..40,
    ) {
        let sorted = build(&listed.iter().cloned().collect(), replicas);
        let listed = listed.iter().map(|(name, weight)| (Arc::from(name.as_str()), *weight));
        let ring = Ring::build(listed, replicas).unwrap();
        prop_assert!(ring.members().is_sorted_by(|a, b| a.name.as_bytes() < b.name.as_bytes()));
        prop_assert_eq!(ring.members(), sorted.members());
        prop_assert!(ring.nodes().eq(sorted.nodes()));
        prop_assert_eq!(ring.fingerprint(), sorted.fingerprint());
    }

    #[test]
    fn removing_a_backend_moves_its_keys_only(
        members in members(), number: usize, replicas in 0_u32..40, places in places(),
    ) {
        let (removed, rest) = without(&members, number);
        let (before, after) = (build(&members, replicas), build(&rest, replicas));
        for place in places {
            let old_walk = before.walk(place).map(|member| name(&before, member));
            let expected: Vec<_> = old_walk.filter(|name| *name != removed).collect();
            let walk: Vec<_> = after.walk(place).map(|member| name(&after, member)).collect();
            prop_assert_eq!(walk, expected, "without {:?}, {:?}", removed, place);
        }
    }

    #[test]
    fn adding_a_backend_moves_keys_to_it_only(
        members in members(), number: usize, replicas in 0_u32..40, places in places(),
    ) {
        let (added, old) = without(&members, number);
        let (before, after) = (build(&old, replicas), build(&members, replicas));
        let mut lost = 0;
        for (member, arc) in before.members().iter().zip(before.arcs()) {
            let now = after.arcs()[after.index_of(&member.name).unwrap().as_usize()];
            prop_assert!(now <= *arc, "{} gained", member.name);
            lost += arc - now;
        }
        let gained = after.arcs()[after.index_of(&added).unwrap().as_usize()];
        prop_assert!(gained == lost || before.node_count() == 0, "{} gained {} of {}", added, gained, lost);
        for place in places {
            let owner = before.owner(place).map(|member| name(&before, member));
            let new_owner = after.owner(place).map(|member| name(&after, member));
            prop_assert!(new_owner == owner || new_owner == Some(&added), "{:?} to {:?}", owner, new_owner);
        }
    }

    #[test]
    fn a_walk_meets_each_backend_exactly_once(
        members in members(), replicas in 0_u32..40, places in places(),
    ) {
        let ring = build(&members, replicas);
        let placed: BTreeSet<_> = ring.nodes().map(|(_, member)| member).collect();
        for place in places {
            let mut walk = ring.walk(place);
            let mut met = Vec::new();
            for left in (0..placed.len()).rev() {
                met.extend(walk.next());
                prop_assert_eq!(walk.len(), left);
            }
            prop_assert_eq!(walk.next(), None);
            prop_assert_eq!(met.first().copied(), ring.owner(place));
            prop_assert_eq!(met.len(), placed.len());
            prop_assert_eq!(&met.into_iter().collect::<BTreeSet<_>>(), &placed);
        }
    }

    #[test]
    fn the_table_finds_what_a_binary_search_finds(
        members in members(), replicas in 0_u32..40, places in places(),
    ) {
        let ring = build(&members, replicas);
        let nodes: Vec<_> = ring.nodes().collect();
        for place in places.into_iter().chain(edges(&ring)) {
            let at = nodes.partition_point(|(node, _)| *node < place);
            let owner = nodes.get(at).or(nodes.first()).map(|(_, member)| *member);
            prop_assert_eq!(ring.owner(place), owner, "{:?}", place);
            let turn = nodes[at..].iter().chain(&nodes[..at]).map(|(_, member)| *member);
            prop_assert!(ring.nodes_from(place).eq(turn), "{:?}", place);
        }
    }

    #[test]
    fn shares_are_the_arcs_and_sum_to_one(members in members(), replicas in 0_u32..40) {
        let ring = build(&members, replicas);
        let all = if ring.node_count() == 0 { 0 } else { 1_u128 << 64 };
        prop_assert_eq!(ring.arcs().iter().sum::<u128>(), all);
        let whole = if all == 0 { 0.0 } else { 1.0 };
        prop_assert!((ring.shares().sum::<f64>() - whole).abs() < 1e-12);
        for (arc, share) in ring.arcs().iter().zip(ring.shares()) {
            prop_assert_eq!(*arc as f64 / 2_f64.powi(64), share);
        }
    }

    /// So a backend that is added takes about its share. A share is a Gamma(nodes) over the sum of all, and
    /// its cube root strays from the mean by 1 / (3 √nodes): by seven times that less often than once in
    /// 10^10.
    #[test]
    fn shares_follow_weights_within_what_replicas_allow(members in members(), replicas in 20_u32..80) {
        let ring = build(&members, replicas);
        let total = ring.node_count() as f64;
        for (member, share) in ring.members().iter().zip(ring.shares()) {
            let nodes = member.weight.nodes(replicas) as f64;
            let own = ring.nodes().filter(|(_, index)| ring.member(*index).name == member.name).count();
            prop_assert_eq!(own as f64, nodes);
            if nodes == 0.0 || nodes == total {
                prop_assert_eq!(share, nodes / total.max(1.0));
                continue;
            }
            let edge = |far: f64| (1.0 - 1.0 / (9.0 * nodes) + far / (3.0 * nodes.sqrt())).max(0.0).powi(3);
            let ratio = share / (nodes / total);
            let within = edge(-7.0) <= ratio && ratio <= edge(7.0);
            prop_assert!(within, "{}: {} with {} of {} nodes", member.name, share, nodes, total);
        }
    }

    #[test]
    fn the_fingerprint_tells_rings_apart(
        one in members(), two in members(), replicas in 1_u32..3, other in 1_u32..3,
    ) {
        let same = one == two && replicas == other;
        let (one, two) = (build(&one, replicas), build(&two, other));
        prop_assert_eq!(one.fingerprint() == two.fingerprint(), same);
        prop_assert_ne!(one.serving_fingerprint(|_| true), one.fingerprint());
    }

    #[test]
    fn a_weight_is_read_as_it_is_shown(units in 0_u64..1_000_000, fraction in 0_u64..1_000_000) {
        let weight: Weight = format!("{units}.{fraction:06}").parse().unwrap();
        prop_assert_eq!(weight.millionths(), units * 1_000_000 + fraction);
        let shown = weight.to_string();
        prop_assert!(!shown.contains('.') || !shown.ends_with(['0', '.']), "{}", shown);
        prop_assert_eq!(shown.parse(), Ok(weight));
    }

    #[test]
    fn node_counts_round_halves_up(units in 0_u64..1_000_000, fraction in 0_u64..1_000_000, replicas: u32) {
        let weight: Weight = format!("{units}.{fraction:06}").parse().unwrap();
        let exact = u128::from(weight.millionths()) * u128::from(replicas);
        let rounded = ((exact + 500_000) / 1_000_000).max(u128::from(!weight.is_zero()));
        prop_assert_eq!(u128::from(weight.nodes(replicas)), rounded);
    }
}
