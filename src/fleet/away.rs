//! How much of the keyspace is not where the configuration has it.
//!
//! Owns that one figure, exactly, from the arcs of the rings and the progress of the ramps. Never counts requests: which keys are asked for
//! how often, it does not know.

use std::time::Instant;

use super::{PoolView, Standing, Turn};
use crate::ring::Ring;

/// A ring, and which of the keys go by it: those whose turn comes from here on and before there, each from 0 to 1.
struct Part<'a> {
    ring: &'a Ring,
    from: f64,
    to: f64,
}

impl PoolView {
    /// The share of the keys, from 0 to 1, that are not at the owner which the configuration gives them: it does not serve, an operator has
    /// drained it or given it another weight, or it has not been given them yet. Where requests go for the sake of load does not count.
    ///
    /// It takes a look at every virtual node while orders or a ramp of the pool are in force, and at every backend otherwise.
    pub fn away(&self, now: Instant) -> f64 {
        let configured = self.configured.as_ref().unwrap_or(&self.ring);
        let mut stays = 0.0;
        for part in self.parts(now) {
            let kept = match std::ptr::eq(part.ring, &**configured) {
                true => configured.shares().collect(),
                false => configured.shares_kept(part.ring),
            };
            for (member, share) in self.members.iter().zip(kept) {
                if member.standing == Standing::Serving {
                    // A backend's own ramp takes its keys in the order of the same turns.
                    let moved = member.ramp.map_or(1.0, |ramp| ramp.progress(now));
                    stays += share * (part.to.min(moved) - part.from).max(0.0);
                }
            }
        }
        // Sums of fractions miss the whole by a little.
        let away = 1.0 - stays;
        if away < 1e-12 { 0.0 } else { away }
    }

    /// The rings that decide about keys now, the present one first.
    fn parts(&self, now: Instant) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        let (mut ring, mut from): (&Ring, f64) = (&self.ring, 0.0);
        let mut turn: Option<&Turn> = self.turn.as_ref();
        while let Some(under_way) = turn {
            let to = under_way.ramp.progress(now).max(from);
            parts.push(Part { ring, from, to });
            (ring, from, turn) = (&under_way.before, to, under_way.earlier.as_deref());
        }
        parts.push(Part { ring, from, to: 1.0 });
        parts.retain(|part| part.to > part.from);
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{
        super::{Event, Fact, Fleet, MemberPolicy, Moment, Order, Orders, Outcome, PoolPlan, Thresholds},
        *,
    };
    use crate::ring::{Place, Weight};

    fn plan(weights: &[(&str, &str)], ramp: u64) -> PoolPlan {
        let members = weights.iter().map(|(name, weight)| MemberPolicy {
            name: (*name).into(),
            address: "127.0.0.1:1".parse().unwrap(),
            weight: weight.parse().unwrap(),
        });
        let mut plan = PoolPlan::new("p", 64, members.collect());
        plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
        plan.ramp = Duration::from_secs(ramp);
        plan
    }

    fn now(began: Instant, seconds: u64) -> Moment {
        let passed = Duration::from_secs(seconds);
        Moment { instant: began + passed, wall: SystemTime::UNIX_EPOCH + passed }
    }

    fn probed(fleet: &mut Fleet, name: &str, outcome: Outcome, now: Moment) {
        let found = fleet.backends().find(|(_, backend)| &*backend.name == name);
        let backend = found.unwrap().1.id;
        fleet.apply(Event { backend, fact: Fact::Probed(outcome) }, now);
    }

    /// What it says, after a comparison with asking for many keys.
    fn away(fleet: &mut Fleet, now: Moment) -> f64 {
        let view = fleet.view();
        let pool = &view.pools[0];
        let configured = pool.configured.as_ref().unwrap_or(&pool.ring);
        let keys = 20_000_u64;
        let is_away = |key: &u64| {
            let place = Place::of(&key.to_be_bytes());
            configured.owner(place) != pool.home(place, now.instant)
        };
        let sampled = (0..keys).filter(is_away).count() as f64 / keys as f64;
        let away = pool.away(now.instant);
        assert!((away - sampled).abs() < 0.012, "{away}, and of many keys {sampled}");
        away
    }

    fn serving(weights: &[(&str, &str)], ramp: u64, began: Instant) -> Fleet {
        let mut fleet = Fleet::new(vec![plan(weights, ramp)], Orders::default(), 1, now(began, 0)).unwrap();
        weights.iter().for_each(|(name, _)| probed(&mut fleet, name, Outcome::Pass, now(began, 0)));
        fleet
    }

    #[test]
    fn nothing_is_away_while_all_serve_and_all_while_nobody_does() {
        let began = Instant::now();
        let mut fleet = serving(&[("a", "1"), ("b", "2")], 0, began);
        assert_eq!(away(&mut fleet, now(began, 0)), 0.0);
        for name in ["a", "b"] {
            probed(&mut fleet, name, Outcome::fail("no"), now(began, 1));
        }
        assert_eq!(fleet.view().pools[0].away(began), 1.0);
    }

    #[test]
    fn it_agrees_with_asking_for_many_keys() {
        let began = Instant::now();
        let three = [("a", "1"), ("b", "1"), ("c", "2")];
        let mut fleet = serving(&three, 100, began);
        let share = |fleet: &mut Fleet, name: &str| {
            let view = fleet.view();
            let pool = &view.pools[0];
            let ring = pool.configured.as_ref().unwrap_or(&pool.ring).clone();
            ring.share(ring.index_of(name).unwrap())
        };
        // Down, then coming back warm.
        let of_a = share(&mut fleet, "a");
        probed(&mut fleet, "a", Outcome::fail("no"), now(began, 1));
        assert!((away(&mut fleet, now(began, 1)) - of_a).abs() < 1e-9);
        probed(&mut fleet, "a", Outcome::Pass, now(began, 2));
        assert!((away(&mut fleet, now(began, 52)) - of_a / 2.0).abs() < 1e-9);
        // Drained, and given back over the ring's ramp.
        let of_b = share(&mut fleet, "b");
        fleet.obey("p", "b", Order::Drain, now(began, 200)).unwrap();
        assert!((away(&mut fleet, now(began, 200)) - of_b).abs() < 1e-9);
        fleet.obey("p", "b", Order::None, now(began, 210)).unwrap();
        assert!((away(&mut fleet, now(began, 235)) - of_b * 0.75).abs() < 1e-9);
        // A newcomer while that is under way, which nobody has probed yet; then a weight, and somebody down.
        let four = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")];
        let prepared = fleet.prepare(vec![plan(&four, 50)]).unwrap();
        fleet.adopt(prepared, now(began, 240));
        away(&mut fleet, now(began, 245));
        probed(&mut fleet, "d", Outcome::Pass, now(began, 250));
        away(&mut fleet, now(began, 260));
        let half: Weight = "0.5".parse().unwrap();
        fleet.obey("p", "c", Order::Weight(half), now(began, 270)).unwrap();
        away(&mut fleet, now(began, 280));
        probed(&mut fleet, "a", Outcome::fail("no"), now(began, 281));
        away(&mut fleet, now(began, 282));
    }
}
