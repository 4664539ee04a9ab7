//! What numbers, times, addresses and escapes look like in logs.
//!
//! Owns these forms, without a regular expression among them. Never decides what a field means.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use memchr::memchr;

const NANOS: i64 = 1_000_000_000;

/// What stands before and after the first of these bytes.
pub(super) fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let found = memchr(at, text)?;
    Some((&text[..found], &text[found + 1..]))
}

/// A number without sign. `None` also if it is too large.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let digit = |sum: u64, &b: &u8| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0'));
    text.iter().try_fold(0, digit)
}

/// A status code; 0 and what is none means that there was no answer.
pub(super) fn status(text: &[u8]) -> Option<u16> {
    number(text).and_then(|code| u16::try_from(code).ok()).filter(|code| (100..1000).contains(code))
}

/// A decimal number of this many nanoseconds.
pub(super) fn duration(text: &[u8], unit: i64) -> Option<Duration> {
    Some(Duration::from_nanos(decimal(text, unit)?.try_into().ok()?))
}

/// A decimal without sign, times `unit`.
fn decimal(text: &[u8], unit: i64) -> Option<i64> {
    let (whole, fraction) = cut(text, b'.').unwrap_or((text, b"0"));
    let whole = i64::try_from(number(whole)?).ok()?;
    let fraction = &fraction[..fraction.len().min(12)];
    let scale = 10_i64.pow(u32::try_from(fraction.len()).ok()?);
    // In 128 bits: twelve decimals of an hour in nanoseconds are more than 64 hold.
    let part = i128::from(number(fraction)?) * i128::from(unit) / i128::from(scale);
    whole.checked_mul(unit)?.checked_add(i64::try_from(part).ok()?)
}

/// An address. IPv4 is read by hand: it stands in every line of most logs.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let v4 = || {
        let mut octets = [0; 4];
        let mut parts = text.split(|&b| b == b'.');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() <= 3)?;
            *octet = u8::try_from(number(part)?).ok()?;
        }
        parts.next().is_none().then(|| IpAddr::from(Ipv4Addr::from(octets)))
    };
    if text.len() <= 15
        && let Some(found) = v4()
    {
        return Some(found);
    }
    memchr(b':', text)?;
    str::from_utf8(text).ok()?.trim_matches(['[', ']']).parse().ok()
}

/// A time in nanoseconds since 1970 UTC: `21/Nov/2026:10:26:20 +0000`, with or without a fraction and zone; `2026-11-21T10:26:20.5Z`; or
/// seconds, or milliseconds, as a number.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    match (text.get(2), text.get(4)) {
        (Some(b'/'), _) => {
            let month = MONTHS.iter().position(|name| text.get(3..6) == Some(*name))?;
            let date = days(pair(text, 7)? * 100 + pair(text, 9)?, month as i64 + 1, pair(text, 0)?);
            clock(date, text.get(12..)?)
        }
        (_, Some(b'-')) => {
            let date = days(pair(text, 0)? * 100 + pair(text, 2)?, pair(text, 5)?, pair(text, 8)?);
            clock(date, text.get(11..)?)
        }
        _ => {
            // Nobody's log is of the year 5138, so what would be is in milliseconds.
            let unit = if number(text.split(|&b| b == b'.').next()?)? > 99_999_999_999 {
                NANOS / 1000
            } else {
                NANOS
            };
            decimal(text, unit)
        }
    }
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Two digits.
fn pair(text: &[u8], at: usize) -> Option<i64> {
    number(text.get(at..at + 2)?).map(|number| number as i64)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that a leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `10:26:20`, a fraction, a zone.
fn clock(date: i64, text: &[u8]) -> Option<i64> {
    let seconds = date * 86_400 + pair(text, 0)? * 3600 + pair(text, 3)? * 60 + pair(text, 6)?;
    let rest = text.get(8..).unwrap_or_default();
    let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(end);
    let fraction = match fraction {
        [b'.', digits @ ..] if !digits.is_empty() => {
            let digits = &digits[..digits.len().min(9)];
            number(digits)? as i64 * 10_i64.pow(9 - digits.len() as u32)
        }
        _ => 0,
    };
    let east = match zone.trim_ascii() {
        [sign @ (b'+' | b'-'), zone @ ..] => {
            // ISO 8601 allows hours alone.
            let minutes = if zone.len() > 2 { pair(zone, zone.len() - 2)? } else { 0 } + pair(zone, 0)? * 60;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => 0,
    };
    (seconds - east * 60).checked_mul(NANOS)?.checked_add(fraction)
}

/// How a format writes bytes that it can't write as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Escapes {
    /// `\x22`, `\"`, `\\`, `\n`: nginx, Apache, Ringway.
    Backslash,
    /// `#22`: HAProxy.
    Hash,
    /// `\"`, `\u0022`: JSON.
    Json,
    /// `\\x22`: Ringway's JSON, made printable before it was made JSON.
    PrintableJson,
}

/// The bytes that were meant. They stand in `store` if they are not those that were written.
pub(super) fn plain<'a>(written: &'a [u8], escapes: Escapes, store: &'a mut Vec<u8>) -> &'a [u8] {
    let sign = if escapes == Escapes::Hash { b'#' } else { b'\\' };
    let Some(mut next) = memchr(sign, written) else {
        return written;
    };
    store.clear();
    let mut rest = written;
    loop {
        let (before, after) = (&rest[..next], &rest[next + 1..]);
        store.extend_from_slice(before);
        let used = match escapes {
            Escapes::Hash => byte(after, 0, store),
            Escapes::PrintableJson if after.starts_with(b"\\x") => byte(after, 2, store),
            _ => letter(after, store),
        };
        if used == 0 {
            store.push(sign);
        }
        rest = &after[used..];
        match memchr(sign, rest) {
            Some(at) => next = at,
            None => break,
        }
    }
    store.extend_from_slice(rest);
    store
}

/// Two hexadecimal digits from `at` on. How much was read, 0 if there are none.
fn byte(text: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    match hex(text.get(at..at + 2)) {
        Some(byte) => {
            out.push(byte as u8);
            at + 2
        }
        None => 0,
    }
}

/// What follows a backslash. How much was read, 0 if it means nothing.
fn letter(text: &[u8], out: &mut Vec<u8>) -> usize {
    match text {
        [b'x', ..] => byte(text, 1, out),
        [b'u', ..] => match unicode(text) {
            Some((letter, used)) => {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                used
            }
            None => 0,
        },
        [mark @ (b'"' | b'\\' | b'/' | b'\''), ..] => {
            out.push(*mark);
            1
        }
        [mark, ..] => match b"btnvfr".iter().position(|b| b == mark) {
            Some(at) => {
                out.push(b"\x08\t\n\x0b\x0c\r"[at]);
                1
            }
            None => 0,
        },
        [] => 0,
    }
}

/// `u0041`, or two of them for what lies beyond 16 bits (RFC 8259 section 7). Half a pair is U+FFFD.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let unit = hex(text.get(1..5))?;
    let second = || hex(text.get(5..7).filter(|mark| *mark == b"\\u").and(text.get(7..11)));
    if (0xd800..0xdc00).contains(&unit)
        && let Some(low) = second().filter(|low| (0xdc00..0xe000).contains(low))
    {
        let both = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return Some((char::from_u32(both)?, 11));
    }
    Some((char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 5))
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0, |sum, &b| Some(sum * 16 + char::from(b).to_digit(16)?))
}

