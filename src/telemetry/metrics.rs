//! The scrape: reads the cells that others write, adds up the workers' shares, and prints them for Prometheus.
//!
//! Owns nothing that changes. A scrape takes no lock that a request could wait for, and is written while it is sent, so
//! that its memory does not depend on the number of backends.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use hyper::body::{Body, Bytes, Frame};
use prometheus::{Registry, TextEncoder};

pub use super::families::{ALL, Family, Kind};
use super::{
    lines::Lines,
    readings::{self, Reading},
};
use crate::{
    fleet::View,
    limits::SCRAPE_PART,
    tally::{ListenerCells, WorkerCells},
    tls::ListenerTls,
};

/// What a scrape reads.
pub struct Sources {
    /// The published view.
    pub view: Box<dyn Fn() -> Arc<View> + Send + Sync>,
    /// The workers' cells that belong to no pool.
    pub workers: Vec<Arc<WorkerCells>>,
    /// The listeners that there are now.
    pub listeners: Box<dyn Fn() -> Vec<ListenerSource> + Send + Sync>,
    /// Access lines lost so far.
    pub access_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Configurations that were taken in, and those that were refused.
    pub config_loads: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Whether the last one was refused.
    pub config_behind: Box<dyn Fn() -> bool + Send + Sync>,
    /// When the configuration in force was read.
    pub config_loaded: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// Takeovers: this process has taken over from another one, and others were to from this one and have not.
    pub takeovers: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Whether the process is ready for traffic.
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What a scrape reads of one listener.
pub struct ListenerSource {
    /// Its name.
    pub name: String,
    /// Its cells.
    pub cells: Arc<ListenerCells>,
    /// Its TLS, if it has it.
    pub tls: Option<Arc<ListenerTls>>,
}

/// All metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    /// What the prometheus crate knows about the process.
    process: Registry,
    sources: Arc<Sources>,
}

impl Metrics {
    /// Metrics over these sources, and the process's own.
    ///
    /// # Errors
    /// The process's own contradict themselves.
    pub fn new(sources: Sources) -> Result<Metrics, prometheus::Error> {
        let process = Registry::new();
        process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Metrics { process, sources: Arc::new(sources) })
    }

    /// What a scrape reads.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The text that Prometheus reads (exposition format 0.0.4).
    ///
    /// # Errors
    /// A value of the process's own can't be printed.
    pub fn scrape(&self) -> Result<Scrape, prometheus::Error> {
        let head = TextEncoder::new().encode_to_string(&self.process.gather())?;
        let (sources, view) = (self.sources.clone(), (self.sources.view)());
        let at = Place { reading: 0, begun: false, pool: 0, member: 0 };
        Ok(Scrape { head: head.into(), sources, view, lines: Lines::new(), at })
    }
}

/// One scrape, as the body of an answer: each part is written when the one before has gone.
pub struct Scrape {
    head: Bytes,
    sources: Arc<Sources>,
    /// All metrics of a scrape are of the same view.
    view: Arc<View>,
    lines: Lines,
    at: Place,
}

/// What is written next.
struct Place {
    reading: usize,
    /// Whether the metric's head and the process's values are written.
    begun: bool,
    pool: usize,
    /// 0: the pool's own values come first.
    member: usize,
}

impl Scrape {
    fn part(&mut self) -> Option<Bytes> {
        if !self.head.is_empty() {
            return Some(std::mem::take(&mut self.head));
        }
        while self.lines.len() < SCRAPE_PART
            && let Some(reading) = readings::ALL.get(self.at.reading)
        {
            self.step(reading);
        }
        (self.lines.len() > 0).then(|| self.lines.take().into())
    }

    fn step(&mut self, reading: &Reading) {
        let (lines, at) = (&mut self.lines, &mut self.at);
        if !at.begun {
            lines.begin(reading.family);
            if let Some(process) = reading.process {
                process(&self.sources, &self.view, lines);
            }
            at.begun = true;
            return;
        }
        let Some(view) = self.view.pools.get(at.pool) else {
            *at = Place { reading: at.reading + 1, begun: false, pool: 0, member: 0 };
            return;
        };
        let pool_name: &str = &view.pool.name;
        if at.member == 0
            && let Some(pool) = reading.pool
        {
            lines.about(&[pool_name]);
            pool(view, lines);
        }
        match (reading.member, view.members.get(at.member)) {
            (Some(values), Some(member)) => {
                lines.about(&[pool_name, &member.backend.name]);
                values(member, lines);
                at.member += 1;
            }
            _ => (at.pool, at.member) = (at.pool + 1, 0),
        }
    }
}

impl Body for Scrape {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.part().map(|part| Ok(Frame::data(part))))
    }
}
