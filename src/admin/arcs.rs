//! The ring for people to look at: who owns which part of the circle, and the walk from one place on.
//!
//! Owns how a circle of a million virtual nodes becomes a few hundred segments. What decides stays with [`crate::ring`]. Pure.

use std::time::Instant;

use serde::{Serialize, Serializer};

use crate::{
    fleet::{PoolView, View},
    ring::{MemberIndex, Place, Ring},
};

/// 2^64, the number of places on the circle.
const CIRCLE: f64 = 18_446_744_073_709_551_616.0;

/// Segments, where nobody says how many.
const RESOLUTION: usize = 720;

/// The most that can be asked for.
const RESOLUTION_MOST: usize = 4096;

/// Different backends that a walk is shown up to, and virtual nodes.
const WALK_OWNERS: usize = 5;
const WALK_NODES: usize = 256;

/// What is asked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Asked {
    pool: Option<String>,
    resolution: Option<usize>,
    place: Option<Place>,
}

/// The answer of `/api/ring`.
#[derive(Serialize)]
pub(super) struct Drawn {
    revision: u64,
    pool: String,
    fingerprint: String,
    replicas: u32,
    virtual_nodes: usize,
    /// The names, in the order that numbers below refer to.
    backends: Vec<String>,
    /// Exact, in the same order.
    shares: Vec<f64>,
    /// Each arc is what it is, not a picture of many.
    exact: bool,
    arcs: Vec<Arc>,
    walk: Option<Vec<Arc>>,
}

/// From here to where the next one begins, as a part of the circle, and the owner's number. In a walk: up to here, from the key's place
/// on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Arc(f64, usize);

impl Serialize for Arc {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.0, self.1).serialize(to)
    }
}

impl Asked {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(query: &str) -> Result<Asked, String> {
        let mut asked = Asked::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "pool" => asked.pool = Some(value.into_owned()),
                "resolution" => {
                    let wanted = value.parse().ok().filter(|wanted| *wanted <= RESOLUTION_MOST);
                    asked.resolution =
                        Some(wanted.ok_or(format!("resolution: a number from 0 to {RESOLUTION_MOST}"))?);
                }
                "place" => {
                    let place = u64::from_str_radix(&value, 16).ok().filter(|_| value.len() == 16);
                    asked.place = Some(Place(place.ok_or("place: 16 hexadecimal digits")?));
                }
                other => return Err(format!("there is no parameter {other:?}")),
            }
        }
        Ok(asked)
    }
}

/// Draws the ring of one pool.
///
/// # Errors
/// There is no such pool, or it is not clear which one is meant.
pub(super) fn draw(view: &View, asked: &Asked, now: Instant) -> Result<Drawn, String> {
    let pool = match &asked.pool {
        Some(name) => view.pools.iter().find(|pool| *pool.pool.name == **name),
        None if view.pools.len() == 1 => view.pools.first(),
        None => return Err("say which pool, as pool=NAME".into()),
    };
    let pool = pool.ok_or("there is no such pool; /api/pools lists those that there are")?;
    let ring = &pool.ring;
    let resolution = asked.resolution.unwrap_or(RESOLUTION);
    let exact = ring.node_count() <= resolution;
    Ok(Drawn {
        revision: view.revision,
        pool: pool.pool.name.to_string(),
        fingerprint: ring.fingerprint().to_string(),
        replicas: ring.replicas(),
        virtual_nodes: ring.node_count(),
        backends: ring.members().iter().map(|member| member.name.to_string()).collect(),
        shares: ring.shares().collect(),
        exact,
        arcs: match resolution {
            0 => Vec::new(),
            _ if exact => arcs(ring),
            _ => segments(ring, resolution),
        },
        walk: asked.place.map(|place| walk(pool, place, now)),
    })
}

/// Every arc, those of one owner that lie side by side as one. They begin at place 0.
fn arcs(ring: &Ring) -> Vec<Arc> {
    let mut arcs = Vec::with_capacity(ring.node_count() + 1);
    arcs_of(ring).for_each(|(begin, _, member)| add(&mut arcs, begin, member));
    arcs
}

fn add(arcs: &mut Vec<Arc>, begin: f64, member: MemberIndex) {
    let member = member.as_usize();
    if begin < 1.0 && arcs.last().is_none_or(|last| last.1 != member) {
        arcs.push(Arc(begin, member));
    }
}

