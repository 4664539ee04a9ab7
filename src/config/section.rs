//! The reader: one table of the file, asked for its keys by name.
//!
//! Each question hands out a value, written or default, and on the way says what is wrong with it, remembers that the
//! key exists, notes the value down for `effective`, and, run over nothing, describes the key. What nobody asked for
//! is unknown. Never knows a key by itself. Start at [`Section`]; tables within the table are in [`tables`].

use toml::de::DeTable;

use super::{
    describe::{self, Description, KeyDefault, TableSchema},
    effective::{Entry, Node, joined},
    finding::{Code, Document, Draft, Findings, Span, quoted},
    kind::{Kind, Raw, Spot},
    suggest,
};

mod tables;

pub(super) use tables::Shape;

/// A value and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    /// Where it is written, if it is.
    pub(super) at: Option<Span>,
    /// Whether the value is what the file says. If what is written is wrong, the default stands in, and nothing more
    /// can be concluded from it.
    pub(super) sound: bool,
}

impl<T> Located<T> {
    /// Whether somebody wrote it.
    pub(super) fn is_written(&self) -> bool {
        self.at.is_some()
    }
}

/// What a section is read from.
#[derive(Clone, Copy)]
enum Body<'a> {
    Nothing,
    Table(&'a DeTable<'a>),
    /// A bare value that stands for a table with this one key.
    Short(&'static str, &'a Raw<'a>),
}

/// Whether the keys that are asked for make sense here.
enum Gate {
    Open,
    /// They need this `key = value`; where something else stands.
    Shut {
        wanted: String,
        at: Option<Span>,
    },
    /// Nobody knows, because that key is wrong.
    Unknown,
}

/// What all sections of one run share.
struct Shared {
    findings: Findings,
    /// Set when the reader runs over nothing to be described.
    description: Option<Description>,
}

/// One table.
pub(super) struct Section<'a> {
    body: Body<'a>,
    /// What to point at when something is missing.
    at: Option<Span>,
    /// For messages: `pools.cache`.
    path: String,
    /// For documentation: `pools.NAME`.
    doc_path: String,
    shared: &'a mut Shared,
    known: Vec<&'static str>,
    gate: Gate,
    written: Vec<Entry>,
    schema: TableSchema,
}

impl<'a> Section<'a> {
    fn new(shared: &'a mut Shared, body: Body<'a>, at: Option<Span>, path: String, doc_path: String) -> Self {
        let (known, written, schema) = (vec![], vec![], TableSchema::default());
        Self { body, at, path, doc_path, shared, known, gate: Gate::Open, written, schema }
    }

