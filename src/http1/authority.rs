//! Hosts as requests name them: which are taken for one.
//!
//! Owns the form of an authority without user information. Never looks a name up.

/// Whether this is a host with an optional port, and nothing else (RFC 9110 section 7.2, RFC 3986 section 3.2).
///
/// Of the characters that RFC 3986 allows in a registered name only those are taken that names in use have.
pub fn valid_authority(authority: &[u8]) -> bool {
    let (host, port) = if authority.first() == Some(&b'[') {
        let Some(end) = authority.iter().position(|&b| b == b']') else {
            return false;
        };
        let literal = std::str::from_utf8(&authority[1..end]).unwrap_or("");
        if literal.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (&b"literal"[..], &authority[end + 1..])
    } else {
        let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
        authority.split_at(end)
    };
    let host_is_valid = !host.is_empty() && host.iter().all(|&b| HOST_BYTES[b as usize]);
    let port_is_valid = match port {
        b"" | b":" => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    };
    host_is_valid && port_is_valid
}

/// The bytes of a registered name that need no percent-encoding (RFC 3986 section 3.2.2), without the sub-delimiters.
static HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'~');
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_authorities_are_refused() {
        for good in ["a.example", "a:80", "[::1]", "[::1]:8080", "127.0.0.1:1", "a_b", "a:"] {
            assert!(valid_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "a b", "a/b", "u@a", "a:x", "a:99999", "a:-1", "[::1", "[zz]", "a#b", "a?b", "a\"b", "a,b",
            "[::1]x",
        ] {
            assert!(!valid_authority(bad.as_bytes()), "{bad}");
        }
    }
}
