//! Header fields as places in the bytes of their head, and the names that the proxy must know.
//!
//! Owns classification. Copies nothing: a field is four offsets into bytes that its head keeps.

use std::{io::Write, net::IpAddr};

use super::BodyError;
use crate::limits::LENGTH_MOST;

/// A range of bytes in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes that this names in `head`.
    pub fn of<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.start as usize..self.end as usize]
    }

    /// The span of `part`, which must be a part of `whole`.
    pub(super) fn locate(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len(), "a part lies within the whole");
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name as written.
    pub name: Span,
    /// Its value without the white space around it.
    pub value: Span,
    /// One past the line's end: where the next line starts.
    pub line_end: u32,
    /// Which of the names that matter to a proxy it is.
    pub known: Known,
}

macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The header names that the proxy acts on; all others pass untouched.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Known {
            /// A field that passes as it is.
            Other,
            /// `X-Forwarded`, or one whose name begins with `X-Forwarded-` and that is not among the following. De facto standards.
            XForwarded,
            $($(#[$doc])* $variant,)*
        }

        impl Known {
            /// Finds the name, without regard to case.
            pub fn of(name: &[u8]) -> Known {
                // The length rules nearly all candidates out before a byte is compared.
                $(if name.len() == $text.len() && name.eq_ignore_ascii_case($text.as_bytes()) {
                    return Known::$variant;
                })*
                if is_x_forwarded(name) { Known::XForwarded } else { Known::Other }
            }
        }
    };
}

known! {
    /// RFC 9110 section 7.2.
    Host = "host",
    /// RFC 9110 section 7.6.1.
    Connection = "connection",
    /// RFC 9112 section 6.1.
    TransferEncoding = "transfer-encoding",
    /// RFC 9110 section 8.6.
    ContentLength = "content-length",
    /// RFC 9112 appendix C.2.2.
    KeepAlive = "keep-alive",
    /// Not standard; sent by old clients.
    ProxyConnection = "proxy-connection",
    /// RFC 9110 section 11.7.2: for this hop.
    ProxyAuthorization = "proxy-authorization",
    /// RFC 9110 section 11.7.1: for this hop.
    ProxyAuthenticate = "proxy-authenticate",
    /// RFC 9110 section 10.1.4.
    Te = "te",
    /// RFC 9110 section 7.8.
    Upgrade = "upgrade",
    /// RFC 7540 section 3.2.1; obsolete.
    Http2Settings = "http2-settings",
    /// RFC 9110 section 10.1.1.
    Expect = "expect",
    /// RFC 9110 section 6.6.1.
    Date = "date",
    /// RFC 9110 section 7.6.2.
    MaxForwards = "max-forwards",
    /// RFC 9110 section 7.6.3.
    Via = "via",
    /// RFC 7239.
    Forwarded = "forwarded",
    /// De facto standard.
    XForwardedFor = "x-forwarded-for",
    /// De facto standard.
    XForwardedProto = "x-forwarded-proto",
    /// De facto standard.
    XForwardedHost = "x-forwarded-host",
    /// De facto standard.
    XForwardedPort = "x-forwarded-port",
    /// De facto standard.
    XRealIp = "x-real-ip",
    /// Ours: the subject of the client's certificate.
    XClientCertSubject = "x-client-cert-subject",
    /// De facto standard.
    XRequestId = "x-request-id",
}

impl Known {
    /// Fields that speak to this hop alone and never pass (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::TransferEncoding
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::ProxyAuthorization
                | Known::ProxyAuthenticate
                | Known::Te
                | Known::Upgrade
                | Known::Http2Settings
        )
    }

    /// Whether a name that is none of these becomes one where backends read `_` as `-` (CGI and its heirs, RFC 3875 section
    /// 4.1.18): a way to say past the proxy what it would not let through.
    pub fn is_imitated_by(name: &[u8]) -> bool {
        // Longer than all names but those that are known by their beginning.
        const ENOUGH: usize = 24;
        if memchr::memchr(b'_', name).is_none() {
            return false;
        }
        let mut dashed = [0; ENOUGH];
        let dashed = &mut dashed[..name.len().min(ENOUGH)];
        for (to, from) in dashed.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        Known::of(dashed) != Known::Other
    }
}

