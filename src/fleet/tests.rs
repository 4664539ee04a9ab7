//! The fleet as a whole: what probes, requests, time, orders and changes make of it.
//!
//! Owns a scene in which time is an argument. Touches no socket.

use std::time::Duration;

use super::*;
use crate::ring::Weight;

mod change;

fn plan(names: &[&str]) -> PoolPlan {
    let members = names.iter().map(|name| MemberPolicy {
        name: (*name).into(),
        address: "127.0.0.1:1".parse().unwrap(),
        weight: Weight::ONE,
    });
    let mut plan = PoolPlan::new("p", 16, members.collect());
    plan.thresholds = Some(Thresholds { rise: 2, fall: 2 });
    plan
}

/// A fleet with a clock of its own.
struct Scene {
    fleet: Fleet,
    began: Instant,
    passed: Duration,
}

impl Scene {
    fn of(plan: PoolPlan) -> Scene {
        let began = Instant::now();
        let now = Moment { instant: began, wall: SystemTime::UNIX_EPOCH };
        let fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
        Scene { fleet, began, passed: Duration::ZERO }
    }

    fn serving(plan: PoolPlan) -> Scene {
        let mut scene = Scene::of(plan);
        for member in 0..scene.fleet.pools[0].members.len() {
            scene.apply(member, Fact::Probed(Outcome::Pass));
        }
        scene
    }

    fn now(&self) -> Moment {
        Moment { instant: self.began + self.passed, wall: SystemTime::UNIX_EPOCH + self.passed }
    }

    fn apply(&mut self, member: usize, fact: Fact) -> Applied {
        let backend = self.fleet.pools[0].members[member].backend.id;
        let now = self.now();
        self.fleet.apply(Event { backend, fact }, now)
    }

    fn strike(&mut self, member: usize) -> Applied {
        self.apply(member, Fact::Struck { failures: 5, last: "broken" })
    }

    fn wait(&mut self, seconds: u64) {
        self.passed += Duration::from_secs(seconds);
        let now = self.now();
        self.fleet.tick(now);
    }

    fn standing(&self, member: usize) -> Standing {
        self.fleet.pools[0].members[member].standing()
    }
}

#[test]
fn a_change_of_health_shares_the_ring_and_grows_the_revision_by_one() {
    let mut scene = Scene::of(plan(&["a", "b"]));
    let first = scene.fleet.view();
    assert!(matches!(scene.apply(0, Fact::Probed(Outcome::Pass)), Applied::Changed(_)));
    let second = scene.fleet.view();
    assert!(Arc::ptr_eq(&first.pools[0].ring, &second.pools[0].ring));
    assert_eq!((first.revision, second.revision), (1, 2));
    assert_eq!(second.pools[0].serving, 1);
}

#[test]
fn the_first_result_decides_alone_and_later_ones_need_their_number() {
    let mut scene = Scene::of(plan(&["a"]));
    assert!(!scene.fleet.is_proven());
    assert!(matches!(scene.apply(0, Fact::Probed(Outcome::Pass)), Applied::Changed(_)));
    assert!(scene.fleet.is_proven());
    assert!(matches!(scene.apply(0, Fact::Probed(Outcome::fail("no"))), Applied::Nothing));
    let Applied::Changed(change) = scene.apply(0, Fact::Probed(Outcome::fail("again"))) else {
        panic!("still up")
    };
    assert_eq!((change.from, change.to, &*change.reason), (Standing::Serving, Standing::Down, "again"));
    assert!(matches!(scene.apply(0, Fact::Probed(Outcome::Pass)), Applied::Nothing));
    assert!(matches!(scene.apply(0, Fact::Probed(Outcome::Pass)), Applied::Changed(_)));
}

#[test]
fn a_name_that_stops_resolving_keeps_its_addresses() {
    let mut plan = plan(&["a"]);
    plan.members[0].address = "cache.internal:80".parse().unwrap();
    plan.thresholds = None;
    let mut scene = Scene::of(plan);
    assert_eq!(scene.standing(0), Standing::Unresolved);
    assert!(!scene.fleet.is_proven(), "nobody knows yet where its backend is");
    scene.apply(0, Fact::Resolved(Arc::new([Endpoint::Tcp("127.0.0.1:1".parse().unwrap())])));
    assert!(scene.fleet.is_proven());
    scene.apply(0, Fact::NotResolved("gone".into()));
    assert_eq!(scene.standing(0), Standing::Serving);
}

