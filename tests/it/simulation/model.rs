//! A naive model of the fleet, written from what the documents say: simple, slow, with whole histories instead of counts.
//!
//! Owns what must be true. It takes the fleet's plans and words, and none of its decisions.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ringway::{
    fleet::{Address, Order, PassivePolicy, PoolPlan, Standing, Tier},
    ring::{MemberIndex, Place, Ring, Weight},
};

/// What happened to a backend's health, in order.
#[derive(Clone, Debug)]
enum Note {
    /// A probe, with the numbers in a row that counted then.
    Probe { passed: bool, rise: u32, fall: u32 },
    /// The configuration did away with health checks.
    Off,
    /// The configuration has health checks.
    On,
}

/// What requests have brought about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    In,
    Out { until: Instant },
    Trial { until: Instant },
}

#[derive(Clone, Debug)]
pub struct Member {
    pub name: Arc<str>,
    address: Address,
    reached: Arc<str>,
    configured: Weight,
    pub order: Order,
    /// Where its host name leads.
    pub port: Option<u16>,
    notes: Vec<Note>,
    pub kept: Kept,
    /// How often it went away, less what it has made good.
    pub away: u32,
    calm: Option<Instant>,
    pub ramp: Option<Way>,
    /// Answers that told hits and misses.
    pub told: (u64, u64),
    /// It has never served, and was there when the pool was made.
    is_first: bool,
    /// When the window was looked at, and the counts then.
    marks: Vec<(Instant, u64, u64)>,
    pub ended: u64,
    pub failed: u64,
    /// Failures in a row.
    pub strikes: u32,
}

/// How keys come to a member one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub began: Instant,
    pub length: Duration,
    /// By how warm it is: steps of a twentieth so far, and what had been told when the last one was decided.
    steps: Option<(u32, (u64, u64))>,
}

impl Way {
    pub fn progress(&self, now: Instant) -> f64 {
        match self.steps {
            Some((steps, _)) if !self.is_over(now) => f64::from(steps) / 20.0,
            _ => progress(self.began, self.length, now),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.began >= self.length || self.steps.is_some_and(|(steps, _)| steps >= 20)
    }
}

#[derive(Clone, Debug)]
pub struct Turn {
    pub before: Vec<(Arc<str>, Weight)>,
    pub began: Instant,
    pub length: Duration,
    /// The share of the keys that it moves.
    share: f64,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub plan: PoolPlan,
    /// In the order of their names.
    pub members: Vec<Member>,
    /// The latest first.
    pub turns: Vec<Turn>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub pools: Vec<Pool>,
    pub orders: HashMap<(Arc<str>, Arc<str>), Order>,
}

/// When a key moves: the finalizer of MurmurHash3 over its place, as a share.
pub fn moves_at(Place(place): Place) -> f64 {
    let mut bits = place;
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^= bits >> 33;
    (bits >> 11) as f64 / 9_007_199_254_740_992.0
}

fn progress(began: Instant, length: Duration, now: Instant) -> f64 {
    (now.saturating_duration_since(began).as_secs_f64() / length.as_secs_f64()).min(1.0)
}

/// An ejection is as long as the first, and each further one twice as long as the one before, up to the cap.
fn ejection(policy: &PassivePolicy, number: u32) -> Duration {
    let mut length = policy.ejection;
    for _ in 1..number {
        length = (length * 2).min(policy.max_ejection);
    }
    length.min(policy.max_ejection)
}

impl Member {
    pub fn weight(&self) -> Weight {
        match self.order {
            Order::None => self.configured,
            Order::Drain => Weight::ZERO,
            Order::Weight(weight) => weight,
        }
    }

    /// `None`: not known yet.
    fn is_up(&self) -> Option<bool> {
        let (mut up, mut run, mut is_off) = (None, 0, false);
        for note in &self.notes {
            match *note {
                Note::Off => is_off = true,
                Note::On if is_off => (up, run, is_off) = (Some(true), 0, false),
                Note::On => {}
                Note::Probe { passed, rise, fall } => match up {
                    None => up = Some(passed),
                    Some(is) if is == passed => run = 0,
                    Some(is) => {
                        run += 1;
                        if run >= if is { fall } else { rise } {
                            (up, run) = (Some(!is), 0);
                        }
                    }
                },
            }
        }
        if is_off { Some(true) } else { up }
    }

