//! Where proxies differ: in the ring, in who serves, or in something that moves no key.
//!
//! Owns the comparison of what their admin listeners say. Pure: it asks nobody. Order never counts, neither of proxies, nor of pools, nor of backends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a proxy says about its pools: the part of `/api/pools` that is compared.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    pub(super) revision: u64,
    pub(super) pools: Vec<Pool>,
}

impl Told {
    /// By pool, the fingerprint of the ring and that of who serves.
    pub(super) fn fingerprints(&self) -> BTreeMap<String, [String; 2]> {
        let both =
            |pool: &Pool| (pool.name.clone(), [pool.fingerprint.clone(), pool.serving_fingerprint.clone()]);
        self.pools.iter().map(both).collect()
    }
}

/// One pool of one proxy.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pool {
    name: String,
    replicas: u32,
    fingerprint: String,
    serving_fingerprint: String,
    ramp: Option<f64>,
    backends: Vec<Backend>,
}

#[derive(Clone, Debug, Deserialize)]
struct Backend {
    name: String,
    address: String,
    weight: String,
    configured_weight: String,
    order: String,
    standing: String,
    reason: String,
    ramp: Option<f64>,
}

/// What a difference means for keys, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layer {
    /// Nothing now.
    Note,
    /// The rings are alike, but not the same backends serve.
    Serving,
    /// Keys have other owners.
    Ring,
}

/// Something in which proxies differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) pool: String,
    /// `None`: it is about the pool as a whole.
    pub(super) backend: Option<String>,
    /// What differs: `presence`, `replicas`, `weight`, `configured_weight`, `standing`, `address`, `ramp`, `fingerprint` or
    /// `serving_fingerprint`.
    pub(super) what: &'static str,
    pub(super) layer: Layer,
    /// Who says what, the fewest first.
    pub(super) values: Vec<Said>,
}

/// One of the things that are said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Said {
    pub(super) value: String,
    pub(super) proxies: Vec<String>,
}

/// All differences among these proxies, the gravest first.
pub(super) fn compare(told: &[(&str, &Told)]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut pools: BTreeMap<&str, Vec<(&str, &Pool)>> = BTreeMap::new();
    for (proxy, told) in told {
        for pool in &told.pools {
            pools.entry(&pool.name).or_default().push((proxy, pool));
        }
    }
    let proxies: Vec<&str> = told.iter().map(|(proxy, _)| *proxy).collect();
    for (name, pool) in &pools {
        let mut about = About { pool: name, found: Vec::new() };
        about.presence((None, Layer::Ring), &proxies, pool.iter().map(|(proxy, _)| *proxy));
        about.pool(pool);
        found.extend(about.found);
    }
    // Stable: within a layer, by pool and backend.
    found.sort_by_key(|difference| std::cmp::Reverse(difference.layer));
    found
}

/// The differences in one pool.
struct About<'a> {
    pool: &'a str,
    found: Vec<Difference>,
}

