//! What a pool does about backends that fail or have too much to do: the keys together.
//!
//! Owns what is wrong or doubtful about them. Reads nothing.

use crate::{
    config::{
        effective::joined,
        finding::{Code, Draft, Findings},
        raw::Pool,
    },
    proxy::policy::WhenFull,
    ring::Weight,
};

pub(super) fn check(pool: &Pool, findings: &mut Findings) {
    let path = joined("pools", &pool.name.value);
    let (load, least) = (&pool.load, &pool.moving.min_backends);
    if load.factor.sound && !load.factor.value.is_zero() && load.factor.value <= Weight::ONE {
        let message = format!("`{path}.load.factor` must be above 1, or 0 for no bound");
        let draft = Draft::new(Code::OutOfRange, load.factor.at.clone(), message);
        findings.push(draft.help("the mean is what all have together: with a bound at the mean, or below it, somebody always has too much; 1.25 is usual"));
    }
    let is_bounded = load.policy.max_in_flight.is_some() || load.policy.adaptive;
    if !is_bounded && load.when_full.is_written() && load.when_full.value != WhenFull::Next {
        let message = format!("`{path}.load.when_full` is set, but no backend is ever full");
        let draft = Draft::new(Code::NoEffect, load.when_full.at.clone(), message);
        findings.push(draft.help("set `max_in_flight` or `adaptive`, or remove the key"));
    }
    let moving = &pool.moving;
    if let Some(at) =
        moving.ramp_header.at.clone().filter(|_| moving.ramp_header.value.is_some() && moving.ramp.is_zero())
    {
        let message = format!("`{path}.ramp_header` is set, but there is no ramp");
        findings.push(
            Draft::new(Code::NoEffect, at, message)
                .help("set `ramp` to the longest time that it may take, or remove the key"),
        );
    }
    let count = pool.backends.iter().filter(|backend| !backend.weight.value.is_zero()).count();
    if pool.backends_sound && least.sound && least.value > count {
        let message =
            format!("`{path}.min_backends` is {}, and {count} of its backends have a weight", least.value);
        let draft = Draft::new(Code::OutOfRange, least.at.clone(), message);
        findings.push(draft.help(format!("write {count} or less")));
    }
}
