//! Answers on paper: a block for one, a table or lines of JSON for many.
//!
//! Owns the layout. What comes from outside is escaped, so that no key can speak to a terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use super::super::say_error;
use crate::proxy::explain::{
    Explanation, Part,
    asked::from_hex,
    brief::{Answerer, Brief, Came, Detail, Unanswered},
};

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Human,
    Json,
}

/// Where answers are printed, and how they came out.
pub(super) struct Sheet<W> {
    out: W,
    format: Format,
    /// There is one question.
    is_one: bool,
    /// A running proxy answers.
    is_live: bool,
    /// Rows that wait for the width of their columns.
    rows: Vec<[String; 6]>,
    widths: [usize; 6],
    /// Rows were printed.
    begun: bool,
    line: Vec<u8>,
    /// Questions that were answered, or not.
    questions: u64,
    all_served: bool,
}

const TITLES: [&str; 6] = ["KEY", "POOL", "PLACE", "OWNER", "CHOSEN", "REASON"];

/// No column is made wider than this for the sake of one row.
const WIDEST: usize = 40;

/// Backends that one block lists.
const LISTED: usize = 16;

/// Backends that are listed where nothing is known about them but their order.
const LISTED_OFFLINE: usize = 5;

const FITS: &str = "a string takes all that is written";

impl<W: Write> Sheet<W> {
    pub(super) fn new(out: W, format: Format, is_one: bool, is_live: bool) -> Sheet<W> {
        Sheet {
            out,
            format,
            is_one,
            is_live,
            rows: Vec::new(),
            widths: TITLES.map(str::len),
            begun: false,
            line: Vec::new(),
            questions: 0,
            all_served: true,
        }
    }

    /// Whether somebody would serve each of them.
    pub(super) fn all_served(&self) -> bool {
        self.all_served
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Answers a question from a picture in this process.
    pub(super) fn answer(
        &mut self,
        answerer: &mut Answerer<'_>,
        question: &[u8],
        detail: Detail,
    ) -> io::Result<()> {
        self.questions += 1;
        if self.format == Format::Json && !self.is_one {
            self.line.clear();
            let came = answerer.write(question, detail, &mut self.line);
            self.all_served &= came == Came::Served;
            return self.out.write_all(&self.line);
        }
        match detail {
            Detail::Full => match answerer.full(question) {
                Ok(full) => self.full(&full),
                Err(error) => self.unanswered(&error),
            },
            Detail::Brief => match answerer.brief(question) {
                Ok(brief) => self.brief(&brief),
                Err(error) => self.unanswered(&error),
            },
        }
    }

    /// Takes in an answer that a proxy gave, as a line of JSON.
    ///
    /// # Errors
    /// `InvalidData` if it is none; or it can't be printed.
    pub(super) fn answered(&mut self, line: &[u8], detail: Detail) -> io::Result<()> {
        self.questions += 1;
        if let Ok(Unanswered { error }) = serde_json::from_slice(line) {
            return match (self.format, self.is_one) {
                (Format::Json, false) => self.pass_on(line, false),
                _ => self.unanswered(&error),
            };
        }
        match detail {
            Detail::Full => match serde_json::from_slice::<Explanation>(line) {
                Ok(full) if self.format == Format::Json && !self.is_one => {
                    self.pass_on(line, full.status.is_none())
                }
                Ok(full) => self.full(&full),
                Err(_) => Err(foreign()),
            },
            Detail::Brief => match serde_json::from_slice::<Brief<'_>>(line) {
                Ok(brief) if self.format == Format::Json => self.pass_on(line, brief.status.is_none()),
                Ok(brief) => self.brief(&brief),
                Err(_) => Err(foreign()),
            },
        }
    }

    fn pass_on(&mut self, line: &[u8], is_served: bool) -> io::Result<()> {
        self.all_served &= is_served;
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }

    fn unanswered(&mut self, error: &str) -> io::Result<()> {
        self.all_served = false;
        if self.is_one {
            say_error(&format!("ringway: {error}"));
            return Ok(());
        }
        self.end_of_batch()?;
        writeln!(self.out, "question {}: no answer: {}", self.questions, plain(error))
    }

    fn full(&mut self, full: &Explanation) -> io::Result<()> {
        self.all_served &= full.status.is_none();
        if self.format == Format::Json {
            serde_json::to_writer_pretty(&mut self.out, full)?;
            return self.out.write_all(b"\n");
        }
        let gap = if self.begun { "\n" } else { "" };
        self.begun = true;
        let block = if self.is_live { describe_live(full) } else { describe(full) };
        write!(self.out, "{gap}{block}")
    }