fn is_x_forwarded(name: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"x-forwarded";
    match name.split_at_checked(BEGINNING.len()) {
        Some((front @ [b'x' | b'X', ..], rest)) => {
            matches!(rest, [] | [b'-', ..]) && front.eq_ignore_ascii_case(BEGINNING)
        }
        _ => false,
    }
}

/// Whether a field of this name may stand in a trailer section (RFC 9110 section 6.5.1): not if it is about framing, routing,
/// this hop, authentication, how the content is to be read, or what becomes of the message.
pub fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&str; 24] = [
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "trailer",
        "vary",
        "warning",
        "www-authenticate",
    ];
    Known::of(name) == Known::Other
        && !Known::is_imitated_by(name)
        && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

/// Whether all bytes may stand in a token (RFC 9110 section 5.6.2), and there is one.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| TOKEN[b as usize])
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        i += 1;
    }
    table
};

/// Writes an address as text; one of IPv4 in IPv6's clothes as what it is.
pub fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address.to_canonical() {
        // For every request: the formatting machinery would cost ten times as much.
        IpAddr::V4(address) => {
            for (i, octet) in address.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("a vector takes all that is written"),
    }
}

/// Bytes without the optional white space around them (RFC 9110 section 5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = bytes.iter().position(|b| !is_space(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !is_space(b)).map_or(start, |i| i + 1);
    &bytes[start..end]
}

/// The items of a comma-separated list, trimmed, empty ones left out (RFC 9110 section 5.6.1).
pub fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|item| !item.is_empty())
}

/// A `Content-Length` value: digits only, no sign, no list (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8]) -> Result<u64, BodyError> {
    let bad = || BodyError("Content-Length is not a number");
    if value.is_empty() || value.len() > 20 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
    if length > LENGTH_MOST { Err(BodyError("Content-Length is over 2^63 - 1")) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Known::of(b"Transfer-Encoding"), Known::TransferEncoding);
        assert_eq!(Known::of(b"HOST"), Known::Host);
        assert_eq!(Known::of(b"hosts"), Known::Other);
        assert_eq!(Known::of(b"transfer_encoding"), Known::Other);
        assert_eq!(Known::of(b"X-Forwarded-Proto"), Known::XForwardedProto);
        assert_eq!(Known::of(b"X-Forwarded-Prefix"), Known::XForwarded);
        assert_eq!(Known::of(b"x-forwarded"), Known::XForwarded);
        assert_eq!(Known::of(b"x-forwardedly"), Known::Other);
    }

    #[test]
    fn underscores_hide_no_name() {
        for name in [
            "x_forwarded_for",
            "X-Forwarded_Prefix",
            "x_forwarded",
            "x_forwarded-something-that-is-very-long",
        ] {
            assert!(Known::is_imitated_by(name.as_bytes()), "{name}");
        }
        for name in ["x_forward", "x_forwardedly", "x-forwarded-for", "x_client_cert_subject_and_more"] {
            assert!(!Known::is_imitated_by(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        let items: Vec<&[u8]> = list_items(b" a ,, b\t,c").collect();
        assert_eq!(items, [b"a".as_slice(), b"b", b"c"]);
        assert_eq!(list_items(b" , ").count(), 0);
    }

    #[test]
    fn content_length_takes_digits_only() {
        assert_eq!(content_length(b"5").unwrap(), 5);
        assert_eq!(content_length(b"0005").unwrap(), 5);
        assert_eq!(content_length(b"09223372036854775807").unwrap(), i64::MAX as u64);
        for bad in [
            b"".as_slice(),
            b"+5",
            b"-5",
            b"5 ",
            b"0x5",
            b"5,5",
            b"9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"1_0",
        ] {
            assert!(content_length(bad).is_err(), "{bad:?}");
        }
    }
}
