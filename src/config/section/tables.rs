//! Tables within a table: single ones, lists of them, and those whose names the user chooses.

use serde_json::json;
use toml::{
    Spanned,
    de::{DeString, DeValue},
};

use super::{Body, Located, Section};
use crate::config::{
    effective::{Node, joined},
    finding::{Code, Draft, Span, quoted},
    kind::{Kind, Raw, Spot},
};

/// How a list of tables is written.
pub(in crate::config) enum Shape {
    /// `[[name]]`, at least so many.
    Blocks { least: u8 },
    /// Inline tables or bare values that stand for this key; at least one.
    Rows { short: &'static str, example: &'static str },
}

/// The elements of a list of tables.
pub(in crate::config) struct Listed<R> {
    pub(in crate::config) items: Vec<R>,
    /// Whether that is all of them; an element that is no table is left out.
    pub(in crate::config) sound: bool,
}

/// The tables with names of the user's choice.
pub(in crate::config) struct Named<R> {
    pub(in crate::config) tables: Vec<R>,
    /// Names of what is no table.
    pub(in crate::config) broken: Vec<String>,
}

impl<'a> Section<'a> {
    /// A table, which may be left out.
    pub(in crate::config) fn table<R>(
        &mut self,
        name: &'static str,
        doc: &str,
        read: impl FnOnce(&mut Section<'_>) -> R,
    ) -> R {
        let (body, at) = match self.find(name) {
            None => (Body::Nothing, None),
            Some((key, raw)) => match raw.get_ref() {
                DeValue::Table(table) => (Body::Table(table), Some(key)),
                _ => {
                    let help = format!("write `[{}]` and its keys below", joined(&self.path, name));
                    self.spot(name).wrong_type(raw, "a table", Some(help));
                    (Body::Nothing, None)
                }
            },
        };
        let (path, doc_path) = (joined(&self.path, name), joined(&self.doc_path, name));
        let mut section = Section::new(self.shared, body, at, path, doc_path);
        let result = read(&mut section);
        let (written, schema) = section.finish();
        self.written.push((name.into(), Node::Table(written)));
        let mut schema = schema.finish();
        schema["description"] = doc.into();
        self.schema.property(name, schema, false);
        result
    }

    /// A table that means something by being there; `None` if it is not.
    pub(in crate::config) fn optional_table<R>(
        &mut self,
        name: &'static str,
        doc: &str,
        read: impl FnOnce(&mut Section<'_>) -> R,
    ) -> Option<R> {
        match self.find(name) {
            Some((_, raw)) if !matches!(raw.get_ref(), DeValue::Table(_)) => {
                let help = format!("write `[{}]` and its keys below", joined(&self.path, name));
                self.spot(name).wrong_type(raw, "a table", Some(help));
                None
            }
            Some(_) => Some(self.table(name, doc, read)),
            None => {
                if self.shared.description.is_some() {
                    self.table(name, doc, read);
                }
                None
            }
        }
    }

    /// A list of tables; `None` if it is not there, or no list.
    pub(in crate::config) fn tables<R>(
        &mut self,
        name: &'static str,
        shape: Shape,
        doc: &str,
        mut read: impl FnMut(&mut Section<'_>) -> R,
    ) -> Option<Listed<R>> {
        let found = self.find(name);
        let items = self.items(name, &shape, found.clone());
        let (path, doc_path) = (joined(&self.path, name), format!("{}[]", joined(&self.doc_path, name)));
        let count = found.and_then(|(_, raw)| raw.get_ref().as_array()).map_or(0, |array| array.len());
        let mut results = Vec::new();
        let mut written = Vec::new();
        for (body, at) in items.iter().flatten() {
            let mut section = Section::new(self.shared, *body, at.clone(), path.clone(), doc_path.clone());
            results.push(read(&mut section));
            written.push(section.finish().0);
        }
        match shape {
            Shape::Blocks { .. } if written.is_empty() => {}
            Shape::Blocks { .. } => self.written.push((name.into(), Node::Tables(written))),
            Shape::Rows { .. } => self.written.push((name.into(), Node::Rows(written))),
        }
        if self.shared.description.is_some() {
            let mut section = Section::new(self.shared, Body::Nothing, None, path, doc_path);
            read(&mut section);
            let schema = section.finish().1.finish();
            self.describe_list(name, &shape, schema, doc);
        }
        items.map(|_| Listed { sound: results.len() == count, items: results })
    }

    /// The elements of a list of tables, those of a wrong type left out; `None` if there is no list.
    fn items(
        &mut self,
        name: &'static str,
        shape: &Shape,
        found: Option<(Span, &'a Raw<'a>)>,
    ) -> Option<Vec<(Body<'a>, Option<Span>)>> {
        let (least, short, help) = match shape {
            Shape::Blocks { least } => {
                let header = joined(&self.path, name);
                let help = format!("write `[[{header}]]`, with two brackets, before the keys of each");
                (*least, None, help)
            }
            Shape::Rows { short, example } => (1, Some(*short), format!("write `{name} = [{example}]`")),
        };
        let Some((_, raw)) = found else {
            if least > 0 {
                self.missing(name, self.at.clone(), help);
            }
            return None;
        };
        let DeValue::Array(array) = raw.get_ref() else {
            self.spot(name).wrong_type(raw, "a list", Some(help));
            return None;
        };
        if array.len() < usize::from(least) {
            self.spot(name).out_of_range(
                raw.span(),
                "a list that is not empty",
                "this is empty",
                Some(help.clone()),
            );
        }
        let mut items = Vec::new();
        for item in array.iter() {
            match (item.get_ref(), short) {
                (DeValue::Table(table), _) => items.push((Body::Table(table), Some(item.span()))),
                (DeValue::String(_), Some(key)) => items.push((Body::Short(key, item), Some(item.span()))),
                (_, Some(_)) => {
                    self.spot(name).wrong_type(item, "made of strings and tables", Some(help.clone()));
                }
                (_, None) => self.spot(name).wrong_type(item, "made of tables", Some(help.clone())),
            }
        }
        Some(items)
    }

    fn describe_list(&mut self, name: &str, shape: &Shape, table: serde_json::Value, doc: &str) {
        let (items, least) = match shape {
            Shape::Blocks { least } => (table, *least),
            Shape::Rows { short, .. } => (json!({ "anyOf": [table["properties"][*short], table] }), 1),
        };
        let schema = json!({ "type": "array", "items": items, "minItems": least, "description": doc });
        self.schema.property(name, schema, least > 0);
    }

    fn describe_named<K: Kind>(&mut self, name: &str, kind: &K, table: serde_json::Value, doc: &str) {
        let pattern = kind.schema()["pattern"].clone();
        let schema = json!({
            "type": "object",
            "propertyNames": { "pattern": pattern },
            "additionalProperties": table,
            "minProperties": 1,
            "description": doc,
        });
        self.schema.property(name, schema, true);
    }

    /// A table of tables with names of the user's choice, in the order of the file; `None` if it is not there, or no
    /// table.
    pub(in crate::config) fn named<K: Kind<Value = String>, R>(
        &mut self,
        name: &'static str,
        kind: K,
        doc: &str,
        mut read: impl FnMut(&mut Section<'_>, Located<String>) -> R,
    ) -> Option<Named<R>> {
        let found = self.find(name);
        let (path, doc_path) = (joined(&self.path, name), format!("{}.NAME", joined(&self.doc_path, name)));
        if self.shared.description.is_some() {
            let mut section = Section::new(self.shared, Body::Nothing, None, path, doc_path);
            read(&mut section, Located { value: "NAME".into(), at: None, sound: true });
            let table = section.finish().1.finish();
            self.describe_named(name, &kind, table, doc);
            return None;
        }
        let help = format!("write `[{}]` and its keys below", joined(&path, "NAME"));
        let entries = self.entries(name, found, &help)?;
        let (mut tables, mut broken) = (Vec::new(), Vec::new());
        let mut written = Vec::new();
        for (key, raw) in entries {
            let own = self.original_name(key.get_ref(), &key.span());
            let path = joined(&path, &quoted(&own));
            let mut spot = Spot { path: path.clone(), name, findings: &mut self.shared.findings };
            let body = match raw.get_ref() {
                DeValue::Table(table) => Body::Table(table),
                _ => {
                    spot.wrong_type(raw, "a table", Some(help.clone()));
                    broken.push(own);
                    continue;
                }
            };
            let named = Spanned::new(key.span(), DeValue::String(own.as_str().into()));
            let sound = kind.read(&named, &mut spot).is_some();
            let mut section = Section::new(self.shared, body, Some(key.span()), path, doc_path.clone());
            tables.push(read(&mut section, Located { value: own.clone(), at: Some(key.span()), sound }));
            written.push((own, Node::Table(section.finish().0)));
        }
        self.written.push((name.into(), Node::Table(written)));
        Some(Named { tables, broken })
    }

    /// What is in a table that must not be empty, in the order of the file.
    fn entries(
        &mut self,
        name: &'static str,
        found: Option<(Span, &'a Raw<'a>)>,
        help: &str,
    ) -> Option<Vec<(&'a Spanned<DeString<'a>>, &'a Raw<'a>)>> {
        let Some((at, raw)) = found else {
            self.missing(name, self.at.clone(), help.to_owned());
            return None;
        };
        let DeValue::Table(table) = raw.get_ref() else {
            self.spot(name).wrong_type(raw, "a table", Some(help.to_owned()));
            return None;
        };
        if table.is_empty() {
            let message = format!("`{}` has no table in it", joined(&self.path, name));
            self.shared.findings.missing(Draft::new(Code::Missing, at, message).help(help));
        }
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Some(entries)
    }

    /// A key as the user wrote it, even if it was renamed because it stands twice.
    fn original_name(&self, name: &str, at: &Span) -> String {
        let findings = &self.shared.findings;
        let renamed = findings.excused.contains(at).then(|| findings.original(at)).flatten();
        renamed.map_or(name, |name| name.trim_matches(['"', '\''])).to_owned()
    }
}
