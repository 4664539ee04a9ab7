//! What a change of the configuration moves: exactly, from the arcs of the rings before and after.
//!
//! Owns the comparison and the shape in which it is told, which is an interface: fields are added, not renamed or removed. Never samples
//! keys; what recorded requests add stands in [`super::traffic`]. Start at [`compare`].

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;

use super::{
    chart::{Chart, Charted},
    traffic::{Traffic, bound_notes},
};
use crate::{
    limits::MOVES_TOLD,
    ring::{Fingerprint, MemberIndex, Ring},
};

/// What moves.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Whether any key has another owner afterwards, or any request of the recorded traffic; also if routes or key sources differ, of which the
    /// rings alone know nothing.
    pub moves: bool,
    /// The greatest share of a pool's keyspace that moves, from 0 to 1. A pool that is removed counts as a whole.
    pub share_moved: f64,
    /// Pools that only the new configuration has.
    pub pools_added: Vec<String>,
    /// Pools that only the old one has.
    pub pools_removed: Vec<String>,
    /// Those that both have, in the order of the old one.
    pub pools: Vec<PoolChange>,
    /// What figures do not tell.
    pub notes: Vec<String>,
    /// What moves of recorded traffic; `null` if there was none.
    pub traffic: Option<Traffic>,
}

/// What moves in a pool.
#[derive(Debug, Serialize)]
pub struct PoolChange {
    /// Its name.
    pub name: String,
    /// The share of its keyspace whose owner changes, from 0 to 1.
    pub share_moved: f64,
    /// How it is shared out before.
    pub before: Balance,
    /// How it is shared out afterwards.
    pub after: Balance,
    /// Its backends in order of the name, those of both sides.
    pub backends: Vec<BackendChange>,
    /// What moves from whom to whom, the most first, up to a bound.
    pub moved: Vec<Move>,
    /// How many more such pairs there are.
    pub pairs_left_out: usize,
    /// Backends that have another name afterwards, by their address.
    pub renamed: Vec<Renamed>,
}

/// How evenly a ring shares out its circle.
#[derive(Debug, PartialEq, Serialize)]
pub struct Balance {
    /// Virtual nodes for a unit of weight.
    pub replicas: u32,
    /// Virtual nodes.
    pub virtual_nodes: usize,
    /// Backends that have some.
    pub backends: usize,
    /// The greatest ratio of a backend's share to what its weight asks for.
    pub imbalance: f64,
    /// What that comes to on average over rings like this one.
    pub expected_imbalance: f64,
    /// The backend with the greatest share. `null`: nobody has any.
    pub greatest: Option<String>,
    /// Its share, from 0 to 1.
    pub greatest_share: f64,
    /// The ring's fingerprint.
    pub fingerprint: String,
}

/// One backend, before and after.
#[derive(Debug, PartialEq, Serialize)]
pub struct BackendChange {
    /// Its name.
    pub name: String,
    /// `same`, `added`, `removed`, `reweighted`, or `moved` for another address.
    pub change: &'static str,
    /// Its weight before; `null` if it was not there.
    pub weight_before: Option<String>,
    /// Its weight afterwards.
    pub weight_after: Option<String>,
    /// Its share of the keyspace before, from 0 to 1.
    pub share_before: f64,
    /// Its share afterwards.
    pub share_after: f64,
    /// Its address before.
    pub address_before: Option<String>,
    /// Its address afterwards.
    pub address_after: Option<String>,
}

/// Keys that get another owner.
#[derive(Debug, PartialEq, Serialize)]
pub struct Move {
    /// Who had them. `null`: nobody.
    pub from: Option<String>,
    /// Who gets them.
    pub to: Option<String>,
    /// The share of the pool's keyspace.
    pub share: f64,
}

/// A backend at the same address under another name. The name is what the ring hashes, so all its keys move.
#[derive(Debug, PartialEq, Serialize)]
pub struct Renamed {
    /// Its name before.
    pub before: String,
    /// Its name afterwards.
    pub after: String,
    /// Where it is.
    pub address: String,
}

impl Comparison {
    /// Adds what moves of recorded traffic.
    pub fn add(&mut self, traffic: Traffic) {
        self.moves |= traffic.moved > 0;
        self.traffic = Some(traffic);
    }

    /// The share that a bound is for: that of the requests where there are any, else that of the keyspace.
    pub fn decisive_share(&self) -> f64 {
        match &self.traffic {
            Some(traffic) if traffic.requests > 0 => traffic.share_moved,
            _ => self.share_moved,
        }
    }
}

/// Compares the pools of two configurations, each with the one of its name.
pub fn compare(old: &Chart, new: &Chart) -> Comparison {
    let by_name = |chart: &'_ Chart| -> HashMap<Arc<str>, usize> {
        chart.pools.iter().zip(0..).map(|(pool, at)| (pool.name.clone(), at)).collect()
    };
    let (old_names, new_names) = (by_name(old), by_name(new));
    let mut pools = Vec::new();
    let (mut notes, mut others_differ) = (Vec::new(), false);
    for before in &old.pools {
        let Some(after) = new_names.get(&before.name).map(|at| &new.pools[*at]) else { continue };
        pools.push(pool_change(before, after));
        others_differ |= before.policy() != after.policy();
        remark(before, after, &mut notes);
    }
    if !old.routes_as(new) {
        others_differ = true;
        notes.insert(
            0,
            "routes differ: which requests go to another pool, only recorded traffic can tell".into(),
        );
    }
    let removed: Vec<&Charted> =
        old.pools.iter().filter(|pool| !new_names.contains_key(&pool.name)).collect();
    let added: Vec<&Charted> = new.pools.iter().filter(|pool| !old_names.contains_key(&pool.name)).collect();
    rename_notes(&removed, &added, &mut notes);
    bound_notes(&mut notes);
    let names = |pools: &[&Charted]| pools.iter().map(|pool| pool.name.to_string()).collect::<Vec<_>>();
    let (pools_removed, pools_added) = (names(&removed), names(&added));
    let greatest = pools.iter().map(|pool| pool.share_moved).fold(0.0, f64::max);
    let share_moved = if pools_removed.is_empty() { greatest } else { 1.0 };
    Comparison {
        moves: share_moved > 0.0 || others_differ,
        share_moved,
        pools_added,
        pools_removed,
        pools,
        notes,
        traffic: None,
    }
}

