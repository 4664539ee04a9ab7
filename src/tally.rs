//! What is counted while requests pass: cells that one thread writes and a scrape adds up, and the reasons they count.
//!
//! Owns numbers and the closed lists of reasons. Never names a metric: that is [`crate::telemetry`].
//! Every worker has cells of its own, so counting is a plain load and store, without a lock and without a cache line
//! that two cores fight for.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the thread that owns the cell does this: two would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count so far, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the duration buckets, in seconds. From half a millisecond, below which a proxy's own share drowns in
/// noise, to a minute, the default time for an answer to begin.
pub const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What a histogram has counted: durations per bucket (not yet cumulative, the last one is above all bounds), and their sum in nanoseconds.
pub type Durations = ([u64; BUCKETS.len() + 1], u64);

/// Adds what one histogram has counted to what others have.
pub fn add(all: &mut Durations, one: &Durations) {
    all.0.iter_mut().zip(one.0).for_each(|(all, one)| *all += one);
    all.1 += one.1;
}

/// A histogram of durations with one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Tally; BUCKETS.len() + 1],
    sum_nanos: Tally,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.buckets[BUCKETS.partition_point(|&bound| bound < seconds)].bump();
        self.sum_nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What it has counted so far, from any thread.
    pub fn read(&self) -> Durations {
        (std::array::from_fn(|i| self.buckets[i].get()), self.sum_nanos.get())
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them, in the order of their cells.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word for labels and logs.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// How a request ended for its client.
    Class {
        /// Its client went away before the whole answer had been passed on.
        Cancelled = "cancelled",
        /// A change to another protocol, counted when that has come to its end.
        Informational = "1xx",
        /// An answer of 2xx.
        Success = "2xx",
        /// An answer of 3xx.
        Redirect = "3xx",
        /// An answer of 4xx.
        ClientError = "4xx",
        /// An answer of 5xx or above.
        ServerError = "5xx",
        /// The beginning of an answer, which then broke off.
        Truncated = "truncated",
    }
}

impl Class {
    /// The class of a status code.
    pub fn of(status: u16) -> Class {
        match status / 100 {
            1 => Class::Informational,
            2 => Class::Success,
            3 => Class::Redirect,
            4 => Class::ClientError,
            _ => Class::ServerError,
        }
    }
}

reasons! {
    /// Why a request was not sent to the owner of its key.
    OffOwner {
        /// Its health checks failed.
        OwnerDown = "owner_down",
        /// Requests failed at it, and it was ejected for that.
        OwnerEjected = "owner_ejected",
        /// An operator drained it: its keys have the next ones for owners until that is taken back.
        OwnerDrained = "owner_drained",
        /// It takes its keys one after the other, and this one comes later.
        Ramp = "ramp",
        /// It has more than its share of the pool's requests in flight.
        Spill = "spill",
        /// It has as many requests as it may have.
        OwnerFull = "owner_full",
        /// Its host name has no address.
        OwnerUnresolved = "owner_unresolved",
        /// An attempt at it failed in this request.
        Repeat = "repeat",
        /// The request has no key, and the pool spreads such requests.
        NoKey = "no_key",
    }
}

impl OffOwner {
    /// The word where there is no such reason: the request is at the owner.
    pub const AT_OWNER: &'static str = "owner";
}

reasons! {
    /// What made keys move.
    MoveCause {
        /// A configuration with other backends, weights or replicas.
        Reload = "reload",
        /// An operator's order, or that it was taken back.
        Order = "order",
        /// A backend that stopped serving, or serves again.
        Standing = "standing",
    }
}

reasons! {
    /// How one attempt at a backend ended.
    AttemptEnd {
        /// With an answer.
        Answered = "answered",
        /// The backend refused the connection or could not be reached.
        ConnectFailed = "connect_failed",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// A pooled connection had been closed by the backend.
        Stale = "stale",
        /// The backend said that it has done nothing about the request (HTTP/2).
        Refused = "refused",
        /// This machine or process is short of descriptors or memory.
        Shortage = "shortage",
        /// The connection broke before the answer's head.
        Broken = "broken",
        /// No answer's head in time.
        Timeout = "timeout",
        /// No answer's head in the time for one attempt, and the request went elsewhere.
        PerTry = "per_try_timeout",
        /// With an answer whose status has the request sent elsewhere.
        Status = "status",
        /// The answer broke the protocol.
        Protocol = "protocol",
        /// The connection broke, or fell silent, in the middle of the answer.
        Truncated = "truncated",
        /// Another attempt beside it was answered first.
        Hedged = "hedged",
        /// The client went away, or its request turned out bad.
        Cancelled = "cancelled",
    }
}