    pub fn standing(&self) -> Standing {
        let has_address = !matches!(self.address, Address::Name { .. }) || self.port.is_some();
        match (self.is_up(), self.kept) {
            _ if self.weight().is_zero() => Standing::Drained,
            _ if !has_address => Standing::Unresolved,
            (Some(false), _) => Standing::Down,
            (None, _) => Standing::Unproven,
            (_, Kept::Out { .. }) => Standing::Ejected,
            (_, Kept::Trial { .. }) => Standing::Trial,
            (_, Kept::In) => Standing::Serving,
        }
    }

    fn went_away(&mut self) {
        self.away = (self.away + 1).min(24);
        self.calm = None;
    }

    fn keep_out(&mut self, length: Duration, now: Instant) {
        self.kept = Kept::Out { until: now + length };
        self.marks.clear();
    }

    fn let_in(&mut self, policy: &PassivePolicy, now: Instant) {
        let until = now + ejection(policy, self.away.max(1));
        self.kept = if policy.trial == 0 { Kept::In } else { Kept::Trial { until } };
        self.strikes = 0;
        self.marks.clear();
    }

    fn pass_trial(&mut self) {
        self.kept = Kept::In;
        self.marks.clear();
    }

    /// Twenty answers decide about a step.
    fn warm_up(&mut self, wanted: f64) {
        let Some(Way { steps: Some((steps, since)), .. }) = &mut self.ramp else { return };
        let (hits, misses) = (self.told.0 - since.0, self.told.1 - since.1);
        if hits + misses >= 20 {
            *since = self.told;
            *steps += u32::from(hits as f64 >= wanted * (hits + misses) as f64);
            self.ramp = self.ramp.filter(|way| way.steps.is_none_or(|(steps, _)| steps < 20));
        }
    }

    /// All and failed requests within the window.
    fn within(&mut self, window: Duration, now: Instant) -> (u64, u64) {
        let young = self.marks.iter().find(|(at, ..)| now - *at <= window);
        let (_, ended, failed) = *young.unwrap_or(&(now, self.ended, self.failed));
        if self.marks.last().is_none_or(|(at, ..)| now - *at >= window / 10) {
            self.marks.push((now, self.ended, self.failed));
        }
        (self.ended - ended, self.failed - failed)
    }

    fn has_moved(&self, place: Place, now: Instant) -> bool {
        self.ramp.is_none_or(|way| moves_at(place) < way.progress(now))
    }
}

impl Pool {
    pub fn weights(&self) -> Vec<(Arc<str>, Weight)> {
        self.members.iter().map(|member| (member.name.clone(), member.weight())).collect()
    }

    fn ring(&self) -> Ring {
        Ring::build(self.weights(), self.plan.replicas).unwrap()
    }

    /// Whether somebody else serves, and not too much of the pool is out.
    fn can_spare(&self, index: usize) -> bool {
        let (mut all, mut out, mut others) = (0.0, 0.0, 0);
        for (i, member) in self.members.iter().enumerate() {
            let weight = member.weight().millionths() as f64;
            all += weight;
            if i == index || member.kept != Kept::In {
                out += weight;
            }
            others += u32::from(i != index && member.standing() == Standing::Serving);
        }
        others > 0 && out <= self.plan.passive.max_ejected * all
    }

    /// Changes one member, and draws what follows from that.
    fn change(&mut self, index: usize, now: Instant, change: impl FnOnce(&mut Member, &PoolPlan, bool)) {
        self.alter(index, now, change);
        self.keep_one_whole(now);
    }

    fn alter(&mut self, index: usize, now: Instant, change: impl FnOnce(&mut Member, &PoolPlan, bool)) {
        let can_spare = self.can_spare(index);
        let Pool { plan, members, .. } = self;
        let member = &mut members[index];
        let before = member.standing();
        change(member, plan, can_spare);
        follow(member, before, plan, now);
    }

    /// Who serves with nobody beside it that has all of its keys has nobody to spare it: it takes all of them at once.
    fn keep_one_whole(&mut self, now: Instant) {
        let mut serving: Vec<&mut Member> = self.members.iter_mut().collect();
        serving.retain(|member| member.standing() == Standing::Serving);
        if serving.iter().any(|member| member.ramp.is_none()) {
            return;
        }
        let far = |member: &Member| member.ramp.map_or(1.0, |way| way.progress(now));
        let farthest = serving.iter().map(|member| far(member)).fold(0.0, f64::max);
        if let Some(member) = serving.into_iter().rev().find(|member| far(member) == farthest) {
            member.ramp = None;
        }
    }

