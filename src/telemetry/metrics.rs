//! The scrape: reads the cells that others write, adds up the workers' shares, and prints them for Prometheus.
//!
//! Owns nothing that changes. A scrape takes no lock that a request could wait for.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::{
        Bucket, Counter, Gauge, Histogram as HistogramValue, LabelPair, Metric, MetricFamily, MetricType,
    },
};

pub use super::families::{ALL, Family, Kind};
use super::{access::AccessLog, families as names};
use crate::{
    fleet::{Backend, Pool, PoolView, Standing, View},
    tally::{
        AttemptEnd, BUCKETS, Class, Closed, Histogram, ListenerCells, OffOwner, Refusal, Rejected,
        WorkerCells,
    },
};

/// What a scrape reads.
pub struct Sources {
    /// The published view.
    pub view: Arc<ArcSwap<View>>,
    /// The workers' cells that belong to no pool.
    pub workers: Vec<Arc<WorkerCells>>,
    /// The listeners' names and cells.
    pub listeners: Vec<String>,
    /// In the same order.
    pub listener_cells: Arc<[ListenerCells]>,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// When the configuration in force was read.
    pub config_loaded: SystemTime,
    /// Whether the process is ready for traffic.
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
}

/// All metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics over these sources, and the process's own.
    ///
    /// # Errors
    /// The table of metrics contradicts itself.
    pub fn new(sources: Sources) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        registry.register(Box::new(Scraper::new(sources)?))?;
        Ok(Metrics { registry })
    }

    /// The text that Prometheus reads (exposition format 0.0.4).
    ///
    /// # Errors
    /// A value can't be printed.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

struct Scraper {
    sources: Sources,
    descriptions: Vec<Desc>,
}

impl Scraper {
    fn new(sources: Sources) -> Result<Scraper, prometheus::Error> {
        let describe = |family: &Family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(family.name.into(), family.help.into(), labels, HashMap::new())
        };
        let descriptions = ALL.iter().map(describe).collect::<Result<_, _>>()?;
        Ok(Scraper { sources, descriptions })
    }
}

impl Collector for Scraper {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut page = Page::default();
        self.process(&mut page);
        let view = self.sources.view.load_full();
        page.put(names::REVISION, &[], view.revision as f64);
        for pool in &view.pools {
            pool_metrics(&mut page, &pool.pool);
            ring_metrics(&mut page, pool);
            for member in &pool.members {
                let serving = f64::from(u8::from(member.standing == Standing::Serving));
                page.put(names::BACKEND_SERVING, &[&pool.pool.name, &member.backend.name], serving);
                backend_metrics(&mut page, &pool.pool.name, &member.backend);
            }
        }
        page.families()
    }
}