/// Sixteen hexadecimal digits in lower case.
pub(super) fn place(text: &[u8]) -> Option<u64> {
    let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.iter().all(is_digit) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let at = 1_795_256_780 * NANOS;
        for text in [
            "21/Nov/2026:10:26:20 +0000",
            "21/Nov/2026:12:26:20 +0200",
            "21/Nov/2026:10:26:20",
            "2026-11-21T10:26:20Z",
            "2026-11-21 05:56:20-04:30",
            "2026-11-21T12:26:20+02",
            "1795256780",
            "1795256780000",
        ] {
            assert_eq!(time(text.as_bytes()), Some(at), "{text}");
        }
        for text in ["21/Nov/2026:10:26:20.655", "2026-11-21T10:26:20.655Z", "1795256780.655"] {
            assert_eq!(time(text.as_bytes()), Some(at + 655_000_000), "{text}");
        }
        assert_eq!(time(b"29/Feb/2024:00:00:00 +0000"), Some(1_709_164_800 * NANOS));
        for text in ["", "-", "yesterday", "21/Nov/2026", "21/Foo/2026:10:26:20", "2026-11-21"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn addresses_and_numbers_are_read() {
        assert_eq!(address(b"192.0.2.1"), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(address(b"[2001:db8::1]"), Some("2001:db8::1".parse().unwrap()));
        for text in [&b"example.org"[..], b"1.2.3", b"1.2.3.256", b"1.2.3.4.5", b"", b"-", b"1234.1.1.1"] {
            assert_eq!(address(text), None);
        }
        assert_eq!(duration(b"0.250", NANOS), Some(Duration::from_millis(250)));
        assert_eq!(duration(b"1.5", NANOS / 1000), Some(Duration::from_micros(1500)));
        assert_eq!(
            (duration(b"-", NANOS), number(b"99999999999999999999"), status(b"000")),
            (None, None, None)
        );
        assert_eq!(place(b"00ff00ff00ff00ff"), Some(0x00ff_00ff_00ff_00ff));
        assert_eq!(place(b"00FF00FF00FF00FF"), None);
    }

    #[test]
    fn escapes_are_undone() {
        let undo = |text: &str, escapes| {
            String::from_utf8_lossy(plain(text.as_bytes(), escapes, &mut Vec::new())).into_owned()
        };
        assert_eq!(undo(r#"/a\x22b\"c\\d\q"#, Escapes::Backslash), r#"/a"b"c\d\q"#);
        assert_eq!(undo("/a#22b#2", Escapes::Hash), "/a\"b#2");
        assert_eq!(undo(r"\u00e9\ud83d\ude00\ud83d!\/\", Escapes::Json), "é😀\u{fffd}!/\\");
        assert_eq!(undo(r#"\\x41\\y\""#, Escapes::PrintableJson), r#"A\y""#);
        assert_eq!(undo("/plain", Escapes::Json), "/plain");
    }
}