    pub fn probed(&mut self, index: usize, passed: bool, now: Instant) {
        self.change(index, now, |member, plan, can_spare| {
            let Some(thresholds) = plan.thresholds else { return };
            let (was, before) = (member.is_up(), member.standing());
            member.notes.push(Note::Probe { passed, rise: thresholds.rise, fall: thresholds.fall });
            let is = member.is_up();
            if is == Some(false) && matches!(before, Standing::Serving | Standing::Trial) {
                member.went_away();
            }
            if (was, is) != (Some(false), Some(true)) {
                return;
            }
            let flaps = plan.passive.flaps;
            let is_flapping = flaps > 0 && member.away > flaps;
            match member.kept {
                Kept::In if is_flapping && can_spare => {
                    member.keep_out(ejection(&plan.passive, member.away - flaps), now);
                }
                Kept::Out { .. } if !is_flapping => member.let_in(&plan.passive, now),
                _ => {}
            }
        });
    }

    pub fn resolved(&mut self, index: usize, port: u16, now: Instant) {
        self.change(index, now, |member, _, _| member.port = Some(port));
    }

    /// Failures in a row, or one in a trial.
    pub fn struck(&mut self, index: usize, failures: u32, now: Instant) {
        self.change(index, now, |member, plan, can_spare| {
            let on_trial = matches!(member.kept, Kept::Trial { .. });
            let enough = plan.passive.consecutive > 0 && failures >= plan.passive.consecutive;
            if on_trial || enough && can_spare && member.standing() == Standing::Serving {
                member.went_away();
                member.keep_out(ejection(&plan.passive, member.away), now);
            } else if enough {
                member.strikes = 0;
            }
        });
    }

    pub fn trial_passed(&mut self, index: usize, now: Instant) {
        self.change(index, now, |member, _, _| {
            if matches!(member.kept, Kept::Trial { .. }) {
                member.pass_trial();
            }
        });
    }

    /// `has_out` tells whether a request of its trial is under way at the member with an index.
    pub fn tick(&mut self, now: Instant, has_out: impl Fn(usize) -> bool) {
        if self.turns.first().is_some_and(|turn| now - turn.began >= turn.length) {
            self.turns.clear();
        }
        for index in 0..self.members.len() {
            self.alter(index, now, |member, plan, can_spare| {
                let policy = &plan.passive;
                match member.kept {
                    Kept::Out { until } if until <= now => member.let_in(policy, now),
                    // Who takes its time has as long again.
                    Kept::Trial { until }
                        if until <= now
                            && (!has_out(index) || now - until >= ejection(policy, member.away.max(1))) =>
                    {
                        member.pass_trial();
                    }
                    _ => {}
                }
                if policy.share > 0.0 {
                    let (all, failed) = member.within(policy.window, now);
                    let too_many =
                        all > 0 && all >= policy.min_requests && failed as f64 >= policy.share * all as f64;
                    let on_trial = matches!(member.kept, Kept::Trial { .. });
                    if too_many && (on_trial || can_spare && member.standing() == Standing::Serving) {
                        member.went_away();
                        member.keep_out(ejection(policy, member.away), now);
                    }
                }
                if let Some(since) = member.calm
                    && member.away > 0
                    && now - since >= ejection(policy, member.away)
                {
                    member.away -= 1;
                    member.calm = Some(now);
                }
                member.ramp = member.ramp.filter(|way| !way.is_over(now));
                member.warm_up(plan.ramp_hits);
            });
        }
        self.keep_one_whole(now);
    }

