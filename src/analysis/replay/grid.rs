//! The grid: each value of each dimension with each value of the others, and what is common to all cells.
//!
//! Owns the cells and their bounds. What is not named is as the configuration has it.

use std::time::Duration;

use super::{CacheSize, Event, ReplayError, Scenario, Service, Settings, scenario::member_names};
use crate::{
    fleet::{Address, MemberPolicy, PoolPlan},
    limits::{REPLAY_CACHED, REPLAY_CELLS, REPLAY_NODES},
    proxy::choose::Rules,
    ring::Weight,
};

/// What is common to all cells.
#[derive(Clone, Debug)]
pub struct Base {
    /// The pool as configured.
    pub plan: PoolPlan,
    /// What a request may do.
    pub rules: Rules,
    /// How long a request is in flight.
    pub service: Service,
    /// What happens, in any order.
    pub events: Vec<Event>,
    /// The width of a window, in nanoseconds.
    pub window: u64,
    /// How far before and after an event hits are counted, in nanoseconds.
    pub around: u64,
}

/// The dimensions. One without values is as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    /// Virtual nodes per unit of weight.
    pub replicas: Vec<u32>,
    /// The bound's factor; 0: none.
    pub factor: Vec<f64>,
    /// The bound's floor.
    pub floor: Vec<u32>,
    /// How many backends: the first ones of the configuration, and further ones of weight 1 after them.
    pub backends: Vec<usize>,
    /// How long a backend takes to get its keys.
    pub ramp: Vec<Duration>,
    /// Weights by name. `None`: as configured.
    pub weights: Vec<Option<Vec<(String, Weight)>>>,
    /// Caches.
    pub cache: Vec<Option<CacheSize>>,
}

/// A cell in the making.
#[derive(Clone, Debug)]
struct Cell {
    plan: PoolPlan,
    backends: usize,
    weights: Option<Vec<(String, Weight)>>,
    cache: Option<CacheSize>,
}

/// Each of the cells with each of the values. Without values, the cells as they are.
fn each<T>(cells: Vec<Cell>, values: &[T], set: impl Fn(&mut Cell, &T)) -> Vec<Cell> {
    if values.is_empty() {
        return cells;
    }
    let with = |cell: &Cell, value: &T| {
        let mut cell = cell.clone();
        set(&mut cell, value);
        cell
    };
    cells.iter().flat_map(|cell| values.iter().map(move |value| with(cell, value))).collect()
}

impl Grid {
    /// How many cells it has.
    pub fn cells(&self) -> usize {
        let lengths = [
            self.replicas.len(),
            self.factor.len(),
            self.floor.len(),
            self.backends.len(),
            self.ramp.len(),
            self.weights.len(),
            self.cache.len(),
        ];
        lengths.iter().fold(1, |product, length| product.saturating_mul(*length.max(&1)))
    }

    /// All cells, the last dimension changing first.
    ///
    /// # Errors
    /// There are too many, they are too large together, or one contradicts itself.
    pub fn scenarios(&self, base: &Base) -> Result<Vec<Scenario>, ReplayError> {
        let (cells, most) = (self.cells(), REPLAY_CELLS);
        if cells > most {
            return Err(ReplayError::GridTooLarge { cells, most });
        }
        let (plan, backends) = (base.plan.clone(), base.plan.members.len());
        let cells = vec![Cell { plan, backends, weights: None, cache: None }];
        let cells = each(cells, &self.replicas, |cell, replicas| cell.plan.replicas = *replicas);
        let cells = each(cells, &self.factor, |cell, factor| cell.plan.load.factor = *factor);
        let cells = each(cells, &self.floor, |cell, floor| cell.plan.load.floor = *floor);
        let cells = each(cells, &self.backends, |cell, backends| cell.backends = *backends);
        let cells = each(cells, &self.ramp, |cell, ramp| cell.plan.ramp = *ramp);
        let cells = each(cells, &self.weights, |cell, weights| cell.weights.clone_from(weights));
        let cells = each(cells, &self.cache, |cell, cache| cell.cache = *cache);
        let mut scenarios = Vec::with_capacity(cells.len());
        for mut cell in cells {
            resize(&mut cell.plan.members, cell.backends);
            let weighed = weigh(&mut cell.plan.members, cell.weights.as_deref())?;
            scenarios.push(base.scenario(cell.plan, weighed, cell.cache));
        }
        bound(&mut scenarios)?;
        for scenario in &scenarios {
            scenario.check_events()?;
        }
        Ok(scenarios)
    }
}

