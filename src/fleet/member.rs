//! One backend's state: what probes, requests and operators say about it, and what follows from all of that together.
//!
//! Owns the one state machine in which active and passive results meet. Pure: time is an argument.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Backend, Health, LoadPolicy, MemberPolicy, MemberView, Moment, Order, Outcome, PassivePolicy, PoolPlan,
    Ramp, Standing, Trust,
    limiter::{Counts, Limiter},
    window::Window,
};
use crate::{endpoint::Endpoint, ring::Weight};

/// The share of its keys that a backend begins a ramp by hits with, and gets further with each step.
const WARMTH_STEP: f64 = 0.05;
/// Answers that a step is decided by.
const WARMTH_ANSWERS: u64 = 20;

/// Ejections are doubled so often at most.
const MAX_PENALTY: u32 = 24;

/// The state.
#[derive(Debug)]
pub(super) struct MemberState {
    pub(super) backend: Arc<Backend>,
    /// As the configuration has it.
    pub(super) configured: Weight,
    /// What an operator wants instead.
    pub(super) order: Order,
    pub(super) addresses: Arc<[Endpoint]>,
    /// Its host name has been looked up, with whatever result, or it has none.
    pub(super) looked_up: bool,
    pub(super) health: Health,
    /// Why the probes say what they say.
    pub(super) health_reason: Arc<str>,
    pub(super) trust: Trust,
    /// Why requests say what they say.
    pub(super) trust_reason: Arc<str>,
    /// How often it went away, less what it has made good.
    pub(super) penalty: u32,
    /// Since when it has behaved.
    calm_since: Option<Instant>,
    pub(super) ramp: Option<Ramp>,
    /// Its first time to serve is no coming back: it was there when the process began.
    is_first_time: bool,
    window: Window,
    pub(super) limiter: Option<Limiter>,
    /// Hits and misses that have been counted towards the ramp.
    warmth: (u64, u64),
    pub(super) since: SystemTime,
    pub(super) reason: Arc<str>,
}

impl MemberState {
    /// One that nothing is known about. `joins` a pool that is running already.
    pub(super) fn new(
        backend: Arc<Backend>,
        policy: &MemberPolicy,
        plan: &PoolPlan,
        order: Order,
        joins: bool,
        now: Moment,
    ) -> MemberState {
        let (addresses, unresolved): (Arc<[Endpoint]>, _) = match policy.address.endpoint() {
            Some(endpoint) => (Arc::new([endpoint]), None),
            None => (Arc::new([]), Some("its host name is not resolved yet")),
        };
        let (health, why) = match plan.thresholds {
            Some(_) => (Health::Unproven, "not probed yet"),
            None => (Health::Unwatched, "there are no health checks"),
        };
        let reason: Arc<str> = unresolved.unwrap_or(why).into();
        backend.load.set_limit(plan.load.max_in_flight);
        let starts_serving = !addresses.is_empty() && health == Health::Unwatched;
        MemberState {
            looked_up: !addresses.is_empty(),
            backend,
            configured: policy.weight,
            order,
            addresses,
            health,
            health_reason: why.into(),
            trust: Trust::Whole,
            trust_reason: "no request has failed".into(),
            penalty: 0,
            calm_since: None,
            ramp: None,
            is_first_time: !joins && !starts_serving,
            window: Window::new(),
            limiter: None,
            warmth: (0, 0),
            since: now.wall,
            reason,
        }
    }

    /// The weight that the ring goes by.
    pub(super) fn weight(&self) -> Weight {
        self.order.weight(self.configured)
    }

    pub(super) fn standing(&self) -> Standing {
        if self.weight().is_zero() {
            return Standing::Drained;
        }
        if self.addresses.is_empty() {
            return Standing::Unresolved;
        }
        match (self.health, self.trust) {
            (Health::Down { .. }, _) => Standing::Down,
            (Health::Unproven, _) => Standing::Unproven,
            (_, Trust::Ejected { .. }) => Standing::Ejected,
            (_, Trust::Trial { .. }) => Standing::Trial,
            (_, Trust::Whole) => Standing::Serving,
        }
    }

    /// A probe ended. Whether something is to be told beside the standing.
    pub(super) fn probed(
        &mut self,
        outcome: &Outcome,
        plan: &PoolPlan,
        may_eject: bool,
        now: Moment,
    ) -> bool {
        let Some(thresholds) = plan.thresholds else { return false };
        let (was, before) = (self.health, self.standing());
        self.health = self.health.after(outcome.is_pass(), thresholds);
        let was_down = matches!(was, Health::Down { .. });
        let is_down = matches!(self.health, Health::Down { .. });
        if was_down != is_down || was == Health::Unproven {
            self.health_reason = outcome.reason();
        }
        if is_down && matches!(before, Standing::Serving | Standing::Trial) {
            self.goes_away();
        }
        if was_down && !is_down {
            match self.trust {
                Trust::Whole if may_eject => self.hold_if_flapping(&plan.passive, now.instant),
                // It has been down in the meantime, and is another process now: that is what the ejection waited for.
                Trust::Ejected { .. } if !self.is_flapping(&plan.passive) => {
                    self.end_ejection(&plan.passive, now.instant);
                }
                _ => {}
            }
        }
        if self.standing() != before {
            self.reason = outcome.reason();
            if matches!(self.standing(), Standing::Ejected | Standing::Trial) {
                self.reason = self.trust_reason.clone();
            }
        }
        was_down && is_down && !outcome.is_pass() && self.is_down_because(outcome.reason())
    }

