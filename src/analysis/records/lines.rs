//! Lines of a stream, read by large blocks.
//!
//! Owns one buffer that never grows. A line that is longer than the bound is told as such, and passed over. Never looks into a line.

use std::io::{self, Read};
use std::ops::Range;

use crate::limits::{LOG_BLOCK_BYTES, LOG_LINE_BYTES};

/// The lines of a stream.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    block: Box<[u8]>,
    /// What has been read and not been given out.
    fresh: Range<usize>,
    /// Where in the block the search for the line's end goes on.
    searched: usize,
    number: u64,
    ended: bool,
    /// The rest of a line that was too long is still to come.
    inside_long: bool,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Without its end.
    pub(super) text: &'a [u8],
    /// `false`: it is too long, and this is how it begins.
    pub(super) is_whole: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Lines<R> {
        let block = vec![0; LOG_BLOCK_BYTES].into_boxed_slice();
        Lines { source, block, fresh: 0..0, searched: 0, number: 0, ended: false, inside_long: false }
    }

    /// What the stream begins with, up to a bound. Call it before the first line is taken.
    pub(super) fn first_block(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.fresh.len() < LOG_LINE_BYTES {
            self.fill()?;
        }
        Ok(&self.block[self.fresh.clone()])
    }

    /// The next line. `None`: there are no more.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let (line, is_whole) = loop {
            let unsearched = &self.block[self.searched..self.fresh.end];
            if let Some(at) = memchr::memchr(b'\n', unsearched) {
                let line = self.fresh.start..self.searched + at;
                self.fresh.start = line.end + 1;
                self.searched = self.fresh.start;
                if std::mem::take(&mut self.inside_long) {
                    continue;
                }
                let is_whole = line.len() <= LOG_LINE_BYTES;
                break (line, is_whole);
            }
            self.searched = self.fresh.end;
            let line = self.fresh.clone();
            if self.inside_long {
                self.fresh.start = self.fresh.end;
            } else if line.len() > LOG_LINE_BYTES {
                self.inside_long = true;
                self.fresh.start = self.fresh.end;
                break (line, false);
            }
            if self.ended {
                self.fresh.start = self.fresh.end;
                if line.is_empty() || self.inside_long {
                    return Ok(None);
                }
                break (line, true);
            }
            self.fill()?;
        };
        self.number += 1;
        let text = &self.block[line];
        Ok(Some(Line { number: self.number, text: text.strip_suffix(b"\r").unwrap_or(text), is_whole }))
    }

    /// Reads on, after what is there, which is less than a block.
    fn fill(&mut self) -> io::Result<()> {
        let fresh = self.fresh.clone();
        self.block.copy_within(fresh.clone(), 0);
        self.searched -= fresh.start;
        self.fresh = 0..fresh.len();
        let free = &mut self.block[self.fresh.end..];
        let read = loop {
            match self.source.read(free) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.fresh.end += read;
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in small pieces.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(self.0.len()).min(out.len());
            out[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    fn lines(text: &[u8], piece: usize) -> Vec<Result<Vec<u8>, usize>> {
        let mut lines = Lines::new(Drops(text, piece));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(if line.is_whole { Ok(line.text.to_vec()) } else { Err(line.text.len()) });
            assert_eq!(line.number, all.len() as u64);
        }
        all
    }

    #[test]
    fn lines_are_the_same_however_the_stream_comes() {
        let long = [&b"first\r\n\nx"[..], &[b'y'; LOG_LINE_BYTES], b"\nlast"].concat();
        for piece in [1000, 65_536, usize::MAX] {
            let found = lines(&long, piece);
            assert_eq!(found.len(), 4, "{piece}");
            assert_eq!((&found[0], &found[1]), (&Ok(b"first".to_vec()), &Ok(vec![])));
            assert!(found[2].is_err());
            assert_eq!(found[3], Ok(b"last".to_vec()));
        }
        assert_eq!(lines(b"a\nbc\n", 1), [Ok(b"a".to_vec()), Ok(b"bc".to_vec())]);
        assert!(lines(b"", 1).is_empty());
    }

    #[test]
    fn a_line_longer_than_a_block_is_one_bad_line() {
        let text = [&b"a\n"[..], &vec![b'x'; LOG_BLOCK_BYTES * 2 + 7], b"\nb\n"].concat();
        let found = lines(&text, usize::MAX);
        assert_eq!((found.len(), &found[2]), (3, &Ok(b"b".to_vec())));
        assert!(found[1].is_err());
        let unfinished = vec![b'x'; LOG_BLOCK_BYTES * 2];
        assert_eq!(lines(&unfinished, usize::MAX).len(), 1);
    }
}
