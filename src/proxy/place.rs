//! Where on the ring a request belongs: at its key's place, or where its pool sends those without a key.
//!
//! Owns that choice, and notes the key down. Never looks at who owns the place: that is [`super::choose`].

use std::net::IpAddr;

use super::{
    Gateway, PoolPlan,
    key::{Facts, Fields, OnMissingKey},
    record::Routed,
};
use crate::{
    http1::{RequestHead, write_address},
    ring::Place,
    tally::OffOwner,
};

/// The place on the ring, from the key or from what the pool does without one.
pub(super) fn find_place(
    gateway: &Gateway,
    plan: &PoolPlan,
    head: &RequestHead,
    client: IpAddr,
    mut routed: Routed,
) -> (Option<Place>, Routed) {
    let facts = Facts {
        method: head.method_name(),
        authority: head.authority(),
        path: head.path(),
        query: head.query(),
        client,
        fields: Fields::Head(head),
    };
    let mut key = gateway.take_key_buffer();
    if let Some(source) = plan.forward.key.find_at(&facts, &mut key) {
        let place = Place::of(&key);
        routed.key = Some((source, key, place));
        return (Some(place), routed);
    }
    let place = match plan.forward.key.on_missing {
        OnMissingKey::Refuse => None,
        OnMissingKey::Spread => {
            routed.off_owner = Some(OffOwner::NoKey);
            Some(Place(gateway.random() as u64))
        }
        OnMissingKey::ClientAddress => {
            key.clear();
            write_address(client, &mut key);
            Some(Place::of(&key))
        }
    };
    (place, routed)
}
