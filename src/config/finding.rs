//! What is wrong with a configuration, or doubtful about it: findings with a place, drawn as rustc draws them.
//!
//! Owns [`Finding`], [`ConfigErrors`] and their looks; never decides what is wrong. Start at [`Findings`], which
//! everything that reads the file writes into.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

mod document;

pub use document::Place;
pub(super) use document::{Document, floor};

/// A range of bytes in the file.
pub(super) type Span = Range<usize>;

/// More errors than this are counted, not kept: past it a reader has lost patience, and time must stay bounded.
const MAX_FINDINGS: usize = 100;

macro_rules! codes {
    ($($variant:ident $id:literal $summary:literal,)*) => {
        /// The kind of a finding. Its identifier is stable: a kind may go, but its identifier is not used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $summary] $variant,)* }

        impl Code {
            /// Every code, errors first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The identifier, for example `E003`; warnings begin with `W`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// One sentence on what findings of this kind have in common.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)* }
            }
        }
    };
}

codes! {
    Unreadable "E001" "The file cannot be read.",
    Syntax "E002" "The text is not TOML.",
    SetTwice "E003" "A key or table stands twice.",
    UnknownKey "E004" "There is no such key in this table.",
    WrongType "E005" "The value is of the wrong type.",
    Missing "E006" "Something required is missing.",
    OutOfRange "E007" "The value is too small or too large.",
    NotAChoice "E008" "The value is not one of those allowed.",
    Malformed "E009" "The text cannot be understood.",
    NameTwice "E010" "Two things have one name.",
    ListenTwice "E011" "Two listeners have one address.",
    RouteTwice "E012" "Two routes match the same requests.",
    UnknownPool "E013" "A route leads to a pool that is not there.",
    NoRoute "E014" "There are several pools and no routes.",
    Longer "E015" "A time is longer than the one that it must fit into.",
    NoWeight "E016" "All backends of a pool have weight 0.",
    RingTooLarge "E017" "A pool has too many virtual nodes.",
    TooMany "E018" "There is more of something than can be served.",
    OtherKind "E019" "The key belongs to another kind of health check.",
    NoBody "E020" "A probe looks for text in an answer that has no body.",
    AdminOpen "E021" "The admin listener would be open to the network without a token.",
    NotForUnix "E022" "A Unix socket cannot do this.",
    ProtocolMismatch "E023" "The version of HTTP does not go with another key.",
    NothingReused "W001" "Connections to backends are not reused.",
    Unreached "W002" "No route leads to a pool.",
    Unprobed "W003" "Nothing checks whether backends are up.",
    ForcedNode "W004" "A weight is so small that it is rounded up to one virtual node.",
    AdminReadable "W005" "Anyone who can connect can read the admin listener.",
    TrustsAll "W006" "Every client can claim any address.",
    NoEffect "W007" "The key has no effect.",
    Unverified "W009" "Backends need not prove who they are.",
    AddressTwice "W008" "Two backends of a pool have one address.",
}

impl Code {
    /// Whether findings of this kind let the configuration be used.
    pub fn is_warning(self) -> bool {
        self.id().starts_with('W')
    }
}

/// One thing that is wrong or doubtful.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// What is wrong, in one line, with the key's full path.
    pub message: String,
    /// Where; `None` for what has no place, such as a missing table or an unreadable file.
    pub at: Option<Place>,
    /// What is wrong in few words, for a reader who sees the place. May be empty.
    pub label: String,
    /// The other place, if two are in conflict, with a few words on it.
    pub also: Option<(Place, String)>,
    /// What to do about it.
    pub help: Option<String>,
    document: Arc<Document>,
}

