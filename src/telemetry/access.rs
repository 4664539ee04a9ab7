//! The access log: one line a request, for people and programs.
//!
//! Owns the thread that writes it, and its queue. Never delays a request: lines that find too many waiting are
//! dropped and counted, and so are those that can't be written.

mod line;

use std::{
    cell::RefCell,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::line::{AccessLine, KeyFound};
use self::line::{Clock, common, json};
use crate::{
    limits::{ACCESS_BATCH_BYTES, ACCESS_FINISH},
    privileges,
};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object.
    Json,
    /// The common log format, for tools that read it. It has no room for most of what is known.
    Common,
}

impl fmt::Display for AccessFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessFormat::Json => "json",
            AccessFormat::Common => "common",
        })
    }
}

/// How a key stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyInLog {
    /// Its place on the ring, in hexadecimal: enough to follow a key, without telling it.
    Hashed,
    /// As it is.
    Plain,
    /// Not at all.
    Omit,
}

impl fmt::Display for KeyInLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyInLog::Hashed => "hashed",
            KeyInLog::Plain => "plain",
            KeyInLog::Omit => "omit",
        })
    }
}

/// What an operator chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogPolicy {
    /// The form of a line.
    pub format: AccessFormat,
    /// Where it goes. `None`: standard output.
    pub file: Option<PathBuf>,
    /// How a key stands in it.
    pub key: KeyInLog,
    /// Lines that may wait for the writer.
    pub queue_lines: usize,
}

/// What all workers share of the log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: AccessFormat,
    key: KeyInLog,
    queue: SyncSender<Batch>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Lines that wait for the writer.
    waiting: AtomicUsize,
    waiting_max: usize,
    /// No more lines will come.
    closing: AtomicBool,
    /// Lines that were lost: nobody took them in time, or they could not be written.
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    lines: usize,
    /// Where lines go from here on, if elsewhere.
    target: Option<File>,
}

/// A worker's own end of the log: lines are collected here and handed to the writer many at a time, because each hand-over may
/// wake its thread.
#[derive(Debug)]
pub struct AccessLines {
    log: AccessLog,
    clock: RefCell<Clock>,
    batch: RefCell<Batch>,
}

/// The writing thread. It ends when the last [`AccessLog`] is dropped, or the log is closed, and all lines are written.
#[derive(Debug)]
pub struct AccessWriter {
    thread: JoinHandle<()>,
    /// Closed by the thread's end.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the log and starts its writer. One that takes the place of another goes on counting where that ended.
    ///
    /// # Errors
    /// The file can't be opened for appending, or no thread can be started.
    pub fn open(
        policy: &AccessLogPolicy,
        before: Option<&AccessLog>,
    ) -> io::Result<(AccessLog, AccessWriter)> {
        let target: Box<dyn Write + Send> = match &policy.file {
            Some(path) => Box::new(open(path)?),
            None => Box::new(io::stdout()),
        };
        // The bound is on lines. No batch is empty, so there are never more batches than lines.
        let (queue, batches) = sync_channel(policy.queue_lines);
        let (alive, ended) = sync_channel(0);
        let counts = Arc::new(Counts {
            waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            waiting_max: policy.queue_lines,
            dropped: before.map_or_else(Arc::default, |before| before.counts.dropped.clone()),
        });
        let log = AccessLog { format: policy.format, key: policy.key, queue, counts: counts.clone() };
        let thread = std::thread::Builder::new().name("ringway-access".into()).spawn(move || {
            let _alive: SyncSender<()> = alive;
            write_lines(target, &batches, &counts);
        })?;
        Ok((log, AccessWriter { thread, ended }))
    }

    /// A worker's end.
    pub fn lines(&self) -> AccessLines {
        AccessLines {
            log: self.clone(),
            clock: RefCell::default(),
            batch: RefCell::new(Batch { bytes: Vec::new(), lines: 0, target: None }),
        }
    }

    /// Has its writer end once all lines are written. Nobody may add lines any more.
    pub fn close(&self) {
        self.counts.closing.store(true, Relaxed);
        // It wakes a writer that waits. One that does not will see it by itself.
        let _ = self.queue.try_send(Batch { bytes: Vec::new(), lines: 0, target: None });
    }

    /// Begins the file anew: it may have been moved away.
    ///
    /// # Errors
    /// It can't be opened, or so many lines wait that the writer can't be told.
    pub fn reopen(&self, policy: &AccessLogPolicy) -> io::Result<()> {
        let Some(path) = &policy.file else { return Ok(()) };
        let target = Some(open(path)?);
        let sent = self.queue.try_send(Batch { bytes: Vec::new(), lines: 0, target });
        sent.map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "too many lines wait to be written"))
    }

    /// Whether both lead to the same writer.
    pub fn is_same(&self, other: &AccessLog) -> bool {
        Arc::ptr_eq(&self.counts, &other.counts)
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }
}

impl AccessLines {
    /// The log that they go to.
    pub fn log(&self) -> &AccessLog {
        &self.log
    }

    /// Adds a line. `true`: it is the first of its batch, and somebody must call [`AccessLines::hand_over`] before long.
    pub fn add(&self, line: &AccessLine<'_>) -> bool {
        let mut batch = self.batch.borrow_mut();
        match self.log.format {
            AccessFormat::Json => json(line, self.log.key, &mut self.clock.borrow_mut(), &mut batch.bytes),
            AccessFormat::Common => common(line, &mut batch.bytes),
        }
        batch.lines += 1;
        let (is_first, is_full) = (batch.lines == 1, batch.bytes.len() >= ACCESS_BATCH_BYTES);
        drop(batch);
        if is_full {
            self.hand_over();
        }
        is_first && !is_full
    }

