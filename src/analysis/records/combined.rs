//! The common and the combined format: nginx, Apache, and Ringway's own text.
//!
//! Owns the order of fields in such a line. `CLIENT - USER [TIME] "REQUEST" STATUS BYTES "REFERER" "AGENT"`, the last two as there are; a
//! host may stand before the client, and the seconds that the answer took, with a point, may come after all. Never allocates.

use memchr::memchr;

use super::{
    Asked, Asking, Record, Stores,
    figures::{self, Escapes, cut, plain},
};

const SECOND: i64 = 1_000_000_000;

/// One line.
pub(super) fn read<'a>(line: &'a [u8], stores: &'a mut Stores) -> Result<Record<'a>, &'static str> {
    let (before, rest) = cut(line, b'[').ok_or("there is no [time] in it")?;
    let (time, rest) = cut(rest, b']').ok_or("there is no end of its [time]")?;
    let rest = rest.strip_prefix(b" \"").ok_or("there is no \"request\" after its time")?;
    let end = closing(rest).ok_or("there is no end of its \"request\"")?;
    let (request, rest) = (&rest[..end], &rest[end + 1..]);
    let mut asking = Asking::default();
    asking.read_line(plain(request, Escapes::Backslash, &mut stores.target))?;
    name_client(before, &mut asking);

    let mut rest = rest.trim_ascii_start();
    let status = figures::status(word(&mut rest));
    let bytes = figures::number(word(&mut rest));
    let referer = plain(quoted(&mut rest), Escapes::Backslash, &mut stores.referer);
    let agent = plain(quoted(&mut rest), Escapes::Backslash, &mut stores.agent);
    asking.fields = [("referer", absent(referer)), ("user-agent", absent(agent))];
    let seconds = word(&mut rest);
    let took = memchr(b'.', seconds).and_then(|_| figures::duration(seconds, SECOND));
    Ok(Record { asked: Asked::Request(asking), time, took, bytes, status })
}

/// `CLIENT - USER`, or a host with its port and then these.
fn name_client<'a>(before: &'a [u8], asking: &mut Asking<'a>) {
    let mut words = before;
    let first = word(&mut words);
    asking.client = figures::address(first);
    if asking.client.is_none()
        && let Some(client) = figures::address(word(&mut words))
    {
        asking.client = Some(client);
        if asking.authority.is_empty() {
            asking.authority = first;
        }
    }
}

/// Takes what stands up to the next space.
fn word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr(b' ', rest).unwrap_or(rest.len());
    let word = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    word
}

/// Takes what stands in quotes, if that comes next.
fn quoted<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some(inner) = rest.strip_prefix(b"\"") else {
        return b"";
    };
    let Some(end) = closing(inner) else {
        return b"";
    };
    *rest = inner[end + 1..].trim_ascii_start();
    &inner[..end]
}

/// Where the text in quotes ends, which a quote behind an odd number of backslashes does not.
fn closing(inner: &[u8]) -> Option<usize> {
    let is_escaped = |at: usize| inner[..at].iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1;
    memchr::memchr_iter(b'"', inner).find(|&at| at == 0 || inner[at - 1] != b'\\' || !is_escaped(at))
}

/// A hyphen stands for nothing.
fn absent(value: &[u8]) -> &[u8] {
    if value == b"-" { b"" } else { value }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asking<'a>(record: &'a Record<'a>) -> &'a Asking<'a> {
        let Asked::Request(asking) = &record.asked else { panic!("{record:?}") };
        asking
    }

    #[test]
    fn nginx_combined_is_read() {
        let line = br#"192.0.2.7 - bob [21/Nov/2026:10:26:20 +0000] "GET /a/b?user=7&x=\x22 HTTP/1.1" 200 612 "-" "curl/8 \"q\"" 0.123"#;
        let mut stores = Stores::default();
        let record = read(line, &mut stores).unwrap();
        let asked = asking(&record);
        assert_eq!(
            (asked.method, asked.path, asked.query),
            (&b"GET"[..], &b"/a/b"[..], Some(&b"user=7&x=\""[..]))
        );
        assert_eq!(asked.client, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(asked.fields, [("referer", &b""[..]), ("user-agent", b"curl/8 \"q\"")]);
        assert_eq!(
            (record.status, record.bytes, record.took),
            (Some(200), Some(612), Some(Duration::from_millis(123)))
        );
        assert_eq!(record.at(), Some(1_795_256_780_000_000_000));
    }

    #[test]
    fn the_common_format_hosts_and_absolute_targets_are_read() {
        let mut stores = Stores::default();
        let line = br#"2001:db8::1 - - [21/Nov/2026:10:26:20 +0000] "GET /x HTTP/2.0" - 0"#;
        let record = read(line, &mut stores).unwrap();
        assert_eq!((asking(&record).path, record.status), (&b"/x"[..], None));
        let mut stores = Stores::default();
        let line = br#"a.example:80 10.0.0.1 - - [21/Nov/2026:10:26:20 +0000] "GET / HTTP/1.1" 200 1"#;
        let record = read(line, &mut stores).unwrap();
        assert_eq!(asking(&record).authority, b"a.example:80");
        assert_eq!(asking(&record).client, Some("10.0.0.1".parse().unwrap()));
        let mut stores = Stores::default();
        let line =
            br#"client.example - - [21/Nov/2026:10:26:20 +0000] "GET HTTP://b.example?q HTTP/1.1" 200 1"#;
        let record = read(line, &mut stores).unwrap();
        let asked = asking(&record);
        assert_eq!(
            (asked.authority, asked.path, asked.query),
            (&b"b.example"[..], &b"/"[..], Some(&b"q"[..]))
        );
        assert_eq!(asked.client, None);
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (line, reason) in [
            (&b"no line at all"[..], "[time]"),
            (br#"1.2.3.4 - - [21/Nov/2026:10:26:20 +0000"#, "end of its [time]"),
            (br#"1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] GET"#, "after its time"),
            (br#"1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] "GET / HT"#, "end of its \"request\""),
            (br#"1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] "-" 400 0"#, "no request"),
            (b"1.2.3.4 - - [21/Nov/2026:10:26:20 +0000] \"\\x16\\x03\\x01 x\" 400 0", "no request"),
        ] {
            let problem = read(line, &mut Stores::default()).unwrap_err();
            assert!(problem.contains(reason), "{problem}");
        }
    }
}