/// Says which pools have another name. Only where one ring went and one came like it: of several that are alike, nobody knows which is which.
fn rename_notes(removed: &[&Charted], added: &[&Charted], notes: &mut Vec<String>) {
    let mut rings: HashMap<Fingerprint, [Vec<&Charted>; 2]> = HashMap::new();
    for (side, pools) in [removed, added].into_iter().enumerate() {
        for pool in pools {
            rings.entry(pool.ring.fingerprint()).or_default()[side].push(pool);
        }
    }
    for gone in removed {
        if let Some([[_], [come]]) = rings.get(&gone.ring.fingerprint()).map(|[a, b]| [&a[..], &b[..]]) {
            notes.push(format!(
                "pool {} has become {}, with the same ring: keys keep their backends, but health and counts begin anew",
                gone.name, come.name
            ));
        }
    }
}

fn remark(before: &Charted, after: &Charted, notes: &mut Vec<String>) {
    let name = &before.name;
    if before.policy() != after.policy() {
        notes.push(format!(
            "pool {name}: key sources differ ({} -> {}): requests get other keys, and only recorded traffic can tell what moves",
            before.policy(),
            after.policy()
        ));
    }
    if after.ring.node_count() == 0 {
        notes.push(format!("pool {name}: no backend has a weight any more: every request is refused"));
    }
}

fn pool_change(before: &Charted, after: &Charted) -> PoolChange {
    let shifts = before.ring.shifts(&after.ring);
    let name = |ring: &Ring, member: Option<MemberIndex>| Some(ring.member(member?).name.to_string());
    let moved = shifts.iter().take(MOVES_TOLD).map(|shift| Move {
        from: name(&before.ring, shift.from),
        to: name(&after.ring, shift.to),
        share: shift.share(),
    });
    let backends = backends(before, after);
    PoolChange {
        name: before.name.to_string(),
        share_moved: before.ring.share_moved(&after.ring),
        before: Balance::of(&before.ring),
        after: Balance::of(&after.ring),
        moved: moved.collect(),
        pairs_left_out: shifts.len().saturating_sub(MOVES_TOLD),
        renamed: renamed(&backends),
        backends,
    }
}

impl Balance {
    /// That of a ring.
    pub fn of(ring: &Ring) -> Balance {
        let shares = ring.members().iter().zip(ring.shares());
        let greatest = shares.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, share)| *share > 0.0);
        Balance {
            replicas: ring.replicas(),
            virtual_nodes: ring.node_count(),
            backends: ring.members().iter().filter(|member| !member.weight.is_zero()).count(),
            imbalance: ring.imbalance(),
            expected_imbalance: ring.expected_imbalance(),
            greatest: greatest.map(|(member, _)| member.name.to_string()),
            greatest_share: greatest.map_or(0.0, |(_, share)| share),
            fingerprint: ring.fingerprint().to_string(),
        }
    }
}

/// The backends of both sides in order of the name.
fn backends(before: &Charted, after: &Charted) -> Vec<BackendChange> {
    let names = [&before.ring, &after.ring].map(|ring| ring.members().iter().map(|member| &*member.name));
    let mut names: Vec<&str> = names.into_iter().flatten().collect();
    names.sort_unstable();
    names.dedup();
    let side = |pool: &Charted, name: &str| {
        let at = pool.ring.index_of(name)?;
        let weight = pool.ring.member(at).weight.to_string();
        Some((weight, pool.ring.share(at), pool.addresses[at.as_usize()].clone()))
    };
    let change = |name: &&str| {
        let (old, new) = (side(before, name), side(after, name));
        let change = match (&old, &new) {
            (Some(_), None) => "removed",
            (Some(old), Some(new)) if old.0 != new.0 => "reweighted",
            (Some(old), Some(new)) if old.2 != new.2 => "moved",
            (Some(_), Some(_)) => "same",
            (None, _) => "added",
        };
        let share = |side: &Option<(String, f64, String)>| side.as_ref().map_or(0.0, |(_, share, _)| *share);
        BackendChange {
            name: (*name).to_owned(),
            change,
            share_before: share(&old),
            share_after: share(&new),
            weight_before: old.as_ref().map(|(weight, ..)| weight.clone()),
            weight_after: new.as_ref().map(|(weight, ..)| weight.clone()),
            address_before: old.map(|(_, _, address)| address),
            address_after: new.map(|(_, _, address)| address),
        }
    };
    names.iter().map(change).collect()
}

fn renamed(backends: &[BackendChange]) -> Vec<Renamed> {
    let mut gone: HashMap<&str, &str> = HashMap::new();
    for backend in backends.iter().filter(|backend| backend.change == "removed") {
        gone.extend(backend.address_before.as_deref().map(|address| (address, &*backend.name)));
    }
    let come = backends.iter().filter(|backend| backend.change == "added");
    let renamed = come.filter_map(|backend| {
        let address = backend.address_after.as_deref()?;
        let before = gone.remove(address)?;
        Some(Renamed { before: before.to_owned(), after: backend.name.clone(), address: address.to_owned() })
    });
    renamed.collect()
}