impl About<'_> {
    /// Notes a difference if not all say the same.
    fn values<'p>(
        &mut self,
        backend: Option<&str>,
        (what, layer): (&'static str, Layer),
        said: impl Iterator<Item = (&'p str, String)>,
    ) -> bool {
        let mut by_value: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (proxy, value) in said {
            by_value.entry(value).or_default().push(proxy.to_owned());
        }
        if by_value.len() < 2 {
            return false;
        }
        let mut values: Vec<Said> =
            by_value.into_iter().map(|(value, proxies)| Said { value, proxies }).collect();
        values.sort_by_key(|said| said.proxies.len());
        let (pool, backend) = (self.pool.to_owned(), backend.map(str::to_owned));
        self.found.push(Difference { pool, backend, what, layer, values });
        true
    }

    /// Whether some have it and some have not.
    fn presence<'p>(
        &mut self,
        (backend, layer): (Option<&str>, Layer),
        all: &[&'p str],
        having: impl Iterator<Item = &'p str>,
    ) -> bool {
        let having: Vec<&str> = having.collect();
        let said = all.iter().map(|proxy| {
            let word = if having.contains(proxy) { "present" } else { "absent" };
            (*proxy, word.to_owned())
        });
        self.values(backend, ("presence", layer), said)
    }

    fn pool(&mut self, pools: &[(&str, &Pool)]) {
        let before = self.found.len();
        let replicas = pools.iter().map(|(proxy, pool)| (*proxy, pool.replicas.to_string()));
        self.values(None, ("replicas", Layer::Ring), replicas);
        let mut backends: BTreeMap<&str, Vec<(&str, &Backend)>> = BTreeMap::new();
        for (proxy, pool) in pools {
            for backend in &pool.backends {
                backends.entry(&backend.name).or_default().push((proxy, backend));
            }
        }
        let proxies: Vec<&str> = pools.iter().map(|(proxy, _)| *proxy).collect();
        let mut differ_in_name = false;
        for (name, backend) in backends {
            // Who has no weight has no key: whether it is there moves none, though the figure covers its name.
            let has_keys = backend.iter().any(|(_, backend)| backend.weight != "0");
            let layer = if has_keys { Layer::Ring } else { Layer::Note };
            let differs =
                self.presence((Some(name), layer), &proxies, backend.iter().map(|(proxy, _)| *proxy));
            differ_in_name |= differs && !has_keys;
            self.backend(name, &backend);
        }
        let ramps = pools.iter().map(|(proxy, pool)| (*proxy, progress(pool.ramp)));
        self.values(None, ("ramp", Layer::Note), ramps);
        // What the figures say counts, also if nothing above explains it.
        let explained = self.found[before..].iter().map(|difference| difference.layer).max();
        let rings = pools.iter().map(|(proxy, pool)| (*proxy, pool.fingerprint.clone()));
        let is_open = explained < Some(Layer::Ring) && !differ_in_name;
        if is_open && self.values(None, ("fingerprint", Layer::Ring), rings) {
            return;
        }
        let serving = pools.iter().map(|(proxy, pool)| (*proxy, pool.serving_fingerprint.clone()));
        if explained < Some(Layer::Serving) {
            self.values(None, ("serving_fingerprint", Layer::Serving), serving);
        }
    }

    fn backend(&mut self, name: &str, backends: &[(&str, &Backend)]) {
        let name = Some(name);
        let is_same = |value: fn(&Backend) -> &str| {
            backends.windows(2).all(|pair| value(pair[0].1) == value(pair[1].1))
        };
        if is_same(|backend| &backend.weight) {
            let configured = backends.iter().map(|(proxy, backend)| (*proxy, backend.weight_in_words()));
            self.values(name, ("configured_weight", Layer::Note), configured);
        } else {
            let weights = backends.iter().map(|(proxy, backend)| (*proxy, backend.weight_in_words()));
            self.values(name, ("weight", Layer::Ring), weights);
        }
        // Who is drained, its weight tells already.
        let placed = || backends.iter().filter(|(_, backend)| backend.standing != DRAINED);
        let serves = |backend: &Backend| backend.standing == SERVING;
        let serving = placed().filter(|(_, backend)| serves(backend)).count();
        let layer = if (1..placed().count()).contains(&serving) { Layer::Serving } else { Layer::Note };
        let standings = placed().map(|(proxy, backend)| {
            let why = if serves(backend) { String::new() } else { format!(" ({})", backend.reason) };
            (*proxy, format!("{}{why}", backend.standing))
        });
        if !placed().map(|(_, backend)| &backend.standing).is_sorted_by(|a, b| a == b) {
            self.values(name, ("standing", layer), standings);
        }
        let addresses = backends.iter().map(|(proxy, backend)| (*proxy, backend.address.clone()));
        self.values(name, ("address", Layer::Note), addresses);
        let ramps = backends.iter().map(|(proxy, backend)| (*proxy, progress(backend.ramp)));
        self.values(name, ("ramp", Layer::Note), ramps);
    }
}

const SERVING: &str = "serving";
const DRAINED: &str = "drained";

impl Backend {
    /// The weight in force, and what makes it another than the configured one.
    fn weight_in_words(&self) -> String {
        match &*self.order {
            "none" => self.weight.clone(),
            order => {
                format!("{} (by the order {order}; configured: {})", self.weight, self.configured_weight)
            }
        }
    }
}

