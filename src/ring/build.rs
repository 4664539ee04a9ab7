//! Building a ring: names and weights in, sorted virtual nodes out.
//!
//! Owns the bounds on a ring's size and the text of which each virtual node's place is the hash. It never
//! looks at the order in which members are listed. Start at [`Ring::build`].

use std::sync::Arc;

use super::{Circle, Fingerprint, Place, Ring, RingMember, Weight};

/// The most virtual nodes that a ring may have: 118 MB, and about a second to build.
pub const MAX_VIRTUAL_NODES: u64 = 8_388_608;

/// The most members that a ring may have.
pub const MAX_MEMBERS: usize = 65_535;

/// Why a ring cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Replicas and weights ask for too many virtual nodes.
    #[error("{nodes} virtual nodes are too many, at most {cap} are allowed: {}", advice(*.replicas_that_fit))]
    TooManyNodes {
        /// How many there would be; `u64::MAX` if even that is too small a number.
        nodes: u64,
        /// How many there may be, [`MAX_VIRTUAL_NODES`].
        cap: u64,
        /// The largest `replicas` with which these weights fit. `None` if not even 1 does.
        replicas_that_fit: Option<u32>,
    },
    /// Two members have this name.
    #[error("there are two backends of the name {0:?}")]
    DuplicateName(Arc<str>),
    /// There are more than [`MAX_MEMBERS`].
    #[error("there are more than {MAX_MEMBERS} backends")]
    TooManyMembers,
}

fn advice(replicas_that_fit: Option<u32>) -> String {
    match replicas_that_fit {
        Some(replicas) => format!("replicas = {replicas} would fit"),
        None => "no replicas would fit, the weights are too large".to_owned(),
    }
}

impl Ring {
    /// Builds the ring of these members, in whichever order they come, with `replicas` virtual nodes per unit
    /// of weight (see [`Weight::nodes`]). Members of weight 0 are members without virtual nodes; a ring may
    /// be empty.
    ///
    /// Any name will do here. But a name with a tab or a line feed could make the [`Fingerprint`] that of
    /// another list of members, so who takes names from outside should refuse those.
    ///
    /// # Errors
    ///
    /// Too many members, two of one name, or more than [`MAX_VIRTUAL_NODES`]. Nothing large has been
    /// allocated then.
    pub fn build(
        members: impl IntoIterator<Item = (Arc<str>, Weight)>,
        replicas: u32,
    ) -> Result<Ring, RingError> {
        let members = in_name_order(members)?;
        let counts = node_counts(&members, replicas)?;

        let mut places = Vec::with_capacity(counts.iter().sum());
        for (member, &count) in members.iter().zip(&counts) {
            push_places(&mut places, &member.name, count);
        }
        let circle = Circle::of_runs(&places, &counts);

        Ok(Ring {
            replicas,
            arcs: circle.arcs(members.len()),
            placed: counts.iter().filter(|&&count| count > 0).count(),
            fingerprint: Fingerprint::of("ring/1", replicas, members.iter()),
            members: members.into(),
            circle,
        })
    }
}

fn in_name_order(
    members: impl IntoIterator<Item = (Arc<str>, Weight)>,
) -> Result<Vec<RingMember>, RingError> {
    let members = members.into_iter().map(|(name, weight)| RingMember { name, weight });
    let mut members: Vec<_> = members.take(MAX_MEMBERS + 1).collect();
    if members.len() > MAX_MEMBERS {
        return Err(RingError::TooManyMembers);
    }
    members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    match members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(RingError::DuplicateName(pair[0].name.clone())),
        None => Ok(members),
    }
}

/// By member, how many virtual nodes it has.
fn node_counts(members: &[RingMember], replicas: u32) -> Result<Vec<usize>, RingError> {
    let nodes = total_nodes(members, replicas);
    if nodes > MAX_VIRTUAL_NODES {
        let replicas_that_fit = replicas_that_fit(members, replicas);
        return Err(RingError::TooManyNodes { nodes, cap: MAX_VIRTUAL_NODES, replicas_that_fit });
    }
    let count = |member: &RingMember| usize::try_from(member.weight.nodes(replicas));
    Ok(members.iter().map(|member| count(member).expect("the sum is below the cap")).collect())
}

fn total_nodes(members: &[RingMember], replicas: u32) -> u64 {
    members.iter().fold(0, |sum, member| sum.saturating_add(member.weight.nodes(replicas)))
}

/// The largest number of replicas that keeps to the cap, given that `too_many` does not.
fn replicas_that_fit(members: &[RingMember], too_many: u32) -> Option<u32> {
    // No replicas at all means one virtual node for each of at most 65 535 members, which always fits.
    let (mut fits, mut too_many) = (0, too_many);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if total_nodes(members, middle) <= MAX_VIRTUAL_NODES {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    (fits > 0).then_some(fits)
}

/// Appends the places of `NAME-0`, `NAME-1`, … The dash keeps `b1`'s node 12 and `b11`'s node 2 apart.
fn push_places(places: &mut Vec<Place>, name: &str, count: usize) {
    let mut text = Vec::with_capacity(name.len() + 8);
    text.extend_from_slice(name.as_bytes());
    text.push(b'-');
    let number = text.len();
    text.push(b'0');
    for _ in 0..count {
        places.push(Place::of(&text));
        count_up(&mut text, number);
    }
}

/// Adds one to the decimal number that `text` holds from `number` to its end.
fn count_up(text: &mut Vec<u8>, number: usize) {
    for digit in text[number..].iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    text[number] = b'1';
    text.push(b'0');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_as_many_virtual_nodes_as_allowed_fit() {
        let member = |name: &str| RingMember { name: name.into(), weight: Weight::ONE };
        let members = ["a", "b", "c", "d"].map(member);
        let quarter = u32::try_from(MAX_VIRTUAL_NODES / 4).unwrap();
        assert_eq!(node_counts(&members, quarter), Ok(vec![quarter as usize; 4]));
        let too_many = RingError::TooManyNodes {
            nodes: MAX_VIRTUAL_NODES + 4,
            cap: MAX_VIRTUAL_NODES,
            replicas_that_fit: Some(quarter),
        };
        assert_eq!(node_counts(&members, quarter + 1), Err(too_many));
    }
}
