//! `[pools.NAME.repeats]` as written: when a request is sent again, and how often.
//!
//! Looks at each key alone; what they mean beside the pool's other keys is for [`crate::config::meaning`].

use std::time::Duration;

use crate::{
    config::{
        kind::{
            Integer, Share,
            list::{List, Status},
            measure::Time,
        },
        section::{Located, Section},
    },
    proxy::policy::RepeatPolicy,
};

/// `[pools.NAME.repeats]`
pub(in crate::config) struct Repeats {
    pub(in crate::config) policy: RepeatPolicy,
    pub(in crate::config) per_try: Located<Duration>,
    pub(in crate::config) hedge_after: Located<Duration>,
    pub(in crate::config) status: Located<Vec<std::ops::RangeInclusive<u16>>>,
}

pub(super) fn read(section: &mut Section<'_>) -> Repeats {
    let doc = "How many repeats are allowed, as a share of the requests of the last ten seconds; each worker counts its own.";
    let budget = section.key("budget", Share, 0.2, doc).value;
    let doc =
        "Repeats a second that are allowed beside that share, over all workers; ten seconds' worth is kept.";
    let min_per_second = section.key("min_per_second", Integer::new(0, 1_000_000), 10, doc).value;
    let doc = "How long one attempt may take from the end of the request to the head of its answer, where another may follow; where none \
               may, `timeouts.response_head` alone holds. 0 for that everywhere.";
    let per_try = section.key("per_try", Time::any(), Duration::ZERO, doc);
    let doc = "Answers with these status codes are not passed on while an idempotent request can be sent to another backend: codes and \
               ranges.";
    let status = section.key("status", List(Status), vec![], doc);
    let doc = "How long is waited, at most, before the only backend that is left is tried again; doubled each time, and the wait is a \
               random part of it. 0: it is not tried again.";
    let backoff = section.key("backoff", Time::any(), Duration::from_millis(25), doc).value;
    let doc = "How long the answer to an idempotent request without a body may take to begin before another backend gets the request too, \
               and the first answer counts. 0: none does.";
    let hedge_after = section.key("hedge_after", Time::any(), Duration::ZERO, doc);
    let policy = RepeatPolicy {
        budget,
        min_per_second,
        per_try: Some(per_try.value).filter(|limit| !limit.is_zero()),
        status: status.value.clone(),
        backoff: Some(backoff).filter(|backoff| !backoff.is_zero()),
        hedge_after: Some(hedge_after.value).filter(|after| !after.is_zero()),
    };
    Repeats { policy, per_try, hedge_after, status }
}
