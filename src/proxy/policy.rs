//! How requests to a pool are forwarded: what an operator can choose, as the request path reads it.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::{budget::Rates, key::KeyPolicy, trail::Explain};
use crate::{http1::Method, tally::AttemptEnd};

/// Which `Host` a backend sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Client,
    /// The backend's own address, as configured.
    Backend,
}

impl fmt::Display for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostHeader::Client => "client",
            HostHeader::Backend => "backend",
        })
    }
}

/// What becomes of a connection that has changed its protocol when the proxy drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrain {
    /// It may go on until the drain's deadline.
    Wait,
    /// It is closed when draining begins.
    Close,
}

impl fmt::Display for OnDrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnDrain::Wait => "wait",
            OnDrain::Close => "close",
        })
    }
}

/// Who may serve a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Its owner, or the next one when that can't.
    Preferred,
    /// Nobody but its owner.
    Strict,
    /// Nobody but its owner, for requests that are not safe.
    StrictWrites,
}

impl Affinity {
    /// Whether nobody but the owner may serve a request with this method.
    pub fn binds(self, method: Method) -> bool {
        match self {
            Affinity::Preferred => false,
            Affinity::Strict => true,
            Affinity::StrictWrites => !matches!(method, Method::Get | Method::Head | Method::Options),
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Affinity::Preferred => "preferred",
            Affinity::Strict => "strict",
            Affinity::StrictWrites => "strict-writes",
        })
    }
}

/// What becomes of a connection that has changed its protocol when its key gets another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMove {
    /// It stays.
    Keep,
    /// It is closed, so that its client comes back to the new owner.
    Close,
}

impl fmt::Display for OnMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnMove::Keep => "keep",
            OnMove::Close => "close",
        })
    }
}

/// What becomes of a request whose owner has as many as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It goes to the next owner.
    Next,
    /// It waits for a place.
    Queue,
    /// It is refused.
    Refuse,
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhenFull::Next => "next",
            WhenFull::Queue => "queue",
            WhenFull::Refuse => "refuse",
        })
    }
}

/// A kind of failure of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection came about.
    Connect,
    /// The connection broke before the answer or within it.
    Reset,
    /// The answer did not come in time.
    Timeout,
    /// The answer broke the protocol.
    Protocol,
    /// The answer has a status code that counts.
    Status,
}

impl FailureKind {
    /// All of them.
    pub const ALL: &'static [FailureKind] = &[
        FailureKind::Connect,
        FailureKind::Reset,
        FailureKind::Timeout,
        FailureKind::Protocol,
        FailureKind::Status,
    ];

    /// The kind of an attempt's end. `None`: it says nothing against the backend.
    fn of(end: AttemptEnd) -> Option<FailureKind> {
        match end {
            AttemptEnd::ConnectFailed | AttemptEnd::ConnectTimeout => Some(FailureKind::Connect),
            AttemptEnd::Broken | AttemptEnd::Truncated => Some(FailureKind::Reset),
            AttemptEnd::Timeout | AttemptEnd::PerTry => Some(FailureKind::Timeout),
            AttemptEnd::Protocol => Some(FailureKind::Protocol),
            AttemptEnd::Answered
            | AttemptEnd::Status
            | AttemptEnd::Stale
            | AttemptEnd::Shortage
            | AttemptEnd::Refused
            | AttemptEnd::Hedged
            | AttemptEnd::Cancelled => None,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::Connect => "connect",
            FailureKind::Reset => "reset",
            FailureKind::Timeout => "timeout",
            FailureKind::Protocol => "protocol",
            FailureKind::Status => "status",
        })
    }
}

/// Which ends of an attempt count as failures of its backend, and when they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// By [`FailureKind`].
    kinds: [bool; FailureKind::ALL.len()],
    /// Status codes, where they count.
    status: Vec<RangeInclusive<u16>>,
    /// The lowest of them, so that most answers need one look.
    lowest: u16,
    /// As many in a row are told. 0: none are.
    pub consecutive: u32,
    /// As many successes of a trial are told.
    pub trial: u32,
}

/// What an attempt says about its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did as it should.
    Success,
    /// It failed.
    Failure,
    /// Nothing: the client went away, for example.
    Neither,
}

