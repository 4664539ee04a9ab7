//! Which formats there are, and how the first lines of a log tell its own.
//!
//! Owns that choice. How a line is read stands with its format.

use std::{fmt, str::FromStr};

use super::{Asked, Field, Record, Stores, combined, haproxy, object};
use crate::limits::LOG_FIRST_LINES;

/// The format of recorded traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A key on each line.
    Keys,
    /// The common or the combined format: nginx, Apache, Ringway's text.
    Combined,
    /// HAProxy's HTTP log.
    HaProxy,
    /// An object on each line: Ringway's JSON, Caddy's, or one with a chosen field.
    Json,
}

/// Not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format {0:?}; there are: keys, combined, haproxy, json")]
pub struct LogFormatError(String);

impl LogFormat {
    const ALL: [LogFormat; 4] = [Self::Keys, Self::Combined, Self::HaProxy, Self::Json];

    /// The format that most of the first lines have; a list of keys if no other has a fifth of them.
    pub(super) fn of(start: &[u8]) -> LogFormat {
        let lines = start.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).take(LOG_FIRST_LINES).collect();
        let fits = |format: LogFormat| {
            let is_read = |line: &&&[u8]| match format {
                // Also one in which nothing is known: keys are no objects.
                LogFormat::Json => object::is_one(line),
                _ => format.read(line, None, &mut Stores::default()).is_ok(),
            };
            lines.iter().filter(is_read).count()
        };
        let others = [Self::Json, Self::HaProxy, Self::Combined].map(|format| (fits(format), format));
        let best = others.into_iter().max_by_key(|(fitting, _)| *fitting);
        best.filter(|(fitting, _)| *fitting > 0 && *fitting * 5 >= lines.len())
            .map_or(Self::Keys, |(_, best)| best)
    }

    /// Understands one line, or says why it can't.
    #[inline]
    pub(super) fn read<'a>(
        self,
        line: &'a [u8],
        field: Option<&Field>,
        stores: &'a mut Stores,
    ) -> Result<Record<'a>, &'static str> {
        match self {
            LogFormat::Keys => Ok(Record { asked: Asked::Key(line), ..Record::default() }),
            LogFormat::Combined => combined::read(line, stores),
            LogFormat::HaProxy => haproxy::read(line, stores),
            LogFormat::Json => object::read(line, field, stores),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Keys => "keys",
            LogFormat::Combined => "combined",
            LogFormat::HaProxy => "haproxy",
            LogFormat::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        let found = Self::ALL.into_iter().find(|format| format.to_string() == text);
        found.ok_or_else(|| LogFormatError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_tell_the_format() {
        let combined = "1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n";
        let haproxy = "1.2.3.4:5 [06/Feb/2009:12:14:14.655] f b/s 0/0/0/0/0 200 1 - - ---- 0/0/0/0/0 0/0 \"GET / HTTP/1.1\"\n";
        for (text, format) in [
            (combined.to_owned(), LogFormat::Combined),
            (format!("\nnot a line\r\n{combined}{combined}"), LogFormat::Combined),
            (haproxy.repeat(2), LogFormat::HaProxy),
            ("{\"path\":\"/a\",\"method\":\"GET\"}\n".to_owned(), LogFormat::Json),
            ("{\"user\":\"a\"}\n".to_owned(), LogFormat::Json),
            (format!("{}{combined}", "/a\n".repeat(9)), LogFormat::Keys),
            (String::new(), LogFormat::Keys),
        ] {
            assert_eq!(LogFormat::of(text.as_bytes()), format, "{text}");
        }
        for format in LogFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("apache".parse::<LogFormat>().is_err());
    }
}