    /// Hands what was collected to the writer, or drops it if too much is waiting there.
    pub fn hand_over(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.lines == 0 {
            return;
        }
        let (lines, counts) = (batch.lines, &self.log.counts);
        let has_room = counts.waiting.fetch_add(lines, Relaxed) + lines <= counts.waiting_max;
        let bytes = if has_room { mem::take(&mut batch.bytes) } else { Vec::new() };
        batch.lines = 0;
        if !has_room || self.log.queue.try_send(Batch { bytes, lines, target: None }).is_err() {
            batch.bytes.clear();
            counts.waiting.fetch_sub(lines, Relaxed);
            counts.dropped.fetch_add(lines as u64, Relaxed);
        }
    }
}

impl Drop for AccessLines {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl AccessWriter {
    /// Whether all its lines are written and nobody sends it any more.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until all lines are written, but not for ever: whoever reads them may have stopped reading.
    pub fn finish(self) {
        match self.ended.recv_timeout(ACCESS_FINISH) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("the access log takes no more lines: those that wait are lost");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if self.thread.join().is_err() {
                    tracing::error!("the access log's writer panicked");
                }
            }
        }
    }
}

/// Opens the file, and makes it if there is none, for the user whom the process is to become: it will be opened again.
fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().append(true).create_new(true).open(path) {
        Ok(made) => {
            privileges::give(&made, path);
            Ok(made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).create(true).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Writes lines, and tells how many bytes of them were taken. A line of which only the beginning was taken stands alone: `is_cut` has the end of
/// a line written first.
fn write_whole(
    target: &mut impl Write,
    bytes: &[u8],
    is_cut: &mut bool,
    taken: &mut usize,
) -> io::Result<()> {
    if *is_cut {
        target.write_all(b"\n")?;
        *is_cut = false;
    }
    while *taken < bytes.len() {
        match target.write(&bytes[*taken..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                *taken += n;
                *is_cut = bytes[*taken - 1] != b'\n';
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    target.flush()
}

fn write_lines(mut target: Box<dyn Write + Send>, batches: &Receiver<Batch>, counts: &Counts) {
    // Another log before this one may have lost some, and has said so.
    let (mut told, mut told_at) = (counts.dropped.load(Relaxed), Instant::now());
    let (mut is_broken, mut is_cut) = (false, false);
    while let Ok(Batch { bytes, lines, target: next }) = batches.recv() {
        if let Some(next) = next {
            target = Box::new(next);
            is_cut = false;
        }
        let mut taken = 0;
        let written = write_whole(&mut target, &bytes, &mut is_cut, &mut taken);
        counts.waiting.fetch_sub(lines, Relaxed);
        match &written {
            // Said once: a full disk would otherwise fill the log about the log.
            Err(error) if !is_broken => tracing::error!(%error, "the access log can't be written"),
            Ok(()) if is_broken => tracing::info!("the access log can be written again"),
            _ => {}
        }
        is_broken = written.is_err();
        if is_broken {
            let whole = bytes[..taken].iter().filter(|byte| **byte == b'\n').count();
            counts.dropped.fetch_add(lines.saturating_sub(whole) as u64, Relaxed);
        }
        let dropped = counts.dropped.load(Relaxed);
        if dropped > told && told_at.elapsed() > Duration::from_secs(10) {
            tracing::warn!(lines = dropped - told, "access lines lost");
            (told, told_at) = (dropped, Instant::now());
        }
        if counts.closing.load(Relaxed) && counts.waiting.load(Relaxed) == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A disk with room for so many bytes, and what it has taken.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn has_room_for(&self, bytes: usize) {
            self.0.lock().unwrap().0 = bytes;
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, taken) = &mut *self.0.lock().unwrap();
            let n = bytes.len().min(*room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= n;
            taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn half_a_line_on_a_full_disk_spoils_no_other() {
        let disk = Disk::default();
        let (mut target, mut is_cut) = (disk.clone(), false);
        let mut write = |bytes: &[u8]| {
            let mut taken = 0;
            write_whole(&mut target, bytes, &mut is_cut, &mut taken).map_err(|_| taken)
        };
        disk.has_room_for(7);
        assert_eq!(write(b"one\ntwo\n"), Err(7));
        assert_eq!(write(b"three\n"), Err(0));
        // There is room for the end of the half line alone.
        disk.has_room_for(1);
        assert_eq!(write(b"four\n"), Err(0));
        disk.has_room_for(100);
        assert_eq!(write(b"five\n"), Ok(()));
        assert_eq!(write(b"six\n"), Ok(()));
        assert_eq!(disk.0.lock().unwrap().1, b"one\ntwo\nfive\nsix\n");
    }

    #[test]
    fn lines_are_counted_as_lost_where_they_are_not_whole() {
        let disk = Disk::default();
        disk.has_room_for(6);
        let (queue, batches) = sync_channel(4);
        for (bytes, lines) in [(&b"one\ntwo\nthree\n"[..], 3), (b"four\n", 1)] {
            queue.send(Batch { bytes: bytes.to_vec(), lines, target: None }).unwrap();
        }
        drop(queue);
        let counts = Counts {
            waiting: AtomicUsize::new(4),
            waiting_max: 4,
            closing: AtomicBool::new(false),
            dropped: Arc::default(),
        };
        write_lines(Box::new(disk), &batches, &counts);
        assert_eq!((counts.dropped.load(Relaxed), counts.waiting.load(Relaxed)), (3, 0));
    }
}
