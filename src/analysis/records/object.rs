//! A line of JSON: Ringway's own log, one with usual names, or one with a field that is the key.
//!
//! Owns the names that are known, and a reader of objects that looks only where it has to. Not a judge of JSON: what it passes over need not be
//! right. Never allocates.

use std::{convert::Infallible, str::FromStr};

use memchr::memchr2;

use super::{
    Asked, Asking, Found, Record, Shown, Stores,
    figures::{self, Escapes, plain},
};
use crate::{limits::LOG_JSON_DEPTH, ring::Place};

/// The field that is the key: names within each other, `request.user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Vec<String>);

impl FromStr for Field {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Field(text.split('.').map(str::to_owned).collect()))
    }
}

/// A value, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    /// What stands between the quotes.
    Text(&'a [u8]),
    /// A number, `true`, `false`.
    Bare(&'a [u8]),
    /// With its braces.
    Object(&'a [u8]),
    /// An array, or `null`.
    Other,
}

impl<'a> Value<'a> {
    fn written(self) -> &'a [u8] {
        match self {
            Value::Text(text) | Value::Bare(text) => text,
            _ => b"",
        }
    }
}

const SECOND: i64 = 1_000_000_000;

/// What was found under a known name, as written.
#[derive(Default)]
struct Known<'a> {
    key: &'a [u8],
    source: &'a [u8],
    method: &'a [u8],
    host: &'a [u8],
    target: &'a [u8],
    line: &'a [u8],
    query: Option<&'a [u8]>,
    client: &'a [u8],
    referer: &'a [u8],
    agent: &'a [u8],
    is_ours: bool,
    /// The key is said to stand there as it is.
    is_plain: bool,
}

impl<'a> Known<'a> {
    /// Takes in a field of the record.
    fn see(&mut self, record: &mut Record<'a>, name: &[u8], value: Value<'a>) {
        let text = value.written();
        match name {
            b"key" => self.key = text,
            b"key_source" => self.source = text,
            b"key_is" => self.is_plain = text == b"plain",
            b"request_id" => self.is_ours = true,
            b"time" | b"@timestamp" | b"timestamp" | b"ts" | b"time_iso8601" | b"time_local" | b"msec" => {
                record.time = text;
            }
            b"status" => record.status = figures::status(text),
            b"sent_bytes" | b"body_bytes_sent" | b"bytes_sent" | b"bytes" | b"size" => {
                record.bytes = figures::number(text);
            }
            b"duration_ms" => record.took = figures::duration(text, SECOND / 1000),
            b"request_time" | b"duration" => record.took = figures::duration(text, SECOND),
            _ => self.see_request(name, text),
        }
    }

    /// Takes in a field of the request.
    fn see_request(&mut self, name: &[u8], text: &'a [u8]) {
        match name {
            b"method" | b"request_method" => self.method = text,
            b"host" | b"http_host" | b"authority" => self.host = text,
            // Where a target and its path are both told, the longer one has the query.
            b"uri" | b"request_uri" | b"url" | b"path" if text.len() > self.target.len() => {
                self.target = text
            }
            b"query" | b"args" | b"query_string" => self.query = Some(text),
            b"request" => self.line = text,
            b"client" | b"remote_addr" | b"remote_ip" | b"client_ip" | b"client_address" => {
                self.client = text
            }
            b"referer" | b"http_referer" => self.referer = text,
            b"user_agent" | b"http_user_agent" => self.agent = text,
            _ => {}
        }
    }
}

/// One line.
pub(super) fn read<'a>(
    line: &'a [u8],
    field: Option<&Field>,
    stores: &'a mut Stores,
) -> Result<Record<'a>, &'static str> {
    let (mut record, mut known) = (Record::default(), Known::default());
    let mut chosen = None;
    each(line, |name, value| {
        if let Some(Field(path)) = field {
            chosen = chosen.or(chase(path, name, value));
        }
        match value {
            Value::Object(inner) if name == b"request" && field.is_none() => {
                // What is wrong inside is passed over: the line as a whole has been read.
                let _ = each(inner, |name, value| known.see_request(name, value.written()));
            }
            _ => known.see(&mut record, name, value),
        }
    })?;
    if field.is_some() {
        record.asked = Asked::Key(plain(chosen.unwrap_or_default(), Escapes::Json, &mut stores.key));
        return Ok(record);
    }
    record.asked = Asked::Request(asking(&known, stores)?);
    Ok(record)
}

/// Whether a line is an object at all.
pub(super) fn is_one(line: &[u8]) -> bool {
    each(line, |_, _| {}).is_ok()
}

