//! The two figures about balance: the one a ring has, and the one it was to be expected to have.
//!
//! Owns the check of statistics against exact and simulated ones. It never judges which figure is good.

use ringway::ring::Ring;

use super::{build, equal, recorded_pools};

#[test]
fn imbalance_is_the_largest_ratio_of_share_to_weight() {
    let (_, ring, title) =
        recorded_pools().into_iter().find(|(pool, ..)| pool["title"] == "weights").unwrap();
    let ratio = |member: &str, weight: f64| ring.share(ring.index_of(member).unwrap()) / (weight / 3.501);
    let ratios = [ratio("small", 0.5), ratio("one", 1.0), ratio("double", 2.0), ratio("tiny", 0.001)];
    let largest = ratios.into_iter().fold(0.0, f64::max);
    assert!((ring.imbalance() - largest).abs() < 1e-9, "{title}: {ratios:?}, {}", ring.imbalance());
}

/// Against sums of the exact Gamma distribution function, done elsewhere.
#[test]
fn expected_imbalance_agrees_with_the_exact_law() {
    let exact = [
        (3, 512, 1.03757),
        (100, 160, 1.20963),
        (1000, 8, 2.55615),
        (1000, 4, 3.44243),
        (10, 4, 1.89082),
        (1, 512, 1.0),
    ];
    for (members, replicas, expected) in exact {
        let figure = equal(members, replicas).expected_imbalance();
        assert!((figure / expected - 1.0).abs() < 0.01, "{members} members, {replicas} replicas: {figure}");
    }
    for (members, replicas, expected) in
        [(2, 1, 1.5), (10, 1, 2.92897), (1000, 1, 7.48547), (1000, 2, 4.93148)]
    {
        let figure = equal(members, replicas).expected_imbalance();
        assert!((figure / expected - 1.0).abs() < 0.1, "{members} members, {replicas} replicas: {figure}");
    }
    let weights = [("small", "0.5"), ("one", "1"), ("double", "2"), ("tiny", "0.001")];
    let members = weights.map(|(name, weight)| (name.to_owned(), weight.parse().unwrap()));
    let figure = build(&members.into(), 160).expected_imbalance();
    assert!((figure / 6.32776 - 1.0).abs() < 0.1, "{figure}");
}

#[test]
fn expected_imbalance_is_what_many_rings_have_on_average() {
    const RINGS: u32 = 60;
    let ring = |number: u32| {
        let weight = |member: u32| if member < 5 { "2" } else { "1" }.parse().unwrap();
        Ring::build((0..15).map(|member| (format!("{number}/{member}").into(), weight(member))), 50).unwrap()
    };
    let rings: Vec<_> = (0..RINGS).map(ring).collect();
    let mean = rings.iter().map(Ring::imbalance).sum::<f64>() / f64::from(RINGS);
    let expected = rings[0].expected_imbalance();
    assert!((mean - expected).abs() < 0.02, "mean {mean}, expected {expected}");
    assert!(rings.iter().all(|ring| ring.expected_imbalance() == expected));
}
