//! From text to TOML, past mistakes: each syntax error is reported once, and what surrounds it is still read.
//!
//! The TOML parser finds every error but goes out of step after one, so that one missing bracket gives a dozen. Here
//! only the first is believed; its line is blanked out (places stay as they are), and the text is parsed again.
//! Never looks at what keys mean. Start at [`repaired`].

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::finding::{Code, Draft, Findings, Span, floor, quoted};

/// Syntax errors reported in one file at most.
const MAX_ROUNDS: usize = 50;

/// Bytes that a repeated key is overwritten with, one after the other until no other key has the name.
const FILLS: &[u8] = b"-_0123456789";

/// The text with every line that is not TOML blanked out, at the same length; `None` if that does not help. Reports
/// what it blanked.
pub(super) fn repaired(source: &str, findings: &mut Findings) -> Option<String> {
    let mut text = source.to_owned();
    let mut last = None;
    for _ in 0..MAX_ROUNDS {
        let (tree, errors) = DeTable::parse_recoverable(&text);
        let Some(first) = first_of(&errors) else {
            return Some(text);
        };
        findings.holes = true;
        let at = span_of(first).start;
        let renamed = match first.message() {
            "duplicate key" => rename(&text, &span_of(first), findings),
            _ => None,
        };
        text = match (renamed, unclosed(&text, tree.get_ref(), &errors)) {
            (Some(renamed), _) => renamed,
            (None, Some(open)) => close(&text, open, findings),
            // Not past the one before: its line was blanked out, and still there is something wrong with it.
            (None, None) if last.is_some_and(|last| at <= last) => return None,
            (None, None) => {
                report(&text, first, &errors, findings);
                last = Some(at);
                without(&text, at, tree.get_ref(), &errors)
            }
        };
    }
    None
}

fn first_of(errors: &[Error]) -> Option<&Error> {
    errors.iter().min_by_key(|error| span_of(error).start)
}

fn span_of(error: &Error) -> Span {
    error.span().unwrap_or(0..0)
}

/// Where the line of this byte begins and ends, without its line end.
fn line_around(text: &str, at: usize) -> Span {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |after| at + after);
    start..end
}

/// The text with these bytes made blanks, line ends excepted.
fn blanked(text: &str, span: Span) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if span.contains(&at) && c != '\n' {
            (0..c.len_utf8()).for_each(|_| out.push(' '));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a line looks like a table's header; a line of a nested array does not.
fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    line.starts_with('[') && !line.contains([',', '='])
}

/// Whether a line looks like the beginning of something new rather than the inside of a value.
fn is_statement(line: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c);
    is_header(line)
        || line.trim().split_once('=').is_some_and(|(key, _)| !key.is_empty() && key.chars().all(bare))
}

/// The end of the last line that belongs to what begins at `at`: the one before the next line of which `begins`
/// holds.
fn end_before(text: &str, at: usize, begins: fn(&str) -> bool) -> usize {
    let mut line = line_around(text, at);
    while line.end < text.len() {
        let next = line_around(text, line.end + 1);
        if begins(&text[next.clone()]) {
            break;
        }
        line = next;
    }
    line.end
}

/// Says that a key or table stands twice, and gives the second one a name of the same length that no other has, so
/// that what stands under it is read all the same.
fn rename(text: &str, span: &Span, findings: &mut Findings) -> Option<String> {
    let key = text.get(span.clone()).filter(|key| !key.is_empty())?;
    let name = key.trim_matches(['"', '\'']);
    let renamed = FILLS.iter().find_map(|fill| {
        let fill = char::from(*fill).to_string().repeat(span.len());
        let renamed = [&text[..span.start], &fill, &text[span.end..]].concat();
        let (_, errors) = DeTable::parse_recoverable(&renamed);
        (!errors.iter().any(|error| span_of(error) == *span)).then_some(renamed)
    })?;
    let (tree, _) = DeTable::parse_recoverable(&renamed);
    let twin = twin(tree.get_ref(), span, name);
    let line = line_around(text, span.start);
    let draft = match is_header(&text[line.clone()]) {
        true => {
            let header = quoted(text[line].split('#').next().unwrap_or_default().trim());
            let draft = Draft::new(Code::SetTwice, span.clone(), format!("`{header}` is defined twice"));
            match header.starts_with("[[") || !matches!(name, "listeners" | "routes" | "backends") {
                true => draft.help("put everything under one header"),
                false => draft.help(format!("write `[{header}]`, with two brackets, before each of them")),
            }
        }
        false => Draft::new(Code::SetTwice, span.clone(), format!("`{}` is set twice", quoted(name)))
            .help("remove one of the two"),
    };
    findings.push(draft.label("here again").also(twin, "first defined here"));
    findings.excused.push(span.clone());
    Some(renamed)
}

