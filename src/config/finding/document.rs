//! The file as text: lines, columns, and places that can always be drawn.

use std::ops::Range;

use super::Span;

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bytes, within one line and on character boundaries.
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// The file as text, with its name for messages.
#[derive(Debug)]
pub(in crate::config) struct Document {
    name: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Document {
    pub(in crate::config) fn new(name: &str, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text: text.into(), lines }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::config) fn text(&self) -> &str {
        &self.text
    }

    /// The index of the line that holds this byte.
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// A line without its end.
    pub(super) fn line(&self, index: usize) -> Span {
        let start = self.lines.get(index).copied().unwrap_or(self.text.len());
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let end = if self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    /// The place of a span, cut to its first line. Whatever the span, the place is one that can be drawn.
    pub(super) fn place(&self, span: Span) -> Place {
        let mut start = floor(&self.text, span.start);
        if start == self.text.len() && self.text.ends_with('\n') {
            // The end of the file is shown at the end of its last line.
            start = self.line(self.lines.len().saturating_sub(2)).end;
        }
        let index = self.line_of(start);
        let line = self.line(index);
        let start = start.min(line.end);
        let end = floor(&self.text, span.end).clamp(start, line.end);
        Place { span: start..end, line: index + 1, column: self.text[line.start..start].chars().count() + 1 }
    }
}

/// The nearest character boundary at or before.
pub(in crate::config) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
