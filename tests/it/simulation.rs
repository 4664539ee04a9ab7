//! The fleet against a naive model of it, over random histories of everything that can happen to it.
//!
//! Two hundred short histories, each from a seed of its own; `RINGWAY_SEEDS=10000` for more. A failure names its seed, and
//! `RINGWAY_SEED=7 cargo test --test it simulation` runs that one again and tells each step.

mod crowd;
mod load;
mod model;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use fastrand::Rng;
use ringway::{
    fleet::{
        Applied, Backend, Event, Fact, Fleet, LoadPolicy, MemberPolicy, MemberView, Moment, OnAllDown, Order,
        Orders, Outcome, PassivePolicy, PoolPlan, PoolView, Slot, Standing, Thresholds, Tier, Trust, Turn,
        Unchanged, View,
    },
    proxy::{
        choose::{Candidates, Next, Rules},
        policy::WhenFull,
    },
    ring::{MemberIndex, Place, Ring, Weight},
};

use self::model::{Kept, Model, Room};

const SEEDS: u64 = 200;
const STEPS: usize = 120;
const KEYS: usize = 8;

#[test]
fn the_fleet_does_what_a_naive_model_says() {
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let wanted = number("RINGWAY_SEED");
    let seeds = wanted.map_or(0..number("RINGWAY_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    for seed in seeds {
        let told = RefCell::new(Vec::new());
        let run = std::panic::AssertUnwindSafe(|| {
            let mut scene = Scene::new(seed, &told);
            (0..STEPS).for_each(|_| scene.step());
            scene.end();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            let told = told.borrow();
            let from = if wanted.is_some() { 0 } else { told.len().saturating_sub(8) };
            told[from..].iter().for_each(|step| println!("{step}"));
            println!("the history of RINGWAY_SEED={seed} went wrong at step {}", told.len());
            std::panic::resume_unwind(panic);
        }
    }
}

/// A request that has not ended.
struct Request {
    pool: usize,
    slot: Slot<'static>,
    backend: &'static Arc<Backend>,
    /// It is one of the few of a trial, which ends then.
    trial: Option<Instant>,
    on_trial: bool,
    /// Its answer has begun.
    answering: bool,
    passive: PassivePolicy,
}

impl Request {
    /// Whether it is one of the few of this trial.
    fn is_of(&self, member: &MemberView, kept: Kept) -> bool {
        let of_trial = self.trial.is_some_and(|until| kept == Kept::Trial { until });
        of_trial && self.backend.id == member.backend.id
    }
}

struct Scene<'t> {
    rng: Rng,
    told: &'t RefCell<Vec<String>>,
    fleet: Fleet,
    model: Model,
    began: Instant,
    passed: Duration,
    /// What requests read.
    published: Arc<View>,
    revision: u64,
    plans: Vec<PoolPlan>,
    keys: Vec<Place>,
    requests: Vec<Request>,
    /// Requests in flight by pool, as the model counts them.
    totals: HashMap<usize, u64>,
    /// Each backend that ever was. Kept for good, so that a slot can outlive the view it was taken on.
    backends: HashMap<usize, &'static Arc<Backend>>,
    /// The most requests that a trial has had in each pool's configurations.
    trials: HashMap<Arc<str>, u32>,
}

fn weight(rng: &mut Rng) -> Weight {
    rng.choice(["0", "0.5", "1", "1", "1", "2", "3"]).unwrap().parse().unwrap()
}

fn member(rng: &mut Rng, name: &str) -> MemberPolicy {
    let address = if rng.u8(..4) == 0 { "b.internal:80" } else { "127.0.0.1:1" };
    MemberPolicy { name: name.into(), address: address.parse().unwrap(), weight: weight(rng) }
}

fn thresholds(rng: &mut Rng) -> Option<Thresholds> {
    (rng.u8(..5) > 0).then(|| Thresholds { rise: rng.u32(1..4), fall: rng.u32(1..4) })
}

fn ramp(rng: &mut Rng) -> Duration {
    Duration::from_secs(*rng.choice(&[0, 10, 30]).unwrap())
}

fn passive(rng: &mut Rng) -> PassivePolicy {
    let seconds = Duration::from_secs;
    PassivePolicy {
        consecutive: rng.u32(..4),
        share: *rng.choice(&[0.0, 0.3, 0.5, 1.0]).unwrap(),
        min_requests: rng.u64(..10),
        window: seconds(rng.u64(1..20)),
        ejection: seconds(rng.u64(1..10)),
        max_ejection: seconds(rng.u64(10..60)),
        max_ejected: *rng.choice(&[0.0, 0.3, 0.5, 1.0]).unwrap(),
        trial: rng.u32(..4),
        flaps: rng.u32(..4),
    }
}

fn load(rng: &mut Rng) -> LoadPolicy {
    LoadPolicy {
        factor: *rng.choice(&[0.0, 0.0, 1.25, 1.5]).unwrap(),
        floor: rng.u32(..4),
        max_in_flight: rng.bool().then(|| rng.u32(1..4)),
        adaptive: rng.u8(..8) == 0,
    }
}

fn plan(rng: &mut Rng, name: &str) -> PoolPlan {
    let count = rng.usize(1..7);
    let members = (0..count).map(|i| member(rng, &format!("b{i}"))).collect();
    let mut plan = PoolPlan::new(name, rng.u32(4..24), members);
    (plan.thresholds, plan.ramp, plan.passive) = (thresholds(rng), ramp(rng), passive(rng));
    plan.ramp_hits = *rng.choice(&[0.0, 0.0, 0.7]).unwrap();
    plan.load = LoadPolicy { factor: 0.0, ..LoadPolicy::default() };
    if rng.bool() {
        plan.load = load(rng);
    }
    plan.max_moved_per_minute = *rng.choice(&[0.0, 0.0, 0.5]).unwrap();
    plan
}

/// Everything is let through, so that what comes out is the order alone.
fn rules(attempts: usize) -> Rules {
    Rules { attempts, on_all_down: OnAllDown::TryAnyway, owner_only: false, when_full: WhenFull::Next }
}

fn first_choice(pool: &PoolView, key: Place, now: Instant) -> Option<Arc<str>> {
    match Candidates::new(pool, key, now, rules(1)).asking().next_backend() {
        Next::Try(member, _) => Some(pool.member(member).backend.name.clone()),
        _ => None,
    }
}

/// The place that a request gets, and whether that is at its owner.
fn take_place(
    pool: &PoolView,
    key: Place,
    now: Instant,
    rules: Rules,
) -> Option<(MemberIndex, Slot<'_>, bool)> {
    let mut candidates = Candidates::new(pool, key, now, rules);
    let Next::Try(member, slot) = candidates.next_backend() else { return None };
    Some((member, slot, candidates.owner() == Some(member)))
}

impl<'t> Scene<'t> {
    fn new(seed: u64, told: &'t RefCell<Vec<String>>) -> Scene<'t> {
        let mut rng = Rng::with_seed(seed);
        let plans: Vec<PoolPlan> = (0..rng.usize(1..3)).map(|i| plan(&mut rng, &format!("p{i}"))).collect();
        let began = Instant::now();
        let now = Moment { instant: began, wall: SystemTime::UNIX_EPOCH };
        let mut fleet = Fleet::new(plans.clone(), Orders::default(), 1, now).unwrap();
        let mut model = Model::default();
        model.adopt(plans.clone(), began);
        let published = Arc::new(fleet.view());
        let keys = (0..KEYS).map(|_| Place(rng.u64(..))).collect();
        let mut scene = Scene {
            rng,
            told,
            fleet,
            model,
            began,
            passed: Duration::ZERO,
            published,
            revision: 1,
            plans,
            keys,
            requests: Vec::new(),
            totals: HashMap::new(),
            backends: HashMap::new(),
            trials: HashMap::new(),
        };
        scene.meet_backends();
        scene.check();
        scene
    }

    fn now(&self) -> Moment {
        Moment { instant: self.began + self.passed, wall: SystemTime::UNIX_EPOCH + self.passed }
    }

    fn tell(&self, what: String) {
        self.told.borrow_mut().push(format!("{:>9.3?} {what}", self.passed));
    }

    fn meet_backends(&mut self) {
        for (_, backend) in self.fleet.backends() {
            let leak = || &*Box::leak(Box::new(backend.clone()));
            self.backends.entry(backend.id).or_insert_with(leak);
        }
        for plan in &self.plans {
            let most = self.trials.entry(plan.name.clone()).or_default();
            *most = plan.passive.trial.max(*most);
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..25 => self.probe(),
            25..30 => self.resolve(),
            30..35 => self.strike(),
            35..50 => self.begin(),
            50..63 => self.end_one(),
            63..68 => self.count(),
            68..88 => self.wait(),
            88..94 => self.order(),
            94..99 => self.reconfigure(),
            _ => self.gone(),
        }
        self.check();
        if self.rng.u8(..30) == 0 {
            self.look_ahead();
        }
    }

    /// Any backend: its pool, its index, and itself.
    fn any(&mut self) -> Option<(usize, usize, Arc<Backend>)> {
        let pool = self.rng.usize(..self.published.pools.len().max(1));
        let members = &self.published.pools.get(pool)?.members;
        let index = self.rng.usize(..members.len().max(1));
        Some((pool, index, members.get(index)?.backend.clone()))
    }

    /// Applies one fact, and has the model do the same.
    fn apply(&mut self, backend: &Backend, fact: Fact, same: impl FnOnce(&mut model::Pool, usize, Instant)) {
        self.tell(format!("{}: {fact:?}", backend.name));
        let at = self.published.pools.iter().enumerate().find_map(|(pool, view)| {
            let index = view.members.iter().position(|member| member.backend.id == backend.id)?;
            Some((pool, index))
        });
        let before = at.map(|(pool, index)| {
            let member = &self.model.pools[pool].members[index];
            (member.standing(), member.port)
        });
        let (now, choices) = (self.now(), self.choices());
        if let Some((pool, index)) = at {
            same(&mut self.model.pools[pool], index, now.instant);
        }
        let applied = self.fleet.apply(Event { backend: backend.id, fact }, now);
        let after = at.map(|(pool, index)| {
            let member = &self.model.pools[pool].members[index];
            (member.standing(), member.port)
        });
        match (&applied, before, after) {
            (Applied::Changed(change), Some((from, _)), Some((to, _))) => {
                assert_eq!((change.from, change.to, change.backend.id), (from, to, backend.id));
                assert_ne!(from, to);
            }
            (Applied::Moved, Some((from, old)), Some((to, new))) => {
                assert_eq!(from, to);
                assert_ne!(old, new);
            }
            (Applied::Nothing, before, after) => assert_eq!(before, after),
            (applied, ..) => panic!("{applied:?} about a backend that is gone"),
        }
        if !matches!(applied, Applied::Nothing) {
            self.publish();
        }
        self.concerns(&choices, &BTreeSet::from([backend.name.to_string()]));
    }

    fn publish(&mut self) {
        let view = self.fleet.view();
        self.revision += 1;
        assert_eq!(view.revision, self.revision);
        for pool in &view.pools {
            let old = self.published.pools.iter().find(|old| old.pool.id == pool.pool.id);
            if let Some(old) = old.filter(|old| old.ring.fingerprint() == pool.ring.fingerprint()) {
                assert!(Arc::ptr_eq(&old.ring, &pool.ring), "a ring that is the same is shared");
            }
        }
        self.published = Arc::new(view);
    }

    fn probe(&mut self) {
        let Some((_, _, backend)) = self.any() else { return };
        let passed = self.rng.u8(..10) < 6;
        let outcome = if passed { Outcome::Pass } else { Outcome::fail("no") };
        self.apply(&backend, Fact::Probed(outcome), |pool, index, now| pool.probed(index, passed, now));
    }

    fn resolve(&mut self) {
        let Some((_, _, backend)) = self.any() else { return };
        if backend.address.endpoint().is_some() {
            return;
        }
        if self.rng.u8(..3) == 0 {
            return self.apply(&backend, Fact::NotResolved("no".into()), |_, _, _| {});
        }
        let port = self.rng.u16(1..4);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port)).into();
        let fact = Fact::Resolved(Arc::new([address]));
        self.apply(&backend, fact, |pool, index, now| pool.resolved(index, port, now));
    }

    /// A word of a worker that comes late, or from before a change of the configuration.
    fn strike(&mut self) {
        let Some((_, _, backend)) = self.any() else { return };
        let failures = self.rng.u32(1..5);
        let fact = Fact::Struck { failures, last: "broken" };
        self.apply(&backend, fact, |pool, index, now| pool.struck(index, failures, now));
    }

    /// A request begins, as workers have it.
    fn begin(&mut self) {
        let pool = self.rng.usize(..self.published.pools.len().max(1));
        let view = self.published.clone();
        let Some(view) = view.pools.get(pool) else { return };
        let (key, now) = (self.rng.u64(..), self.now().instant);
        let on_all_down = if self.rng.bool() { OnAllDown::Refuse } else { OnAllDown::TryAnyway };
        let owner_only = self.rng.u8(..5) == 0;
        let when_full = *self.rng.choice(&[WhenFull::Next, WhenFull::Queue, WhenFull::Refuse]).unwrap();
        let rules = Rules { attempts: self.rng.usize(1..4), on_all_down, owner_only, when_full };
        // A place in a trial lasts as long as its request: for that the view is kept for good.
        let has_trial = view.members.iter().any(|member| member.standing == Standing::Trial);
        let lasting = has_trial.then(|| &Box::leak(Box::new(self.published.clone())).pools[pool]);
        let chosen = match lasting {
            Some(view) => take_place(view, Place(key), now, rules),
            None => take_place(view, Place(key), now, rules).map(|(member, slot, is_owner)| {
                let kept = Slot::keep(self.backends[&view.member(member).backend.id]);
                drop(slot);
                (member, kept, is_owner)
            }),
        };
        let Some((member, slot, is_owner)) = chosen else { return };
        let seen = view.member(member);
        self.tell(format!("a request begins at {}", seen.backend.name));
        assert!(view.tier.takes(seen.standing));
        assert!(view.tier != Tier::Bad || on_all_down == OnAllDown::TryAnyway);
        assert!(!owner_only || is_owner);
        let limit = seen.backend.load.limit().unwrap_or(u32::MAX);
        assert!(seen.backend.load.in_flight() <= limit, "a bound is a bound");
        let on_trial = seen.standing == Standing::Trial;
        let trial = match (view.tier, seen.trust) {
            (Tier::Good, Trust::Trial { until }) if on_trial => Some(until),
            _ => None,
        };
        let backend = self.backends[&seen.backend.id];
        view.pool.cells(0).slots_begun.bump();
        *self.totals.entry(view.pool.id).or_default() += 1;
        let passive = self.model.pools[pool].plan.passive.clone();
        let answering = self.rng.bool();
        backend.cells(0).answers_begun.add(answering.into());
        let pool = view.pool.id;
        self.requests.push(Request { pool, slot, backend, trial, on_trial, answering, passive });
    }

    /// A request ends, and what follows is what workers do then.
    fn end_one(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let request = self.requests.swap_remove(self.rng.usize(..self.requests.len()));
        let (backend, load) = (request.backend, &request.backend.load);
        let pools = || self.published.pools.iter();
        // The pool's cells outlive it in the hands of requests; here they are reached while it is there.
        if let Some(view) = pools().find(|view| view.pool.id == request.pool) {
            view.pool.cells(0).slots_ended.bump();
            *self.totals.get_mut(&request.pool).unwrap() -= 1;
        }
        drop(request.slot);
        backend.cells(0).ended.bump();
        backend.cells(0).answers_ended.add(request.answering.into());
        let at = pools().enumerate().find_map(|(pool, view)| {
            let index = view.members.iter().position(|member| member.backend.id == backend.id)?;
            Some((pool, index))
        });
        let mut own = at.map(|(pool, index)| &mut self.model.pools[pool].members[index]);
        if let Some(own) = &mut own {
            own.ended += 1;
        }
        match self.rng.u8(..5) {
            0 => self.tell(format!("the client of a request at {} goes away", backend.name)),
            1 | 2 => {
                load.succeeded();
                if let Some(own) = own {
                    own.strikes = 0;
                }
                self.tell(format!("a request at {} succeeds", backend.name));
                if request.on_trial && load.trial_succeeded() == request.passive.trial {
                    self.apply(backend, Fact::TrialPassed, |pool, index, now| pool.trial_passed(index, now));
                }
            }
            _ => {
                backend.cells(0).failed.bump();
                let failures = load.failed();
                if let Some(own) = own {
                    (own.failed, own.strikes) = (own.failed + 1, own.strikes + 1);
                    assert_eq!(failures, own.strikes, "failures in a row");
                }
                self.tell(format!("a request at {} fails", backend.name));
                let every = request.passive.consecutive;
                if request.on_trial || every > 0 && failures.is_multiple_of(every) {
                    let fact = Fact::Struck { failures, last: "broken" };
                    self.apply(backend, fact, |pool, index, now| pool.struck(index, failures, now));
                }
            }
        }
    }

    /// Requests end that nobody has seen begin.
    fn count(&mut self) {
        let Some((pool, index, backend)) = self.any() else { return };
        let ended = self.rng.u64(..12);
        let failed = self.rng.u64(..=ended);
        self.tell(format!("{}: {failed} of {ended} requests fail", backend.name));
        backend.cells(0).ended.add(ended);
        backend.cells(0).failed.add(failed);
        let (hits, misses) = (self.rng.u64(..30), self.rng.u64(..10));
        backend.cells(0).hits.add(hits);
        backend.cells(0).misses.add(misses);
        let member = &mut self.model.pools[pool].members[index];
        (member.ended, member.failed) = (member.ended + ended, member.failed + failed);
        member.told = (member.told.0 + hits, member.told.1 + misses);
    }

    fn wait(&mut self) {
        let millis = *self.rng.choice(&[10, 100, 100, 1000, 1000, 5000, 10_000, 30_000]).unwrap();
        self.passed += Duration::from_millis(millis);
        self.tell("time has passed".to_owned());
        // Requests meet the old picture for a moment.
        self.check();
        let (now, choices) = (self.now(), self.choices());
        let standings = |model: &Model| -> Vec<Standing> {
            model.pools.iter().flat_map(|pool| &pool.members).map(model::Member::standing).collect()
        };
        let before = standings(&self.model);
        let (changes, moved) = self.fleet.tick(now);
        for (pool, view) in self.model.pools.iter_mut().zip(&self.published.pools) {
            let kept: Vec<Kept> = pool.members.iter().map(|member| member.kept).collect();
            let has_out =
                |index: usize| self.requests.iter().any(|one| one.is_of(&view.members[index], kept[index]));
            pool.tick(now.instant, has_out);
        }
        self.check_adaptive();
        let after = standings(&self.model);
        let differ = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!(changes.len(), differ, "{changes:?}");
        if moved {
            self.publish();
        }
        let names = changes.iter().map(|change| change.backend.name.to_string());
        self.concerns(&choices, &names.collect());
    }

    /// A bound that follows latency leaves room for four beside those whose answers have begun.
    fn check_adaptive(&self) {
        for (pool, view) in self.model.pools.iter().zip(&self.published.pools) {
            for member in view.members.iter().filter(|_| pool.plan.load.adaptive) {
                let is_one = |one: &&Request| one.answering && one.backend.id == member.backend.id;
                let answering = self.requests.iter().filter(is_one).count() as u32;
                let most = pool.plan.load.max_in_flight.unwrap_or(u32::MAX);
                assert!(member.backend.load.limit().unwrap() >= most.min(answering + 4));
            }
        }
    }

    fn order(&mut self) {
        let Some((pool, index, backend)) = self.any() else { return };
        let order = match self.rng.u8(..6) {
            0 | 1 => Order::Drain,
            2 => Order::Weight(weight(&mut self.rng)),
            _ => Order::None,
        };
        self.tell(format!("order about {}: {order:?}", backend.name));
        let (now, choices) = (self.now(), self.choices());
        let name = self.model.pools[pool].plan.name.clone();
        self.fleet.obey(&name, &backend.name, order, now).unwrap();
        let turning = !self.model.pools[pool].turns.is_empty();
        self.model.obey(pool, index, order, now.instant);
        self.publish();
        if !turning {
            self.concerns(&choices, &BTreeSet::from([backend.name.to_string()]));
        }
    }

    fn reconfigure(&mut self) {
        let mut plans = self.plans.clone();
        for _ in 0..self.rng.usize(..3) {
            self.alter(&mut plans);
        }
        let full = |plans: &[PoolPlan]| -> BTreeSet<String> {
            let names = plans.iter().flat_map(|plan| {
                plan.members.iter().map(move |member| format!("{}/{}", plan.name, member.name))
            });
            names.collect()
        };
        let (now, choices, old) = (self.now(), self.choices(), full(&self.plans));
        let prepared = match self.fleet.prepare(plans.clone()) {
            Ok(prepared) => prepared,
            Err(Unchanged::TooFew { .. }) => {
                self.tell("a configuration that leaves too few".to_owned());
                assert!(self.model.leaves_too_few(&plans));
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(!self.model.leaves_too_few(&plans));
        let report = self.fleet.adopt(prepared, now);
        self.tell(format!("a configuration: {report:?}\n    {plans:?}"));
        let quiet = self.model.pools.iter().all(|pool| pool.turns.is_empty());
        let is_same_kind = plans.iter().all(|plan| {
            let old = self.plans.iter().find(|old| old.name == plan.name);
            old.is_none_or(|old| old.replicas == plan.replicas && old.load == plan.load)
        });
        let standings = |model: &Model| -> HashMap<(Arc<str>, Arc<str>), Standing> {
            let all = model.pools.iter().flat_map(|pool| {
                pool.members
                    .iter()
                    .map(|member| ((pool.plan.name.clone(), member.name.clone()), member.standing()))
            });
            all.collect()
        };
        let before = standings(&self.model);
        self.model.adopt(plans.clone(), now.instant);
        let after = standings(&self.model);
        self.plans = plans;
        let new = full(&self.plans);
        assert_eq!(report.added, Vec::from_iter(new.difference(&old).cloned()));
        assert_eq!(report.removed, Vec::from_iter(old.difference(&new).cloned()));
        self.publish();
        self.meet_backends();
        if quiet && is_same_kind {
            let all = report.added.iter().chain(&report.removed).chain(&report.changed);
            let mut names: BTreeSet<String> =
                all.map(|name| name.split_once('/').unwrap().1.to_owned()).collect();
            let stands_otherwise = before.iter().filter(|(name, was)| after.get(*name) != Some(*was));
            names.extend(stands_otherwise.map(|((_, backend), _)| backend.to_string()));
            self.concerns(&choices, &names);
        }
    }

    fn alter(&mut self, plans: &mut Vec<PoolPlan>) {
        let rng = &mut self.rng;
        match rng.u8(..16) {
            0 if plans.len() < 3 => {
                let mut names = (0..4).map(|i| format!("p{i}"));
                let name = names.find(|name| plans.iter().all(|plan| *plan.name != **name)).unwrap();
                return plans.push(plan(rng, &name));
            }
            1 if plans.len() > 1 => {
                plans.remove(rng.usize(..plans.len()));
                return;
            }
            _ => {}
        }
        let at = rng.usize(..plans.len());
        let plan = &mut plans[at];
        match rng.u8(..14) {
            0..3 => {
                let name = format!("b{}", rng.u8(..10));
                if plan.members.iter().all(|member| *member.name != *name) {
                    plan.members.push(member(rng, &name));
                }
            }
            3 | 4 if !plan.members.is_empty() => {
                plan.members.swap_remove(rng.usize(..plan.members.len()));
            }
            5 | 6 if !plan.members.is_empty() => {
                let at = rng.usize(..plan.members.len());
                plan.members[at].weight = weight(rng);
            }
            7 if !plan.members.is_empty() => {
                let at = rng.usize(..plan.members.len());
                plan.members[at].address =
                    rng.choice(["127.0.0.1:2", "c.internal:80"]).unwrap().parse().unwrap();
            }
            8 => plan.thresholds = thresholds(rng),
            9 => (plan.ramp, plan.ramp_hits) = (ramp(rng), *rng.choice(&[0.0, 0.7]).unwrap()),
            10 => plan.passive = passive(rng),
            11 => plan.load = load(rng),
            12 => plan.min_backends = rng.usize(..3),
            13 => plan.reached = rng.choice(["", "tls"]).unwrap().into(),
            _ => {}
        }
    }

    /// A fact about a backend that is not there any more.
    fn gone(&mut self) {
        let there: BTreeSet<usize> = self.fleet.backends().map(|(_, backend)| backend.id).collect();
        let gone = self.backends.values().find(|backend| !there.contains(&backend.id)).copied();
        if let Some(backend) = gone {
            self.apply(backend, Fact::Probed(Outcome::Pass), |_, _, _| panic!("it is gone"));
        }
    }

    /// Who is the first choice for each key, by pool, in pools whose loads do not count and where somebody serves.
    fn choices(&self) -> HashMap<Arc<str>, Vec<Option<Arc<str>>>> {
        let now = self.now().instant;
        let pools = self.published.pools.iter().zip(&self.model.pools);
        let is_plain = |model: &model::Pool| {
            let load = &model.plan.load;
            load.factor == 0.0 && load.max_in_flight.is_none() && !load.adaptive
        };
        // Where the ring turns while backends come back, keys can have two reasons to move.
        let is_clear = |view: &PoolView| {
            view.tier == Tier::Good
                && (view.turn.is_none() || view.members.iter().all(|member| member.ramp.is_none()))
        };
        let pools = pools.filter(|(view, model)| is_plain(model) && is_clear(view));
        let choices =
            |view: &PoolView| self.keys.iter().map(|key| first_choice(view, *key, now)).collect::<Vec<_>>();
        pools.map(|(view, _)| (view.pool.name.clone(), choices(view))).collect()
    }

    /// Only keys of the backends with these names may have moved.
    fn concerns(&self, before: &HashMap<Arc<str>, Vec<Option<Arc<str>>>>, names: &BTreeSet<String>) {
        for (pool, after) in self.choices() {
            let Some(before) = before.get(&pool) else { continue };
            let view = self.published.pools.iter().find(|view| view.pool.name == pool).unwrap();
            // Who is on trial takes some keys for a few requests.
            let on_trial = view.members.iter().filter(|member| member.standing == Standing::Trial);
            let on_trial: BTreeSet<&str> = on_trial.map(|member| &*member.backend.name).collect();
            for (from, to) in before.iter().zip(&after).filter(|(from, to)| from != to) {
                let is_one = |name: &Option<Arc<str>>| {
                    name.as_ref().is_some_and(|name| names.contains(&**name) || on_trial.contains(&**name))
                };
                assert!(
                    is_one(from) || is_one(to),
                    "a key of {pool} moved from {from:?} to {to:?} by a change that concerns {names:?}"
                );
            }
        }
    }

    /// All that must hold at any time. Whether or not something was published: what is published is right.
    fn check(&mut self) {
        let before = self.published.clone();
        let fresh = self.fleet.view();
        self.revision += 1;
        assert_eq!(fresh.revision, self.revision, "revisions grow by one");
        assert_eq!(fresh.pools.len(), self.model.pools.len());
        for (at, model) in self.model.pools.iter().enumerate() {
            let standings = model.standings();
            for view in [&fresh.pools[at], &before.pools[at]] {
                agree(view, model, &standings, self.now().instant);
            }
            for (member, view) in model.members.iter().zip(&fresh.pools[at].members) {
                let kept = match view.trust {
                    Trust::Whole => Kept::In,
                    Trust::Ejected { until } => Kept::Out { until },
                    Trust::Trial { until } => Kept::Trial { until },
                };
                assert_eq!((kept, view.penalty), (member.kept, member.away), "{}", member.name);
            }
            for view in &fresh.pools[at].members {
                let Trust::Trial { until } = view.trust else { continue };
                let left = view.backend.load.trial_left();
                let is_one = |other: &&Request| other.is_of(view, Kept::Trial { until });
                let under_way = self.requests.iter().filter(is_one).count() as u32;
                assert_eq!(view.backend.load.trial_out(), under_way);
                let most = self.trials[&model.plan.name];
                assert!(under_way + left <= most, "{under_way} and {left} further ones on trial, of {most}");
            }
            // What is published has the ring that there is, and not one like it.
            assert!(Arc::ptr_eq(&fresh.pools[at].ring, &before.pools[at].ring));
            check_configured(&fresh.pools[at], &model.plan);
            self.check_choices(&fresh.pools[at], model, &standings);
        }
    }

    fn check_choices(&self, view: &PoolView, model: &model::Pool, standings: &[Standing]) {
        let now = self.now().instant;
        let total = self.totals.get(&view.pool.id).copied().unwrap_or(0);
        assert_eq!(view.pool.in_flight(), total);
        let under_way = |id: usize| self.requests.iter().filter(|request| request.backend.id == id).count();
        let room = |index: usize| {
            let member = &view.members[index];
            let load = &member.backend.load;
            let in_flight = under_way(member.backend.id) as u64;
            let on_trial = view.tier == Tier::Good && member.standing == Standing::Trial;
            let is_full = load.limit().is_some_and(|limit| in_flight >= limit.into());
            if is_full || on_trial && load.trial_left() == 0 {
                Room::Full
            } else if model.most(standings, index, total + 1).is_some_and(|most| in_flight >= most) {
                Room::Loaded
            } else {
                Room::Open
            }
        };
        let rooms: Vec<Room> = (0..view.members.len()).map(room).collect();
        let rooms = |index: usize| rooms[index];
        for member in &view.members {
            assert_eq!(member.backend.in_flight(), under_way(member.backend.id) as u64);
        }
        let turns: Vec<_> = turns(view).iter().map(|turn| &*turn.before).collect();
        for key in &self.keys {
            let walk: Vec<_> = view.ring.walk(*key).collect();
            let distinct: BTreeSet<_> = walk.iter().collect();
            let placed = model.members.iter().filter(|member| !member.weight().is_zero()).count();
            assert_eq!((walk.len(), distinct.len()), (placed, placed), "each once");
            let attempts = 1 + (key.0 % 5) as usize;
            let mut candidates = Candidates::new(view, *key, now, rules(attempts)).asking();
            let (mut tried, mut slots) = (Vec::new(), Vec::new());
            while let Next::Try(member, slot) = candidates.next_backend() {
                tried.push(member.as_usize());
                slots.push(slot);
            }
            let mut wanted = model.choices(standings, (&view.ring, &turns), *key, now, rooms);
            wanted.truncate(attempts);
            assert_eq!(tried, wanted, "{key:?}");
            let is_plain = total == 0 && view.members.iter().all(|member| member.standing != Standing::Trial);
            if is_plain && !tried.is_empty() {
                assert_eq!(view.home(*key, now).map(MemberIndex::as_usize), tried.first().copied(), "home");
            }
        }
    }

    /// If nothing else happens, each key moves at most once for each ramp, and never back.
    fn look_ahead(&mut self) {
        let now = self.now().instant;
        for (view, model) in self.published.pools.iter().zip(&self.model.pools) {
            let load = &model.plan.load;
            if load.factor > 0.0 || load.max_in_flight.is_some() || load.adaptive || view.tier != Tier::Good {
                continue;
            }
            let ramping = view.members.iter().filter(|member| member.ramp.is_some()).count();
            let turning = turns(view).len();
            let ramps = ramping + turning;
            for key in &self.keys {
                let mut met = vec![first_choice(view, *key, now)];
                for step in 1..70 {
                    let next = first_choice(view, *key, now + Duration::from_secs(1) * step);
                    if met.last() != Some(&next) {
                        assert!(
                            ramping > 0 && turning > 0 || turning > 1 || !met.contains(&next),
                            "back: {met:?} {next:?}"
                        );
                        met.push(next);
                    }
                }
                assert!(met.len() <= ramps + 1, "{ramps} ramps: {met:?}");
            }
        }
    }

    fn end(mut self) {
        self.requests.clear();
        for backend in self.backends.values() {
            let load = &backend.load;
            assert_eq!((load.in_flight(), load.trial_out(), load.waiting()), (0, 0, 0));
        }
    }
}

/// Where orders make another ring than the configuration's, that one is known too.
fn check_configured(view: &PoolView, plan: &PoolPlan) {
    let is_ordered = view.members.iter().any(|member| member.weight != member.configured);
    let members = || view.members.iter().map(|member| (member.backend.name.clone(), member.configured));
    let wanted = is_ordered.then(|| Ring::build(members(), plan.replicas).unwrap());
    let wanted = wanted.filter(|ring| ring.node_count() > 0).map(|ring| ring.fingerprint());
    assert_eq!(view.configured.as_ref().map(|ring| ring.fingerprint()), wanted);
}

/// What is seen of a pool is what the model says.
fn agree(view: &PoolView, model: &model::Pool, standings: &[Standing], now: Instant) {
    assert_eq!(*view.pool.name, *model.plan.name);
    assert_eq!((view.members.len(), view.tier), (model.members.len(), model::tier(standings)));
    let serving = standings.iter().filter(|standing| **standing == Standing::Serving);
    assert_eq!(view.serving, serving.count());
    for ((seen, member), standing) in view.members.iter().zip(&model.members).zip(standings) {
        let name = &member.name;
        assert_eq!(seen.backend.name, *name);
        assert_eq!(seen.standing, *standing, "{name}");
        assert_eq!((seen.order, seen.weight), (member.order, member.weight()), "{name}");
        let (ramp, way) = (seen.ramp.as_ref(), member.ramp.as_ref());
        let (ends, wanted) = (ramp.map(|r| (r.began, r.length)), way.map(|way| (way.began, way.length)));
        assert_eq!(ends, wanted, "the ramp of {name}");
        let progress = (ramp.map_or(1.0, |r| r.progress(now)), way.map_or(1.0, |way| way.progress(now)));
        assert!((progress.0 - progress.1).abs() < 1e-9, "{name}: {progress:?}");
        let port = seen.addresses.first().and_then(|address| address.socket()).map(|socket| socket.port());
        let fixed = seen.backend.address.endpoint().and_then(|e| e.socket().map(|socket| socket.port()));
        assert_eq!(port, fixed.or(member.port), "{name}");
        let limit = seen.backend.load.limit();
        assert!(model.plan.load.adaptive || limit == model.plan.load.max_in_flight, "{name}: {limit:?}");
    }
    let pairs = |ring: &Ring| -> Vec<_> {
        ring.members().iter().map(|member| (member.name.clone(), member.weight)).collect()
    };
    assert_eq!(pairs(&view.ring), model.weights());
    let turn = |turn: &Turn| (pairs(&turn.before), turn.ramp.began, turn.ramp.length);
    let turns: Vec<_> = turns(view).into_iter().map(turn).collect();
    let wanted = model.turns.iter().map(|turn| (turn.before.clone(), turn.began, turn.length));
    // Those that are over say nothing any more, whether they are still there or not.
    let is_on = |&(_, began, length): &(_, Instant, Duration)| now - began < length;
    let turns: Vec<_> = turns.into_iter().take_while(is_on).collect();
    let wanted: Vec<_> = wanted.take_while(is_on).collect();
    assert_eq!(turns, wanted, "the turns of {}", model.plan.name);
}

/// The turns of a pool's ring, the latest first.
fn turns(view: &PoolView) -> Vec<&Turn> {
    std::iter::successors(view.turn.as_ref(), |turn| turn.earlier.as_deref()).collect()
}
