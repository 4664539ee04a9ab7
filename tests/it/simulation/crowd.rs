//! A crowd of clients before a pool, in virtual time: requests come and end, and places at backends are taken by the real code.
//!
//! Owns arrivals, keys and service times, from a seed. It judges nothing: it counts.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Instant, SystemTime},
};

use fastrand::Rng;
use ringway::{
    fleet::{Fleet, LoadPolicy, MemberPolicy, Moment, OnAllDown, Orders, PoolPlan, PoolView, Slot},
    proxy::{
        choose::{Candidates, Next, Rules},
        policy::WhenFull,
    },
    ring::{Place, Weight},
};

/// Which key a request has.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// Each time another one.
    Uniform,
    /// One of this many, by a Zipf distribution with this exponent.
    Zipf(usize, f64),
}

/// When requests come.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// So many clients, each of which sends its next request when the last one was answered.
    Closed(usize),
    /// By chance, so that this many are in flight in the mean.
    Poisson(f64),
}

#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub backends: usize,
    pub keys: Keys,
    pub arrivals: Arrivals,
    pub factor: f64,
    pub floor: u32,
    /// How long it takes, in mean service times.
    pub length: f64,
    pub seed: u64,
}

/// What was counted. What comes before the pool has filled does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub requests: u64,
    /// Those that their key's owner had.
    pub at_owner: u64,
    /// Those that brought a backend above the bound.
    pub above: u64,
    /// The most that one backend had at once.
    pub most: u64,
    /// The load of the most loaded backend divided by the mean, over time.
    pub peak: f64,
}

impl Counted {
    /// The share of requests that were not at their key's owner.
    pub fn away(&self) -> f64 {
        1.0 - self.at_owner as f64 / self.requests as f64
    }
}

/// Mean service times until the pool is as full as it becomes.
const WARM_UP: f64 = 10.0;

struct Run {
    crowd: Crowd,
    rng: Rng,
    pool: &'static PoolView,
    now: Instant,
    places: Vec<Place>,
    /// By key, the share of requests for it and all before it.
    cumulative: Vec<f64>,
    clock: f64,
    /// When requests end, in billionths of a mean service time, and their places.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    slots: Vec<Option<Slot<'static>>>,
    free: Vec<usize>,
    in_flight: u64,
    counted: Counted,
    /// The sum of peak by time, and that time.
    peak: (f64, f64),
}

impl Crowd {
    pub fn run(self) -> Counted {
        let members = (0..self.backends).map(|i| MemberPolicy {
            name: format!("cache-{i}").into(),
            address: "127.0.0.1:80".parse().unwrap(),
            weight: Weight::ONE,
        });
        let mut plan = PoolPlan::new("p", 512, members.collect());
        plan.load = LoadPolicy { factor: self.factor, floor: self.floor, ..LoadPolicy::default() };
        let now = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
        // Kept for good: slots borrow from it, and live in the same place.
        let view = Box::leak(Box::new(fleet.view()));
        let (count, exponent) = match self.keys {
            Keys::Uniform => (0, 0.0),
            Keys::Zipf(count, exponent) => (count, exponent),
        };
        let mut sum = 0.0;
        let cumulative = (1..=count).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        let run = Run {
            rng: Rng::with_seed(self.seed),
            pool: &view.pools[0],
            now: now.instant,
            cumulative: cumulative.collect(),
            places: (0..count).map(|key| Place::of(format!("{}-{key}", self.seed).as_bytes())).collect(),
            crowd: self,
            clock: 0.0,
            ends: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            counted: Counted::default(),
            peak: (0.0, 0.0),
        };
        run.go()
    }
}

impl Run {
    fn go(mut self) -> Counted {
        let mut next = match self.crowd.arrivals {
            Arrivals::Closed(clients) => {
                (0..clients).for_each(|_| self.begin());
                f64::INFINITY
            }
            Arrivals::Poisson(_) => 0.0,
        };
        while self.clock < WARM_UP + self.crowd.length {
            let end = self.ends.peek().map_or(f64::INFINITY, |Reverse((at, _))| *at as f64 / 1e9);
            self.pass_until(next.min(end));
            if next <= end {
                self.begin();
                if let Arrivals::Poisson(mean) = self.crowd.arrivals {
                    next += self.exponential() / mean;
                }
                continue;
            }
            self.end();
            if matches!(self.crowd.arrivals, Arrivals::Closed(_)) {
                self.begin();
            }
        }
        self.slots.clear();
        assert!(self.pool.members.iter().all(|member| member.backend.in_flight() == 0));
        Counted { peak: self.peak.0 / self.peak.1, ..self.counted }
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln()
    }

    fn pass_until(&mut self, clock: f64) {
        if self.clock > WARM_UP && self.in_flight > 0 {
            let loads = self.pool.members.iter().map(|member| member.backend.in_flight());
            let mean = self.in_flight as f64 / self.crowd.backends as f64;
            self.peak.0 += loads.max().unwrap_or(0) as f64 / mean * (clock - self.clock);
            self.peak.1 += clock - self.clock;
        }
        self.clock = clock;
    }

    fn place(&mut self) -> Place {
        let Some(all) = self.cumulative.last() else { return Place(self.rng.u64(..)) };
        let wanted = self.rng.f64() * all;
        self.places[self.cumulative.partition_point(|sum| *sum < wanted).min(self.places.len() - 1)]
    }

    fn begin(&mut self) {
        let place = self.place();
        let rules = Rules {
            attempts: 3,
            on_all_down: OnAllDown::Refuse,
            owner_only: false,
            when_full: WhenFull::Next,
        };
        let mut candidates = Candidates::new(self.pool, place, self.now, rules);
        let Next::Try(member, slot) = candidates.next_backend() else { panic!("all of them serve") };
        self.pool.pool.cells(0).slots_begun.bump();
        self.in_flight += 1;
        let seen = self.pool.member(member);
        if self.clock > WARM_UP {
            let (load, counted) = (seen.backend.in_flight(), &mut self.counted);
            counted.requests += 1;
            counted.at_owner += u64::from(candidates.owner() == Some(member));
            counted.most = counted.most.max(load);
            // What the paper has, computed anew: the factor times the mean, rounded up.
            let mean = self.in_flight as f64 / self.crowd.backends as f64;
            let bound = (self.crowd.factor * mean - 1e-9).ceil().max(f64::from(self.crowd.floor));
            counted.above += u64::from(self.crowd.factor > 0.0 && load as f64 > bound);
        }
        let end = ((self.clock + self.exponential()) * 1e9) as u64;
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(slot);
        self.ends.push(Reverse((end, at)));
    }

    fn end(&mut self) {
        let Some(Reverse((_, at))) = self.ends.pop() else { return };
        self.slots[at] = None;
        self.free.push(at);
        self.pool.pool.cells(0).slots_ended.bump();
        self.in_flight -= 1;
    }
}
