//! The configuration, made into a chart of where requests go.
//!
//! Owns that translation. Starts nothing, opens nothing.

use crate::{
    admin::OperatorError,
    analysis::{
        chart::{Chart, Charted},
        compare::{Comparison, compare},
    },
    config::{self, Config, PoolConfig},
    fleet::{MemberPolicy, Orders, Unchanged},
    limits::PLAN_NODES,
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
    let weight = |member: &MemberPolicy| orders.of(&pool.name, &member.name).weight(member.weight);
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

/// What would move if the configuration in this text took the place of `current`, with the orders in force.
///
/// # Errors
/// The text is wrong, or asks for more virtual nodes than are counted out for whoever may only read.
pub(super) fn planned(current: &Config, orders: &Orders, text: &str) -> Result<Comparison, OperatorError> {
    let refused = |why: String| OperatorError::Refused(why);
    let next = config::parse(text, "new.toml").map_err(|errors| refused(errors.render(false)))?.config;
    let nodes = next
        .pools
        .iter()
        .flat_map(|pool| pool.members.iter().map(|member| member.weight.nodes(pool.replicas)));
    let nodes = nodes.fold(0_u64, u64::saturating_add);
    if nodes > PLAN_NODES {
        let why = format!(
            "{nodes} virtual nodes are more than {PLAN_NODES}: use `ringway plan --admin` for such a change"
        );
        return Err(refused(why));
    }
    let old = chart(current, orders).map_err(|error| OperatorError::Failed(error.to_string()))?;
    let new = chart(&next, orders).map_err(|error| refused(error.to_string()))?;
    Ok(compare(&old, &new))
}
