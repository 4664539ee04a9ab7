//! All cells of a grid, played while the trace is read once.
//!
//! Owns the threads: one reads, the others play, each the cells that are its own. A piece of the trace is kept until all have played it, and there is a
//! bound on how many pieces wait; so memory grows with the cells and not with the trace.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, ScopedJoinHandle},
};

use serde::Serialize;

use super::{
    Arrival, Batch, Outcome, ReplayError, Scenario,
    player::{Player, open},
};
use crate::{
    analysis::distinct::Distinct,
    fleet::Moment,
    limits::{REPLAY_BATCH, REPLAY_BATCHES},
};

/// What a trace is, whoever plays it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// Requests.
    pub requests: u64,
    /// Different keys.
    pub keys: f64,
    /// The standard error of their number, as a share of it. 0: it is exact.
    pub keys_error: f64,
    /// The share of requests for the key that most are for. `null`: there are too many keys to know.
    pub hottest: Option<f64>,
}

/// Plays a trace to all scenarios, with so many threads at most beside the one that reads. The outcomes have the order of the
/// scenarios.
///
/// # Errors
/// The trace can't be read, is empty, or a scenario can't be played to its end.
pub fn play(
    scenarios: &[Scenario],
    epoch: Moment,
    threads: usize,
    trace: impl Iterator<Item = Result<Arrival, ReplayError>>,
) -> Result<(Vec<Outcome>, Trace), ReplayError> {
    let threads = threads.clamp(1, scenarios.len().max(1));
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut players = Vec::new();
        for number in 0..threads {
            let (sender, receiver) = sync_channel(REPLAY_BATCHES);
            senders.push(sender);
            // Dealt like cards, so that those with many backends do not all come to one.
            let own: Vec<&Scenario> = scenarios.iter().skip(number).step_by(threads).collect();
            players.push(scope.spawn(move || play_own(&own, epoch, &receiver)));
        }
        let read = read(trace, &senders);
        drop(senders);
        let outcomes = gather(players, scenarios.len());
        // Who plays may have had a reason to stop; else the trace had one.
        let outcomes = outcomes?;
        let trace = read?;
        if trace.requests == 0 {
            return Err(ReplayError::Empty("there is no request to play".to_owned()));
        }
        Ok((outcomes, trace))
    })
}

/// Reads the trace to all who play.
fn read(
    mut trace: impl Iterator<Item = Result<Arrival, ReplayError>>,
    senders: &[SyncSender<Batch>],
) -> Result<Trace, ReplayError> {
    let (mut requests, mut keys) = (0, Distinct::default());
    'reading: loop {
        let mut batch = Vec::with_capacity(REPLAY_BATCH);
        for arrival in trace.by_ref().take(REPLAY_BATCH) {
            let arrival = arrival?;
            keys.see(arrival.place.0, 0);
            batch.push(arrival);
        }
        if batch.is_empty() {
            break;
        }
        requests += batch.len() as u64;
        let batch: Batch = batch.into();
        for sender in senders {
            if sender.send(batch.clone()).is_err() {
                // It has stopped, and says why itself.
                break 'reading;
            }
        }
    }
    let hottest = keys.keys().map(|key| key.count).max().filter(|_| keys.error() == 0.0);
    let hottest = hottest.map(|count| f64::from(count) / requests as f64);
    Ok(Trace { requests, keys: keys.count(), keys_error: keys.error(), hottest })
}

fn play_own(
    scenarios: &[&Scenario],
    epoch: Moment,
    batches: &Receiver<Batch>,
) -> Result<Vec<Outcome>, ReplayError> {
    let opened = scenarios.iter().map(|scenario| open(scenario, epoch));
    let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
    let (stages, reels): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let each = scenarios.iter().zip(stages).zip(&reels);
    let mut players: Vec<_> =
        each.map(|((scenario, stage), reel)| Player::new(scenario, stage, reel)).collect();
    while let Ok(batch) = batches.recv() {
        for player in &mut players {
            for arrival in &*batch {
                player.arrive(arrival, &mut ())?;
            }
        }
    }
    players.into_iter().map(Player::finish).collect()
}

type Playing<'scope> = ScopedJoinHandle<'scope, Result<Vec<Outcome>, ReplayError>>;

fn gather(players: Vec<Playing<'_>>, count: usize) -> Result<Vec<Outcome>, ReplayError> {
    let threads = players.len();
    let mut dealt = Vec::with_capacity(threads);
    for player in players {
        let outcomes = player.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        dealt.push(outcomes?.into_iter());
    }
    Ok((0..count).filter_map(|number| dealt[number % threads].next()).collect())
}