impl Base {
    fn scenario(&self, plan: PoolPlan, weights: String, cache: Option<CacheSize>) -> Scenario {
        let mut scenario = Scenario::new(plan, self.rules);
        let cached = cache.map_or_else(|| "off".to_owned(), |cache| cache.to_string());
        scenario.settings = Settings { weights, cache: cached, ..scenario.settings };
        scenario.cache = cache;
        scenario.service = self.service;
        scenario.events.clone_from(&self.events);
        scenario.events.sort_by_key(|event| event.at);
        (scenario.window, scenario.around) = (self.window, self.around);
        scenario
    }
}

fn resize(members: &mut Vec<MemberPolicy>, backends: usize) {
    members.truncate(backends);
    for number in members.len()..backends {
        let mut name = format!("b{}", number + 1);
        while members.iter().any(|member| *member.name == *name) {
            name.push('x');
        }
        let address = Address::Socket(([127, 0, 0, 1], 80).into());
        members.push(MemberPolicy { name: name.as_str().into(), address, weight: Weight::ONE });
    }
}

/// Gives the weights. What they are, in words.
fn weigh(members: &mut [MemberPolicy], weights: Option<&[(String, Weight)]>) -> Result<String, ReplayError> {
    let Some(weights) = weights else { return Ok("as configured".to_owned()) };
    for (name, weight) in weights {
        match members.iter_mut().find(|member| *member.name == **name) {
            Some(member) => member.weight = *weight,
            None => {
                let there = member_names(members);
                return Err(ReplayError::NoSuchWeight { backend: name.clone(), there });
            }
        }
    }
    let words: Vec<String> = weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    Ok(words.join(","))
}

/// Sees to it that all of them fit into memory.
fn bound(scenarios: &mut [Scenario]) -> Result<(), ReplayError> {
    // Each event may make a ring of its own, and two are compared.
    let nodes = |scenario: &Scenario| scenario.nodes().saturating_mul(3 + scenario.events.len() as u64);
    let nodes = scenarios.iter().map(nodes).fold(0, u64::saturating_add);
    if nodes > REPLAY_NODES {
        return Err(ReplayError::RingsTooLarge { nodes, most: REPLAY_NODES });
    }
    let caches = |scenario: &Scenario| {
        let added = scenario.events.iter().filter(|event| matches!(event.deed, super::Deed::Add(_))).count();
        (scenario.plan.members.len() + added) as u64
    };
    let objects = |scenario: &Scenario| match scenario.cache {
        Some(CacheSize::Objects(objects)) => caches(scenario).saturating_mul(objects.into()),
        Some(CacheSize::Bytes(_)) | None => 0,
    };
    let objects = scenarios.iter().map(objects).fold(0, u64::saturating_add);
    if objects > REPLAY_CACHED {
        return Err(ReplayError::CachesTooLarge { objects, most: REPLAY_CACHED });
    }
    // How many objects fit into so many bytes nobody knows before: each cache may have its part of the bound.
    let in_bytes = |scenario: &&Scenario| matches!(scenario.cache, Some(CacheSize::Bytes(_)));
    let all: u64 = scenarios.iter().filter(in_bytes).map(caches).sum();
    for scenario in scenarios {
        scenario.cached_most = (REPLAY_CACHED / all.max(1)).max(1) as usize;
    }
    Ok(())
}