    /// The ring is another one than `old` was: keys move at once, or one after the other.
    fn turn_from(&mut self, old: &[(Arc<str>, Weight)], replicas: u32, old_turns: Vec<Turn>, now: Instant) {
        let over_present = |weights: &[(Arc<str>, Weight)]| -> Vec<_> {
            let weight = |name: &Arc<str>| weights.iter().find(|(of, _)| of == name);
            let names = self.members.iter().map(|member| member.name.clone());
            names
                .map(|name| (name.clone(), weight(&name).map_or(Weight::ZERO, |(_, weight)| *weight)))
                .collect()
        };
        let has_place = |weights: &[(Arc<str>, Weight)]| weights.iter().any(|(_, weight)| !weight.is_zero());
        // Those that are over, or lead back to nobody, end the ones before them too; and there are four at most.
        let earlier: Vec<Turn> = old_turns
            .into_iter()
            .map(|turn| Turn { before: over_present(&turn.before), ..turn })
            .take_while(|turn| now - turn.began < turn.length && has_place(&turn.before))
            .take(4)
            .collect();
        let old_ring = Ring::build(old.to_vec(), replicas).unwrap();
        let share = old_ring.share_moved(&self.ring());
        if share == 0.0 {
            self.turns = earlier;
            return;
        }
        // What leaves takes its keys along at once.
        let stays =
            |name: &Arc<str>| self.weights().iter().any(|(of, weight)| of == name && !weight.is_zero());
        let leaving: f64 = old_ring
            .members()
            .iter()
            .zip(old_ring.shares())
            .filter(|(of, _)| !stays(&of.name))
            .map(|(_, s)| s)
            .sum();
        let moving = (share - leaving).max(0.0);
        if moving <= 1e-9 {
            self.turns = earlier;
            return;
        }
        let left = |turn: &Turn| turn.share * (1.0 - progress(turn.began, turn.length, now));
        let all = moving + earlier.iter().map(left).sum::<f64>();
        let most = self.plan.max_moved_per_minute;
        let needed = if most > 0.0 {
            Duration::from_secs_f64((60.0 * all / most).min(86_400.0))
        } else {
            Duration::ZERO
        };
        let (before, length) = (over_present(old), self.plan.ramp.max(needed));
        self.turns = Vec::new();
        if has_place(&before) && !length.is_zero() {
            self.turns.push(Turn { before, began: now, length, share: moving });
            // They end together with this one where the whole of it is bounded.
            self.turns.extend(earlier.into_iter().map(|turn| {
                let rest = 1.0 - progress(turn.began, turn.length, now);
                let longer = Duration::from_secs_f64(length.as_secs_f64() / rest);
                if most <= 0.0 || longer <= turn.length {
                    return turn;
                }
                Turn { began: now - (longer - length), length: longer, ..turn }
            }));
        }
    }

    pub fn standings(&self) -> Vec<Standing> {
        self.members.iter().map(Member::standing).collect()
    }

    /// Whom a key's request may go to, in the order of preference. `room` says who is loaded; a trial without requests left is full.
    pub fn choices(
        &self,
        standings: &[Standing],
        rings: (&Ring, &[&Ring]),
        place: Place,
        now: Instant,
        room: impl Fn(usize) -> Room,
    ) -> Vec<usize> {
        let waits = |turn: &&Turn| moves_at(place) >= progress(turn.began, turn.length, now);
        let ring = match self.turns.iter().take_while(waits).count() {
            0 => rings.0,
            turns => rings.1[turns - 1],
        };
        let tier = tier(standings);
        let is_open = |index: &usize| {
            let takes = match (tier, standings[*index]) {
                (Tier::Good, standing) => matches!(standing, Standing::Serving | Standing::Trial),
                (Tier::Doubtful, standing) => {
                    matches!(standing, Standing::Ejected | Standing::Trial | Standing::Unproven)
                }
                (Tier::Bad, standing) => standing == Standing::Down,
            };
            takes && room(*index) != Room::Full
        };
        let open = |ring: &Ring| -> Vec<usize> {
            ring.walk(place).map(MemberIndex::as_usize).filter(is_open).collect()
        };
        let mut first = open(ring);
        first.retain(|index| self.members[*index].has_moved(place, now) && room(*index) == Room::Open);
        // Better one that is spared than nobody.
        let rest: Vec<usize> = open(rings.0).into_iter().filter(|index| !first.contains(index)).collect();
        first.extend(rest);
        first
    }

    /// The most requests that a backend may have of `total`, if its load is bounded.
    pub fn most(&self, standings: &[Standing], index: usize, total: u64) -> Option<u64> {
        let weight = |m: &Member| m.weight().millionths() as f64;
        let all = self.members.iter().zip(standings);
        let serving: Vec<_> = all.filter(|(_, standing)| **standing == Standing::Serving).collect();
        let whole: f64 = serving.iter().filter(|(m, _)| m.ramp.is_none()).map(|(m, _)| weight(m)).sum();
        let whole = whole.max(serving.iter().map(|(m, _)| weight(m)).sum::<f64>() / 2.0);
        let load = &self.plan.load;
        let share = load.factor * weight(&self.members[index]) / whole;
        (load.factor > 0.0 && whole > 0.0 && share > 0.0)
            .then(|| u64::from(load.floor).max((share * total as f64).ceil() as u64))
    }
}

/// Whom requests can go to.
pub fn tier(standings: &[Standing]) -> Tier {
    let is_any = |wanted: &[Standing]| standings.iter().any(|standing| wanted.contains(standing));
    if is_any(&[Standing::Serving]) {
        Tier::Good
    } else if is_any(&[Standing::Ejected, Standing::Trial, Standing::Unproven]) {
        Tier::Doubtful
    } else {
        Tier::Bad
    }
}

/// What a backend can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Room {
    Open,
    Loaded,
    Full,
}