#[test]
fn an_ejection_ends_in_a_trial_and_each_further_one_lasts_longer() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    assert!(matches!(scene.strike(0), Applied::Changed(_)));
    assert_eq!(scene.standing(0), Standing::Ejected);
    scene.wait(9);
    assert_eq!(scene.standing(0), Standing::Ejected);
    scene.wait(1);
    assert_eq!(scene.standing(0), Standing::Trial);
    assert!(matches!(scene.strike(0), Applied::Changed(_)), "one failure of a trial is enough");
    scene.wait(19);
    assert_eq!(scene.standing(0), Standing::Ejected);
    scene.wait(1);
    assert!(matches!(scene.apply(0, Fact::TrialPassed), Applied::Changed(_)));
    assert_eq!(scene.standing(0), Standing::Serving);
    // It behaves for as long as its last ejection lasted: the next one is as short as the one before.
    scene.wait(20);
    scene.strike(0);
    scene.wait(20);
    assert_eq!(scene.standing(0), Standing::Trial);
}

#[test]
fn no_more_than_the_share_is_ejected_and_never_the_last() {
    let mut scene = Scene::serving(plan(&["a", "b", "c", "d"]));
    (0..4).for_each(|member| drop(scene.strike(member)));
    let ejected = (0..4).filter(|&member| scene.standing(member) == Standing::Ejected).count();
    assert_eq!(ejected, 2);
    let mut alone = plan(&["a"]);
    alone.passive.max_ejected = 1.0;
    let mut scene = Scene::serving(alone);
    scene.strike(0);
    assert_eq!(scene.standing(0), Standing::Serving);
}

#[test]
fn a_share_of_failures_ejects_as_a_row_of_them_does() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    scene.wait(1);
    let backend = scene.fleet.pools[0].members[0].backend.clone();
    let count = |all, failed| {
        backend.cells(0).ended.add(all);
        backend.cells(0).failed.add(failed);
    };
    count(19, 19);
    scene.wait(1);
    assert_eq!(scene.standing(0), Standing::Serving, "too few to judge");
    count(19, 0);
    scene.wait(1);
    assert_eq!(scene.standing(0), Standing::Ejected);
    scene.wait(10);
    assert_eq!(scene.standing(0), Standing::Trial, "what was before its ejection does not count");
}

#[test]
fn who_goes_up_and_down_too_often_stays_out_longer() {
    let mut plan = plan(&["a", "b"]);
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    let mut scene = Scene::serving(plan);
    for _ in 0..3 {
        scene.apply(0, Fact::Probed(Outcome::fail("no")));
        scene.apply(0, Fact::Probed(Outcome::Pass));
        assert_eq!(scene.standing(0), Standing::Serving);
    }
    scene.apply(0, Fact::Probed(Outcome::fail("no")));
    let Applied::Changed(change) = scene.apply(0, Fact::Probed(Outcome::Pass)) else { panic!("it is up") };
    assert_eq!(change.to, Standing::Ejected);
    assert!(change.reason.contains("flapping"), "{}", change.reason);
    scene.wait(10);
    assert_eq!(scene.standing(0), Standing::Trial);
}

#[test]
fn a_backend_that_was_restarted_is_not_kept_out_for_its_predecessor() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    scene.strike(0);
    for passes in [false, false, true, true] {
        let outcome = if passes { Outcome::Pass } else { Outcome::fail("refused") };
        scene.apply(0, Fact::Probed(outcome));
    }
    assert_eq!(scene.standing(0), Standing::Trial);
}

#[test]
fn who_stays_down_for_another_reason_says_so() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    let reasons = |scene: &mut Scene| {
        let view = scene.fleet.view();
        let member = &view.pools[0].members[0];
        (member.reason.to_string(), member.health_reason.to_string())
    };
    for reason in
        ["refused", "refused", "refused", "the certificate is another's", "the certificate is another's"]
    {
        scene.apply(0, Fact::Probed(Outcome::fail(reason)));
    }
    assert_eq!(scene.standing(0), Standing::Down);
    let second = "the certificate is another's".to_owned();
    assert_eq!(reasons(&mut scene), (second.clone(), second));
}

