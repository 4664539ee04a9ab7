//! Choosing a backend in unusual pools: many that are full, loaded, ramping or on trial at once; and waiting for room.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant, SystemTime},
};

use fastrand::Rng;
use proptest::prelude::*;
use ringway::{
    fleet::{
        Backend, Bound, Fleet, LoadPolicy, MemberPolicy, Moment, OnAllDown, Orders, PoolPlan, PoolView, Ramp,
        Room, Slot, Standing, Tier,
    },
    proxy::{
        choose::{ATTEMPTS_MAX, Candidates, Next, Rules},
        policy::WhenFull,
    },
    ring::{MemberIndex, Place, Ring, Weight},
    tally::Refusal,
};

fn pool(backends: usize, replicas: u32, max_in_flight: u32) -> PoolView {
    let members = (0..backends).map(|i| MemberPolicy {
        name: format!("b{i:02}").into(),
        address: "127.0.0.1:80".parse().unwrap(),
        weight: Weight::ONE,
    });
    let mut plan = PoolPlan::new("p", replicas, members.collect());
    plan.load = LoadPolicy { factor: 0.0, max_in_flight: Some(max_in_flight), ..LoadPolicy::default() };
    let now = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    Fleet::new(vec![plan], Orders::default(), 1, now).unwrap().view().pools[0].clone()
}

fn rules(attempts: usize) -> Rules {
    Rules { attempts, on_all_down: OnAllDown::Refuse, owner_only: false, when_full: WhenFull::Next }
}

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Free,
    /// It has more than its share.
    Loaded,
    /// It has as many as it may have.
    Full,
    /// It comes back, and no key has moved to it yet.
    Ramping,
    /// On trial, with no requests left.
    Tried,
    Down,
}