    fn brief(&mut self, brief: &Brief<'_>) -> io::Result<()> {
        self.all_served &= brief.status.is_none();
        let dash = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
        let chosen = match (&brief.chosen, brief.status) {
            (Some(chosen), _) => chosen.to_string(),
            (None, Some(status)) => format!("{status}"),
            (None, None) => "any".into(),
        };
        let key = brief.key.as_deref().map(|key| printable(key, brief.key_hex.as_deref()));
        let key = key.unwrap_or_else(|| "-".into());
        let (place, owner) = (dash(&brief.place_hex), dash(&brief.owner));
        let row = [key, brief.pool.to_string(), place, owner, chosen, brief.reason.to_string()];
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count().min(WIDEST));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the rows that have come, in columns as wide as they need.
    pub(super) fn end_of_batch(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let Sheet { out, rows, widths, begun, .. } = self;
        let [key, pool, place, owner, chosen, _] = *widths;
        let mut print = |[a, b, c, d, e, f]: [&str; 6]| {
            writeln!(out, "{a:key$}  {b:pool$}  {c:place$}  {d:owner$}  {e:chosen$}  {f}")
        };
        if !std::mem::replace(begun, true) {
            print(TITLES)?;
        }
        for row in rows.drain(..) {
            print(row.each_ref().map(|cell| &**cell))?;
        }
        Ok(())
    }
}

fn foreign() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "that is no answer of a proxy's admin listener, or of another version",
    )
}

/// A key as text that no terminal obeys; bytes that are not UTF-8 as `\xNN`.
pub(in crate::cli) fn printable(key: &str, digits: Option<&str>) -> String {
    let Some(bytes) = digits.and_then(|digits| from_hex(digits).ok()) else {
        return key.escape_debug().to_string();
    };
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect(FITS);
        }
    }
    text
}

/// A sentence without characters that a terminal would obey.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn describe_key(out: &mut String, full: &Explanation) {
    if let Some(key) = &full.key {
        let source = full.key_source.as_ref().map(|source| format!(" (from {source})")).unwrap_or_default();
        writeln!(out, "key     {}{source}", printable(key, full.key_hex.as_deref())).expect(FITS);
    }
    if let (Some(place), Some(hex)) = (&full.place, &full.place_hex) {
        writeln!(out, "place   {hex} ({place})").expect(FITS);
    }
}

/// What a file says: the order of the owners.
fn describe(full: &Explanation) -> String {
    let mut out = format!("pool    {}\n", full.pool);
    describe_key(&mut out, full);
    for (at, owner) in full.owners.iter().take(LISTED_OFFLINE).enumerate() {
        let title = if at == 0 { "owner " } else { "then  " };
        writeln!(out, "{title}  {} ({})", owner.backend, owner.address).expect(FITS);
    }
    if full.owners.len() > LISTED_OFFLINE {
        writeln!(out, "        and {} more", full.owners.len() - LISTED_OFFLINE).expect(FITS);
    }
    // Everybody serves: there is nothing to say about a key that has an owner.
    if full.chosen.is_none() {
        writeln!(out, "{}", full.summary).expect(FITS);
    }
    out
}

/// What a proxy says: how each stands, who is chosen, and why.
fn describe_live(full: &Explanation) -> String {
    let mut out = format!("pool    {} (revision {})\n", full.pool, full.revision);
    describe_key(&mut out, full);
    match (&full.chosen, full.status) {
        (Some(chosen), _) => writeln!(out, "chosen  {} ({})", chosen.backend, chosen.reason).expect(FITS),
        (None, Some(status)) => writeln!(out, "chosen  nobody: {status}").expect(FITS),
        (None, None) => writeln!(out, "chosen  any").expect(FITS),
    }
    writeln!(out, "        {}", full.summary).expect(FITS);
    if full.owners.is_empty() {
        return out;
    }
    let widest = |cells: &dyn Fn(&crate::proxy::explain::OwnerExplained) -> usize, title: &str| {
        full.owners.iter().take(LISTED).map(cells).max().unwrap_or(0).max(title.len())
    };
    let name = widest(&|owner| owner.backend.chars().count(), "BACKEND");
    let address = widest(&|owner| owner.address.chars().count(), "ADDRESS");
    writeln!(out, "\n  #  {:name$}  {:address$}  STANDING    IN FLIGHT  WHAT", "BACKEND", "ADDRESS")
        .expect(FITS);
    for (at, owner) in full.owners.iter().take(LISTED).enumerate() {
        let part = match owner.part {
            Part::Chosen => "chosen: ",
            Part::Skipped => "passed over: ",
            Part::Next => "next: ",
            Part::Spare => "",
        };
        writeln!(
            out,
            "{:>3}  {:name$}  {:address$}  {:10}  {:9}  {part}{}",
            at + 1,
            owner.backend,
            owner.address,
            owner.standing.word(),
            owner.in_flight,
            plain(&owner.why)
        )
        .expect(FITS);
    }
    if full.owners.len() > LISTED {
        writeln!(out, "     and {} more", full.owners.len() - LISTED).expect(FITS);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(printable("a\u{fffd}\u{1b}", Some("61ff1b")), "a\\xff\\u{1b}");
        assert_eq!(printable("ä\u{1b}", None), "ä\\u{1b}");
    }
}
