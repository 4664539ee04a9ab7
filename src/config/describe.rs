//! What the configuration can hold, for documentation, editors and help: the list of keys and the JSON Schema.
//!
//! Nothing is listed here by hand: the reader is run once over nothing, and each key that it asks for is noted down.
//! So what is described is what is read.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{kind::Kind, raw, section::Section};

/// What a key has when it is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyDefault {
    /// It has to be written.
    Required,
    /// This value, as TOML.
    Value(String),
    /// Something that depends on other keys, in words.
    Derived(&'static str),
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The whole path: `server.workers`, `listeners[].address`, `pools.NAME.health.interval`.
    pub path: String,
    /// What fits, in words: "an integer, 0 to 1024".
    pub kind: String,
    /// What it has when it is not written.
    pub default: KeyDefault,
    /// What it means, in one or two sentences.
    pub doc: &'static str,
}

/// What a reader that runs over nothing leaves behind.
#[derive(Debug, Default)]
pub(super) struct Description {
    keys: Vec<KeyDoc>,
}

/// The JSON Schema of one table, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct TableSchema {
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl Description {
    /// Notes a key down.
    pub(super) fn key<K: Kind>(&mut self, path: String, kind: &K, default: KeyDefault, doc: &'static str) {
        let bounds = kind.bounds();
        let kind = if bounds.is_empty() { kind.noun() } else { format!("{}, {bounds}", kind.noun()) };
        self.keys.push(KeyDoc { path, kind, default, doc });
    }
}

impl TableSchema {
    /// Adds a key.
    pub(super) fn key<K: Kind>(&mut self, name: &str, kind: &K, default: &KeyDefault, doc: &str) {
        let mut schema = kind.schema();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), doc.into());
            // Default literals are plain ASCII and valid JSON.
            if let KeyDefault::Value(literal) = default
                && let Ok(value) = serde_json::from_str(literal)
            {
                schema.insert("default".into(), value);
            }
        }
        self.property(name, schema, *default == KeyDefault::Required);
    }

    /// Adds anything.
    pub(super) fn property(&mut self, name: &str, schema: Value, required: bool) {
        if required {
            self.required.push(name.into());
        }
        self.properties.insert(name.into(), schema);
    }

    /// The schema of the table; what is not in it is refused.
    pub(super) fn finish(self) -> Value {
        let mut schema = json!({
            "type": "object",
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        schema
    }
}

struct Whole {
    keys: Vec<KeyDoc>,
    schema: Value,
}

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let (description, table) = Section::describe(|root| {
            raw::read(root);
        });
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Ringway configuration",
            "description": "The configuration file of the Ringway reverse proxy. Durations are text such as \"1m30s\".",
        });
        if let (Some(schema), Value::Object(table)) = (schema.as_object_mut(), table.finish()) {
            schema.extend(table);
        }
        Whole { keys: description.keys, schema }
    })
}

/// Every key of the configuration, in the order in which `config show` prints them.
pub fn keys() -> &'static [KeyDoc] {
    &whole().keys
}

/// The headers of the tables that have a key or table of this name.
pub(super) fn places_of(name: &str) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for key in keys() {
        let parts: Vec<&str> = key.path.split('.').collect();
        let at = parts.iter().position(|part| part.trim_end_matches("[]") == name);
        let place = match at.and_then(|at| parts[..at].split_last()) {
            Some((last, above)) => {
                let above: String = above.iter().map(|part| format!("{part}.")).collect();
                match last.strip_suffix("[]") {
                    Some(last) => format!("[[{above}{last}]]"),
                    None => format!("[{above}{last}]"),
                }
            }
            None => continue,
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The JSON Schema (2020-12) of the configuration file: names, types, ranges and defaults. What depends on several
/// keys at once, it cannot say.
pub fn schema() -> Value {
    whole().schema.clone()
}
