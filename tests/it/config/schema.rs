//! As much of JSON Schema as the configuration's uses, for TOML.

use regex::Regex;
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

/// What a schema has against a TOML text, each with its path.
pub fn faults(schema: &Value, text: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut faults = Vec::new();
    check(schema, &from_table(table.get_ref()), "", &mut faults);
    faults
}

fn from_table(table: &DeTable<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), from_value(value.get_ref())));
    Value::Object(entries.collect::<Map<_, _>>())
}

fn from_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX).into()
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(_) => json!({ "a date": true }),
        DeValue::Array(items) => items.iter().map(|item| from_value(item.get_ref())).collect(),
        DeValue::Table(table) => from_table(table),
    }
}

fn check(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{path}: {what}"));
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "type" => {
                let is = match value {
                    Value::String(_) => "string",
                    Value::Bool(_) => "boolean",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                    Value::Number(number) if number.is_f64() => "number",
                    _ => "integer",
                };
                if rule != is && !(rule == "number" && is == "integer") {
                    fault(format!("{is}, not {rule}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => fault(format!("not one of {rule}")),
            "const" if rule != value => fault(format!("not {rule}")),
            "pattern" => {
                let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    fault(format!("not {rule}"));
                }
            }
            "minimum" if value.as_f64() < rule.as_f64() => fault(format!("below {rule}")),
            "maximum" if value.as_f64() > rule.as_f64() => fault(format!("above {rule}")),
            "minItems"
                if value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().unwrap()) =>
            {
                fault("too short".into());
            }
            "minProperties" if value.as_object().is_some_and(Map::is_empty) => fault("empty".into()),
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            _ => {}
        }
    }
    check_within(schema, value, path, faults);
}

fn check_within(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
        let fits = |alternative: &Value| {
            let mut faults = Vec::new();
            check(alternative, value, path, &mut faults);
            faults.is_empty()
        };
        if !alternatives.iter().any(fits) {
            faults.push(format!("{path}: no alternative fits"));
        }
    }
    if let (Some(items), Some(rule)) = (value.as_array(), schema.get("items")) {
        items.iter().for_each(|item| check(rule, item, &format!("{path}[]"), faults));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if let Some(rule) = schema.get("propertyNames") {
            check(rule, &json!(name), &path, faults);
        }
        match (
            schema.get("properties").and_then(|properties| properties.get(name)),
            schema.get("additionalProperties"),
        ) {
            (Some(rule), _) => check(rule, value, &path, faults),
            (None, Some(Value::Bool(false))) => faults.push(format!("{path}: unknown")),
            (None, Some(rule @ Value::Object(_))) => check(rule, value, &path, faults),
            (None, _) => {}
        }
    }
}
