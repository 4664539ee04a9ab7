//! The live view: what the proxy does each second, for everybody who watches.
//!
//! Owns the sampler, its history, and the one JSON text of each sample that all who ask get. It runs on the admin thread and reads the cells
//! that others write; no worker does anything for it. Always on: a history is worth nothing if it begins when somebody looks
//! (a sample of 1000 backends on two workers takes 0.6 ms, each second).

mod history;
mod sample;
mod sampler;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use tokio::{sync::watch, time::MissedTickBehavior};

pub(super) use self::sample::Sample;
use self::{history::History, sampler::Sampler};
use super::State;
use crate::limits::LIVE_SAMPLE;

/// The last sample and those before it.
pub(super) struct Live {
    last: watch::Sender<Arc<Sample>>,
    history: Mutex<History>,
}

impl Live {
    /// Takes the first sample.
    pub(super) fn begin(state: &State) -> (Live, Sampler) {
        let mut sampler = Sampler::new();
        let first = Arc::new(sampler.take(state));
        let live = Live { last: watch::channel(first).0, history: Mutex::new(History::new()) };
        (live, sampler)
    }

    /// Takes one sample after the other, until it is dropped.
    pub(super) async fn run(&self, mut sampler: Sampler, state: &State) {
        let mut tick = tokio::time::interval(LIVE_SAMPLE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is due at once, and was taken at the beginning.
        tick.tick().await;
        loop {
            tick.tick().await;
            let sample = Arc::new(sampler.take(state));
            self.history().add(&sample);
            self.last.send_replace(sample);
        }
    }

    /// Sees each sample from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Sample>> {
        self.last.subscribe()
    }

    /// The last sample, as JSON.
    pub(super) fn json(&self) -> Bytes {
        self.last.borrow().json()
    }

    /// The samples before it, as JSON.
    pub(super) fn history_json(&self) -> Bytes {
        self.history().json()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