reasons! {
    /// An answer of our own.
    Refusal {
        /// 400: not a request, or one that can be read in two ways.
        Malformed = "malformed",
        /// 200: an `OPTIONS` that was to be forwarded no further.
        MaxForwards = "max_forwards",
        /// 308: this listener only says that another one speaks TLS.
        Redirected = "redirected",
        /// 400: HTTP in the clear where a handshake of TLS was to begin.
        NotSecure = "not_secure",
        /// 400: no key where the pool requires one.
        NoKey = "no_key",
        /// 400: the route changes the path's beginning, and the path has dot segments or would begin with two slashes.
        DotSegments = "dot_segments",
        /// 404: no route.
        NoRoute = "no_route",
        /// 405: `CONNECT` and `TRACE`.
        Method = "method",
        /// 408: the head or the body came too slowly.
        RequestTimeout = "request_timeout",
        /// 413: the body is over the limit.
        BodyTooLarge = "body_too_large",
        /// 414: the target is too long.
        TargetTooLong = "target_too_long",
        /// 417: an `Expect` of anything but `100-continue`.
        Expectation = "expectation",
        /// 431: the head is over a limit.
        HeadTooLarge = "head_too_large",
        /// 501: a transfer coding that is not supported.
        TransferCoding = "transfer_coding",
        /// 501: a protocol to change to that the pool does not allow.
        Protocol = "protocol",
        /// 502: the backend broke the connection or could not be reached.
        BackendBroken = "backend_broken",
        /// 502: the backend broke the protocol.
        BackendProtocol = "backend_protocol",
        /// 503: no backend is serving.
        NoBackend = "no_backend",
        /// 503: the owner is not serving, and the pool lets nobody else serve its keys.
        OwnerDown = "owner_down",
        /// 503: the backends have as many requests as they may have.
        Full = "full",
        /// 503: more requests than Ringway takes at once, or no descriptors left for another connection.
        Overload = "overload",
        /// 504: the backend is too slow.
        BackendTimeout = "backend_timeout",
        /// 505: neither HTTP/1.0 nor HTTP/1.1.
        Version = "version",
    }
}

impl Refusal {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Refusal::MaxForwards => 200,
            Refusal::Redirected => 308,
            Refusal::Malformed | Refusal::NotSecure | Refusal::NoKey | Refusal::DotSegments => 400,
            Refusal::NoRoute => 404,
            Refusal::Method => 405,
            Refusal::RequestTimeout => 408,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::HeadTooLarge => 431,
            Refusal::TransferCoding | Refusal::Protocol => 501,
            Refusal::BackendBroken | Refusal::BackendProtocol => 502,
            Refusal::NoBackend | Refusal::OwnerDown | Refusal::Full | Refusal::Overload => 503,
            Refusal::BackendTimeout => 504,
            Refusal::Version => 505,
        }
    }
}

reasons! {
    /// Why an upstream connection was closed.
    Closed {
        /// It was idle for too long.
        Idle = "idle",
        /// It was too old to be used again.
        Age = "age",
        /// There were enough idle ones.
        Excess = "excess",
        /// The backend closed it while it was idle.
        ByBackend = "by_backend",
        /// The backend said that it would not go on using it.
        NotKept = "not_kept",
        /// It was introduced as one client's (PROXY protocol).
        Personal = "personal",
        /// An exchange on it did not come to its proper end.
        Aborted = "aborted",
        /// It had changed to another protocol, which has come to its end.
        Upgraded = "upgraded",
        /// The backend's address changed, or the proxy stops.
        Retired = "retired",
    }
}

reasons! {
    /// How a TLS handshake with a client ended.
    HandshakeEnd {
        /// With a session.
        Done = "done",
        /// One side refused the other, or the connection broke.
        Failed = "failed",
        /// It took too long.
        Timeout = "timeout",
        /// It was the oldest when one too many came.
        CrowdedOut = "crowded_out",
    }
}

reasons! {
    /// Why an HTTP/2 connection was ended before its time.
    Http2Fault {
        /// The peer broke the rules.
        Protocol = "protocol",
        /// Its field compression can't be followed.
        Compression = "compression",
        /// It sent more than the windows allow.
        FlowControl = "flow_control",
        /// It gave up too many streams that it had just begun, or had too many taken from it.
        Resets = "resets",
        /// A field section in too many pieces, or with too many bytes.
        FieldSection = "field_section",
        /// Too many `SETTINGS`.
        Settings = "settings",
        /// Too many `PING`s.
        Pings = "pings",
        /// Too many frames without anything in them.
        EmptyFrames = "empty_frames",
        /// Too many `WINDOW_UPDATE`s for what was sent.
        WindowUpdates = "window_updates",
        /// Too many frames that mean nothing here.
        IdleTalk = "idle_talk",
        /// It took nothing for too long.
        Stalled = "stalled",
    }
}

