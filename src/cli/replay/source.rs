//! Where the requests of `ringway replay` come from: a log, standard input, or a law.
//!
//! Owns the thread that reads a log, so that reading and playing go on side by side. It ends when the log does, or when nobody plays any more.

use std::{
    io::{self, Read},
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::super::recorded::{Reading, Watched};
use crate::{
    analysis::{
        chart::Chart,
        records::{Records, Tale},
        replay::{Arrival, Pace, Recorded, RecordedTale, ReplayError},
    },
    limits::{REPLAY_BATCH, REPLAY_BATCHES},
};

/// A log and how it is to be read.
pub(super) struct Log<'a> {
    pub(super) path: &'a Path,
    pub(super) reading: &'a Reading,
    pub(super) chart: Option<(&'a Chart, usize)>,
    pub(super) has_cache: bool,
    /// So many in a second, by this seed. `None`: as recorded.
    pub(super) rate: Option<(f64, u64)>,
    pub(super) speed: f64,
}

/// A request, and when it was recorded.
type Read1 = (Option<u64>, Arrival);

/// A stream that ends when nobody wants it any more.
struct While<'a, R> {
    wanted: &'a AtomicBool,
    stream: R,
}

impl<R: Read> Read for While<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.wanted.load(Relaxed) { self.stream.read(into) } else { Ok(0) }
    }
}

impl Log<'_> {
    /// Reads the log while it is played. What `play` says, and what was read.
    ///
    /// # Errors
    /// The log can't be opened or read, or what `play` says.
    pub(super) fn read_to<T>(
        self,
        play: impl FnOnce(&mut dyn Iterator<Item = Result<Arrival, ReplayError>>) -> Result<T, ReplayError>,
    ) -> Result<(T, Tale, RecordedTale), ReplayError> {
        let unreadable = |error: io::Error| ReplayError::Trace(format!("{}: {error}", self.path.display()));
        let wanted = AtomicBool::new(true);
        let (sender, receiver) = sync_channel(REPLAY_BATCHES);
        let (rate, speed) = (self.rate, self.speed);
        let wanted = &wanted;
        thread::scope(|scope| {
            let (path, reading) = (self.path, self.reading);
            let recorded = Recorded::new(self.chart, self.has_cache);
            let reader = scope.spawn(move || {
                let stream = Watched::open(path)?;
                let records =
                    Records::new(While { wanted, stream }, reading.log_format, reading.field.clone())?;
                read(records, recorded, wanted, &sender)
            });
            let mut requests = receiver.into_iter().flatten();
            let mut pace = match rate {
                Some((rate, seed)) => Pace::rate(requests.by_ref(), rate, seed),
                None => Pace::recorded(requests.by_ref(), speed),
            };
            let played = play(&mut pace);
            let breaks = pace.breaks();
            wanted.store(false, Relaxed);
            drop(requests);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (tale, mut recorded) = read.map_err(unreadable)?;
            recorded.breaks = breaks;
            match played {
                Err(ReplayError::Empty(_)) => Err(ReplayError::Empty(nothing(self.path, &tale, &recorded))),
                played => Ok((played?, tale, recorded)),
            }
        })
    }
}

/// Why there was nothing to play.
fn nothing(path: &Path, tale: &Tale, recorded: &RecordedTale) -> String {
    let path = path.display();
    if tale.lines == 0 {
        return format!("{path} is empty: there is nothing to play");
    }
    let first = tale.bad_lines.first();
    let first = first.map(|bad| format!("; line {}: {}: {}", bad.number, bad.reason, bad.text));
    format!(
        "{path} has {} lines, and no request to play: {} were not understood, {} are not of this pool, {} have no key{}",
        tale.lines,
        tale.bad,
        recorded.elsewhere,
        recorded.keyless,
        first.unwrap_or_default()
    )
}

type Batch = Vec<Result<Read1, ReplayError>>;

fn read(
    records: Records<impl Read>,
    mut recorded: Recorded<'_>,
    wanted: &AtomicBool,
    sender: &SyncSender<Batch>,
) -> io::Result<(Tale, RecordedTale)> {
    let mut batch = Batch::with_capacity(REPLAY_BATCH);
    let send = |batch: Batch| {
        if sender.send(batch).is_err() {
            wanted.store(false, Relaxed);
        }
    };
    let tale = records.each(|record| {
        if !wanted.load(Relaxed) {
            return;
        }
        match recorded.arrival(record) {
            Ok(None) => return,
            Ok(Some(request)) => batch.push(Ok(request)),
            Err(error) => {
                batch.push(Err(error));
                wanted.store(false, Relaxed);
            }
        }
        if batch.len() == REPLAY_BATCH || !wanted.load(Relaxed) {
            send(std::mem::replace(&mut batch, Batch::with_capacity(REPLAY_BATCH)));
        }
    })?;
    send(batch);
    Ok((tale, recorded.tale))
}
