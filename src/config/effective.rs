//! The configuration in force as TOML: what was written and what was filled in, in one canonical form.
//!
//! The reader notes down each value that it hands out; this puts the notes into a document that parses again to the
//! same configuration. Knows no key.

/// A key or table, and what is in it.
pub(super) type Entry = (String, Node);

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Node {
    /// A value, as TOML.
    Value(String),
    /// `[name]`
    Table(Vec<Entry>),
    /// `[[name]]`, once for each.
    Tables(Vec<Vec<Entry>>),
    /// `name = [ { … }, … ]`, a line for each.
    Rows(Vec<Vec<Entry>>),
}

/// The document.
pub(super) fn render(root: &[Entry]) -> String {
    let mut out = String::from("# The configuration in force: every key, with defaults filled in.\n");
    table(&mut out, "", root);
    out
}

/// The same entries for eyes that may not see secrets: the values of headers, which may be credentials, are hidden.
pub(super) fn hide_secrets(entries: &mut [Entry]) {
    for (name, node) in entries {
        match node {
            Node::Value(value) if matches!(name.as_str(), "headers" | "set" | "add") && value != "{}" => {
                *value = "{ hidden = \"hidden\" }".into()
            }
            Node::Value(_) | Node::Rows(_) => {}
            Node::Table(entries) => hide_secrets(entries),
            Node::Tables(tables) => tables.iter_mut().for_each(|entries| hide_secrets(entries)),
        }
    }
}

/// A name as a TOML key.
pub(super) fn bare_or_quoted(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { name.to_owned() } else { super::kind::string(name) }
}

/// The name of what stands under `path`.
pub(super) fn joined(path: &str, name: &str) -> String {
    let name = bare_or_quoted(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn table(out: &mut String, path: &str, entries: &[Entry]) {
    for (name, node) in entries {
        match node {
            Node::Value(value) => out.push_str(&format!("{} = {value}\n", bare_or_quoted(name))),
            Node::Rows(rows) => {
                out.push_str(&format!("{} = [\n", bare_or_quoted(name)));
                rows.iter().for_each(|row| out.push_str(&format!("  {},\n", inline(row))));
                out.push_str("]\n");
            }
            Node::Table(_) | Node::Tables(_) => {}
        }
    }
    for (name, node) in entries {
        let path = joined(path, name);
        match node {
            Node::Table(entries) => {
                // A table of nothing but tables needs no header.
                if entries.iter().any(|(_, node)| matches!(node, Node::Value(_) | Node::Rows(_))) {
                    out.push_str(&format!("\n[{path}]\n"));
                }
                table(out, &path, entries);
            }
            Node::Tables(tables) => {
                for entries in tables {
                    out.push_str(&format!("\n[[{path}]]\n"));
                    table(out, &path, entries);
                }
            }
            Node::Value(_) | Node::Rows(_) => {}
        }
    }
}

fn inline(row: &[Entry]) -> String {
    let pairs: Vec<String> = row
        .iter()
        .filter_map(|(name, node)| match node {
            Node::Value(value) => Some(format!("{} = {value}", bare_or_quoted(name))),
            _ => None,
        })
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}
