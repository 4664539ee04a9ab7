//! The ring as its users see it. Here: against vectors recorded from another implementation.
//!
//! Owns the promise that placement never changes. It never looks inside the ring. The vectors are in
//! `tests/data/ring/vectors.json`; if one fails, the ring is wrong and not the vector.

mod balance;
mod bounds;
mod properties;

use std::collections::BTreeMap;

use ringway::ring::{MemberIndex, Place, Ring, Weight};
use serde_json::Value;

type Members = BTreeMap<String, Weight>;

fn build(members: &Members, replicas: u32) -> Ring {
    Ring::build(members.iter().map(|(name, weight)| (name.as_str().into(), *weight)), replicas).unwrap()
}

fn equal(count: usize, replicas: u32) -> Ring {
    Ring::build((0..count).map(|number| (format!("backend-{number}").into(), Weight::ONE)), replicas).unwrap()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../data/ring/vectors.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Each pool of the vectors, with its ring and a line that says which one it is.
fn recorded_pools() -> Vec<(Value, Ring, String)> {
    let pools = list(&vectors()["pools"]).to_vec();
    let with_ring = |pool: Value| {
        let members = list(&pool["backends"]).iter();
        let members =
            members.map(|member| (text(&member["name"]).into(), text(&member["weight"]).parse().unwrap()));
        let ring = Ring::build(members, pool["replicas"].as_u64().unwrap().try_into().unwrap()).unwrap();
        let title = format!("pool {:?}, {ring:?}", text(&pool["title"]));
        (pool, ring, title)
    };
    pools.into_iter().map(with_ring).collect()
}

fn name(ring: &Ring, index: MemberIndex) -> &str {
    &ring.member(index).name
}

#[test]
fn places_are_as_recorded() {
    let vectors = vectors();
    assert_eq!(vectors["spec"], "ring/1");
    for (key, place) in vectors["places"].as_object().unwrap() {
        assert_eq!(Place::of(key.as_bytes()).0.to_string(), text(place), "key {key:?}");
    }
}

#[test]
fn virtual_nodes_are_as_recorded() {
    for (pool, ring, title) in recorded_pools() {
        assert_eq!(ring.node_count() as u64, pool["nodes"], "{title}");
        assert_eq!(ring.nodes().len(), ring.node_count(), "{title}");
        let first =
            ring.nodes().take(5).map(|(place, member)| (place.0.to_string(), name(&ring, member).to_owned()));
        let recorded = list(&pool["first_nodes"]).iter();
        let recorded =
            recorded.map(|node| (text(&node["place"]).to_owned(), text(&node["backend"]).to_owned()));
        assert_eq!(first.collect::<Vec<_>>(), recorded.collect::<Vec<_>>(), "{title}");
    }
}

#[test]
fn fingerprints_are_as_recorded() {
    for (pool, ring, title) in recorded_pools() {
        let full = ring.fingerprint().to_string();
        assert_eq!(full, text(&pool["fingerprint"]), "{title}");
        assert_eq!(format!("{:08x}", ring.fingerprint().short()), full[..8], "{title}");
    }
}

#[test]
fn fingerprints_of_those_that_serve_are_as_recorded() {
    let (_, ring, _) = recorded_pools().into_iter().find(|(pool, ..)| pool["title"] == "weights").unwrap();
    let serving =
        |names: &[&str]| ring.serving_fingerprint(|member| names.contains(&name(&ring, member))).to_string();
    let all = serving(&["small", "one", "double", "tiny", "drained"]);
    assert_eq!(all, "1d9181340bf6d77cd4673cf562b8f50c20faabfc");
    assert_eq!(serving(&["tiny", "small"]), "34e2786449b247ad6b360b0564b2fefc564c344a");
    assert_eq!(serving(&[]), "35664bac93eeab40d2196d1957d29f6f3e4946ad");
}

#[test]
fn shares_are_as_recorded() {
    for (pool, ring, title) in recorded_pools() {
        let recorded = pool["shares"].as_object().unwrap();
        assert_eq!(ring.shares().len(), ring.members().len(), "{title}");
        for (member, share) in ring.members().iter().zip(ring.shares()) {
            let recorded = recorded.get(&*member.name).map_or(0.0, |share| share.as_f64().unwrap());
            assert!((share - recorded).abs() < 1e-11, "{title}: {} has {share}, not {recorded}", member.name);
            let index = ring.index_of(&member.name).unwrap();
            assert_eq!((ring.member(index), ring.share(index)), (member, share), "{title}");
        }
    }
}

#[test]
fn owners_are_as_recorded() {
    for (pool, ring, title) in recorded_pools() {
        for (key, owners) in pool["owners"].as_object().unwrap() {
            let place = Place::of(key.as_bytes());
            let walk: Vec<_> = ring.walk(place).take(5).map(|member| name(&ring, member)).collect();
            assert_eq!(walk, list(owners).iter().map(text).collect::<Vec<_>>(), "{title}, key {key:?}");
            assert_eq!(
                ring.owner(place).map(|member| name(&ring, member)),
                Some(walk[0]),
                "{title}, key {key:?}"
            );
        }
    }
}
