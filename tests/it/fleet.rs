//! The fleet against a naive model of it, over random histories: what is published, and who is tried in which order.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use proptest::prelude::*;
use ringway::{
    fleet::{
        Applied, Event, Fact, Fleet, MemberPolicy, Moment, OnAllDown, Orders, Outcome, PassivePolicy,
        PoolPlan, Standing, Thresholds,
    },
    proxy::{
        choose::{Candidates, Next, Rules},
        policy::WhenFull,
    },
    ring::{MemberIndex, Place, Weight},
};

/// What happens to one backend.
#[derive(Clone, Debug)]
enum Step {
    Probe { member: usize, passes: bool },
    Resolve { member: usize, port: u16 },
    FailToResolve { member: usize },
}

fn steps(members: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..members, any::<bool>()).prop_map(|(member, passes)| Step::Probe { member, passes }),
        1 => (0..members, 1..4u16).prop_map(|(member, port)| Step::Resolve { member, port }),
        1 => (0..members).prop_map(|member| Step::FailToResolve { member }),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The model: the whole history of each backend, looked at anew each time.
#[derive(Clone, Default)]
struct Naive {
    results: Vec<bool>,
    port: Option<u16>,
}

impl Naive {
    fn standing(&self, is_name: bool, rise: u32, fall: u32) -> Standing {
        if is_name && self.port.is_none() {
            return Standing::Unresolved;
        }
        let Some(&first) = self.results.first() else { return Standing::Unproven };
        let (mut up, mut run) = (first, 0);
        for &passes in &self.results[1..] {
            run = if passes == up { 0 } else { run + 1 };
            if run == if up { fall } else { rise } {
                (up, run) = (!up, 0);
            }
        }
        if up { Standing::Serving } else { Standing::Down }
    }
}

#[test]
fn all_keys_that_have_not_moved_yet_are_served_where_only_those_that_came_serve() {
    let weights = |a: &str, b: &str| {
        let member = |name: &str, weight: &str| MemberPolicy {
            name: name.into(),
            address: "127.0.0.1:80".parse().unwrap(),
            weight: weight.parse().unwrap(),
        };
        let mut plan = PoolPlan::new("p", 64, vec![member("a", a), member("b", b)]);
        plan.ramp = Duration::from_secs(30);
        vec![plan]
    };
    let now = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    let mut fleet = Fleet::new(weights("1", "0"), Orders::default(), 1, now).unwrap();
    let prepared = fleet.prepare(weights("0", "1")).unwrap();
    fleet.adopt(prepared, now);
    let view = fleet.view();
    let rules =
        Rules { attempts: 3, on_all_down: OnAllDown::Refuse, owner_only: false, when_full: WhenFull::Next };
    for key in 0..100_u32 {
        let place = Place::of(&key.to_be_bytes());
        let next = Candidates::new(&view.pools[0], place, now.instant, rules).next_backend();
        assert!(matches!(next, Next::Try(MemberIndex(1), _)), "{next:?}");
        assert_eq!(view.pools[0].home(place, now.instant), Some(MemberIndex(1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_published_view_is_what_the_whole_history_says(
        history in steps(5),
        names in proptest::collection::vec(any::<bool>(), 5),
        (rise, fall) in (1..4u32, 1..4u32),
        keys in proptest::collection::vec(any::<u64>(), 8),
    ) {
        let members = (0..5).map(|i| MemberPolicy {
            name: format!("b{i}").into(),
            address: if names[i] { "name.internal:80".parse().unwrap() } else { "127.0.0.1:80".parse().unwrap() },
            weight: Weight::ONE,
        });
        let mut plan = PoolPlan::new("p", 8, members.collect());
        plan.thresholds = Some(Thresholds { rise, fall });
        plan.passive = PassivePolicy { flaps: 0, ..PassivePolicy::default() };
        let now = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut fleet = Fleet::new(vec![plan], Orders::default(), 1, now).unwrap();
        let mut view = fleet.view();
        let ring = view.pools[0].ring.clone();
        let mut model = vec![Naive::default(); 5];
        for step in history {
            let (member, fact) = match step {
                Step::Probe { member, passes } => {
                    model[member].results.push(passes);
                    (member, Fact::Probed(if passes { Outcome::Pass } else { Outcome::fail("no") }))
                }
                Step::Resolve { member, port } if names[member] => {
                    model[member].port = Some(port);
                    (member, Fact::Resolved(Arc::new([SocketAddr::from(([127, 0, 0, 1], port)).into()])))
                }
                Step::FailToResolve { member } if names[member] => (member, Fact::NotResolved("no".into())),
                _ => continue,
            };
            let event = Event { backend: view.pools[0].members[member].backend.id, fact };
            if !matches!(fleet.apply(event, now), Applied::Nothing) {
                let next = fleet.view();
                prop_assert_eq!(next.revision, view.revision + 1);
                prop_assert!(Arc::ptr_eq(&ring, &next.pools[0].ring));
                view = next;
            }
            // Whether or not something was published: what is published is right.
            for (i, naive) in model.iter().enumerate() {
                let seen = &view.pools[0].members[i];
                prop_assert_eq!(seen.standing, naive.standing(names[i], rise, fall));
                let ports: Vec<u16> = seen.addresses.iter().map(|address| address.socket().unwrap().port()).collect();
                prop_assert_eq!(ports, if names[i] { Vec::from_iter(naive.port) } else { vec![80] });
            }
        }
        let pool = &view.pools[0];
        for key in keys {
            // Where nobody serves, those that are merely not known yet.
            let wanted = if pool.serving > 0 { Standing::Serving } else { Standing::Unproven };
            let stands_so = |member: &MemberIndex| pool.member(*member).standing == wanted;
            let wanted: Vec<_> = ring.walk(Place(key)).filter(stands_so).take(3).collect();
            let rules = Rules {
                attempts: 3,
                on_all_down: OnAllDown::Refuse,
                owner_only: false,
                when_full: WhenFull::Next,
            };
            let mut candidates = Candidates::new(pool, Place(key), now.instant, rules);
            let mut tried = Vec::new();
            while let Next::Try(member, _) = candidates.next_backend() {
                tried.push(member);
            }
            prop_assert_eq!(&tried, &wanted);
            for member in tried {
                prop_assert_eq!(candidates.off_owner(member).is_none(), ring.owner(Place(key)) == Some(member));
            }
        }
    }
}