fn follow(member: &mut Member, before: Standing, plan: &PoolPlan, now: Instant) {
    let is = member.standing();
    if is == before {
        return;
    }
    (member.calm, member.ramp) = (None, None);
    if is == Standing::Serving {
        (member.calm, member.strikes) = (Some(now), 0);
        if !member.is_first && before != Standing::Drained && !plan.ramp.is_zero() {
            let steps = (plan.ramp_hits > 0.0).then_some((1, member.told));
            member.ramp = Some(Way { began: now, length: plan.ramp, steps });
        }
        member.is_first = false;
    }
}

/// One that is reached in another way than the one before it: what is known about that holds.
fn inheriting(known: Option<&Member>, is_watched: bool, member: Member) -> Member {
    let Some(known) = known else { return member };
    let notes = match (is_watched, known.notes.last()) {
        (true, Some(Note::Off)) | (false, _) | (true, None) => member.notes,
        (true, Some(_)) => known.notes.clone(),
    };
    let mut member = Member { port: known.port, notes, ..member };
    if member.standing() == known.standing() {
        member.ramp = known.ramp.map(|way| Way { steps: way.steps.map(|(steps, _)| (steps, (0, 0))), ..way });
    }
    member
}

impl Model {
    fn order(&self, pool: &Arc<str>, backend: &Arc<str>) -> Order {
        self.orders.get(&(pool.clone(), backend.clone())).copied().unwrap_or_default()
    }

    /// Whether a configuration is refused for leaving too few.
    pub fn leaves_too_few(&self, plans: &[PoolPlan]) -> bool {
        plans.iter().any(|plan| {
            plan.members.iter().filter(|member| !member.weight.is_zero()).count() < plan.min_backends
        })
    }

    pub fn adopt(&mut self, plans: Vec<PoolPlan>, now: Instant) {
        let mut old = std::mem::take(&mut self.pools);
        for plan in plans {
            let at = old.iter().position(|pool| pool.plan.name == plan.name);
            let before = at.map(|at| old.remove(at));
            let pool = self.next_pool(plan, before, now);
            self.pools.push(pool);
        }
    }

    fn next_pool(&self, plan: PoolPlan, before: Option<Pool>, now: Instant) -> Pool {
        let mut members = Vec::new();
        for policy in &plan.members {
            let known = before.iter().flat_map(|pool| &pool.members).find(|member| {
                member.name == policy.name
                    && member.address == policy.address
                    && member.reached == plan.reached
            });
            let is_watched = plan.thresholds.is_some();
            let predecessor = before
                .iter()
                .flat_map(|pool| &pool.members)
                .find(|member| member.name == policy.name && member.address == policy.address);
            let note = if is_watched { Note::On } else { Note::Off };
            members.push(match known {
                Some(known) => {
                    let (mut member, was) = (known.clone(), known.standing());
                    member.configured = policy.weight;
                    member.notes.push(note);
                    follow(&mut member, was, &plan, now);
                    member
                }
                None => inheriting(
                    predecessor,
                    is_watched,
                    Member {
                        name: policy.name.clone(),
                        address: policy.address.clone(),
                        reached: plan.reached.clone(),
                        configured: policy.weight,
                        order: self.order(&plan.name, &policy.name),
                        port: None,
                        notes: vec![note],
                        kept: Kept::In,
                        away: 0,
                        calm: None,
                        ramp: None,
                        told: (0, 0),
                        is_first: before.is_none() && (is_watched || policy.address.endpoint().is_none()),
                        marks: Vec::new(),
                        ended: 0,
                        failed: 0,
                        strikes: 0,
                    },
                ),
            });
        }
        members.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let mut pool = Pool { plan, members, turns: vec![] };
        if let Some(before) = before {
            pool.turn_from(&before.weights(), before.plan.replicas, before.turns.clone(), now);
        }
        pool.keep_one_whole(now);
        pool
    }

    pub fn obey(&mut self, pool: usize, index: usize, order: Order, now: Instant) {
        let pool = &mut self.pools[pool];
        let names = (pool.plan.name.clone(), pool.members[index].name.clone());
        self.orders.insert(names, order);
        let (old, turn) = (pool.weights(), pool.turns.clone());
        pool.change(index, now, |member, _, _| member.order = order);
        pool.turn_from(&old, pool.plan.replicas, turn, now);
    }
}