fn state() -> impl Strategy<Value = State> {
    use State::{Down, Free, Full, Loaded, Ramping, Tried};
    prop_oneof![
        1 => Just(Free), 2 => Just(Loaded), 3 => Just(Full), 2 => Just(Ramping), 1 => Just(Tried), 1 => Just(Down)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_choosy_round_comes_first_and_then_whoever_is_left(
        states in proptest::collection::vec(state(), 1..48),
        key in any::<u64>(),
        attempts in 1..30_usize,
    ) {
        let now = Instant::now();
        let mut pool = pool(states.len(), 8, 2);
        let mut slots = Vec::new();
        for (member, state) in pool.members.iter_mut().zip(&states) {
            let taken = match state { State::Full => 2, State::Loaded => 1, _ => 0 };
            let backend = Box::leak(Box::new(member.backend.clone()));
            slots.extend((0..taken).map(|_| Slot::keep(backend)));
            match state {
                State::Free | State::Full => {}
                State::Loaded => member.bound = Bound { share: 1e-9, floor: 0 },
                State::Ramping => member.ramp = Some(Ramp { began: now, length: Duration::from_secs(1), steered: None }),
                State::Tried => member.standing = Standing::Trial,
                State::Down => member.standing = Standing::Down,
            }
        }
        let count = |standing| pool.members.iter().filter(|member| member.standing == standing).count();
        (pool.serving, pool.usable) = (count(Standing::Serving), count(Standing::Serving) + count(Standing::Trial));
        // Without anybody who serves, who is on trial is tried without a limit.
        pool.tier = match (pool.serving, count(Standing::Trial)) {
            (0, 0) => Tier::Bad,
            (0, _) => Tier::Doubtful,
            _ => Tier::Good,
        };
        let walk: Vec<usize> = pool.ring.walk(Place(key)).map(MemberIndex::as_usize).collect();
        let those = |wanted: &[State]| -> Vec<usize> {
            walk.iter().copied().filter(|&i| wanted.contains(&states[i])).collect()
        };
        let mut wanted = match pool.tier {
            Tier::Good => {
                let mut wanted = those(&[State::Free]);
                wanted.extend(those(&[State::Loaded, State::Ramping]));
                wanted
            }
            Tier::Doubtful => those(&[State::Tried]),
            Tier::Bad => vec![],
        };
        wanted.truncate(attempts.min(ATTEMPTS_MAX));
        let mut candidates = Candidates::new(&pool, Place(key), now, rules(attempts));
        let (mut tried, mut held) = (Vec::new(), Vec::new());
        while let Next::Try(member, slot) = candidates.next_backend() {
            tried.push(member.as_usize());
            held.push(slot);
        }
        prop_assert_eq!(&tried, &wanted);
        prop_assert!(tried.iter().all(|&i| pool.members[i].backend.in_flight() <= 2));
        if tried.is_empty() && pool.tier == Tier::Good {
            let is_any_full = states.contains(&State::Full);
            prop_assert_eq!(candidates.refusal(), if is_any_full { Refusal::Full } else { Refusal::NoBackend });
        }
        drop(held);
        drop(slots);
        prop_assert!(pool.members.iter().all(|member| member.backend.in_flight() == 0));
    }

    #[test]
    fn the_share_that_moves_is_what_asking_for_many_keys_says(
        old in proptest::collection::vec(0..4_u8, 6),
        new in proptest::collection::vec(0..4_u8, 6),
        replicas in 1..40_u32,
        seed in any::<u64>(),
    ) {
        let ring = |weights: &[u8]| {
            let named = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
            let members = named.map(|(i, weight)| (format!("b{i}").into(), weight.to_string().parse().unwrap()));
            Ring::build(members, replicas).unwrap()
        };
        let (old, new) = (ring(&old), ring(&new));
        let owner = |ring: &Ring, place| ring.owner(place).map(|owner| ring.member(owner).name.clone());
        let mut rng = Rng::with_seed(seed);
        let keys = 4000;
        let moved = (0..keys).filter(|_| {
            let place = Place(rng.u64(..));
            owner(&old, place) != owner(&new, place)
        });
        let sampled = moved.count() as f64 / f64::from(keys);
        // Five standard deviations of such a sample.
        prop_assert!((old.share_moved(&new) - sampled).abs() < 0.04, "{} {sampled}", old.share_moved(&new));
        prop_assert_eq!(old.share_moved(&new), new.share_moved(&old));
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a place, or gives up: at once, or when it was woken so often. `None`: it gave up, or too many wait.
fn wait_for_room(backend: &Backend, number: u64, most: u32, mut wakings: u32) -> Option<Slot<'_>> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut room = pin!(Room::at(backend, number, most));
    loop {
        if let Poll::Ready(slot) = room.as_mut().poll(&mut Context::from_waker(&waker)) {
            return slot;
        }
        if wakings > 0 {
            let parked = Instant::now();
            thread::park_timeout(super::support::PATIENCE);
            assert!(parked.elapsed() < super::support::PATIENCE, "nobody woke {number}");
            wakings -= 1;
        }
        if wakings == 0 {
            return None;
        }
    }
}

#[test]
fn nobody_is_forgotten_who_waits_for_room_while_others_give_up() {
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 2000;
    let pool = pool(1, 8, 2);
    let backend = &pool.members[0].backend;
    let (at_once, served) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (at_once, served) = (&at_once, &served);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(number);
                for round in 0..ROUNDS {
                    // Now and then somebody goes away before it is woken, or after.
                    let wakings = *rng.choice(&[0, 1, u32::MAX, u32::MAX]).unwrap();
                    let slot = wait_for_room(backend, number * ROUNDS + round, THREADS as u32, wakings);
                    let Some(_slot) = slot else { continue };
                    assert!(at_once.fetch_add(1, SeqCst) < 2, "two may be there at once");
                    if rng.u8(..4) == 0 {
                        thread::yield_now();
                    }
                    at_once.fetch_sub(1, SeqCst);
                    served.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert_eq!((backend.load.in_flight(), backend.load.waiting()), (0, 0));
    assert!(u64::from(served.into_inner()) > THREADS * ROUNDS / 4);
}