impl Scraper {
    fn process(&self, page: &mut Page) {
        let sources = &self.sources;
        for (reason, &refusal) in Refusal::ALL.iter().enumerate() {
            let count: u64 = sources.workers.iter().map(|cells| cells.refusals.at(reason).get()).sum();
            page.put(names::REFUSALS, &["", refusal.word()], count as f64);
            page.add(names::REQUESTS, &["", "", Class::of(refusal.status()).word()], count as f64);
        }
        for (name, cells) in sources.listeners.iter().zip(sources.listener_cells.iter()) {
            page.put(names::CONNECTIONS_OPEN, &[name], cells.open.load(Relaxed) as f64);
            page.put(names::CONNECTIONS_ACCEPTED, &[name], cells.accepted.load(Relaxed) as f64);
            for (at, reason) in Rejected::ALL.iter().enumerate() {
                let count = cells.rejected[at].load(Relaxed);
                page.put(names::CONNECTIONS_REJECTED, &[name, reason.word()], count as f64);
            }
        }
        let loaded = sources.config_loaded.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.put(names::CONFIG_LOADS, &["success"], 1.0);
        page.put(names::CONFIG_LOADED, &[], loaded.as_secs_f64());
        page.put(names::READY, &[], f64::from(u8::from((sources.ready)())));
        let dropped = sources.access_log.as_ref().map_or(0, AccessLog::dropped);
        page.put(names::ACCESS_DROPPED, &[], dropped as f64);
        page.put(names::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    }
}

fn pool_metrics(page: &mut Page, pool: &Pool) {
    let name: &str = &pool.name;
    let cells = pool.all_cells();
    page.histogram(names::DURATION, &[name], cells.iter().map(|cells| &cells.whole));
    page.histogram(names::FIRST_BYTE, &[name], cells.iter().map(|cells| &cells.first_byte));
    page.histogram(names::CONNECT, &[name], cells.iter().map(|cells| &cells.connect));
    page.put(names::RECEIVED, &[name], cells.iter().map(|cells| cells.received_bytes.get() as f64).sum());
    page.put(names::SENT, &[name], cells.iter().map(|cells| cells.sent_bytes.get() as f64).sum());
    for (at, class) in Class::ALL.iter().enumerate() {
        let count: u64 = cells.iter().map(|cells| cells.unanswered.at(at).get()).sum();
        page.put(names::REQUESTS, &[name, "", class.word()], count as f64);
    }
    for (at, reason) in OffOwner::ALL.iter().enumerate() {
        let count: u64 = cells.iter().map(|cells| cells.off_owner.at(at).get()).sum();
        page.put(names::OFF_OWNER, &[name, reason.word()], count as f64);
    }
    for (at, reason) in AttemptEnd::ALL.iter().enumerate() {
        let count: u64 = cells.iter().map(|cells| cells.repeats.at(at).get()).sum();
        page.put(names::REPEATS, &[name, reason.word()], count as f64);
    }
    for (at, reason) in Refusal::ALL.iter().enumerate() {
        let count: u64 = cells.iter().map(|cells| cells.refusals.at(at).get()).sum();
        page.put(names::REFUSALS, &[name, reason.word()], count as f64);
    }
}

fn ring_metrics(page: &mut Page, view: &PoolView) {
    let (pool, ring): (&str, _) = (&view.pool.name, &view.ring);
    page.put(names::VIRTUAL_NODES, &[pool], ring.node_count() as f64);
    for (member, share) in ring.members().iter().zip(ring.shares()) {
        page.put(names::SHARE, &[pool, &member.name], share);
    }
    page.put(names::IMBALANCE, &[pool], ring.imbalance());
    page.put(names::EXPECTED_IMBALANCE, &[pool], ring.expected_imbalance());
    page.put(names::FINGERPRINT, &[pool], f64::from(ring.fingerprint().short()));
    page.put(names::SERVING_FINGERPRINT, &[pool], f64::from(view.serving_fingerprint.short()));
}

fn backend_metrics(page: &mut Page, pool: &str, backend: &Backend) {
    let name: &str = &backend.name;
    for (at, class) in Class::ALL.iter().enumerate() {
        let count = backend.sum(|cells| cells.requests.at(at).get());
        page.put(names::REQUESTS, &[pool, name, class.word()], count as f64);
    }
    for (at, end) in AttemptEnd::ALL.iter().enumerate() {
        let count = backend.sum(|cells| cells.attempts.at(at).get());
        page.put(names::ATTEMPTS, &[pool, name, end.word()], count as f64);
    }
    for (at, reason) in Closed::ALL.iter().enumerate() {
        let count = backend.sum(|cells| cells.closed.at(at).get());
        page.put(names::UPSTREAM_CLOSED, &[pool, name, reason.word()], count as f64);
    }
    page.put(names::IN_FLIGHT, &[pool, name], backend.in_flight() as f64);
    page.put(names::UPSTREAM_OPENED, &[pool, name], backend.sum(|cells| cells.opened.get()) as f64);
    page.put(names::UPSTREAM_REUSED, &[pool, name], backend.sum(|cells| cells.reused.get()) as f64);
    let probes = &backend.probes;
    page.put(names::TRANSITIONS, &[pool, name], probes.transitions.get() as f64);
    page.put(names::PROBES, &[pool, name, "passed"], probes.passed.get() as f64);
    page.put(names::PROBES, &[pool, name, "failed"], probes.failed.get() as f64);
    page.histogram(names::PROBE_DURATION, &[pool, name], [&probes.took].into_iter());
}

/// A page under construction: the values of each family.
#[derive(Default)]
struct Page {
    metrics: HashMap<&'static str, Vec<Metric>>,
}

impl Page {
    fn put(&mut self, family: Family, labels: &[&str], value: f64) {
        let mut metric = Metric::from_label(pairs(family, labels));
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.entry(family.name).or_default().push(metric);
    }

    /// Adds to a counter that may be there already.
    fn add(&mut self, family: Family, labels: &[&str], value: f64) {
        let wanted = pairs(family, labels);
        let metrics = self.metrics.entry(family.name).or_default();
        match metrics.iter_mut().find(|metric| metric.get_label() == wanted) {
            Some(metric) => {
                let mut counter = Counter::default();
                counter.set_value(metric.get_counter().get_value() + value);
                metric.set_counter(counter);
            }
            None => self.put(family, labels, value),
        }
    }

    fn histogram<'a>(&mut self, family: Family, labels: &[&str], parts: impl Iterator<Item = &'a Histogram>) {
        let (mut counts, mut sum) = ([0; BUCKETS.len() + 1], 0.0);
        for part in parts {
            let (part_counts, part_sum) = part.read();
            counts.iter_mut().zip(part_counts).for_each(|(count, part)| *count += part);
            sum += part_sum;
        }
        let mut total = 0;
        let buckets = BUCKETS.iter().zip(counts).map(|(&bound, count)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(total);
            bucket
        });
        let mut value = HistogramValue::default();
        value.set_bucket(buckets.collect());
        value.set_sample_count(total + counts[BUCKETS.len()]);
        value.set_sample_sum(sum);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_histogram(value);
        self.metrics.entry(family.name).or_default().push(metric);
    }

    fn families(mut self) -> Vec<MetricFamily> {
        let filled = ALL.iter().filter_map(|family| {
            let metrics = self.metrics.remove(family.name)?;
            let mut out = MetricFamily::default();
            out.set_name(family.name.into());
            out.set_help(family.help.into());
            out.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            out.set_metric(metrics);
            Some(out)
        });
        filled.collect()
    }
}

fn pairs(family: Family, values: &[&str]) -> Vec<LabelPair> {
    assert_eq!(family.labels.len(), values.len(), "{} has as many values as labels", family.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}
