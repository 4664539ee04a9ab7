//! The configuration, made into a chart of where requests go.
//!
//! Owns that translation. Starts nothing, opens nothing.

use crate::{
    analysis::chart::{Chart, Charted},
    config::{Config, PoolConfig},
    fleet::{Order, Orders, Unchanged, View},
    ring::Ring,
};

/// Where requests go by this configuration, and by what operators ordered.
///
/// # Errors
/// A pool's ring can't be built.
pub fn chart(config: &Config, orders: &Orders) -> Result<Chart, Unchanged> {
    let pools = config.pools.iter().map(|pool| charted(pool, orders)).collect::<Result<_, _>>()?;
    Ok(Chart::new(config.routes.clone(), pools))
}

fn charted(pool: &PoolConfig, orders: &Orders) -> Result<Charted, Unchanged> {
    let weight =
        |member: &crate::fleet::MemberPolicy| orders.of(&pool.name, &member.name).weight(member.weight);
    let members = pool.members.iter().map(|member| (member.name.clone(), weight(member)));
    let ring = Ring::build(members, pool.replicas)
        .map_err(|error| Unchanged::Ring { pool: pool.name.clone(), error })?;
    let mut addresses = vec![String::new(); ring.members().len()];
    for member in &pool.members {
        let at = ring.index_of(&member.name).expect("the ring was built of these members");
        addresses[at.as_usize()] = member.address.to_string();
    }
    Ok(Charted::new(pool.name.clone(), ring, addresses, pool.forward.key.clone(), pool.load.factor))
}

/// What operators ordered about the backends of a view.
pub(super) fn orders_of(view: &View) -> Orders {
    let mut orders = Orders::default();
    for pool in &view.pools {
        for member in pool.members.iter().filter(|member| member.order != Order::None) {
            orders.set(&pool.pool.name, &member.backend.name, member.order);
        }
    }
    orders
}
