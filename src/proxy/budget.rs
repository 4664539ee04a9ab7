//! How many requests may be sent again: a share of those that came lately, and some each second.
//!
//! Owns one budget for each pool and worker. Without a bound, backends that fail under load would get that load several times. Pure: time
//! is an argument. Never decides whether a request could be sent again at all: that is [`super::repeat`].

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use crate::limits::REPEAT_BUDGET_SECONDS as SECONDS;

/// A whole token, which is what one repeat takes, in the millionths that are counted in.
const TOKEN: u64 = 1_000_000;

/// What flows into a budget, in millionths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// For each request.
    pub share: u64,
    /// For each second, whether requests come or not.
    pub minimum: u64,
}

impl Rates {
    /// What these come to for each of so many workers, who share nothing: each has its own requests, and its part of the minimum.
    pub fn new(share: f64, min_per_second: u32, workers: usize) -> Rates {
        let minimum = u64::from(min_per_second) * TOKEN / workers.max(1) as u64;
        Rates { share: (share * TOKEN as f64) as u64, minimum }
    }

    /// What is kept of the minimum: that of all seconds, and never less than would let a single repeat pass, however many workers
    /// share a small one.
    fn reserve(self) -> u64 {
        match self.minimum {
            0 => 0,
            minimum => minimum.saturating_mul(SECONDS as u64).max(TOKEN),
        }
    }
}

/// What may be spent on repeats. What requests brought lapses with the seconds in which they came; what the minimum brought
/// does not, up to a bound.
#[derive(Debug)]
pub struct Budget {
    /// What the requests of each of the last seconds brought.
    brought: [u64; SECONDS],
    /// The present second among them.
    present: usize,
    /// When the present second is over.
    turns: Instant,
    /// What there is of the minimum.
    reserve: u64,
}

impl Budget {
    /// One that begins now, with the whole minimum.
    pub fn new(now: Instant, rates: Rates) -> Budget {
        let turns = now + Duration::from_secs(1);
        Budget { brought: [0; SECONDS], present: 0, turns, reserve: rates.reserve() }
    }

    /// A request has come, and is to be sent for the first time.
    pub fn bring(&mut self, now: Instant, rates: Rates) {
        self.turn(now, rates);
        self.brought[self.present] += rates.share;
    }

    /// Whether a request may be sent again. If so, that is paid for.
    pub fn take(&mut self, now: Instant, rates: Rates) -> bool {
        self.turn(now, rates);
        if self.brought.iter().sum::<u64>() + self.reserve < TOKEN {
            return false;
        }
        let mut due = TOKEN;
        // What lapses first is spent first.
        for second in 1..=SECONDS {
            let brought = &mut self.brought[(self.present + second) % SECONDS];
            let part = due.min(*brought);
            *brought -= part;
            due -= part;
        }
        self.reserve -= due;
        true
    }

    /// Goes on to the second that `now` lies in.
    fn turn(&mut self, now: Instant, rates: Rates) {
        if now < self.turns {
            return;
        }
        let passed = (now - self.turns).as_secs() + 1;
        for _ in 0..passed.min(SECONDS as u64) {
            self.present = (self.present + 1) % SECONDS;
            self.brought[self.present] = 0;
        }
        self.turns += Duration::from_secs(passed);
        let flown = passed.saturating_mul(rates.minimum);
        self.reserve = self.reserve.saturating_add(flown).min(rates.reserve());
    }
}

/// A worker's budgets.
#[derive(Debug, Default)]
pub struct Budgets {
    /// By the pool's number: a few words for each that there ever was.
    pools: RefCell<Vec<Option<Budget>>>,
}

impl Budgets {
    /// Lets `spend` look at the budget of the pool with this number. One that was not seen before begins with the whole minimum.
    pub fn with<T>(
        &self,
        pool: usize,
        now: Instant,
        rates: Rates,
        spend: impl FnOnce(&mut Budget) -> T,
    ) -> T {
        let pools = &mut *self.pools.borrow_mut();
        if pools.len() <= pool {
            pools.resize_with(pool + 1, || None);
        }
        spend(pools[pool].get_or_insert_with(|| Budget::new(now, rates)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut Budget, now: Instant, rates: Rates) -> usize {
        std::iter::repeat_with(|| budget.take(now, rates)).take(10_000).take_while(|granted| *granted).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_repeated() {
        let (now, rates) = (Instant::now(), Rates::new(0.2, 0, 4));
        let mut budget = Budget::new(now, rates);
        assert_eq!(granted(&mut budget, now, rates), 0);
        for _ in 0..1000 {
            budget.bring(now, rates);
        }
        assert_eq!(granted(&mut budget, now, rates), 200);
        (0..4).for_each(|_| budget.bring(now, rates));
        assert!(!budget.take(now, rates));
        budget.bring(now, rates);
        assert!(budget.take(now, rates));
    }

    #[test]
    fn what_requests_brought_lapses_after_ten_seconds() {
        let (begun, rates) = (Instant::now(), Rates::new(1.0, 0, 1));
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(begun, rates);
        for n in 0..30 {
            budget.bring(begun + second * n, rates);
        }
        // The present second and the nine before it.
        assert_eq!(granted(&mut budget, begun + second * 29, rates), 10);
        budget.bring(begun + second * 30, rates);
        assert_eq!(granted(&mut budget, begun + second * 40, rates), 0);
    }

    #[test]
    fn the_minimum_is_shared_by_the_workers_and_kept_for_ten_seconds() {
        let (begun, rates) = (Instant::now(), Rates::new(0.0, 10, 4));
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(begun, rates);
        assert_eq!(granted(&mut budget, begun, rates), 25);
        assert_eq!(granted(&mut budget, begun + second * 2, rates), 5);
        assert_eq!(granted(&mut budget, begun + second * 1_000_000, rates), 25);
    }

    #[test]
    fn a_small_minimum_of_many_workers_lets_one_repeat_pass() {
        let (begun, rates) = (Instant::now(), Rates::new(0.0, 1, 64));
        let mut budget = Budget::new(begun, rates);
        assert_eq!(granted(&mut budget, begun, rates), 1);
        assert_eq!(granted(&mut budget, begun + Duration::from_secs(63), rates), 0);
        assert_eq!(granted(&mut budget, begun + Duration::from_secs(64), rates), 1);
    }

    #[test]
    fn nothing_is_granted_where_nothing_flows_in() {
        let (now, rates) = (Instant::now(), Rates::new(0.0, 0, 1));
        let mut budget = Budget::new(now, rates);
        budget.bring(now, rates);
        assert!(!budget.take(now + Duration::from_secs(100), rates));
    }

    #[test]
    fn a_time_before_the_last_one_changes_nothing() {
        let (now, rates) = (Instant::now(), Rates::new(1.0, 0, 1));
        let mut budget = Budget::new(now, rates);
        let later = now + Duration::from_secs(5);
        budget.bring(later, rates);
        budget.bring(now, rates);
        assert_eq!(granted(&mut budget, later, rates), 2);
    }

    #[test]
    fn each_pool_has_a_budget_of_its_own() {
        let (now, rates) = (Instant::now(), Rates::new(0.0, 1, 1));
        let budgets = Budgets::default();
        let take = |pool| budgets.with(pool, now, rates, |budget| granted(budget, now, rates));
        assert_eq!([take(1), take(1), take(0), take(1), take(0)], [10, 0, 10, 0, 0]);
    }
}
