//! What a change of health costs: from the fact to the published view, at sizes up to 1000 backends of 512 replicas.
//!
//! `cargo bench --bench fleet`. The ring is shared by all views, so this must not grow with the number of virtual nodes.
#![allow(missing_docs)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::{
    fleet::{
        Applied, Event, Fact, Fleet, MemberPolicy, Moment, Orders, Outcome, PassivePolicy, PoolPlan,
        Thresholds,
    },
    ring::Weight,
};

fn now() -> Moment {
    Moment { instant: Instant::now(), wall: SystemTime::now() }
}

fn fleet(backends: usize) -> Fleet {
    let members = (0..backends).map(|i| MemberPolicy {
        name: format!("backend-{i}").into(),
        address: "127.0.0.1:80".parse().expect("an address"),
        weight: Weight::ONE,
    });
    let mut plan = PoolPlan::new("pool", 512, members.collect());
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    plan.passive = PassivePolicy { flaps: 0, ..PassivePolicy::default() };
    Fleet::new(vec![plan], Orders::default(), 2, now()).expect("a ring within the cap")
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a change of health, published");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500)).sample_size(50);
    for backends in [4, 100, 1000] {
        let mut fleet = fleet(backends);
        let view = fleet.view();
        let backend = view.pools[0].members[0].backend.id;
        let published = Arc::new(ArcSwap::from_pointee(view));
        let mut up = false;
        group.bench_function(BenchmarkId::from_parameter(backends), |bencher| {
            bencher.iter(|| {
                up = !up;
                let outcome = if up { Outcome::Pass } else { Outcome::fail("bench") };
                let event = Event { backend, fact: Fact::Probed(outcome) };
                let applied = fleet.apply(black_box(event), now());
                assert!(matches!(applied, Applied::Changed(_)), "every result changes the standing");
                published.store(Arc::new(fleet.view()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
