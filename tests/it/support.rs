//! The kit: origins to stand behind the proxy, the proxy itself from real TOML, and clients that see raw bytes.
//!
//! Everything listens on port 0 of the loopback, waits for conditions with a bound, and ends with its owner.

pub mod client;
pub mod http2;
pub mod origin;
pub mod process;
pub mod proxy;
pub mod relay;

use std::time::{Duration, Instant};

pub use client::{Answer, Client, get};
pub use origin::{Origin, Peer};
pub use proxy::Proxy;
pub use relay::Relay;

/// How long a condition may take to come true. Only a failing test ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a future that must end in time.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(out) => out,
        Err(_) => panic!("took too long: {what}"),
    }
}