reasons! {
    /// Why a client's connection was turned away.
    Rejected {
        /// As many connections as are allowed in all.
        Full = "full",
        /// As many as are allowed from its address.
        AddressFull = "address_full",
        /// The worker's queue is full.
        Overload = "overload",
        /// It came from a balancer and did not begin with the PROXY protocol.
        Preface = "proxy_protocol",
    }
}

/// One cell for each reason of a kind.
#[derive(Debug)]
pub struct ByReason<const N: usize>([Tally; N]);

impl<const N: usize> Default for ByReason<N> {
    fn default() -> Self {
        ByReason(std::array::from_fn(|_| Tally::default()))
    }
}

impl<const N: usize> ByReason<N> {
    /// The sum of all.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Tally::get).sum()
    }

    /// The cell with this number.
    pub fn at(&self, reason: usize) -> &Tally {
        &self.0[reason]
    }
}

/// What one worker counts about one backend. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BackendCells {
    /// Requests by [`Class`], counted when they end, at the backend that answered them.
    pub requests: ByReason<{ Class::ALL.len() }>,
    /// From the first byte of the request's head being looked at to the answer's head, for the requests that this backend answered.
    pub first_byte: Histogram,
    /// Attempts by [`AttemptEnd`].
    pub attempts: ByReason<{ AttemptEnd::ALL.len() }>,
    /// Attempts ended.
    pub ended: Tally,
    /// Of those, the ones that count as failures of the backend.
    pub failed: Tally,
    /// Nanoseconds from the request to the answer's head, added up; counted where the backend's limit follows its latency.
    pub latency_nanos: Tally,
    /// How many answers that was.
    pub latency_count: Tally,
    /// Answers whose heads have come, counted where the backend's limit follows its latency.
    pub answers_begun: Tally,
    /// Of these, those that have come to their end.
    pub answers_ended: Tally,
    /// Answers that said that they were hits, counted while that decides about the backend's ramp.
    pub hits: Tally,
    /// And those that said that they were none.
    pub misses: Tally,
    /// Connections opened.
    pub opened: Tally,
    /// Requests on a connection that had served one before.
    pub reused: Tally,
    /// Connections that changed to another protocol.
    pub upgrades: Tally,
    /// Of these, those that have come to their end.
    pub upgrades_ended: Tally,
    /// Connections closed, by [`Closed`].
    pub closed: ByReason<{ Closed::ALL.len() }>,
}

/// What one worker counts about one pool. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolCells {
    /// Requests that no backend answered, by [`Class`].
    pub unanswered: ByReason<{ Class::ALL.len() }>,
    /// From the first byte of the request's head being looked at to the last of the answer handed to the kernel.
    pub whole: Histogram,
    /// To the answer's head, for the requests that no backend answered.
    pub first_byte: Histogram,
    /// Time to open a connection to a backend.
    pub connect: Histogram,
    /// Places taken at backends: less those given back, the pool's requests in flight.
    pub slots_begun: Tally,
    /// Places given back.
    pub slots_ended: Tally,
    /// Requests that were last at their key's owner.
    pub at_owner: Tally,
    /// Requests that were last at another backend, by [`OffOwner`].
    pub off_owner: ByReason<{ OffOwner::ALL.len() }>,
    /// Repeats, by the [`AttemptEnd`] that led to them.
    pub repeats: ByReason<{ AttemptEnd::ALL.len() }>,
    /// Repeats that the budget did not allow, by the [`AttemptEnd`] that would have led to them.
    pub repeats_denied: ByReason<{ AttemptEnd::ALL.len() }>,
    /// Answers of our own, by [`Refusal`].
    pub refusals: ByReason<{ Refusal::ALL.len() }>,
    /// Body bytes from clients.
    pub received_bytes: Tally,
    /// Body bytes to clients.
    pub sent_bytes: Tally,
}

/// What one worker counts that belongs to no pool. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCells {
    /// Answers of our own before a pool was known, by [`Refusal`].
    pub refusals: ByReason<{ Refusal::ALL.len() }>,
    /// HTTP/2 connections ended for a fault of the client, by [`Http2Fault`].
    pub http2_faults: ByReason<{ Http2Fault::ALL.len() }>,
    /// HTTP/2 connections.
    pub http2_connections: Tally,
    /// HTTP/2 streams that were refused or taken from clients.
    pub http2_resets: Tally,
}

/// What the control task counts about one backend's probes.
#[derive(Debug, Default)]
pub struct ProbeCells {
    /// Probes that passed.
    pub passed: Tally,
    /// Probes that failed.
    pub failed: Tally,
    /// How long they took.
    pub took: Histogram,
    /// Times that the backend's standing changed.
    pub transitions: Tally,
}

/// What is counted about one listener. Several threads write here, once for each connection.
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections turned away, by [`Rejected`].
    pub rejected: [AtomicU64; Rejected::ALL.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::default();
        for micros in [1, 500, 501, 60_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (counts, sum) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!(sum, 120_001_003_000);
    }
}
