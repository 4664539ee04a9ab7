//! Replays against theory: what rings, the bound on load and caches are known to do, and what the simulator says they did.
//!
//! Each law is computed here, by formula or by a naive model; the simulator has no part in it. All is seeded, and no clock is read. With `--nocapture`
//! they print the figures of docs/replay.md.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use ringway::{
    analysis::replay::{
        Admitted, Arrival, CacheSize, Event, Generator, Outcome, Scenario, Span, Synthetic, Watcher, play,
        play_one,
    },
    fleet::{LoadPolicy, MemberPolicy, Moment, OnAllDown, PoolPlan},
    proxy::{choose::Rules, policy::WhenFull},
    ring::{MemberIndex, Place, Ring, Weight},
    tally::OffOwner,
};

mod command;

const BACKENDS: usize = 10;

fn epoch() -> Moment {
    Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH }
}

fn plan(set: &str, backends: usize, replicas: u32, factor: f64, floor: u32) -> PoolPlan {
    let members = (0..backends).map(|i| MemberPolicy {
        name: format!("{set}{i}").into(),
        address: "127.0.0.1:80".parse().unwrap(),
        weight: Weight::ONE,
    });
    let mut plan = PoolPlan::new("p", replicas, members.collect());
    plan.load = LoadPolicy { factor, floor, ..LoadPolicy::default() };
    plan
}

fn scenario(plan: PoolPlan) -> Scenario {
    let rules =
        Rules { attempts: 3, on_all_down: OnAllDown::Refuse, owner_only: false, when_full: WhenFull::Next };
    Scenario::new(plan, rules)
}

fn trace(words: &str, seed: u64) -> Generator {
    Generator::new(words.parse::<Synthetic>().unwrap(), seed)
}

fn played(scenario: &Scenario, trace: impl Iterator<Item = Arrival>) -> Outcome {
    play_one(scenario, epoch(), trace, &mut ()).unwrap()
}

/// The ring that a plan makes, built anew.
fn ring(plan: &PoolPlan) -> Ring {
    Ring::build(plan.members.iter().map(|member| (member.name.clone(), member.weight)), plan.replicas)
        .unwrap()
}

#[test]
fn the_keyspace_is_as_uneven_as_theory_has_it_for_16_160_and_512_replicas() {
    const SETS: usize = 60;
    for replicas in [16_u32, 160, 512] {
        let (mut squares, mut worst, mut expected) = (0.0, 0.0, 0.0);
        for set in 0..SETS {
            let plan = plan(&format!("set-{set}-"), BACKENDS, replicas, 0.0, 0);
            // The share of the keyspace is what the simulator reports of the ring it plays on; the spread comes from the arcs.
            let outcome = played(&scenario(plan.clone()), trace("uniform,keys=1,requests=1", 1));
            let shares: Vec<f64> = ring(&plan).shares().map(|share| share * BACKENDS as f64).collect();
            let largest = shares.iter().copied().fold(0.0, f64::max);
            assert!((outcome.ring_imbalance - largest).abs() < 1e-9);
            squares += shares.iter().map(|ratio| (ratio - 1.0).powi(2)).sum::<f64>();
            worst += outcome.ring_imbalance / SETS as f64;
            expected = outcome.ring_expected;
        }
        let (n, v) = (BACKENDS as f64, f64::from(replicas));
        let deviation = (squares / (SETS as f64 * n)).sqrt();
        // Shares of a circle cut at N V random places: Dirichlet.
        let theory = ((n - 1.0) / (n * v + 1.0)).sqrt();
        // The deviation of a sample has an error of 1 / sqrt(2 degrees of freedom); four of them.
        let error = 4.0 / (2.0 * SETS as f64 * (n - 1.0)).sqrt();
        println!(
            "{replicas} replicas: deviation {deviation:.4}, theory {theory:.4}; worst {worst:.4}, theory {expected:.4}"
        );
        assert!((deviation / theory - 1.0).abs() < error, "{replicas}: {deviation} {theory}");
        // The largest of N normal ratios exceeds the mean by E[max] deviations: 1.5388 for ten. That of Gamma ratios, by some more.
        let exact = (expected - 1.0) / theory;
        assert!((1.5388..1.8).contains(&exact), "{replicas}: {exact}");
        // Its own deviation is 0.59 of theirs (ten normals); four errors of the mean of all sets.
        let error = 4.0 * 0.62 * theory / (SETS as f64).sqrt();
        assert!((worst - expected).abs() < error, "{replicas}: {worst} {expected}");
        // The rule of thumb is what it tends to for many: an upper bound for ten.
        let thumb = 1.0 + (2.0 * n.ln() / v).sqrt();
        assert!(worst < thumb && worst - 1.0 > 0.6 * (thumb - 1.0), "{replicas}: {worst} {thumb}");
    }
}