/// Where `name` stands in the table in which the key at `span` stands.
fn twin(table: &DeTable<'_>, span: &Span, name: &str) -> Option<Span> {
    if table.keys().any(|key| key.span() == *span) {
        return table.get_key_value(name).map(|(key, _)| key.span());
    }
    table.values().find_map(|value| twin_in(value, span, name))
}

fn twin_in(value: &Spanned<DeValue<'_>>, span: &Span, name: &str) -> Option<Span> {
    match value.get_ref() {
        DeValue::Table(table) => twin(table, span, name),
        DeValue::Array(items) => items.iter().find_map(|item| twin_in(item, span, name)),
        _ => None,
    }
}

/// The outermost value of several lines that is never closed: it swallows the next statement, or runs into the end.
fn unclosed(text: &str, tree: &DeTable<'_>, errors: &[Error]) -> Option<Span> {
    let at = span_of(first_of(errors)?).start;
    let line = line_around(text, at);
    let begins = text.get(line.start..at).is_some_and(|before| before.trim().is_empty());
    if begins && is_statement(&text[line.clone()]) {
        let swallows = |span: &Span| span.start < line.start && span.end >= at;
        return value_where(tree, &swallows);
    }
    let end = text.trim_end().len();
    let cut = |error: &Error| {
        let message = error.message();
        let open = message.starts_with("unclosed") || message.starts_with("invalid multi-line");
        open && span_of(error).start >= end
    };
    let cut_off =
        |span: &Span| span.end >= end && text.get(span.start..end).is_some_and(|value| value.contains('\n'));
    errors.iter().any(cut).then(|| value_where(tree, &cut_off)).flatten()
}

/// The outermost value, tables with a header excepted, of which this holds.
fn value_where(table: &DeTable<'_>, holds: &dyn Fn(&Span) -> bool) -> Option<Span> {
    table.values().find_map(|value| match value.get_ref() {
        _ if holds(&value.span()) => Some(value.span()),
        DeValue::Table(table) => value_where(table, holds),
        DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
            _ if holds(&item.span()) => Some(item.span()),
            DeValue::Table(table) => value_where(table, holds),
            _ => None,
        }),
        _ => None,
    })
}

/// Reports a value that is never closed and blanks it out, up to what looks like the next statement.
fn close(text: &str, open: Span, findings: &mut Findings) -> String {
    let (what, opening, closing) = match text.get(open.start..).unwrap_or_default() {
        rest if rest.starts_with('[') => ("array", 1, "]"),
        rest if rest.starts_with('{') => ("inline table", 1, "}"),
        rest if rest.starts_with("'''") => ("string", 3, "'''"),
        _ => ("string", 3, "\"\"\""),
    };
    findings.push(
        Draft::new(Code::Syntax, open.start..open.start + opening, format!("not TOML: unclosed {what}"))
            .label(format!("this {what} is never closed"))
            .help(format!("end it with `{closing}`")),
    );
    let start = line_around(text, open.start).start;
    blanked(text, start..end_before(text, open.start, is_statement))
}

/// The text without the line of the error at `at`, or without more, if that alone does not help.
fn without(text: &str, at: usize, tree: &DeTable<'_>, errors: &[Error]) -> String {
    let line = line_around(text, at);
    // A value of several lines, in which the error stands.
    let value = value_where(tree, &|span| span.start < line.start && span.end >= at);
    let smallest = match (&value, is_header(&text[line.clone()])) {
        // Without its header, a table's keys would seem to belong to the table before.
        (None, true) => line.start..end_before(text, at, is_header),
        _ => line.clone(),
    };
    let whole = value.map(|span| line_around(text, span.start).start..line_around(text, span.end).end);
    let extent = whole.clone().unwrap_or(line.clone());
    let inside =
        |errors: &[Error]| errors.iter().filter(|error| extent.contains(&span_of(error).start)).count();
    for span in [Some(smallest), whole].into_iter().flatten() {
        let shorter = blanked(text, span);
        let (_, left) = DeTable::parse_recoverable(&shorter);
        let past = first_of(&left).is_none_or(|next| span_of(next).start > line.end);
        if past && (inside(&left) == 0 || inside(&left) < inside(errors)) {
            return shorter;
        }
    }
    blanked(text, line.start..text.len())
}

