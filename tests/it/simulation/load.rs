//! The bound on load under a crowd of clients: what it promises, in virtual time. `cargo bench --bench load` takes longer and tells more.

use super::crowd::{Arrivals, Counted, Crowd, Keys};

/// Clients in closed loop, for ten seconds if a request takes 20 ms in the mean.
fn zipf(clients: usize, floor: u32) -> Counted {
    let arrivals = Arrivals::Closed(clients);
    let keys = Keys::Zipf(10_000, 1.2);
    Crowd { backends: 10, keys, arrivals, factor: 1.25, floor, length: 500.0, seed: 1 }.run()
}

#[test]
fn no_backend_is_above_the_bound_under_a_hundred_clients_with_hot_keys() {
    let tight = zipf(100, 0);
    assert!(tight.requests > 40_000, "{tight:?}");
    // 1.25 times a mean of ten, rounded up.
    assert_eq!((tight.above, tight.most), (0, 13), "{tight:?}");
    let default = zipf(100, 16);
    assert_eq!((default.above, default.most), (0, 16), "{default:?}");
    assert!(default.away() < tight.away(), "{default:?} {tight:?}");
}

#[test]
fn three_requests_in_flight_are_all_at_their_owners() {
    let counted = zipf(3, 16);
    assert_eq!((counted.requests - counted.at_owner, counted.above), (0, 0), "{counted:?}");
}

#[test]
fn below_its_floor_the_bound_leaves_evenly_used_keys_where_they_are() {
    let crowd = |keys, factor, floor| {
        let arrivals = Arrivals::Poisson(80.0);
        Crowd { backends: 10, keys, arrivals, factor, floor, length: 250.0, seed: 1 }.run()
    };
    assert!(crowd(Keys::Uniform, 1.25, 16).away() < 0.02);
    assert!(crowd(Keys::Uniform, 1.25, 0).away() > 0.1, "chance alone moves them");
    let hot = Keys::Zipf(10_000, 1.2);
    let (free, bound) = (crowd(hot, 0.0, 0).peak, crowd(hot, 1.25, 0).peak);
    assert!(free > 2.0 && bound < 1.4, "{free} {bound}");
}