#[test]
fn the_load_of_uniform_keys_follows_the_shares_of_the_keyspace() {
    for replicas in [16, 160, 512] {
        let plan = plan("cache-", BACKENDS, replicas, 0.0, 0);
        let requests = 100_000.0;
        let outcome = played(&scenario(plan.clone()), each_another_key(100_000));
        let ring = ring(&plan);
        for backend in &outcome.backends {
            let share = ring.share(ring.index_of(&backend.backend).unwrap());
            let deviation = (share * (1.0 - share) / requests).sqrt();
            let load = backend.requests as f64 / requests;
            assert!((load - share).abs() < 5.0 * deviation, "{replicas}: {load} {share}");
        }
        assert!((outcome.greatest_to_mean - ring.imbalance()).abs() < 0.05);
        assert_eq!((outcome.away, outcome.refused), (0.0, 0));
    }
}

/// Requests with a key each, spread over the circle by chance.
fn each_another_key(requests: u64) -> impl Iterator<Item = Arrival> {
    let mut rng = fastrand::Rng::with_seed(2);
    (0..requests).map(move |number| {
        let place = Place(rng.u64(..));
        Arrival { at: number * 500_000, place, object: place.0, took: None, bytes: 0 }
    })
}

/// Requests in flight as this test counts them, and the bound at each admission.
#[derive(Default)]
struct Bound {
    factor: f64,
    floor: u64,
    ends: Vec<(u64, String)>,
    in_flight: BTreeMap<String, u64>,
    spilled: u64,
    at_the_floor: u64,
    most: u64,
}

impl Watcher for Bound {
    fn admitted(&mut self, admitted: Admitted<'_>) {
        let name = |member: MemberIndex| admitted.pool.ring.member(member).name.to_string();
        let now = admitted.arrival.at;
        for (_, ended) in self.ends.extract_if(.., |(end, _)| *end <= now) {
            *self.in_flight.get_mut(&ended).unwrap() -= 1;
        }
        let load = self.in_flight.entry(name(admitted.chosen)).or_default();
        *load += 1;
        let load = *load;
        self.ends.push((now + admitted.took, name(admitted.chosen)));
        let total: u64 = self.in_flight.values().sum();
        // The paper's bound, the request that comes included: ceil(c (m + 1) / n).
        let bound = (self.factor * total as f64 / admitted.pool.members.len() as f64 - 1e-9).ceil() as u64;
        assert!(
            load <= bound.max(self.floor),
            "{load} in flight at a backend, {total} in all, bound {bound}"
        );
        self.most = self.most.max(load);
        self.at_the_floor += u64::from(load > bound);
        self.spilled += u64::from(admitted.off_owner == Some(OffOwner::Spill));
    }
}

#[test]
fn no_backend_is_given_a_request_above_the_bound_beyond_the_floor() {
    // 5000 requests in a second of 20 ms each: a hundred in flight, ten at a backend, and one key has a tenth of them.
    for (factor, floor) in [(1.1, 0), (1.25, 0), (1.5, 0), (1.25, 16), (1.25, 32)] {
        let scenario = scenario(plan("cache-", BACKENDS, 160, factor, floor));
        let mut bound = Bound { factor, floor: floor.into(), ..Bound::default() };
        let requests = trace("zipf:1.1,keys=10000,requests=30000,rate=5000", 3);
        let outcome = play_one(&scenario, epoch(), requests, &mut bound).unwrap();
        assert_eq!(outcome.requests, 30_000);
        assert_eq!(outcome.spilled, bound.spilled as f64 / 30_000.0);
        assert_eq!(u64::from(outcome.most_in_flight), bound.most);
        assert_eq!(bound.at_the_floor > 0, floor > 0, "only the floor lets a backend be above it");
        assert!(floor == 32 || outcome.spilled > 0.01, "{}", outcome.spilled);
    }
}

