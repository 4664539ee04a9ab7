//! How evenly a ring shares out the circle, and how evenly it could be expected to.
//!
//! Owns shares and imbalance. It never changes a ring: whether the figures are good enough is for people to
//! say. Start at [`Ring::shares`].

use super::{MemberIndex, Ring, Weight};

/// 2^64, the number of places on the circle.
const CIRCLE: f64 = 18_446_744_073_709_551_616.0;

/// How far from the mean, in standard deviations, something may still happen. Beyond it lies less than
/// 10^-14.
const FAR: f64 = 8.0;

impl Ring {
    /// By member, how many of the 2^64 places it owns. Exact: if there is a virtual node, they add up to
    /// 2^64.
    pub fn arcs(&self) -> &[u128] {
        &self.arcs
    }

    /// The share of the circle, and so of evenly spread keys, that a member owns: 0 to 1.
    ///
    /// # Panics
    ///
    /// If `index` comes from another ring and is past the end of this one.
    pub fn share(&self, index: MemberIndex) -> f64 {
        share_of(self.arcs[index.as_usize()])
    }

    /// By member, [its share](Self::share).
    pub fn shares(&self) -> impl ExactSizeIterator<Item = f64> {
        self.arcs.iter().map(|&arc| share_of(arc))
    }

    /// The largest ratio of a member's share to its part in the sum of weights. 1 is perfect, 1.1 means that
    /// some backend gets a tenth more keys than its weight asks for. 1 for a ring without virtual nodes.
    pub fn imbalance(&self) -> f64 {
        let total: f64 = self.members.iter().map(|member| member.weight.millionths() as f64).sum();
        let members = self.members.iter().zip(self.shares()).filter(|(member, _)| !member.weight.is_zero());
        members.map(|(member, share)| share * total / member.weight.millionths() as f64).fold(1.0, f64::max)
    }

    /// What [`imbalance`](Self::imbalance) comes to on average over rings with these weights and replicas,
    /// whatever the names. Within one percent where each member has 10 virtual nodes or more, else within a
    /// tenth.
    ///
    /// `V` nodes at random places cut the circle into `V` arcs with the Dirichlet(1, …, 1) law: that of `V`
    /// independent exponentials over their sum, a sum that is independent of the proportions (R. Pyke,
    /// *Spacings*, J. R. Statist. Soc. B 27, 1965). So the mean of the largest ratio is that of the largest
    /// among independent Gamma(nodes of the member) over `V`, with no correction for their having to add up.
    /// A Gamma's cube root is nearly normal (E. B. Wilson and M. M. Hilferty, *PNAS* 17, 1931), and is taken
    /// to be so here. For `N` equal members the result tends to 1 + √(2 N ln N ÷ V).
    ///
    /// The cost grows with the number of different weights, tens of microseconds for each: not for every
    /// request.
    pub fn expected_imbalance(&self) -> f64 {
        let kinds = self.kinds();
        let (low, high) = kinds.iter().fold((0.0_f64, 0.0_f64), |(low, high), kind| {
            (low.max(kind.cube_root_at(-FAR)), high.max(kind.cube_root_at(FAR)))
        });
        if high <= low {
            return 1.0;
        }
        // The mean of what is not negative is the integral of P(largest > x) over x ≥ 0, where that is 1 up
        // to the low end. In steps of the cube root u of x, dx = 3 u² du.
        const STEPS: u32 = 1024;
        let step = (high - low) / f64::from(STEPS);
        let beyond = |number: u32| {
            let root = low + step * f64::from(number);
            let all_below: f64 = kinds.iter().map(|kind| kind.all_below(root)).product();
            (1.0 - all_below) * 3.0 * root * root
        };
        let inner: f64 = (1..STEPS).map(beyond).sum();
        (low.powi(3) + step * (inner + (beyond(0) + beyond(STEPS)) / 2.0)).max(1.0)
    }

    /// The members that have virtual nodes, those of one weight together.
    fn kinds(&self) -> Vec<Kind> {
        let weights = self.members.iter().map(|member| member.weight).filter(|weight| !weight.is_zero());
        let mut weights: Vec<_> = weights.collect();
        weights.sort_unstable();
        let total: f64 = weights.iter().map(|weight| weight.millionths() as f64).sum();
        let all_nodes = self.node_count() as f64;
        let kind = |equal: &[Weight]| {
            let weight = equal[0];
            let nodes = weight.nodes(self.replicas) as f64;
            let mean = nodes / all_nodes * total / weight.millionths() as f64;
            let (variance, scale) = (1.0 / (9.0 * nodes), mean.cbrt());
            Kind {
                members: equal.len() as f64,
                mean: scale * (1.0 - variance),
                deviation: scale * variance.sqrt(),
            }
        };
        weights.chunk_by(|a, b| a == b).map(kind).collect()
    }
}

fn share_of(arc: u128) -> f64 {
    arc as f64 / CIRCLE
}

/// Members of one weight. The cube root of the ratio of share to weight is nearly normal with this law.
struct Kind {
    members: f64,
    mean: f64,
    deviation: f64,
}

impl Kind {
    fn cube_root_at(&self, deviations: f64) -> f64 {
        self.mean + deviations * self.deviation
    }

    /// The probability that all these members have a cube root below this one.
    fn all_below(&self, root: f64) -> f64 {
        let deviations = (root - self.mean) / self.deviation;
        if deviations >= FAR { 1.0 } else { normal_below(deviations).powf(self.members) }
    }
}

/// The standard normal distribution function, to 10^-7 (M. Abramowitz and I. A. Stegun, *Handbook of
/// Mathematical Functions*, 26.2.17).
fn normal_below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let tail = density * series.iter().fold(0.0, |sum, term| (sum + term) * t);
    if x < 0.0 { tail } else { 1.0 - tail }
}