/// Equal segments, each with the owner that is owed most up to there. So what is too small to be seen is not lost: on the whole circle,
/// everybody has as much as is his, to within a segment.
fn segments(ring: &Ring, resolution: usize) -> Vec<Arc> {
    let mut owed = vec![0.0; ring.members().len()];
    let width = 1.0 / resolution as f64;
    let mut arcs = Vec::new();
    let mut exact = arcs_of(ring).peekable();
    for segment in 0..resolution {
        let (begin, end) = (segment as f64 * width, (segment + 1) as f64 * width);
        // One that goes on beyond the end is looked at again.
        while let Some(&(from, to, member)) = exact.peek() {
            owed[member.as_usize()] += (to.min(end) - from.max(begin)).max(0.0);
            if to > end {
                break;
            }
            exact.next();
        }
        let most = owed.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(member, _)| member);
        if let Some(member) = most {
            owed[member] -= width;
            let member = MemberIndex(u32::try_from(member).unwrap_or(u32::MAX));
            add(&mut arcs, begin, member);
        }
    }
    arcs
}

/// Every arc as begin, end, owner.
fn arcs_of(ring: &Ring) -> impl Iterator<Item = (f64, f64, MemberIndex)> {
    let mut begin = 0.0;
    let last = ring.nodes().next().map(|(_, first)| (1.0, first));
    let ends = ring.nodes().map(|(place, member)| ((place.0 as f64 + 1.0) / CIRCLE, member));
    // Past the last node, the first one owns.
    ends.chain(last).map(move |(end, member)| (std::mem::replace(&mut begin, end), end, member))
}

/// The virtual nodes after a place, up to the first of the fifth backend, or of the last where there are fewer.
fn walk(pool: &PoolView, place: Place, now: Instant) -> Vec<Arc> {
    let ring = pool.ring_for(place, now);
    let owners = ring.arcs().iter().filter(|arc| **arc > 0).count().min(WALK_OWNERS);
    let mut met = Vec::new();
    let mut steps = Vec::new();
    for (node, member) in ring.nodes_after(place).take(WALK_NODES) {
        if !met.contains(&member) {
            met.push(member);
        }
        steps.push(Arc(node.0.wrapping_sub(place.0) as f64 / CIRCLE, member.as_usize()));
        if met.len() == owners {
            break;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Weight;

    fn ring(members: usize, replicas: u32) -> Ring {
        Ring::build((0..members).map(|i| (format!("b{i}").into(), Weight::ONE)), replicas).unwrap()
    }

    fn drawn_shares(arcs: &[Arc], members: usize) -> Vec<f64> {
        let ends = arcs.iter().skip(1).map(|arc| arc.0).chain([1.0]);
        let mut shares = vec![0.0; members];
        arcs.iter().zip(ends).for_each(|(arc, end)| shares[arc.1] += end - arc.0);
        shares
    }

    #[test]
    fn exact_arcs_have_the_shares_of_the_ring() {
        let ring = ring(5, 16);
        let drawn = drawn_shares(&arcs(&ring), 5);
        for (drawn, share) in drawn.iter().zip(ring.shares()) {
            assert!((drawn - share).abs() < 1e-12, "{drawn} {share}");
        }
    }

    #[test]
    fn segments_have_the_shares_of_the_ring_to_within_a_segment() {
        for (members, replicas) in [(3, 512), (12, 160), (500, 160), (1, 1000)] {
            let ring = ring(members, replicas);
            let segments = segments(&ring, 720);
            assert!(segments.len() <= 720);
            for (drawn, share) in drawn_shares(&segments, members).iter().zip(ring.shares()) {
                assert!((drawn - share).abs() < 1.5 / 720.0, "{drawn} {share}");
            }
        }
    }

    #[test]
    fn an_empty_ring_has_no_arcs() {
        let ring = Ring::build([("b".into(), Weight::ZERO)], 16).unwrap();
        assert!(arcs(&ring).is_empty());
    }

    #[test]
    fn queries_that_mean_nothing_are_refused() {
        for wrong in ["resolution=-1", "resolution=5000", "place=12", "place=zzzzzzzzzzzzzzzz", "pol=p"] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
        let asked = Asked::read("pool=p&resolution=9&place=00000000000000ff").unwrap();
        assert_eq!(asked, Asked { pool: Some("p".into()), resolution: Some(9), place: Some(Place(255)) });
    }
}