#[test]
fn what_stays_in_a_change_keeps_its_standing_and_the_others_keep_their_keys() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    scene.strike(0);
    let before = scene.fleet.view();
    let mut next = plan(&["a", "b", "d"]);
    next.ramp = Duration::from_secs(30);
    let prepared = scene.fleet.prepare(vec![next]).unwrap();
    let now = scene.now();
    let report = scene.fleet.adopt(prepared, now);
    assert_eq!((report.added, report.removed), (vec!["p/d".to_owned()], vec!["p/c".to_owned()]));
    assert_eq!(scene.standing(0), Standing::Ejected);
    assert_eq!(scene.standing(2), Standing::Unproven);
    let after = scene.fleet.view();
    for member in [0, 1] {
        let (old, new) = (&before.pools[0].members[member], &after.pools[0].members[member]);
        assert!(Arc::ptr_eq(&old.backend, &new.backend));
    }
    assert!(after.pools[0].turn.is_some(), "keys move one after the other");
    scene.wait(30);
    assert!(scene.fleet.view().pools[0].turn.is_none());
}

#[test]
fn a_ramp_by_hits_goes_on_with_hits_and_ends_with_its_time() {
    let mut plan = plan(&["a", "b"]);
    (plan.ramp, plan.ramp_hits) = (Duration::from_secs(3600), 0.8);
    let mut scene = Scene::serving(plan);
    scene.strike(0);
    scene.wait(10);
    scene.apply(0, Fact::TrialPassed);
    let backend = scene.fleet.pools[0].members[0].backend.clone();
    let share = |scene: &Scene| {
        let ramp = scene.fleet.pools[0].members[0].ramp?;
        Some(ramp.progress(scene.now().instant))
    };
    assert_eq!(share(&scene), Some(0.05));
    backend.cells(0).misses.add(100);
    scene.wait(1);
    assert_eq!(share(&scene), Some(0.05), "it is cold");
    backend.cells(0).hits.add(15);
    backend.cells(0).misses.add(5);
    scene.wait(1);
    assert_eq!(share(&scene), Some(0.05));
    for step in 2..20 {
        backend.cells(0).hits.add(20);
        scene.wait(1);
        assert!((share(&scene).unwrap() - 0.05 * f64::from(step)).abs() < 1e-9);
    }
    scene.wait(3600);
    assert_eq!(share(&scene), None, "its time is over");
}

#[test]
fn a_ramp_goes_on_through_a_change_that_is_not_about_it() {
    let mut first = plan(&["a", "b"]);
    first.ramp = Duration::from_secs(100);
    let mut scene = Scene::serving(first.clone());
    let now = scene.now();
    scene.fleet.obey("p", "a", Order::Weight("0.5".parse().unwrap()), now).unwrap();
    scene.wait(50);
    first.members[1].address = "127.0.0.1:2".parse().unwrap();
    let prepared = scene.fleet.prepare(vec![first]).unwrap();
    let now = scene.now();
    scene.fleet.adopt(prepared, now);
    let turn = scene.fleet.view().pools[0].turn.clone().unwrap();
    assert!((turn.ramp.progress(now.instant) - 0.5).abs() < 1e-9);
}

#[test]
fn a_change_that_leaves_too_few_is_refused_and_changes_nothing() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    let mut next = plan(&["a"]);
    next.min_backends = 2;
    let error = scene.fleet.prepare(vec![next]).unwrap_err();
    assert_eq!(error, Unchanged::TooFew { pool: "p".into(), left: 1, least: 2 });
    assert_eq!(scene.fleet.view().pools[0].members.len(), 3);
}

#[test]
fn a_drained_backend_has_no_place_on_the_ring_until_the_order_is_taken_back() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    let now = scene.now();
    let report = scene.fleet.obey("p", "a", Order::Drain, now).unwrap();
    assert_eq!(report.changed, ["p/a"]);
    assert!((0.2..0.8).contains(&report.moved[0].share));
    assert_eq!(scene.standing(0), Standing::Drained);
    // A reload does not undo it.
    let prepared = scene.fleet.prepare(vec![plan(&["a", "b"])]).unwrap();
    scene.fleet.adopt(prepared, now);
    assert_eq!(scene.standing(0), Standing::Drained);
    scene.fleet.obey("p", "a", Order::None, now).unwrap();
    assert_eq!(scene.standing(0), Standing::Serving);
    assert!(scene.fleet.obey("p", "x", Order::Drain, now).is_err());
    assert!(scene.fleet.obey("x", "a", Order::Drain, now).is_err());
}