impl Finding {
    /// Draws it over several lines, without a line end after the last.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let level = if self.code.is_warning() { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(self.message.as_str()).id(self.code.id());
        let mut group = Group::with_title(title);
        group = match &self.at {
            Some(place) => group.element(self.snippet(place)),
            None => group.element(Origin::path(self.document.name())),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// By place; what has none comes first.
    fn order(&self) -> Option<usize> {
        self.at.as_ref().map(|place| place.span.start)
    }

    /// The lines from the first place to the last.
    fn snippet(&self, place: &Place) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let other = self.also.as_ref().map_or(place.line, |(other, _)| other.line);
        let (first, last) = (place.line.min(other), place.line.max(other));
        let start = self.document.line(first - 1).start;
        let end = self.document.line(last - 1).end;
        let within = |span: &Span| span.start - start..span.end - start;
        let label = Some(self.label.as_str()).filter(|label| !label.is_empty());
        let snippet = Snippet::source(&self.document.text()[start..end])
            .line_start(first)
            .path(self.document.name())
            .annotation(AnnotationKind::Primary.span(within(&place.span)).label(label));
        match &self.also {
            Some((other, label)) => {
                snippet.annotation(AnnotationKind::Context.span(within(&other.span)).label(label.as_str()))
            }
            None => snippet,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// All that is wrong with a file, in the order of the file. Never empty.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    findings: Vec<Finding>,
    beyond: usize,
    name: String,
}

impl ConfigErrors {
    /// The errors, those without a place first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Draws them all, each with its source line and a caret, and ends with a line that counts them.
    pub fn render(&self, color: bool) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&finding.render(color));
            text.push_str("\n\n");
        }
        let total = self.findings.len() + self.beyond;
        let noun = if total == 1 { "error" } else { "errors" };
        text.push_str(&format!("{}: {total} {noun}", self.name));
        if self.beyond > 0 {
            text.push_str(&format!(", of which the first {} are shown", self.findings.len()));
        }
        text
    }
}

impl ConfigErrors {
    /// What is wrong and where, without the lines of the file: these may hold what is nobody's business.
    pub fn places(&self) -> String {
        let of_one = |finding: &Finding| match &finding.at {
            Some(place) => format!("{}:{}: {}", self.name, place.line, finding.message),
            None => format!("{}: {}", self.name, finding.message),
        };
        self.findings.iter().map(of_one).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

/// A finding in the making.
pub(super) struct Draft {
    code: Code,
    message: String,
    at: Option<Span>,
    label: String,
    also: Option<(Span, String)>,
    help: Option<String>,
}

impl Draft {
    pub(super) fn new(code: Code, at: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, at: at.into(), label: String::new(), also: None, help: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn also(mut self, at: impl Into<Option<Span>>, label: impl Into<String>) -> Self {
        self.also = at.into().map(|at| (at, label.into()));
        self
    }
}

/// What has been found so far in one file.
#[derive(Debug)]
pub(super) struct Findings {
    document: Arc<Document>,
    errors: Vec<Finding>,
    beyond: usize,
    warnings: Vec<Finding>,
    /// Parts of the text had to be left out because they are not TOML: what seems missing may stand there.
    pub(super) holes: bool,
    /// Keys that were renamed because they stand twice; they are not to be reported as unknown.
    pub(super) excused: Vec<Span>,
}

impl Findings {
    pub(super) fn new(document: Arc<Document>) -> Self {
        Self { document, errors: vec![], beyond: 0, warnings: vec![], holes: false, excused: vec![] }
    }

    pub(super) fn push(&mut self, draft: Draft) {
        let kept = if draft.code.is_warning() { &mut self.warnings } else { &mut self.errors };
        if kept.len() >= MAX_FINDINGS {
            self.beyond += usize::from(!draft.code.is_warning());
            return;
        }
        let document = Arc::clone(&self.document);
        kept.push(Finding {
            code: draft.code,
            message: draft.message,
            at: draft.at.map(|span| document.place(span)),
            label: draft.label,
            also: draft.also.map(|(span, label)| (document.place(span), label)),
            help: draft.help,
            document,
        });
    }

    /// The end of the file.
    pub(super) fn end(&self) -> Span {
        let end = self.document.text().len();
        end..end
    }

    /// What stands at a place in the file as the user wrote it.
    pub(super) fn original(&self, span: &Span) -> Option<&str> {
        self.document.text().get(span.clone())
    }

    /// Reports that something is not there, unless it may stand in a part that could not be read.
    pub(super) fn missing(&mut self, draft: Draft) {
        if !self.holes {
            self.push(draft);
        }
    }

    /// The warnings, or the errors if there are any.
    pub(super) fn finish(mut self) -> Result<Vec<Finding>, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(self.into_errors());
        }
        self.warnings.sort_by_key(Finding::order);
        Ok(self.warnings)
    }

    /// The errors, of which there must be at least one.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        debug_assert!(!self.errors.is_empty());
        self.errors.sort_by_key(Finding::order);
        ConfigErrors { findings: self.errors, beyond: self.beyond, name: self.document.name().to_owned() }
    }
}

/// User's text for a message: cut, and with control characters spelled out.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(shown_char).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

fn shown_char(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}
