//! Decides when each request is sent, waits for answers, and counts.
//!
//! The constant rate is wrk2's method: request i of all is due at i / rate, whatever happened to those before it, on
//! connection i modulo their number. Due times lie on a grid of 100 us, and are the multiples of it, so that the grid adds
//! no error: it makes small bunches of arrivals. A connection that is still busy sends what is due as soon as it is free. Latency
//! counts from when a request was due, so that time spent in the queue is never omitted. Never parses HTTP.

use std::{
    collections::BTreeMap,
    io,
    mem::take,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    thread::set_current_timer_slack,
};

use crate::connection::{Connection, Progress};

/// Room for one read: large enough that a body of 1 GiB does not consist of reads.
const SCRATCH: usize = 256 << 10;
/// How long the answers still missing are waited for when nothing more is due.
const GRACE: Duration = Duration::from_secs(10);
/// The longest a run with a fixed number of requests may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Loopback source addresses 127.0.0.2 and on, so that new connections do not run out of ports.
const SOURCES: u64 = 32;
/// Requests are due at multiples of this, in nanoseconds: one timer for a small bunch. A timer for each request would
/// take more processor time on the core that the backends share than the request itself.
const GRID: u64 = 100_000;
/// How many are sent before answers are looked at again.
const BURST: u32 = 32;
/// A new connection that fails so often ends the run: nothing listens.
const MOST_FAILURES: u64 = 1000;

/// What to do.
pub struct Load {
    pub address: SocketAddr,
    pub prefix: String,
    pub paths: u64,
    pub connections: usize,
    /// Whether connections are kept; if not, each request has its own and asks the proxy to close it.
    pub keep: bool,
    /// Requests per second of all connections together; without, each sends when its last was answered.
    pub rate: Option<f64>,
    pub seconds: Option<u64>,
    pub count: Option<u64>,
}

/// What came of it. Times are in nanoseconds.
pub struct Outcome {
    pub answered: u64,
    pub bytes: u64,
    pub nanoseconds: u64,
    pub latency: Histogram<u64>,
    /// How much later than due a request was sent although its connection was free: the error of the pacing.
    pub lateness: Histogram<u64>,
    pub errors: BTreeMap<&'static str, u64>,
}

struct Seat {
    connection: Option<Connection>,
    busy: bool,
    /// When the request under way was due.
    since: u64,
    /// Which request is under way, for one that must be written later.
    path: usize,
    sent: u64,
    due: u64,
}

struct Drive<'a> {
    load: &'a Load,
    requests: Vec<Vec<u8>>,
    seats: Vec<Seat>,
    epoll: OwnedFd,
    began: Instant,
    scratch: Vec<u8>,
    started: u64,
    opened: u64,
    busy: usize,
    last: u64,
    outcome: Outcome,
}

impl Outcome {
    fn new() -> io::Result<Self> {
        let histogram = || Histogram::new_with_bounds(100, 600_000_000_000, 3).map_err(io::Error::other);
        let (latency, lateness) = (histogram()?, histogram()?);
        Ok(Self { answered: 0, bytes: 0, nanoseconds: 0, latency, lateness, errors: BTreeMap::new() })
    }
}

/// Opens the connections, calls `start` when they stand, runs the load, returns the counts.
pub fn run(load: &Load, start: impl FnOnce() -> io::Result<()>) -> io::Result<Outcome> {
    // The kernel lets ordinary time-outs be 50 us late, to bundle them.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let closing = if load.keep { "" } else { "Connection: close\r\n" };
    let request = |n| format!("GET {}{n} HTTP/1.1\r\nHost: {}\r\n{closing}\r\n", load.prefix, load.address);
    let seat = || Seat { connection: None, busy: false, since: 0, path: 0, sent: 0, due: 0 };
    let mut drive = Drive {
        load,
        requests: (1..=load.paths).map(|n| request(n).into_bytes()).collect(),
        seats: std::iter::repeat_with(seat).take(load.connections).collect(),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        began: Instant::now(),
        scratch: vec![0; SCRATCH],
        started: 0,
        opened: 0,
        busy: 0,
        last: 0,
        outcome: Outcome::new()?,
    };
    if load.keep {
        for place in 0..load.connections {
            drive.open(place)?;
        }
        if load.seconds.is_some() {
            // One request on each, so that every connection is accepted and in use before anything is counted.
            drive.as_fast_as_answered(load.connections as u64, LONGEST)?;
            drive.outcome = Outcome { errors: take(&mut drive.outcome.errors), ..Outcome::new()? };
        }
    }
    start()?;
    (drive.began, drive.started, drive.last) = (Instant::now(), 0, 0);
    drive.seats.iter_mut().for_each(|seat| (seat.sent, seat.due) = (0, 0));
    match load.rate {
        Some(rate) => drive.at_a_rate(rate)?,
        None => {
            let end = load.seconds.map_or(LONGEST, Duration::from_secs);
            drive.as_fast_as_answered(load.count.unwrap_or(u64::MAX), end)?;
        }
    }
    drive.outcome.nanoseconds = drive.last.max(1);
    Ok(drive.outcome)
}