#[test]
fn an_order_and_a_configuration_that_change_nothing_leave_the_ring_and_its_turn() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    let mut next = plan(&["a", "b", "c"]);
    next.ramp = Duration::from_secs(30);
    let now = scene.now();
    let prepared = scene.fleet.prepare(vec![next.clone()]).unwrap();
    scene.fleet.adopt(prepared, now);
    let before = scene.fleet.view();
    scene.wait(10);
    let now = scene.now();
    let prepared = scene.fleet.prepare(vec![next]).unwrap();
    assert!(scene.fleet.adopt(prepared, now).moved.is_empty());
    scene.fleet.obey("p", "a", Order::None, now).unwrap();
    let after = scene.fleet.view();
    assert!(Arc::ptr_eq(&before.pools[0].ring, &after.pools[0].ring));
    let began = |view: &View| view.pools[0].turn.as_ref().unwrap().ramp.began;
    assert_eq!(began(&before), began(&after));
}

#[test]
fn who_serves_alone_takes_all_keys_at_once_and_who_comes_after_it_one_after_the_other() {
    let mut plan = plan(&["a", "b"]);
    plan.ramp = Duration::from_secs(30);
    plan.thresholds = Some(Thresholds { rise: 1, fall: 1 });
    let mut scene = Scene::serving(plan);
    for outcome in [Outcome::fail("no"), Outcome::Pass] {
        (0..2).for_each(|member| drop(scene.apply(member, Fact::Probed(outcome.clone()))));
    }
    let is_ramping = |scene: &Scene| [0, 1].map(|i| scene.fleet.pools[0].members[i].ramp.is_some());
    assert_eq!(is_ramping(&scene), [false, true]);
    scene.apply(0, Fact::Probed(Outcome::fail("no")));
    assert_eq!(is_ramping(&scene), [false, false]);
}

#[test]
fn a_late_failure_of_a_trial_that_was_passed_ejects_nobody() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    scene.strike(0);
    scene.wait(10);
    scene.apply(0, Fact::TrialPassed);
    let late = Fact::Struck { failures: 1, last: "broken" };
    assert!(matches!(scene.apply(0, late), Applied::Nothing));
    assert_eq!(scene.standing(0), Standing::Serving);
}

#[test]
fn a_trial_whose_requests_hang_is_given_no_more_of_them() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    scene.strike(0);
    scene.wait(10);
    let backend = scene.fleet.pools[0].members[0].backend.clone();
    let take = || Slot::take_on_trial(&backend, Bound::NONE, || 0).ok();
    let hanging: Vec<_> = std::iter::from_fn(take).collect();
    assert_eq!(hanging.len(), 5);
    scene.wait(1);
    assert!(take().is_none());
    drop(hanging);
    scene.wait(1);
    assert!(take().is_some(), "clients that went away said nothing");
}

#[test]
fn a_trial_ends_in_time_whatever_is_in_flight() {
    let mut scene = Scene::serving(plan(&["a", "b", "c"]));
    let backend = scene.fleet.pools[0].members[0].backend.clone();
    // Long answers from before its ejection are none of its trial's.
    let _long = [(); 6].map(|()| Slot::keep(&backend));
    scene.strike(0);
    scene.wait(10);
    assert_eq!((scene.standing(0), backend.load.trial_left()), (Standing::Trial, 5));
    scene.wait(5);
    assert_eq!((scene.standing(0), backend.load.trial_left()), (Standing::Trial, 5));
    scene.wait(5);
    assert_eq!(scene.standing(0), Standing::Serving);
    // Those of the trial itself have as long again.
    scene.strike(0);
    scene.wait(20);
    let _long = Slot::take_on_trial(&backend, Bound::NONE, || 0).unwrap();
    for (seconds, standing) in [(39, Standing::Trial), (1, Standing::Serving)] {
        scene.wait(seconds);
        assert_eq!(scene.standing(0), standing);
    }
}