fn asking<'a>(known: &Known<'a>, stores: &'a mut Stores) -> Result<Asking<'a>, &'static str> {
    let escapes = if known.is_ours { Escapes::PrintableJson } else { Escapes::Json };
    let mut asking = Asking { method: b"GET", ..Asking::default() };
    match (known.target, known.line) {
        ([], []) => return Err("there is no request in it: name the field with the key (--field)"),
        ([], line) => asking.read_line(plain(line, escapes, &mut stores.target))?,
        (target, _) => asking.read_target(plain(target, escapes, &mut stores.target)),
    }
    if !known.method.is_empty() {
        asking.method = known.method;
    }
    if let (None, Some(query @ [_, ..])) = (asking.query, known.query) {
        asking.query = Some(plain(query, escapes, &mut stores.query));
    }
    if asking.authority.is_empty() {
        asking.authority = plain(known.host, escapes, &mut stores.host);
    }
    asking.client = figures::address(known.client);
    let referer = plain(known.referer, escapes, &mut stores.referer);
    let agent = plain(known.agent, escapes, &mut stores.agent);
    asking.fields = [("referer", referer), ("user-agent", agent)];
    asking.is_ours = known.is_ours;
    if !known.source.is_empty() {
        let place = figures::place(known.key).filter(|_| !known.is_plain);
        let key = match place {
            Some(place) => Shown::Place(Place(place)),
            None if known.key.is_empty() => Shown::Omitted,
            None => Shown::Plain(plain(known.key, escapes, &mut stores.key)),
        };
        asking.found = Some(Found { source: plain(known.source, Escapes::Json, &mut stores.source), key });
    }
    Ok(asking)
}

/// The value at the end of a path, if `name` is its first part.
fn chase<'a>(path: &[String], name: &[u8], value: Value<'a>) -> Option<&'a [u8]> {
    let (first, rest) = path.split_first()?;
    match value {
        _ if name != first.as_bytes() => None,
        Value::Text(text) | Value::Bare(text) if rest.is_empty() => Some(text),
        Value::Object(inner) if !rest.is_empty() => {
            let mut found = None;
            each(inner, |name, value| found = found.or(chase(rest, name, value))).ok()?;
            found
        }
        _ => None,
    }
}

/// Shows all fields of an object, with their names as written.
fn each<'a>(object: &'a [u8], mut see: impl FnMut(&'a [u8], Value<'a>)) -> Result<(), &'static str> {
    const NONE: &str = "it is no object of JSON";
    let mut rest = object.trim_ascii().strip_prefix(b"{").ok_or(NONE)?.trim_ascii_start();
    if rest == b"}" {
        return Ok(());
    }
    loop {
        let (name, after) = string(rest).ok_or(NONE)?;
        let after = after.trim_ascii_start().strip_prefix(b":").ok_or(NONE)?;
        let (value, after) = value(after.trim_ascii_start()).ok_or(NONE)?;
        see(name, value);
        match after.trim_ascii_start() {
            [b',', more @ ..] => rest = more.trim_ascii_start(),
            [b'}'] => return Ok(()),
            _ => return Err(NONE),
        }
    }
}

/// A text in quotes, and what stands after it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', &inner[at..])?;
        if inner[at] == b'"' {
            return Some((&inner[..at], &inner[at + 1..]));
        }
        at += 2;
        if at >= inner.len() {
            return None;
        }
    }
}

fn value(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match text.first()? {
        b'"' => string(text).map(|(inner, rest)| (Value::Text(inner), rest)),
        b'{' => nested(text).map(|end| (Value::Object(&text[..end]), &text[end..])),
        b'[' => nested(text).map(|end| (Value::Other, &text[end..])),
        _ => {
            let end = text.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' '))?;
            let (bare, rest) = text.split_at(end);
            let value = if bare == b"null" { Value::Other } else { Value::Bare(bare) };
            (!bare.is_empty()).then_some((value, rest))
        }
    }
}