impl Drive<'_> {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn at_a_rate(&mut self, rate: f64) -> io::Result<()> {
        let seats = self.seats.len() as u64;
        let when = |n: u64| (n as f64 * 1e9 / rate) as u64 / GRID * GRID;
        let total = self.load.count.unwrap_or((rate * self.load.seconds.unwrap_or(1) as f64) as u64);
        let until = when(total) + GRACE.as_nanos() as u64;
        let mut next = 0;
        loop {
            let now = self.now();
            let mut burst = 0;
            while next < total && when(next) <= now && burst < BURST {
                let place = (next % seats) as usize;
                self.seats[place].due += 1;
                if !self.seats[place].busy {
                    let due = when(self.seats[place].sent * seats + place as u64);
                    let late = self.now().saturating_sub(due);
                    self.outcome.lateness.saturating_record(late);
                    self.begin(place, due)?;
                }
                next += 1;
                burst += 1;
            }
            if now > until || (next == total && self.busy == 0) {
                break;
            }
            let pause = if next < total { when(next).saturating_sub(self.now()) } else { until - now };
            for place in self.wait(if burst == BURST { 0 } else { pause })? {
                let seat = &self.seats[place];
                if !seat.busy && seat.sent < seat.due {
                    let due = when(seat.sent * seats + place as u64);
                    self.begin(place, due)?;
                }
            }
        }
        // What is missing has waited at least until now. Left out, the slowest answers would not count.
        let now = self.now();
        for place in 0..self.seats.len() {
            let (sent, due, busy) = (self.seats[place].sent, self.seats[place].due, self.seats[place].busy);
            let first = if busy { sent - 1 } else { sent };
            for n in first..due {
                self.outcome.latency.saturating_record(now - when(n * seats + place as u64));
                self.error("unanswered");
            }
        }
        Ok(())
    }

    /// At most so many requests, begun within this time.
    fn as_fast_as_answered(&mut self, most: u64, end: Duration) -> io::Result<()> {
        let (end, until) = (end.as_nanos() as u64, (end + GRACE).as_nanos() as u64);
        for place in 0..self.seats.len() {
            if self.started < most {
                let now = self.now();
                self.begin(place, now)?;
            }
        }
        while self.busy > 0 {
            let now = self.now();
            if now > until {
                for _ in 0..self.busy {
                    self.error("unanswered");
                }
                break;
            }
            for place in self.wait(until - now)? {
                let now = self.now();
                if !self.seats[place].busy && self.started < most && now < end {
                    self.begin(place, now)?;
                }
            }
        }
        Ok(())
    }

    /// Waits at most so many nanoseconds, reads what came, and returns the places where something did.
    fn wait(&mut self, nanoseconds: u64) -> io::Result<Vec<usize>> {
        let pause = Timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as i64,
            tv_nsec: (nanoseconds % 1_000_000_000) as i64,
        };
        let mut events = Vec::with_capacity(256);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let places: Vec<usize> = events.iter().map(|event| event.data.u64() as usize).collect();
        for &place in &places {
            self.ready(place);
        }
        Ok(places)
    }

    fn open(&mut self, place: usize) -> io::Result<()> {
        let from = Ipv4Addr::new(127, 0, 0, (2 + self.opened % SOURCES) as u8);
        self.opened += 1;
        let connection = Connection::open(self.load.address, from)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &connection.stream, epoll::EventData::new_u64(place as u64), flags)?;
        self.seats[place].connection = Some(connection);
        Ok(())
    }

    fn begin(&mut self, place: usize, since: u64) -> io::Result<()> {
        if self.seats[place].connection.is_none() {
            self.open(place)?;
        }
        let path = (self.started % self.load.paths) as usize;
        self.started += 1;
        self.busy += 1;
        let seat = &mut self.seats[place];
        (seat.busy, seat.since, seat.path) = (true, since, path);
        seat.sent += 1;
        let progress = seat.connection.as_mut().map(|one| one.send(&self.requests[path]));
        self.settle(place, progress.unwrap_or(Progress::Broken("connect")));
        if self.outcome.errors.values().sum::<u64>() > MOST_FAILURES {
            return Err(io::Error::other(format!("too many errors: {:?}", self.outcome.errors)));
        }
        Ok(())
    }

    fn ready(&mut self, place: usize) {
        let seat = &mut self.seats[place];
        let Some(connection) = seat.connection.as_mut().filter(|_| seat.busy) else {
            return;
        };
        if connection.unsent() {
            let progress = connection.send(&self.requests[seat.path]);
            self.settle(place, progress);
            return;
        }
        let progress = connection.read(&mut self.scratch, self.load.keep);
        self.settle(place, progress);
    }

    fn settle(&mut self, place: usize, progress: Progress) {
        let now = self.now();
        let seat = &mut self.seats[place];
        let stays = match progress {
            Progress::Partial => return,
            Progress::Whole { status, body } => {
                self.outcome.answered += 1;
                self.outcome.bytes += body;
                self.outcome.latency.saturating_record(now.saturating_sub(seat.since));
                if status != 200 {
                    *self.outcome.errors.entry("status").or_default() += 1;
                }
                self.load.keep
            }
            Progress::Broken(kind) => {
                *self.outcome.errors.entry(kind).or_default() += 1;
                false
            }
        };
        seat.busy = false;
        self.busy -= 1;
        self.last = now;
        if !stays {
            seat.connection = None;
        }
    }

    fn error(&mut self, kind: &'static str) {
        *self.outcome.errors.entry(kind).or_default() += 1;
    }
}