/// The same without any of the proxy's code but the ring's order of nodes: counts in a list, ends in another.
fn naive_away(
    plan: &PoolPlan,
    factor: f64,
    floor: u64,
    took: u64,
    trace: impl Iterator<Item = Arrival>,
) -> (u64, u64) {
    let ring = ring(plan);
    let count = plan.members.len();
    let mut in_flight = vec![0_u64; count];
    let mut ends: std::collections::VecDeque<(u64, usize)> = std::collections::VecDeque::new();
    let (mut requests, mut away) = (0, 0);
    for Arrival { at, place, .. } in trace {
        while ends.front().is_some_and(|(end, _)| *end <= at) {
            in_flight[ends.pop_front().unwrap().1] -= 1;
        }
        let total: u64 = in_flight.iter().sum();
        let bound = (factor * (total + 1) as f64 / count as f64 - 1e-9).ceil() as u64;
        let order: Vec<usize> = ring.walk(place).map(MemberIndex::as_usize).collect();
        let chosen = order.iter().copied().find(|&at| in_flight[at] < floor.max(bound));
        let chosen = chosen.expect("a bound above the mean leaves room at one of them");
        requests += 1;
        away += u64::from(chosen != order[0]);
        in_flight[chosen] += 1;
        ends.push_back((at + took, chosen));
    }
    (requests, away)
}

#[test]
fn the_affinity_that_the_bound_costs_is_what_a_naive_model_loses() {
    let requests = || trace("zipf:1.0,keys=20000,requests=20000,rate=5000", 4);
    let mut lost = Vec::new();
    for (factor, floor) in [(1.1, 0), (1.25, 0), (1.25, 8), (1.5, 0), (2.0, 0)] {
        let plan = plan("cache-", BACKENDS, 160, factor, floor);
        let outcome = played(&scenario(plan.clone()), requests());
        let (all, away) = naive_away(&plan, factor, floor.into(), 20_000_000, requests());
        assert_eq!(outcome.away, away as f64 / all as f64, "factor {factor}, floor {floor}");
        assert_eq!(outcome.away_by, [("spill", outcome.away)]);
        println!(
            "factor {factor}, floor {floor}: {:.4} away, most in flight {}",
            outcome.away, outcome.most_in_flight
        );
        lost.push((factor, floor, outcome.away));
    }
    // A tighter bound costs more, and a floor gives some of it back.
    let at = |factor, floor| lost.iter().find(|(f, l, _)| (*f, *l) == (factor, floor)).unwrap().2;
    assert!(at(1.1, 0) > at(1.25, 0) && at(1.25, 0) > at(1.5, 0) && at(1.5, 0) > at(2.0, 0), "{lost:?}");
    assert!(at(1.25, 8) < at(1.25, 0), "{lost:?}");
}

/// Che's approximation: an object stays in an LRU of C objects for a time T that is nearly the same for all, so that the expected number of objects that were
/// asked for within T is C (Che, Tung and Wang, 2002). The share of hits follows.
fn che(weights: &[f64], objects: f64) -> f64 {
    if weights.len() as f64 <= objects {
        return 1.0;
    }
    let held = |time: f64| weights.iter().map(|weight| 1.0 - (-weight * time).exp()).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while held(high) < objects {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if held(middle) < objects { low = middle } else { high = middle }
    }
    let hits: f64 = weights.iter().map(|weight| weight * (1.0 - (-weight * high).exp())).sum();
    hits / weights.iter().sum::<f64>()
}