    /// Runs a reader over a file.
    pub(super) fn run<R>(
        table: &DeTable<'_>,
        findings: Findings,
        read: impl FnOnce(&mut Section<'_>) -> R,
    ) -> (R, Vec<Entry>, Findings) {
        let end = findings.end();
        let mut shared = Shared { findings, description: None };
        let mut root = Section::new(&mut shared, Body::Table(table), Some(end), String::new(), String::new());
        let result = read(&mut root);
        let (written, _) = root.finish();
        (result, written, shared.findings)
    }

    /// Runs a reader over nothing, for what it asks for.
    pub(super) fn describe(read: impl FnOnce(&mut Section<'_>)) -> (Description, TableSchema) {
        let findings = Findings::new(Document::new("", "").into());
        let mut shared = Shared { findings, description: Some(Description::default()) };
        let mut root = Section::new(&mut shared, Body::Nothing, None, String::new(), String::new());
        read(&mut root);
        let (_, schema) = root.finish();
        (shared.description.unwrap_or_default(), schema)
    }

    /// What to point at for the table as a whole.
    pub(super) fn at(&self) -> Option<Span> {
        self.at.clone()
    }

    /// A key with a default.
    pub(super) fn key<K: Kind>(
        &mut self,
        name: &'static str,
        kind: K,
        default: K::Value,
        doc: &'static str,
    ) -> Located<K::Value> {
        self.note(name, &kind, KeyDefault::Value(kind.literal(&default)), doc);
        let located = match self.read(name, &kind) {
            Some((Some(value), at)) => Located { value, at: Some(at), sound: true },
            Some((None, at)) => Located { value: default, at: Some(at), sound: false },
            None => Located { value: default, at: None, sound: true },
        };
        self.record(name, kind.literal(&located.value));
        located
    }

    /// A key that has to be written; `None` if it is not, or wrong.
    pub(super) fn required<K: Kind>(
        &mut self,
        name: &'static str,
        kind: K,
        doc: &'static str,
    ) -> Option<Located<K::Value>> {
        self.note(name, &kind, KeyDefault::Required, doc);
        let Some((value, at)) = self.read(name, &kind) else {
            self.missing(name, self.at.clone(), format!("`{name}`: {doc}"));
            return None;
        };
        let value = value?;
        self.record(name, kind.literal(&value));
        Some(Located { value, at: Some(at), sound: true })
    }

    /// A key whose default depends on others; `None` if it is not written, or wrong. The caller records what it takes
    /// in its place.
    pub(super) fn derived<K: Kind>(
        &mut self,
        name: &'static str,
        kind: K,
        from: &'static str,
        doc: &'static str,
    ) -> Option<Located<K::Value>> {
        self.note(name, &kind, KeyDefault::Derived(from), doc);
        let (value, at) = self.read(name, &kind)?;
        value.map(|value| Located { value, at: Some(at), sound: true })
    }

    /// Whether a key is written, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// A string exactly as it is written.
    pub(super) fn text_of(&self, name: &str) -> Option<&'a str> {
        self.entry(name).and_then(|(_, raw)| raw.get_ref().as_str())
    }

    /// Notes a value down for `effective`.
    pub(super) fn record(&mut self, name: &str, literal: String) {
        if matches!(self.gate, Gate::Open) {
            self.written.push((name.into(), Node::Value(literal)));
        }
    }

    /// Reads keys that only make sense with certain values of `key`: `wanted`, in words.
    pub(super) fn only_if<T, R>(
        &mut self,
        holds: bool,
        key: (&str, &Located<T>),
        wanted: &str,
        read: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let (name, value) = key;
        self.gate = match (value.sound, holds) {
            (false, _) => Gate::Unknown,
            (true, true) => Gate::Open,
            (true, false) => Gate::Shut { wanted: format!("{name} = {wanted}"), at: value.at.clone() },
        };
        let result = read(self);
        self.gate = Gate::Open;
        result
    }

    fn note<K: Kind>(&mut self, name: &'static str, kind: &K, default: KeyDefault, doc: &'static str) {
        if let Some(description) = &mut self.shared.description {
            self.schema.key(name, kind, &default, doc);
            description.key(joined(&self.doc_path, name), kind, default, doc);
        }
    }

    fn spot(&mut self, name: &'static str) -> Spot<'_> {
        Spot { path: joined(&self.path, name), name, findings: &mut self.shared.findings }
    }

    /// A key's own place and its value, if it is written.
    fn entry(&self, name: &str) -> Option<(Span, &'a Raw<'a>)> {
        match self.body {
            Body::Nothing => None,
            Body::Table(table) => table.get_key_value(name).map(|(key, raw)| (key.span(), raw)),
            Body::Short(key, raw) => (key == name).then(|| (raw.span(), raw)),
        }
    }

    /// The same, if it makes sense here; from now on the key is known.
    fn find(&mut self, name: &'static str) -> Option<(Span, &'a Raw<'a>)> {
        self.known.push(name);
        let (at, raw) = self.entry(name)?;
        if let Gate::Shut { wanted, at: other } = &self.gate {
            let message = format!("`{}` has a meaning only with `{wanted}`", joined(&self.path, name));
            let draft = Draft::new(Code::OtherKind, at, message)
                .help(format!("write `{wanted}`, or remove this key"))
                .also(other.clone(), format!("not `{wanted}`"));
            self.shared.findings.push(draft);
            return None;
        }
        Some((at, raw))
    }

    /// What is written, if anything is, and where; no value if it is wrong.
    fn read<K: Kind>(&mut self, name: &'static str, kind: &K) -> Option<(Option<K::Value>, Span)> {
        let (_, raw) = self.find(name)?;
        Some((kind.read(raw, &mut self.spot(name)), raw.span()))
    }

    /// Reports that something required is not there.
    fn missing(&mut self, name: &str, at: Option<Span>, help: String) {
        if self.shared.description.is_some() {
            return;
        }
        let message = format!("`{}` is missing", joined(&self.path, name));
        // The root has no place of its own.
        let label = if self.path.is_empty() { "the file ends without it" } else { "" };
        let draft = Draft::new(Code::Missing, at, message).label(label).help(help);
        self.shared.findings.missing(draft);
    }

    /// Reports the keys that nobody asked for.
    fn finish(self) -> (Vec<Entry>, TableSchema) {
        if let Body::Table(table) = self.body {
            for key in table.keys() {
                let name = key.get_ref().as_ref();
                if !self.known.contains(&name) && !self.shared.findings.excused.contains(&key.span()) {
                    let message = format!("unknown key `{}`", joined(&self.path, &quoted(name)));
                    let help = self.help_for_unknown(name);
                    self.shared.findings.push(Draft::new(Code::UnknownKey, key.span(), message).help(help));
                }
            }
        }
        (self.written, self.schema)
    }

    fn help_for_unknown(&self, name: &str) -> String {
        // The right key in the wrong table is as common as a slip of the finger.
        let near =
            suggest::nearest(name, self.known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let places = describe::places_of(name);
        let there = match places.as_slice() {
            [one] => Some(format!("`{name}` belongs in {one}")),
            [first, second] => Some(format!("`{name}` belongs in {first} or {second}")),
            _ => None,
        };
        match (near, there) {
            (Some(near), Some(there)) => format!("{near} Or else {there}"),
            (Some(help), None) | (None, Some(help)) => help,
            (None, None) => format!("the keys here are {}", self.known.join(", ")),
        }
    }
}
