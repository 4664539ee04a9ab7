//! Changes of the fleet that meet others: orders about backends that are gone, moves that overlap, another way of being reached.
//!
//! Owns these tests. Touches no socket.

use super::*;
use crate::ring::Place;

#[test]
fn an_order_about_a_backend_that_is_gone_is_told_and_can_be_taken_back() {
    let mut scene = Scene::serving(plan(&["a", "b"]));
    let now = scene.now();
    scene.fleet.obey("p", "b", Order::Drain, now).unwrap();
    assert_eq!(scene.fleet.view().idle_orders().count(), 0);
    let prepared = scene.fleet.prepare(vec![plan(&["a"])]).unwrap();
    scene.fleet.adopt(prepared, now);
    assert_eq!(scene.fleet.view().idle_orders().collect::<Vec<_>>(), [("p", "b", Order::Drain)]);
    assert!(scene.fleet.obey("p", "b", Order::Drain, now).is_err());
    scene.fleet.obey("p", "b", Order::None, now).unwrap();
    assert_eq!(scene.fleet.view().idle_orders().count(), 0);
    assert!(scene.fleet.obey("p", "b", Order::None, now).is_err(), "there is nothing to take back any more");
}

#[test]
fn changes_one_after_the_other_keep_to_what_may_move_in_a_minute() {
    let names: Vec<String> = (0..16).map(|i| format!("b{i}")).collect();
    let of = |count: usize| {
        let names: Vec<&str> = names[..count].iter().map(String::as_str).collect();
        let mut next = plan(&names);
        (next.max_moved_per_minute, next.thresholds, next.replicas) = (0.3, None, 256);
        next
    };
    let mut scene = Scene::of(of(4));
    for count in [8, 16] {
        let prepared = scene.fleet.prepare(vec![of(count)]).unwrap();
        let now = scene.now();
        scene.fleet.adopt(prepared, now);
    }
    let keys: Vec<Place> = (0..4000).map(|i| Place::of(format!("k{i}").as_bytes())).collect();
    let owners = |scene: &mut Scene| -> Vec<Arc<str>> {
        let now = scene.now().instant;
        let view = scene.fleet.view();
        let pool = &view.pools[0];
        let ring =
            |place| pool.turn.as_ref().and_then(|turn| turn.ring_for(place, now)).unwrap_or(&pool.ring);
        keys.iter().map(|&place| ring(place).member(ring(place).owner(place).unwrap()).name.clone()).collect()
    };
    let (mut before, mut moves) = (owners(&mut scene), Vec::new());
    while scene.fleet.view().pools[0].turn.is_some() && moves.len() < 1000 {
        scene.wait(1);
        let after = owners(&mut scene);
        moves.push(before.iter().zip(&after).filter(|(before, after)| before != after).count());
        before = after;
    }
    let minutes = moves.windows(60).map(|minute| minute.iter().sum::<usize>() as f64 / keys.len() as f64);
    let most = minutes.fold(0.0, f64::max);
    // By chance a few of the keys more, as these are four thousand and not all.
    assert!((0.2..0.33).contains(&most) && moves.len() > 100, "{most} in {} s", moves.len());
}

#[test]
fn what_is_reached_in_another_way_goes_on_with_its_ramp_and_without_its_ejection() {
    let mut next = plan(&["a", "b", "c"]);
    next.ramp = Duration::from_secs(60);
    let mut scene = Scene::serving(next.clone());
    for _ in 0..2 {
        scene.apply(0, Fact::Probed(Outcome::fail("no")));
    }
    for _ in 0..2 {
        scene.apply(0, Fact::Probed(Outcome::Pass));
    }
    scene.strike(1);
    assert_eq!((scene.standing(0), scene.standing(1)), (Standing::Serving, Standing::Ejected));
    next.reached = "otherwise".into();
    let prepared = scene.fleet.prepare(vec![next]).unwrap();
    let now = scene.now();
    scene.fleet.adopt(prepared, now);
    let view = scene.fleet.view();
    let members = &view.pools[0].members;
    assert!(members[0].ramp.is_some() && members[2].ramp.is_none());
    assert_eq!(
        (members[1].standing, &*members[1].reason),
        (Standing::Serving, "it is reached in another way")
    );
}
