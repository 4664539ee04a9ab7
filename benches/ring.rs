//! The ring's two costs, building one and asking one, beside other crates with as many virtual nodes.
//!
//! `pingora-ketama` has 160 points for each backend, CRC-32 and 32 bits of place; `hashring` has as many
//! nodes as it is given, SipHash and 64 bits. Neither pays for SHA-1, so `key` tells what a request pays in
//! all, and `place` what the search alone costs. Each search waits for the one before, as it would in a
//! request, and each goes to a place of its own, so that a large ring shows what it takes to fetch it from
//! memory.
//!
//! Never judges: no figure here fails a build. Run with `cargo bench --bench ring`. Start at [`ask`].

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use hashring::HashRing;
use pingora_ketama::{Bucket, Continuum};
use ringway::ring::{Place, Ring, Weight};

const BACKENDS: [u32; 4] = [4, 100, 1000, 10_000];
/// Ringway's default.
const REPLICAS: u32 = 512;
/// What `pingora-ketama` has by default.
const KETAMA_POINTS: u32 = 160;

fn address(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 8080))
}

fn names(backends: u32) -> Vec<Arc<str>> {
    (0..backends).map(|number| address(number).to_string().into()).collect()
}

fn ringway(names: &[Arc<str>], replicas: u32) -> Ring {
    let members = names.iter().map(|name| (name.clone(), Weight::ONE));
    Ring::build(members, replicas).expect("no size here is over the cap")
}

fn ketama(backends: u32) -> Continuum {
    let buckets: Vec<_> = (0..backends).map(|number| Bucket::new(address(number), 1)).collect();
    Continuum::new(&buckets)
}

/// A virtual node here is (backend, number of the node), the least that this crate can be made to hash.
fn sip(backends: u32, replicas: u32) -> HashRing<(u32, u32)> {
    let mut ring = HashRing::new();
    ring.batch_add(
        (0..backends).flat_map(|backend| (0..replicas).map(move |node| (backend, node))).collect(),
    );
    ring
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.sample_size(10).sampling_mode(criterion::SamplingMode::Flat);
    for backends in BACKENDS {
        let names = names(backends);
        let id = |who: &str, nodes: u32| BenchmarkId::new(format!("{who}-{nodes}"), backends);
        for replicas in [KETAMA_POINTS, REPLICAS] {
            group.bench_function(id("ringway", replicas), |b| b.iter(|| ringway(&names, replicas)));
            group.bench_function(id("hashring", replicas), |b| b.iter(|| sip(backends, replicas)));
        }
        group.bench_function(id("ketama", KETAMA_POINTS), |b| b.iter(|| ketama(backends)));
    }
    group.finish();
}

/// A key of 30 bytes that differs with every state.
fn key(state: u64) -> [u8; 30] {
    let mut key = *b"/images/0123456789abcdef/x.png";
    for (at, letter) in key[8..24].iter_mut().enumerate() {
        *letter = b'a' + (state >> (at * 4) & 15) as u8;
    }
    key
}

/// Measures one search after another: the answer of each goes into the state that the next one is made from.
fn ask(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, search: impl Fn(u64) -> u64) {
    let mut state = 1_u64;
    group.bench_function(id, |b| {
        b.iter(|| {
            // A linear congruential generator (Knuth's MMIX), whose upper bits are random enough for a place.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(search(black_box(state)) | 1);
            state
        });
    });
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for backends in BACKENDS {
        let id = |what: &str, nodes: u32| BenchmarkId::new(format!("{what}-{nodes}"), backends);
        let names = names(backends);
        for replicas in [KETAMA_POINTS, REPLICAS] {
            let ring = ringway(&names, replicas);
            let owner = |place| u64::from(ring.owner(place).expect("the ring is not empty").0);
            ask(&mut group, id("ringway-place", replicas), |state| owner(Place(state)));
            ask(&mut group, id("ringway-key", replicas), |state| owner(Place::of(&key(state))));
            let ring = sip(backends, replicas);
            let owner = |key: &[u8]| u64::from(ring.get(&key).expect("the ring is not empty").0);
            ask(&mut group, id("hashring-key", replicas), |state| owner(&key(state)));
        }
        let ring = ketama(backends);
        let owner = |key: &[u8]| u64::from(ring.node(key).expect("the ring is not empty").port());
        ask(&mut group, id("ketama-key", KETAMA_POINTS), |state| owner(&key(state)));
    }
    // What all of the above includes.
    ask(&mut group, BenchmarkId::from_parameter("making-a-place"), |state| state & 3);
    ask(&mut group, BenchmarkId::from_parameter("making-a-key"), |state| u64::from(key(state)[9]));
    ask(&mut group, BenchmarkId::from_parameter("making-and-hashing-a-key"), |state| {
        Place::of(&key(state)).0
    });
    group.finish();
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    for backends in BACKENDS {
        let ring = ringway(&names(backends), REPLICAS);
        let third = |place| ring.walk(place).nth(2).expect("there are three backends").0;
        ask(&mut group, BenchmarkId::new("third-owner", backends), |state| u64::from(third(Place(state))));
    }
    group.finish();
}

fn short() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(200)).without_plots();
    times.measurement_time(Duration::from_millis(500)).sample_size(20).nresamples(2_000)
}

criterion_group! {
    name = benches;
    config = short();
    targets = build, lookup, walk
}
criterion_main!(benches);
