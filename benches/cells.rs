//! What counting costs, alone and beside other workers: cells of a worker's own, and one counter for all.
//!
//! Owns the comparison that the cells of [`ringway::tally`] rest on. Never asserts a time.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::tally::{AttemptEnd, BackendCells, Class, PoolCells};

/// What a request counts.
fn count(backend: &BackendCells, pool: &PoolCells) {
    backend.reused.bump();
    backend.attempts.at(AttemptEnd::Answered as usize).bump();
    backend.ended.bump();
    backend.requests.at(Class::Success as usize).bump();
    pool.slots_begun.bump();
    pool.slots_ended.bump();
    pool.received_bytes.add(0);
    pool.sent_bytes.add(100);
    pool.whole.observe(Duration::from_micros(700));
    backend.first_byte.observe(Duration::from_micros(690));
}

/// Runs `work` on `others` further threads until the bench is over.
fn beside<T>(others: usize, work: impl Fn(usize) + Send + Sync + 'static, bench: impl FnOnce() -> T) -> T {
    let (stop, work) = (Arc::new(AtomicBool::new(false)), Arc::new(work));
    let threads: Vec<_> = (1..=others)
        .map(|number| {
            let (stop, work) = (stop.clone(), work.clone());
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    work(number);
                }
            })
        })
        .collect();
    let result = bench();
    stop.store(true, Relaxed);
    for thread in threads {
        thread.join().expect("a counting thread does not panic");
    }
    result
}

fn cells(c: &mut Criterion) {
    let mut group = c.benchmark_group("a request's counts");
    let others = thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
    for others in [0, others] {
        let cells: Arc<Vec<_>> =
            Arc::new((0..=others).map(|_| (BackendCells::default(), PoolCells::default())).collect());
        let theirs = cells.clone();
        beside(
            others,
            move |number| count(&theirs[number].0, &theirs[number].1),
            || {
                group.bench_function(BenchmarkId::new("own cells, other workers", others), |b| {
                    b.iter(|| count(black_box(&cells[0].0), black_box(&cells[0].1)));
                });
            },
        );
        let shared: Arc<[AtomicU64; 13]> = Arc::default();
        let theirs = shared.clone();
        let add = |counters: &[AtomicU64; 13]| {
            for counter in counters {
                counter.fetch_add(1, Relaxed);
            }
        };
        beside(
            others,
            move |_| add(&theirs),
            || {
                group.bench_function(BenchmarkId::new("shared counters, other workers", others), |b| {
                    b.iter(|| add(black_box(&shared)));
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, cells);
criterion_main!(benches);