/// Where an object or an array ends.
fn nested(text: &[u8]) -> Option<usize> {
    let (mut depth, mut rest) = (0, text);
    loop {
        let at = rest.iter().position(|b| matches!(b, b'{' | b'[' | b'}' | b']' | b'"'))?;
        match rest[at] {
            b'"' => {
                rest = string(&rest[at..])?.1;
                continue;
            }
            b'{' | b'[' => depth += 1,
            _ => depth -= 1,
        }
        rest = &rest[at + 1..];
        if depth == 0 {
            return Some(text.len() - rest.len());
        }
        if depth > LOG_JSON_DEPTH {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ringways_own_json_is_read_with_the_key_that_was_found() {
        let line = br#"{"time":"2026-11-21T10:26:20.655Z","client":"127.0.0.1","method":"PUT","host":"a.example:80","path":"/a\\x22\"","version":"HTTP/1.1","status":200,"pool":"p","backend":null,"owner":"b","reason":"owner","key_source":"header:x-user","key":"00000000000000ff","attempts":1,"repeated":["connect"],"duration_ms":1.250,"first_byte_ms":null,"received_bytes":0,"sent_bytes":5,"request_id":"x"}"#;
        let mut stores = Stores::default();
        let record = read(line, None, &mut stores).unwrap();
        let Asked::Request(asking) = record.asked else { panic!() };
        assert_eq!(
            (asking.method, asking.authority, asking.path),
            (&b"PUT"[..], &b"a.example:80"[..], &b"/a\"\""[..])
        );
        assert_eq!(asking.found, Some(Found { source: b"header:x-user", key: Shown::Place(Place(255)) }));
        let told = (record.status, record.bytes, record.took, record.at());
        assert_eq!(
            told,
            (Some(200), Some(5), Some(Duration::from_micros(1250)), Some(1_795_256_780_655_000_000))
        );
        let marked = br#"{"path":"/","key_source":"header:x","key":"00000000000000ff","key_is":"plain","request_id":"x"}"#;
        let mut stores = Stores::default();
        let Asked::Request(asking) = read(marked, None, &mut stores).unwrap().asked else { panic!() };
        assert_eq!(asking.found.unwrap().key, Shown::Plain(b"00000000000000ff"));
        let plain = br#"{"path":"/","key_source":"path","key":"/\u00e9","request_id":"x"}"#;
        let mut stores = Stores::default();
        let Asked::Request(asking) = read(plain, None, &mut stores).unwrap().asked else { panic!() };
        assert_eq!(asking.found.unwrap().key, Shown::Plain("/é".as_bytes()));
    }

    #[test]
    fn other_programs_json_is_read() {
        for line in [
            r#"{"ts":1795256780.5,"request":{"remote_ip":"10.0.0.9","method":"GET","host":"h","uri":"/a?b=1","headers":{"A":["{"]}},"duration":0.25,"size":3,"status":200}"#,
            r#"{"msec":"1795256780.500","remote_addr":"10.0.0.9","request":"GET /a?b=1 HTTP/1.1","http_host":"h","request_time":0.250,"body_bytes_sent":"3","status":"200"}"#,
            r#"{ "@timestamp" : 1795256780500, "client_ip":"10.0.0.9", "path":"/a", "query":"b=1","host":"h", "duration_ms":250, "bytes":3, "status" : 200 , "tags":[1,{"a":"]"}] }"#,
        ] {
            let mut stores = Stores::default();
            let record = read(line.as_bytes(), None, &mut stores).unwrap();
            let Asked::Request(asking) = record.asked else { panic!() };
            assert_eq!(
                (asking.authority, asking.path, asking.query),
                (&b"h"[..], &b"/a"[..], Some(&b"b=1"[..])),
                "{line}"
            );
            assert_eq!(asking.client, Some("10.0.0.9".parse().unwrap()));
            let told = (record.status, record.bytes, record.took, record.at());
            assert_eq!(
                told,
                (Some(200), Some(3), Some(Duration::from_millis(250)), Some(1_795_256_780_500_000_000))
            );
        }
    }

    #[test]
    fn a_chosen_field_is_the_key() {
        let key = |line: &str, field: &str| -> Result<String, &'static str> {
            let mut stores = Stores::default();
            let field = field.parse().unwrap();
            match read(line.as_bytes(), Some(&field), &mut stores)?.asked {
                Asked::Key(key) => Ok(String::from_utf8(key.to_vec()).unwrap()),
                Asked::Request(_) => panic!(),
            }
        };
        let line = r#"{"a":{"b":{"user":"\u0041b"},"n":17},"user":null,"x":[{"user":"no"}]}"#;
        for (field, wanted) in
            [("a.b.user", "Ab"), ("a.n", "17"), ("user", ""), ("a.b", ""), ("a.b.user.c", "")]
        {
            assert_eq!(key(line, field), Ok(wanted.to_owned()), "{field}");
        }
        for bad in [
            "",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1]",
            "{\"a\":\"x}",
            "{\"a\":{\"b\":1}",
            "{\"a\":1} x",
        ] {
            assert!(key(bad, "a").is_err(), "{bad}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        assert!(key(&deep, "a").is_err());
    }
}