    /// It stays down, for a reason that may be another one by now: whoever mends the first is to see the second. Whether it is.
    fn is_down_because(&mut self, reason: Arc<str>) -> bool {
        if self.health_reason == reason {
            return false;
        }
        if self.reason == self.health_reason {
            self.reason = reason.clone();
        }
        self.health_reason = reason;
        true
    }

    /// Its host name was resolved.
    pub(super) fn resolved(&mut self, addresses: Arc<[Endpoint]>) -> bool {
        let before = self.standing();
        self.looked_up = true;
        let moved = self.addresses != addresses;
        self.addresses = addresses;
        if self.standing() != before {
            self.reason = "its host name has an address".into();
        }
        moved
    }

    /// Its host name was not resolved.
    pub(super) fn not_resolved(&mut self, error: &str) {
        self.looked_up = true;
        if self.addresses.is_empty() {
            self.reason = format!("its host name has no address: {error}").into();
        }
    }

    /// Whether so many failures in a row could eject it. On trial one is enough.
    pub(super) fn is_enough(&self, failures: u32, policy: &PassivePolicy) -> bool {
        matches!(self.trust, Trust::Trial { .. }) || policy.consecutive > 0 && failures >= policy.consecutive
    }

    /// Requests failed. Whether it is ejected for that.
    pub(super) fn struck(
        &mut self,
        why: &str,
        policy: &PassivePolicy,
        may_eject: bool,
        now: Instant,
    ) -> bool {
        let on_trial = matches!(self.trust, Trust::Trial { .. });
        // On trial it counts among the ejected already.
        let may = on_trial || self.standing() == Standing::Serving && may_eject;
        if !may {
            return false;
        }
        self.goes_away();
        let length = lasts(policy, self.penalty);
        self.eject(length, format!("{why}; ejected for {}", humantime::format_duration(length)), now);
        true
    }

    /// A trial was passed.
    pub(super) fn trial_passed(&mut self) {
        if matches!(self.trust, Trust::Trial { .. }) {
            let before = self.standing();
            self.end_trial("the requests of its trial succeeded");
            self.noted(before);
        }
    }

    fn end_trial(&mut self, why: &str) {
        self.trust = Trust::Whole;
        self.trust_reason = why.into();
        self.window.clear();
    }

    /// What time alone changes. Whether requests could notice without a change of standing.
    pub(super) fn tick(&mut self, plan: &PoolPlan, may_eject: bool, now: Moment) -> bool {
        let policy = &plan.passive;
        self.limit(&plan.load, now.instant);
        let before = self.standing();
        match self.trust {
            Trust::Ejected { until } if until <= now.instant => self.end_ejection(policy, now.instant),
            Trust::Trial { until } if self.trial_is_over(until, policy, now.instant) => {
                self.end_trial("nothing was said against it in its trial")
            }
            Trust::Trial { .. } => self.backend.load.renew_trial(policy.trial),
            Trust::Whole | Trust::Ejected { .. } => {}
        }
        self.noted(before);
        if policy.share > 0.0 {
            self.look_at_window(policy, may_eject, now.instant);
        }
        if let Some(since) = self.calm_since
            && self.penalty > 0
            && now.instant.saturating_duration_since(since) >= lasts(policy, self.penalty)
        {
            self.penalty -= 1;
            self.calm_since = Some(now.instant);
        }
        let ends = self.ramp.is_some_and(|ramp| ramp.is_over(now.instant));
        if ends {
            self.ramp = None;
        }
        ends || self.steer(plan.ramp_hits)
    }

    /// Whether a trial ends by time: at `until`, or, while requests of it are out, when as much time again has passed. What is in flight beside
    /// them says nothing.
    fn trial_is_over(&self, until: Instant, policy: &PassivePolicy, now: Instant) -> bool {
        let last = || until + lasts(policy, self.penalty.max(1));
        until <= now && (self.backend.load.trial_out() == 0 || last() <= now)
    }

    /// Lets a ramp that goes by hits go on. Whether it did.
    fn steer(&mut self, wanted: f64) -> bool {
        let so_far = self.warmth_so_far();
        let Some(Ramp { steered: Some(share), .. }) = &mut self.ramp else { return false };
        let (hits, misses) = (so_far.0 - self.warmth.0, so_far.1 - self.warmth.1);
        if hits + misses < WARMTH_ANSWERS {
            return false;
        }
        self.warmth = so_far;
        if (hits as f64) < wanted * (hits + misses) as f64 {
            return false;
        }
        *share += WARMTH_STEP;
        if *share >= 1.0 {
            self.ramp = None;
        }
        true
    }

    fn warmth_so_far(&self) -> (u64, u64) {
        (self.backend.sum(|cells| cells.hits.get()), self.backend.sum(|cells| cells.misses.get()))
    }