impl Failures {
    /// These kinds and status codes.
    pub fn new(
        kinds: &[FailureKind],
        status: &[RangeInclusive<u16>],
        consecutive: u32,
        trial: u32,
    ) -> Failures {
        let status = if kinds.contains(&FailureKind::Status) { status.to_vec() } else { vec![] };
        let kinds = std::array::from_fn(|at| kinds.contains(&FailureKind::ALL[at]));
        let lowest = status.iter().map(|range| *range.start()).min().unwrap_or(u16::MAX);
        Failures { kinds, status, lowest, consecutive, trial }
    }

    /// What an attempt says that ended like this, with this status if an answer began.
    pub fn judge(&self, end: AttemptEnd, status: Option<u16>) -> Verdict {
        match (FailureKind::of(end), status) {
            (Some(kind), _) if self.kinds[kind as usize] => Verdict::Failure,
            (Some(_), _) => Verdict::Neither,
            (None, Some(status)) if matches!(end, AttemptEnd::Answered | AttemptEnd::Status) => {
                let counts = status >= self.lowest && self.status.iter().any(|range| range.contains(&status));
                if counts { Verdict::Failure } else { Verdict::Success }
            }
            (None, _) => Verdict::Neither,
        }
    }
}

/// When a request is sent again, beside [`super::repeat::may_repeat`], and how many are.
#[derive(Clone, Debug)]
pub struct RepeatPolicy {
    /// Repeats, as a share of the requests of late. 0 to 1.
    pub budget: f64,
    /// Repeats a second that are allowed beside that, over all workers.
    pub min_per_second: u32,
    /// Time from the whole request sent to the answer's head, where another attempt may follow. `None`: no other than for the last one.
    pub per_try: Option<Duration>,
    /// Answers that are not passed on where another attempt may follow.
    pub status: Vec<RangeInclusive<u16>>,
    /// The most that is waited before the only backend that is left is tried for the second time. `None`: it is not.
    pub backoff: Option<Duration>,
    /// Time from the whole request sent until another backend is asked beside the first. `None`: none is.
    pub hedge_after: Option<Duration>,
}

impl RepeatPolicy {
    /// What flows into the budget of each of so many workers.
    pub fn rates(&self, workers: usize) -> Rates {
        Rates::new(self.budget, self.min_per_second, workers)
    }

    /// Whether an answer of this status is to be had from another backend, if that can be.
    pub fn wants_another_for(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

/// Everything about forwarding that is chosen per pool.
#[derive(Clone, Debug)]
pub struct ForwardPolicy {
    /// Where the key comes from.
    pub key: KeyPolicy,
    /// Which `Host` the backend sees.
    pub host_header: HostHeader,
    /// Attempts for one request in all, each at a distinct owner. At least 1.
    pub attempts: usize,
    /// A request body of up to this many bytes is kept so that it can be sent again.
    pub repeat_body_bytes: usize,
    /// When it is.
    pub repeats: RepeatPolicy,
    /// The largest request body. `None`: no bound.
    pub max_body_bytes: Option<u64>,
    /// Time for a connection to a backend to open.
    pub connect_timeout: Duration,
    /// Time from the whole request sent to the answer's head.
    pub response_head_timeout: Duration,
    /// Time without a byte passing, in a body, in either direction, at either side.
    pub idle_body_timeout: Duration,
    /// Time for the whole exchange. `None`: no bound. A change of protocol ends it.
    pub total_timeout: Option<Duration>,
    /// The protocols that a connection may change to, in lower case.
    pub upgrades: Vec<String>,
    /// Time without a byte passing after a change of protocol.
    pub upgraded_idle_timeout: Duration,
    /// What becomes of changed connections when the proxy drains.
    pub upgraded_on_drain: OnDrain,
    /// And when their key gets another owner.
    pub on_move: OnMove,
    /// The time over which they are closed then.
    pub move_spread: Duration,
    /// Who may serve a key.
    pub affinity: Affinity,
    /// What becomes of a request whose owner is full.
    pub when_full: WhenFull,
    /// Requests that wait for one backend at most.
    pub queue: u32,
    /// How long one waits.
    pub queue_timeout: Duration,
    /// What counts as a failure of a backend.
    pub failures: Failures,
    /// Each backend has a bound that follows its latency.
    pub adaptive: bool,
    /// Whom answers tell where their requests went.
    pub explain: Explain,
    /// The header in which answers say whether they were hits, if ramps go by that. In lower case.
    pub warmth_header: Option<String>,
}

impl ForwardPolicy {
    /// Whether a client may change to this protocol.
    pub fn allows_upgrade(&self, protocol: &[u8]) -> bool {
        self.upgrades.iter().any(|allowed| protocol.eq_ignore_ascii_case(allowed.as_bytes()))
    }
}