#[test]
fn hits_are_what_ches_approximation_says_when_the_caches_are_warm() {
    let keys = 20_000;
    for (exponent, objects) in [(0.8, 200), (1.0, 200), (1.0, 1000)] {
        let plan = plan("cache-", BACKENDS, 160, 0.0, 0);
        let mut scenario = scenario(plan.clone());
        scenario.cache = Some(CacheSize::Objects(objects));
        let requests = trace(&format!("zipf:{exponent},keys={keys},requests=300000,rate=10000"), 5);
        let ring = ring(&plan);
        // By backend, how often each of its keys is asked for.
        let mut weights = vec![Vec::new(); BACKENDS];
        for (rank, place) in (1..).zip(requests.places()) {
            weights[ring.owner(*place).unwrap().as_usize()].push(f64::from(rank).powf(-exponent));
        }
        let outcome = played(&scenario, requests);
        // The second half: by then they are full.
        let half = outcome.windows.len() / 2;
        let (mut requests, mut hits, mut expected) = (0.0, 0.0, 0.0);
        for (at, backend) in outcome.backends.iter().enumerate() {
            let member = ring.index_of(&backend.backend).unwrap().as_usize();
            let sum = |counts: fn(&Span) -> &Vec<u32>| {
                outcome.windows[half..].iter().map(|span| f64::from(counts(span)[at])).sum::<f64>()
            };
            let (own, found) = (sum(|span| &span.requests), sum(|span| &span.hits));
            let share = che(&weights[member], objects.into());
            // The approximation is good to about a hundredth; the sample adds four deviations.
            let error = 0.01 + 4.0 * (share * (1.0 - share) / own).sqrt();
            assert!((found / own - share).abs() < error, "{exponent} {objects}: {} {share}", found / own);
            (requests, hits, expected) = (requests + own, hits + found, expected + share * own);
        }
        println!(
            "zipf {exponent}, {objects} objects: {:.4} hits, theory {:.4}",
            hits / requests,
            expected / requests
        );
        assert!((hits / expected - 1.0).abs() < 0.02, "{hits} {expected}");
        assert!(outcome.hits.unwrap() < hits / requests, "a cold start costs hits");
    }
}

fn with_events(mut scenario: Scenario, events: &[&str]) -> Scenario {
    scenario.events = events.iter().map(|event| event.parse::<Event>().unwrap()).collect();
    scenario
}

#[test]
fn each_event_moves_the_keys_that_must_move_and_costs_their_hits() {
    let plan = plan("cache-", 5, 512, 0.0, 0);
    let shares = ring(&plan);
    let mut scenario = with_events(
        scenario(plan.clone()),
        &[
            "20s:down:cache-1",
            "40s:up:cache-1",
            "60s:add:cache-9",
            "80s:drain:cache-2",
            "100s:restore:cache-2",
            "105s:remove:cache-9",
            "110s:weight:cache-3=0.5",
        ],
    );
    scenario.cache = Some(CacheSize::Objects(10_000));
    scenario.around = 2_000_000_000;
    let outcome = played(&scenario, trace("zipf:0.9,keys=2000,requests=240000,rate=2000", 6));
    let grown = {
        let mut grown = plan.clone();
        grown.members.push(MemberPolicy { name: "cache-9".into(), ..grown.members[0].clone() });
        ring(&grown)
    };
    let lighter = {
        let mut lighter = plan.clone();
        lighter.members[3].weight = "0.5".parse().unwrap();
        ring(&lighter)
    };
    let share = |ring: &Ring, name: &str| ring.share(ring.index_of(name).unwrap());
    let expected = [
        share(&shares, "cache-1"),
        share(&shares, "cache-1"),
        share(&grown, "cache-9"),
        share(&grown, "cache-2"),
        share(&grown, "cache-2"),
        share(&grown, "cache-9"),
        shares.share_moved(&lighter),
    ];
    assert_eq!(outcome.changes.len(), expected.len());
    for (change, expected) in outcome.changes.iter().zip(expected) {
        assert!((change.keys_moved - expected).abs() < 1e-9, "{change:?}, {expected}");
        let moved = change.requests_moved.unwrap();
        assert!((moved - expected).abs() < 0.15, "{change:?}");
    }
    let hits: Vec<_> = outcome
        .changes
        .iter()
        .map(|change| (change.hits_before.unwrap(), change.hits_after.unwrap()))
        .collect();
    assert!(hits[0].1 < hits[0].0 - 0.02, "who goes takes its hits along: {hits:?}");
    assert!(hits[2].1 < hits[2].0 - 0.02, "who comes is cold: {hits:?}");
    assert!(hits[4].1 > hits[3].1, "a drained backend has kept its cache: {hits:?}");
    let down =
        &outcome.backends[outcome.backends.iter().position(|backend| backend.backend == "cache-1").unwrap()];
    let at = outcome.backends.iter().position(|backend| backend.backend == "cache-1").unwrap();
    assert!(
        outcome
            .windows
            .iter()
            .filter(|span| (21.0..39.0).contains(&span.from))
            .all(|span| span.requests[at] == 0)
    );
    assert!(down.requests > 0 && (down.requests as f64 / down.fair - 1.0).abs() < 0.6);
}

