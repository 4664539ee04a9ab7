//! Recorded traffic as a command is given it: a file or standard input, and how far the reading has come.
//!
//! Owns the opening and one line on the terminal. What is in the file, the analysis says.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Failed, exit, fail};
use crate::analysis::records::{Field, LogFormat, Record, Records, Tale};

/// How recorded traffic is to be read.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reading {
    /// The log's format: keys, combined, haproxy or json; found out from its first lines unless it is said
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    /// The field of a log in JSON that is the key, for example request.user
    #[arg(long, value_name = "NAME")]
    pub(super) field: Option<Field>,
}

/// How often the line is drawn again.
const REDRAW: Duration = Duration::from_millis(200);

impl Reading {
    /// Reads all of it, and tells the format. Plain keys are only taken where `takes_keys`.
    pub(super) fn each(
        &self,
        file: &Path,
        takes_keys: Result<(), &str>,
        see: impl FnMut(&Record<'_>),
    ) -> Result<(LogFormat, Tale), Failed> {
        let failed = |error: io::Error| fail(exit::FAILURE, format_args!("{}: {error}", file.display()));
        if self.field.is_some() && self.log_format.is_some_and(|format| format != LogFormat::Json) {
            return Err(fail(exit::USAGE, "--field is for logs in JSON"));
        }
        let source = Watched::open(file).map_err(failed)?;
        let records = Records::new(source, self.log_format, self.field.clone()).map_err(failed)?;
        let format = records.format();
        if (format == LogFormat::Keys || self.field.is_some())
            && let Err(why) = takes_keys
        {
            return Err(fail(exit::USAGE, why));
        }
        let tale = records.each(see).map_err(failed)?;
        if tale.lines > 0 && tale.bad == tale.lines {
            return Err(fail(exit::FAILURE, nothing_in(file, format, &tale)));
        }
        Ok((format, tale))
    }
}

/// Not one line was understood: whatever would be said about such traffic would mislead.
fn nothing_in(file: &Path, format: LogFormat, tale: &Tale) -> String {
    let first = tale.bad_lines.first();
    let first = first.map(|bad| format!("\n  line {}: {}: {}", bad.number, bad.reason, bad.text));
    format!(
        "{}: none of {} lines was understood as {format}; --log-format names another format{}",
        file.display(),
        tale.lines,
        first.unwrap_or_default()
    )
}

/// A stream that tells on the terminal how much of it has been read.
pub(super) struct Watched {
    source: Box<dyn Read>,
    name: PathBuf,
    size: Option<u64>,
    read: u64,
    begun: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Watched {
    pub(super) fn open(file: &Path) -> io::Result<Watched> {
        let (source, size): (Box<dyn Read>, _) = if file == Path::new("-") {
            (Box::new(io::stdin().lock()), None)
        } else {
            let opened = File::open(file)?;
            let size = opened.metadata()?;
            (Box::new(opened), size.is_file().then_some(size.len()))
        };
        let is_shown = io::stderr().is_terminal();
        let (begun, name) = (Instant::now(), file.to_owned());
        Ok(Watched { source, name, size, read: 0, begun, drawn: None, is_shown })
    }

    fn draw(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let (megabytes, rate) = (self.read as f64 / 1e6, self.read as f64 / 1e6 / seconds.max(1e-3));
        let part = self.size.filter(|size| *size > 0).map(|size| {
            let part = (self.read as f64 / size as f64).min(1.0);
            let filled = (part * 24.0) as usize;
            format!("[{}{}] {:3.0} %  ", "#".repeat(filled), ".".repeat(24 - filled), part * 100.0)
        });
        let line = format!(
            "\r{}{megabytes:.0} MB of {}, {rate:.0} MB/s",
            part.unwrap_or_default(),
            self.name.display()
        );
        let _ = io::stderr().lock().write_all(format!("{line}\x1b[K").as_bytes());
    }
}

impl Read for Watched {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        self.read += read as u64;
        if self.is_shown && self.drawn.unwrap_or(self.begun).elapsed() > REDRAW {
            self.drawn = Some(Instant::now());
            self.draw();
        }
        Ok(read)
    }
}

impl Drop for Watched {
    /// What follows begins on a clean line.
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = io::stderr().lock().write_all(b"\r\x1b[K");
        }
    }
}
