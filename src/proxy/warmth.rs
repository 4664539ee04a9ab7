//! How warm a backend is, by what its answers say.
//!
//! Owns reading that from one header. What follows from it stands in [`crate::fleet`].

use crate::{
    http1::{AnswerHead, Field},
    tally::BackendCells,
};

/// An answer that says that it was a hit, or that it was none. One that says nothing does not count.
pub(super) fn count(header: &str, cells: &BackendCells, input: &[u8], head: &AnswerHead) {
    let is_it = |field: &&Field| field.name.of(input).eq_ignore_ascii_case(header.as_bytes());
    let Some(field) = head.fields().iter().find(is_it) else { return };
    // Of several caches in a row, the one that was asked last stands last.
    let words = field.value.of(input).rsplit(|byte| !byte.is_ascii_alphanumeric());
    let mut verdicts = words.filter_map(|word| match word {
        word if word.eq_ignore_ascii_case(b"hit") => Some(true),
        word if word.eq_ignore_ascii_case(b"miss") => Some(false),
        _ => None,
    });
    if verdicts.next() == Some(true) { cells.hits.bump() } else { cells.misses.bump() }
}