/// The word around a byte, as far as one can tell in text that is not TOML.
fn word_around(text: &str, at: usize) -> Span {
    let apart = |c: char| c.is_whitespace() || "=,[]{}#".contains(c);
    let line = line_around(text, at);
    let at = floor(text, at.clamp(line.start, line.end));
    let start = text[line.start..at].rfind(apart).map_or(line.start, |before| line.start + before + 1);
    let end = text[at..line.end].find(apart).map_or(line.end, |after| at + after);
    start..end
}

/// Reports an error in the parser's words, with a remedy for the common ones.
fn report(text: &str, first: &Error, errors: &[Error], findings: &mut Findings) {
    let mut span = span_of(first);
    let line = line_around(text, span.start);
    let left_over = errors.iter().find(|error| {
        error.message().starts_with("unexpected key or value") && line.contains(&span_of(error).start)
    });
    if let Some(rest) = left_over.map(span_of) {
        let draft = match is_statement(text.get(rest.start..line.end).unwrap_or_default()) {
            true => Draft::new(Code::Syntax, rest, "not TOML: two settings on one line")
                .label("the second one")
                .help("give each a line of its own"),
            false => Draft::new(Code::Syntax, rest, "not TOML: unexpected text").label("from here on"),
        };
        findings.push(draft);
        return;
    }
    let message = first.message();
    let (reason, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let mut label = match expected {
        "" | "nothing" | "literal string" => String::new(),
        expected => format!("expected {expected}"),
    };
    if reason == "invalid boolean" || NUMBERS.contains(&reason) {
        span = word_around(text, span.start);
        label.clear();
    }
    let word = text.get(span.clone()).unwrap_or_default();
    let reason = match reason {
        "invalid unquoted key" if word == ":" => {
            label.clear();
            "`:` where `=` belongs"
        }
        "string values must be quoted" if word.is_empty() => "the value is missing",
        // To the parser, `info` begins like `inf` and `no` like `nan`.
        _ if NUMBERS.contains(&reason) && word.starts_with(char::is_alphabetic) => {
            "string values must be quoted"
        }
        _ if matches!(expected, "`\"`" | "`'`") => "unclosed string",
        reason => reason,
    };
    let mut draft = Draft::new(Code::Syntax, span.clone(), format!("not TOML: {reason}")).label(label);
    if let Some(help) = remedy(reason, word) {
        draft = draft.help(help);
    }
    findings.push(draft);
}

/// What to do about an error of the parser's, if one can say.
fn remedy(reason: &str, word: &str) -> Option<String> {
    let help = match (reason, word) {
        (_, "yes" | "no" | "on" | "off" | "True" | "False") | ("invalid boolean", _) => {
            "a boolean is written `true` or `false`; text stands in quotes"
        }
        ("the value is missing", _) => "write a value after the `=`",
        ("string values must be quoted", word) if word.contains(' ') => {
            "put text in quotes, and commas between values"
        }
        ("string values must be quoted", word) => return Some(format!("write `\"{}\"`", quoted(word))),
        ("key with no value" | "invalid unquoted key" | "`:` where `=` belongs", _) => {
            "a setting is written `key = value`"
        }
        ("missing escaped value", _) => "write `\\\\` for a backslash, or put the text in single quotes",
        ("unexpected leading zero", _) => "write the number without zeros in front, or text in quotes",
        (reason, _) if NUMBERS.contains(&reason) => "if this is meant as text, put it in quotes",
        _ => return None,
    };
    Some(help.to_owned())
}

/// What the parser says of words that begin like a number or a date.
const NUMBERS: [&str; 12] = [
    "invalid float",
    "invalid mantissa",
    "invalid fraction",
    "invalid exponent",
    "invalid integer number",
    "invalid hexadecimal number",
    "invalid octal number",
    "invalid binary number",
    "invalid date-time",
    "unexpected leading zero",
    "redundant numeric sign",
    "`_` may only go between digits",
];
