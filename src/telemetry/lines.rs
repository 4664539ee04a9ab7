//! Prometheus' text format (exposition format 0.0.4), written straight into a buffer.
//!
//! Owns the format: order of labels, escapes, the lines of a histogram. Knows no metric and no cell.
//! A fleet of 1000 backends has some 60 000 lines: as structures of the prometheus crate they cost ten times the time
//! that it takes to write them down, and as much memory as all the rest of the process.

use std::io::Write;

use super::families::{Family, Kind};
use crate::tally::{BUCKETS, Durations, add};

/// Lines under construction.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    family: Option<Family>,
    /// The labels that all lines of a subject share, as they stand between the braces.
    subject: Vec<u8>,
    /// How many labels those are.
    given: usize,
    /// The bounds of the buckets as text.
    bounds: Vec<String>,
}

impl Lines {
    /// None yet.
    pub(super) fn new() -> Lines {
        let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).collect();
        Lines { bounds, ..Lines::default() }
    }

    /// How much there is.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes what there is.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// The next lines are this metric's.
    pub(super) fn begin(&mut self, family: Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        for part in ["# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ", kind, "\n"] {
            self.text.extend_from_slice(part.as_bytes());
        }
        self.family = Some(family);
        self.about(&[]);
    }

    /// The next lines have these values of the metric's first labels.
    pub(super) fn about(&mut self, values: &[&str]) {
        self.subject.clear();
        for (name, value) in self.family().labels.iter().zip(values) {
            label(&mut self.subject, name, value);
        }
        self.given = values.len();
    }

    /// A line with a whole number; `rest` are the values of the labels that [`Lines::about`] left open.
    pub(super) fn count(&mut self, rest: &[&str], value: u64) {
        self.start("", rest, None);
        self.text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.text.push(b'\n');
    }

    /// A line with any number.
    pub(super) fn number(&mut self, rest: &[&str], value: f64) {
        self.start("", rest, None);
        writeln!(self.text, "{value}").expect("a vector takes every byte");
    }

    /// The lines of a histogram that is the sum of `parts`.
    pub(super) fn histogram(&mut self, parts: impl Iterator<Item = Durations>) {
        let mut all = Durations::default();
        parts.for_each(|part| add(&mut all, &part));
        let (counts, nanos) = all;
        let mut total = 0;
        for (at, count) in counts.into_iter().enumerate() {
            total += count;
            self.start("_bucket", &[], Some(at));
            self.text.extend_from_slice(itoa::Buffer::new().format(total).as_bytes());
            self.text.push(b'\n');
        }
        self.start("_sum", &[], None);
        writeln!(self.text, "{}", nanos as f64 / 1e9).expect("a vector takes every byte");
        self.start("_count", &[], None);
        writeln!(self.text, "{total}").expect("a vector takes every byte");
    }

    /// A line up to its value.
    fn start(&mut self, suffix: &str, rest: &[&str], bucket: Option<usize>) {
        let family = self.family();
        let open = &family.labels[self.given..];
        assert_eq!(open.len(), rest.len(), "{} has as many values as labels", family.name);
        let text = &mut self.text;
        text.extend_from_slice(family.name.as_bytes());
        text.extend_from_slice(suffix.as_bytes());
        if !family.labels.is_empty() || bucket.is_some() {
            text.push(b'{');
            text.extend_from_slice(&self.subject);
            for (name, value) in open.iter().zip(rest) {
                label(text, name, value);
            }
            if let Some(at) = bucket {
                label(text, "le", &self.bounds[at]);
            }
            // Each label ends in a comma; the format lets the last one stand.
            text.pop();
            text.push(b'}');
        }
        text.push(b' ');
    }

    fn family(&self) -> Family {
        self.family.expect("a metric is begun before its lines")
    }
}

fn label(text: &mut Vec<u8>, name: &str, value: &str) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b"=\"");
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'"' | b'\n');
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(is_special) {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.extend_from_slice(b"\",");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tally::Histogram;

    const PLAIN: Family = Family { name: "plain", kind: Kind::Gauge, labels: &[], help: "One number." };
    const LABELLED: Family =
        Family { name: "many_total", kind: Kind::Counter, labels: &["a", "b"], help: "Two labels." };
    const TIMES: Family = Family { name: "times", kind: Kind::Histogram, labels: &["a"], help: "Durations." };

    fn written(write: impl FnOnce(&mut Lines)) -> String {
        let mut lines = Lines::new();
        write(&mut lines);
        String::from_utf8(lines.take()).unwrap()
    }

    #[test]
    fn a_line_is_as_the_format_wants_it() {
        let text = written(|lines| {
            lines.begin(PLAIN);
            lines.number(&[], 0.25);
            lines.begin(LABELLED);
            lines.count(&["x", "y"], u64::MAX);
            lines.about(&["one"]);
            lines.count(&["two"], 2);
            lines.about(&["c:\\d \"e\"\n", "f"]);
            lines.count(&[], 3);
        });
        let wanted = "# HELP plain One number.\n# TYPE plain gauge\nplain 0.25\n\
            # HELP many_total Two labels.\n# TYPE many_total counter\n\
            many_total{a=\"x\",b=\"y\"} 18446744073709551615\n\
            many_total{a=\"one\",b=\"two\"} 2\n\
            many_total{a=\"c:\\\\d \\\"e\\\"\\n\",b=\"f\"} 3\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_histogram_is_the_sum_of_its_parts_and_cumulative() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_micros(700));
        two.observe(Duration::from_millis(2));
        two.observe(Duration::from_secs(100));
        let text = written(|lines| {
            lines.begin(TIMES);
            lines.about(&["x"]);
            lines.histogram([one.read(), two.read()].into_iter());
        });
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), BUCKETS.len() + 3);
        assert_eq!(
            lines[..3],
            [
                "times_bucket{a=\"x\",le=\"0.0005\"} 0",
                "times_bucket{a=\"x\",le=\"0.001\"} 1",
                "times_bucket{a=\"x\",le=\"0.0025\"} 2",
            ]
        );
        assert_eq!(
            lines[BUCKETS.len() - 1..],
            [
                "times_bucket{a=\"x\",le=\"60\"} 2",
                "times_bucket{a=\"x\",le=\"+Inf\"} 3",
                "times_sum{a=\"x\"} 100.0027",
                "times_count{a=\"x\"} 3",
            ]
        );
    }
}
