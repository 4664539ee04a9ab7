//! Numbers as few characters: rates, times, shares.
//!
//! Owns their form. Nothing here is wider than six columns, so that columns keep their places. Pure.

use std::time::Duration;

/// A rate or a count.
pub(super) fn rate(value: f64) -> String {
    match value {
        _ if value <= 0.0 => "0".into(),
        _ if value < 0.05 => "<0.1".into(),
        _ if value < 99.95 => format!("{value:.1}"),
        _ if value < 9999.5 => format!("{value:.0}"),
        _ if value < 999_500.0 => format!("{:.0}k", value / 1e3),
        _ if value < 99.5e6 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.0}M", value / 1e6),
    }
}

/// A whole number.
pub(super) fn count(value: u64) -> String {
    if value < 10_000 { value.to_string() } else { rate(value as f64) }
}

/// A time in seconds.
pub(super) fn seconds(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".into() };
    match value * 1e6 {
        micros if micros < 999.5 => format!("{micros:.0}µs"),
        micros if micros < 9950.0 => format!("{:.1}ms", micros / 1e3),
        micros if micros < 999_500.0 => format!("{:.0}ms", micros / 1e3),
        micros if micros < 9.95e6 => format!("{:.1}s", micros / 1e6),
        micros => format!("{:.0}s", micros / 1e6),
    }
}

/// A part of the whole.
pub(super) fn share(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

/// How long ago something was.
pub(super) fn ago(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".into() };
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_right() {
        let rates = [0.0, 0.01, 0.5, 99.9, 99.97, 9999.0, 12_345.0, 999_499.0, 1.25e6, 2e8];
        let wanted = ["0", "<0.1", "0.5", "99.9", "100", "9999", "12k", "999k", "1.2M", "200M"];
        assert_eq!(rates.map(rate), wanted);
        let times = [0.000_25, 0.000_999_6, 0.0123, 0.9996, 9.96, 60.0].map(|time| seconds(Some(time)));
        assert_eq!(times, ["250µs", "1.0ms", "12ms", "1.0s", "10s", "60s"]);
        assert_eq!([0.0, 1.0, 0.333_33].map(share), ["0.0%", "100.0%", "33.3%"]);
        let ages = [0, 59, 60, 7200, 172_800].map(|seconds| ago(Some(Duration::from_secs(seconds))));
        assert_eq!(ages, ["0s", "59s", "1m", "2h", "2d"]);
        assert_eq!((seconds(None), ago(None), count(10_000)), ("-".into(), "-".into(), "10k".into()));
    }
}