#[test]
fn a_ramp_brings_keys_back_one_after_the_other_and_each_once() {
    let mut plan = plan("cache-", 5, 512, 0.0, 0);
    plan.ramp = std::time::Duration::from_secs(30);
    let share = ring(&plan).share(MemberIndex(1));
    let scenario = with_events(scenario(plan), &["10s:down:cache-1", "20s:up:cache-1"]);
    let outcome = played(&scenario, each_another_key(120_000));
    let part = |from: f64| {
        let span = outcome.windows.iter().find(|span| span.from >= from).unwrap();
        f64::from(span.requests[1]) / span.requests.iter().sum::<u32>() as f64 / share
    };
    assert_eq!(part(15.0), 0.0);
    // In the middle of its 30 s it has half of its keys; windows have 2000 requests, its part of which is 400.
    for (at, expected) in [(27.0, 0.25), (34.5, 0.5), (42.0, 0.75), (55.0, 1.0)] {
        assert!((part(at) - expected).abs() < 0.2, "{at}: {}", part(at));
    }
    let reasons: Vec<_> = outcome.away_by.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, ["owner_down", "ramp"]);
}

#[test]
fn a_ramp_by_hits_waits_until_the_cache_is_warm() {
    let mut by_hits = plan("cache-", 5, 512, 0.0, 0);
    (by_hits.ramp, by_hits.ramp_hits) = (std::time::Duration::from_secs(120), 0.6);
    let mut scenario = with_events(scenario(by_hits), &["10s:down:cache-1", "20s:up:cache-1"]);
    scenario.cache = Some(CacheSize::Objects(10_000));
    // Few keys warm a cache in seconds, so many that none comes twice never do.
    let ended = |trace: &mut dyn Iterator<Item = Arrival>| {
        let outcome = played(&scenario, trace);
        let full = outcome.windows.iter().filter(|span| span.from > 21.0);
        let full = full.map(|span| {
            (span.from, f64::from(span.requests[1]) / f64::from(span.requests.iter().sum::<u32>()))
        });
        full.skip_while(|(_, share)| *share < 0.1).map(|(from, _)| from).next()
    };
    let warm = ended(&mut trace("uniform,keys=300,requests=80000,rate=1000", 10));
    assert!(warm.is_some_and(|from| from < 60.0), "{warm:?}");
    let cold = ended(&mut each_another_key(80_000 * 2));
    assert!(cold.is_none(), "{cold:?}");
}

#[test]
fn a_grid_played_at_once_is_each_of_its_cells_played_alone() {
    let factors = [0.0, 1.1, 1.25];
    let mut scenarios: Vec<_> = factors.map(|factor| scenario(plan("cache-", 4, 64, factor, 0))).into();
    scenarios.push(with_events(scenario(plan("cache-", 6, 64, 1.25, 0)), &["1s:down:cache-0"]));
    let requests = || trace("zipf:1.0,keys=1000,requests=20000,rate=5000", 8);
    let alone: Vec<_> = scenarios.iter().map(|scenario| played(scenario, requests())).collect();
    for threads in [1, 3] {
        let (outcomes, trace) = play(&scenarios, epoch(), threads, requests().map(Ok)).unwrap();
        assert_eq!(outcomes, alone);
        assert_eq!(trace.requests, 20_000);
        assert!(trace.keys <= 1000.0 && (0.1..0.17).contains(&trace.hottest.unwrap()), "{trace:?}");
    }
}

#[test]
fn who_has_no_backend_is_refused_and_who_never_ends_is_an_error() {
    let gone = with_events(scenario(plan("cache-", 1, 16, 1.25, 0)), &["1s:down:cache-0", "2s:up:cache-0"]);
    let outcome = played(&gone, trace("uniform,keys=10,requests=3000,rate=1000", 9));
    assert!((900..1100).contains(&outcome.refused), "{}", outcome.refused);
    let mut stuck = scenario(plan("cache-", 2, 16, 0.0, 0));
    stuck.service.hit = u64::MAX / 2;
    let forever = (0..).map(|at| Arrival { at, place: Place(at << 40), object: at, took: None, bytes: 0 });
    let error = play_one(&stuck, epoch(), forever, &mut ()).unwrap_err();
    assert!(error.to_string().contains("never keeps up"), "{error}");
}