/// How far a ramp is. Two proxies never look at the same moment: percents are as exact as it makes sense.
fn progress(ramp: Option<f64>) -> String {
    ramp.map_or_else(|| "none".to_owned(), |ramp| format!("{:.0} %", ramp * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(name: &str) -> Backend {
        Backend {
            name: name.into(),
            address: format!("{name}:80"),
            weight: "1".into(),
            configured_weight: "1".into(),
            order: "none".into(),
            standing: SERVING.into(),
            reason: "probe passed".into(),
            ramp: None,
        }
    }

    fn told(backends: &[Backend]) -> Told {
        let pool = Pool {
            name: "p".into(),
            replicas: 512,
            fingerprint: "one".into(),
            serving_fingerprint: "two".into(),
            ramp: None,
            backends: backends.to_vec(),
        };
        Told { revision: 1, pools: vec![pool] }
    }

    /// What differs, about whom, how gravely, and who stands alone with what.
    fn differ(a: &Told, b: &Told) -> Vec<String> {
        let found = compare(&[("x", a), ("y", a), ("z", b)]);
        let say = |difference: &Difference| {
            let Difference { backend, what, layer, values, .. } = difference;
            let alone = &values[0];
            assert_eq!(alone.proxies, ["z"]);
            format!("{layer:?} {what} {} {}", backend.as_deref().unwrap_or("-"), alone.value)
        };
        found.iter().map(say).collect()
    }

    #[test]
    fn the_order_of_backends_and_revisions_do_not_count() {
        let (a, b) = (told(&[backend("a"), backend("b")]), told(&[backend("b"), backend("a")]));
        assert!(differ(&a, &Told { revision: 9, ..b }).is_empty());
    }

    #[test]
    fn who_differs_is_named_with_what_it_says() {
        let same = told(&[backend("a"), backend("b")]);
        let with = |change: fn(&mut Backend)| {
            let mut b = backend("b");
            change(&mut b);
            differ(&same, &told(&[backend("a"), b]))
        };
        assert_eq!(with(|b| b.weight = "2".into()), ["Ring weight b 2"]);
        assert_eq!(
            with(|b| (b.weight, b.order, b.standing) = ("0".into(), "drain".into(), DRAINED.into())),
            ["Ring weight b 0 (by the order drain; configured: 1)"]
        );
        assert_eq!(
            with(|b| (b.standing, b.reason) = ("down".into(), "no answer".into())),
            ["Serving standing b down (no answer)"]
        );
        assert_eq!(with(|b| b.address = "b:81".into()), ["Note address b b:81"]);
        assert_eq!(with(|b| b.ramp = Some(0.4)), ["Note ramp b 40 %"]);
        assert_eq!(
            with(|b| (b.configured_weight, b.order) = ("3".into(), "weight".into())),
            ["Note configured_weight b 1 (by the order weight; configured: 3)"]
        );
        assert_eq!(differ(&same, &told(&[backend("a")])), ["Ring presence b absent"]);
        assert_eq!(differ(&same, &Told { revision: 1, pools: vec![] }), ["Ring presence - absent"]);
    }

    #[test]
    fn two_ways_of_not_serving_are_but_a_note() {
        let of = |standing: &str| {
            let mut b = backend("b");
            b.standing = standing.into();
            told(&[backend("a"), b])
        };
        assert_eq!(differ(&of("down"), &of("ejected")), ["Note standing b ejected (probe passed)"]);
    }

    #[test]
    fn one_without_a_weight_moves_no_key_by_being_there() {
        let mut b = backend("b");
        (b.weight, b.standing) = ("0".into(), DRAINED.into());
        let mut gone = told(&[backend("a")]);
        gone.pools[0].fingerprint = "of fewer names".into();
        assert_eq!(differ(&told(&[backend("a"), b]), &gone), ["Note presence b absent"]);
    }

    #[test]
    fn fingerprints_have_the_last_word() {
        let same = told(&[backend("a")]);
        let mut other = same.clone();
        other.pools[0].serving_fingerprint = "three".into();
        assert_eq!(differ(&same, &other), ["Serving serving_fingerprint - three"]);
        other.pools[0].fingerprint = "four".into();
        assert_eq!(differ(&same, &other), ["Ring fingerprint - four"]);
    }
}
