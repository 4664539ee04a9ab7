//! The ring at its limits: empty and full, names of any length, what is refused and with which advice.
//!
//! Owns the edge cases of rings and weights. It never builds a ring of millions of virtual nodes.

use std::{collections::BTreeSet, sync::Arc};

use ringway::ring::{MAX_MEMBERS, MAX_VIRTUAL_NODES, Place, Ring, RingError, Weight, WeightError};

use super::{Members, build, equal};

#[test]
fn a_ring_without_virtual_nodes_is_legal() {
    let drained = Members::from([("a".to_owned(), Weight::ZERO), ("b".to_owned(), Weight::ZERO)]);
    for members in [Members::new(), drained] {
        let ring = build(&members, 512);
        assert_eq!(ring.members().len(), members.len());
        assert_eq!((ring.node_count(), ring.owner(Place(0)), ring.walk(Place(0)).next()), (0, None, None));
        assert_eq!(ring.nodes_from(Place(u64::MAX)).next(), None);
        assert!(ring.shares().all(|share| share == 0.0));
        assert_eq!((ring.imbalance(), ring.expected_imbalance()), (1.0, 1.0));
    }
    assert_eq!(
        build(&Members::new(), 160).fingerprint().to_string(),
        "44d74ad81f1eec9a8afd5f242d2b20f8822a0d3e"
    );
}

#[test]
fn a_drained_backend_is_a_member_without_keys() {
    let members =
        ["a", "b", "c"].map(|name| (name.to_owned(), if name == "b" { Weight::ZERO } else { Weight::ONE }));
    let ring = build(&members.into(), 16);
    let drained = ring.index_of("b").unwrap();
    assert_eq!((ring.members().len(), ring.share(drained)), (3, 0.0));
    assert!(ring.nodes().all(|(_, member)| member != drained));
    assert_eq!(ring.walk(Place(0)).len(), 2);
    assert_eq!(ring.index_of("d"), None);
}

#[test]
fn walks_are_whole_on_both_sides_of_128_members() {
    for count in [1, 2, 63, 64, 127, 128, 129, 192, 300] {
        let ring = equal(count, 3);
        for place in [0, 1 << 40, 1 << 63, u64::MAX].map(Place) {
            let met: BTreeSet<_> = ring.walk(place).collect();
            assert_eq!((ring.walk(place).count(), met.len()), (count, count), "{count} members, {place:?}");
        }
    }
}

#[test]
fn a_name_of_any_length_is_hashed_whole() {
    for length in [0, 1, 53, 54, 55, 61, 62, 63, 64, 200] {
        let member = "x".repeat(length);
        let ring = build(&Members::from([(member.clone(), Weight::ONE)]), 1200);
        let places: BTreeSet<_> = ring.nodes().map(|(place, _)| place).collect();
        let expected = (0..1200).map(|number| Place::of(format!("{member}-{number}").as_bytes())).collect();
        assert_eq!(places, expected, "a name of {length} bytes");
    }
}

#[test]
fn as_many_members_as_allowed_make_a_ring() {
    let ring = equal(MAX_MEMBERS, 1);
    assert_eq!(ring.members().len(), MAX_MEMBERS);
    assert_eq!(ring.walk(Place(0)).collect::<BTreeSet<_>>().len(), MAX_MEMBERS);
}

#[test]
fn one_member_too_many_is_refused() {
    let endless = (0_u64..).map(|number| (number.to_string().into(), Weight::ZERO));
    assert_eq!(Ring::build(endless, 1).unwrap_err(), RingError::TooManyMembers);
}

#[test]
fn two_members_of_one_name_are_refused() {
    let members = ["b", "a", "b"].map(|name| (name.into(), Weight::ONE));
    let error = Ring::build(members, 1).unwrap_err();
    assert_eq!(error, RingError::DuplicateName("b".into()));
    assert_eq!(error.to_string(), "there are two backends of the name \"b\"");
}

#[test]
fn too_many_virtual_nodes_are_refused_with_replicas_that_fit() {
    let members = || ["a", "b", "c"].map(|name| (name.into(), "1.5".parse().unwrap()));
    let error = Ring::build(members(), 3_000_000).unwrap_err();
    let RingError::TooManyNodes { nodes, cap, replicas_that_fit: Some(fits) } = error else {
        panic!("{error:?}")
    };
    assert_eq!((nodes, cap), (13_500_000, MAX_VIRTUAL_NODES));
    let nodes = |replicas| {
        members().iter().map(|(_, weight): &(Arc<str>, Weight)| weight.nodes(replicas)).sum::<u64>()
    };
    assert!(nodes(fits) <= cap && cap < nodes(fits + 1), "{fits}");
    assert_eq!(
        error.to_string(),
        format!(
            "13500000 virtual nodes are too many, at most 8388608 are allowed: replicas = {fits} would fit"
        )
    );
}

#[test]
fn weights_that_fit_with_no_replicas_are_refused_as_such() {
    let members = (0..9).map(|number| (number.to_string().into(), Weight::MAX));
    let error = Ring::build(members, 1).unwrap_err();
    let expected =
        RingError::TooManyNodes { nodes: 9_000_000, cap: MAX_VIRTUAL_NODES, replicas_that_fit: None };
    assert_eq!(error, expected);
    assert!(error.to_string().ends_with("no replicas would fit, the weights are too large"), "{error}");

    let members = (0..MAX_MEMBERS).map(|number| (number.to_string().into(), Weight::MAX));
    let error = Ring::build(members, u32::MAX).unwrap_err();
    assert!(matches!(error, RingError::TooManyNodes { nodes: u64::MAX, .. }), "{error:?}");
}

#[test]
fn weights_are_plain_decimals_within_bounds() {
    for (written, millionths) in [("0", 0), ("1", 1_000_000), ("0.5", 500_000), ("007.10", 7_100_000)] {
        assert_eq!(written.parse::<Weight>().map(Weight::millionths), Ok(millionths), "{written}");
    }
    assert_eq!("1000000".parse(), Ok(Weight::MAX));
    assert_eq!(("0.000001".parse::<Weight>().unwrap().nodes(1), Weight::ZERO.nodes(u32::MAX)), (1, 0));
    for written in
        ["", ".", "1.", ".5", "+1", "1e3", "1_000", " 1", "1,5", "١", "NaN", "inf", "-", "--1", "1.-5"]
    {
        assert_eq!(written.parse::<Weight>(), Err(WeightError::NotDecimal), "{written:?}");
    }
    for written in ["-1", "-0.5", "-0"] {
        assert_eq!(written.parse::<Weight>(), Err(WeightError::Negative), "{written}");
    }
    assert_eq!("0.0000001".parse::<Weight>(), Err(WeightError::TooPrecise));
    for written in ["1000000.000001", "1000001", "18446744073709551616", "18446744073709551615.999999"] {
        assert_eq!(written.parse::<Weight>(), Err(WeightError::TooLarge), "{written}");
    }
}