    /// Called after every change: what follows from having stood as `before` and standing as now.
    pub(super) fn settle(&mut self, before: Standing, plan: &PoolPlan, now: Moment) {
        let is = self.standing();
        if is == before {
            return;
        }
        self.since = now.wall;
        if is != Standing::Serving {
            self.calm_since = None;
            self.ramp = None;
            return;
        }
        self.calm_since = Some(now.instant);
        self.backend.load.forget_strikes();
        // A weight that is given back moves keys by the ring's own ramp.
        if !self.is_first_time && before != Standing::Drained && !plan.ramp.is_zero() {
            let steered = (plan.ramp_hits > 0.0).then_some(WARMTH_STEP);
            self.ramp = Some(Ramp { began: now.instant, length: plan.ramp, steered });
            self.warmth = self.warmth_so_far();
        }
        self.is_first_time = false;
    }

    fn limit(&mut self, policy: &LoadPolicy, now: Instant) {
        if !policy.adaptive {
            return;
        }
        // Read in this order, an answer that begins and ends meanwhile counts for too little, and never for too much.
        let begun = self.backend.sum(|cells| cells.answers_begun.get());
        let ended = self.backend.sum(|cells| cells.answers_ended.get());
        let counts = Counts {
            nanos: self.backend.sum(|cells| cells.latency_nanos.get()),
            answers: self.backend.sum(|cells| cells.latency_count.get()),
            in_flight: self.backend.load.in_flight(),
            answering: u32::try_from(begun.saturating_sub(ended)).unwrap_or(u32::MAX),
        };
        let limiter = self.limiter.get_or_insert_with(|| Limiter::new(now, counts, self.backend.id));
        let limit = limiter.observe(now, counts);
        self.backend.load.set_limit(Some(policy.max_in_flight.map_or(limit, |most| most.min(limit))));
    }

    fn look_at_window(&mut self, policy: &PassivePolicy, may_eject: bool, now: Instant) {
        let all = self.backend.sum(|cells| cells.ended.get());
        let failed = self.backend.sum(|cells| cells.failed.get());
        let (all, failed) = self.window.observe(now, policy.window, (all, failed));
        if all >= policy.min_requests.max(1) && failed as f64 >= policy.share * all as f64 {
            let window = humantime::format_duration(policy.window);
            self.struck(
                &format!("{failed} of {all} requests failed within {window}"),
                policy,
                may_eject,
                now,
            );
        }
    }

    fn goes_away(&mut self) {
        self.penalty = (self.penalty + 1).min(MAX_PENALTY);
        self.calm_since = None;
    }

    fn eject(&mut self, length: Duration, why: String, now: Instant) {
        let before = self.standing();
        self.trust = Trust::Ejected { until: now + length };
        self.trust_reason = why.into();
        self.window.clear();
        self.noted(before);
    }

    /// Damping: who goes up and down too often stays out longer.
    fn hold_if_flapping(&mut self, policy: &PassivePolicy, now: Instant) {
        if !self.is_flapping(policy) {
            return;
        }
        let length = lasts(policy, self.penalty - policy.flaps);
        let shown = humantime::format_duration(length);
        let times = self.penalty;
        self.eject(length, format!("flapping: it went away {times} times; kept out for {shown}"), now);
    }

    fn is_flapping(&self, policy: &PassivePolicy) -> bool {
        policy.flaps > 0 && self.penalty > policy.flaps
    }

    fn end_ejection(&mut self, policy: &PassivePolicy, now: Instant) {
        if policy.trial == 0 {
            self.trust = Trust::Whole;
            self.trust_reason = "its ejection is over".into();
        } else {
            self.trust = Trust::Trial { until: now + lasts(policy, self.penalty.max(1)) };
            self.trust_reason = "its ejection is over; a few requests decide".into();
            self.backend.load.begin_trial(policy.trial);
        }
        self.window.clear();
    }

    fn noted(&mut self, before: Standing) {
        if self.standing() != before {
            self.reason = self.trust_reason.clone();
        }
    }

    pub(super) fn view(&self) -> MemberView {
        MemberView {
            backend: self.backend.clone(),
            addresses: self.addresses.clone(),
            standing: self.standing(),
            since: self.since,
            reason: self.reason.clone(),
            weight: self.weight(),
            configured: self.configured,
            order: self.order,
            health: self.health,
            health_reason: self.health_reason.clone(),
            trust: self.trust,
            trust_reason: self.trust_reason.clone(),
            penalty: self.penalty,
            ramp: self.ramp,
            bound: super::Bound::NONE,
        }
    }
}

/// How long the ejection with this number lasts, from 1 on.
fn lasts(policy: &PassivePolicy, number: u32) -> Duration {
    let doubled = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
    policy.ejection.saturating_mul(doubled).min(policy.max_ejection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_up_to_their_cap() {
        let policy = PassivePolicy {
            ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(60),
            ..PassivePolicy::default()
        };
        let lengths = [1, 2, 3, 4, 24].map(|number| lasts(&policy, number).as_secs());
        assert_eq!(lengths, [10, 20, 40, 60, 60]);
    }
}
