//! Who the client is, behind the proxies that the operator trusts.
//!
//! Owns the reading of `X-Forwarded-For` and `Forwarded`. What a stranger says about himself counts for nothing.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use crate::http1::{Known, RequestHead, is_token, list_items, write_address};

/// Which headers tell backends about the client, and are read where a trusted proxy sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingHeaders {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Both. `X-Forwarded-For` is the one that is read.
    Both,
}

impl ForwardingHeaders {
    /// Whether the first kind is written.
    pub(super) fn has_x_forwarded(self) -> bool {
        self != ForwardingHeaders::Forwarded
    }

    /// Whether the second kind is written.
    pub(super) fn has_forwarded(self) -> bool {
        self != ForwardingHeaders::XForwarded
    }
}

impl fmt::Display for ForwardingHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForwardingHeaders::XForwarded => "x-forwarded",
            ForwardingHeaders::Forwarded => "forwarded",
            ForwardingHeaders::Both => "both",
        })
    }
}

/// The networks whose forwarding headers count.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Them.
    pub networks: Vec<IpNet>,
    /// Which headers those are.
    pub headers: ForwardingHeaders,
}

impl TrustedProxies {
    /// Whether this address is one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client's address: the last one that the headers name, read from the right, that is not itself a trusted proxy.
    pub fn client(&self, peer: IpAddr, head: &RequestHead) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contain(peer) {
            return peer;
        }
        if self.headers.has_x_forwarded() {
            let values = head.values(Known::XForwardedFor).rev();
            return self.last_stranger(peer, values, |value| list_items(value).map(read_address).collect());
        }
        self.last_stranger(peer, head.values(Known::Forwarded).rev(), read_forwarded)
    }

    /// Goes from the right through the addresses of these values.
    fn last_stranger<'a>(
        &self,
        mut client: IpAddr,
        values: impl Iterator<Item = &'a [u8]>,
        read: impl Fn(&'a [u8]) -> Vec<Option<IpAddr>>,
    ) -> IpAddr {
        for value in values {
            for address in read(value).into_iter().rev() {
                // What can't be read can't be trusted either: the last address that was known stands.
                let Some(address) = address else {
                    return client;
                };
                client = address;
                if !self.contain(client) {
                    return client;
                }
            }
        }
        client
    }
}

/// The addresses of a `Forwarded` value (RFC 7239 section 4), one for each hop. `None` for a hop that tells none that could be believed;
/// a value that breaks the rules tells nothing at all.
fn read_forwarded(value: &[u8]) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    let mut rest = value;
    loop {
        let mut address = None;
        // Pairs of one hop.
        loop {
            rest = rest.trim_ascii_start();
            let Some(equals) =
                rest.iter().position(|b| matches!(b, b'=' | b',' | b';')).filter(|at| rest[*at] == b'=')
            else {
                // An empty pair, which the grammar allows.
                break;
            };
            let name = &rest[..equals];
            let Some((text, after)) = token_or_quoted(&rest[equals + 1..]) else { return vec![None] };
            if name.eq_ignore_ascii_case(b"for") {
                address = read_address(&text);
            }
            rest = after.trim_ascii_start();
            match rest.strip_prefix(b";") {
                Some(more) => rest = more,
                None => break,
            }
        }
        hops.push(address);
        match rest {
            [] => return hops,
            [b',', more @ ..] => rest = more,
            _ => return vec![None],
        }
    }
}

/// A value and what stands behind it (RFC 9110 section 5.6.4).
fn token_or_quoted(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = bytes.strip_prefix(b"\"") else {
        let end = bytes.iter().position(|b| matches!(b, b',' | b';' | b' ' | b'\t')).unwrap_or(bytes.len());
        let (token, rest) = bytes.split_at(end);
        return is_token(token).then(|| (token.to_vec(), rest));
    };
    let mut text = Vec::new();
    loop {
        match rest {
            [b'"', after @ ..] => return Some((text, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

/// Writes one hop: whom the connection is from, and what was asked for how.
pub(super) fn write_forwarded(out: &mut Vec<u8>, peer: IpAddr, authority: &[u8], secure: bool) {
    match peer.to_canonical() {
        IpAddr::V4(_) => {
            out.extend_from_slice(b"for=");
            write_address(peer, out);
        }
        IpAddr::V6(_) => {
            out.extend_from_slice(b"for=\"[");
            write_address(peer, out);
            out.extend_from_slice(b"]\"");
        }
    }
    if !authority.is_empty() {
        // It has been checked: no quotation mark is in it.
        let quote: &[u8] = if is_token(authority) { b"" } else { b"\"" };
        for part in [b";host=", quote, authority, quote] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(if secure { b";proto=https" } else { b";proto=http" });
}

/// An address, with or without port and brackets, as proxies write it.
fn read_address(item: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(item).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let trusted = TrustedProxies { networks, headers: ForwardingHeaders::Both };
        let client = |peer: &str, forwarded: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes(), 100).unwrap();
            trusted.client(peer.parse().unwrap(), &head).to_string()
        };
        assert_eq!(client("192.0.2.1", "X-Forwarded-For: 1.1.1.1\r\n"), "192.0.2.1");
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\n"), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1:80\r\n"),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2\r\n"), "10.0.0.2");
        assert_eq!(client("::ffff:10.0.0.1", "X-Forwarded-For: [2001:db8::1]\r\n"), "2001:db8::1");
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let trusted = TrustedProxies { networks, headers: ForwardingHeaders::Forwarded };
        let client = |forwarded: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n{forwarded}\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes(), 100).unwrap();
            trusted.client("10.0.0.1".parse().unwrap(), &head).to_string()
        };
        for (value, wanted) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=\"1.1.1.1:80\"; proto=http ;by=x", "1.1.1.1"),
            ("for=\"[2001:db8::1]:1\"", "2001:db8::1"),
            ("for=6.6.6.6, for=1.1.1.1;host=\"a,b;for=7.7.7.7\", for=10.0.0.2", "1.1.1.1"),
            ("for=6.6.6.6, for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
            ("for=6.6.6.6, proto=http", "10.0.0.1"),
            ("for=1.1.1.1, for=\"10.0.0.2", "10.0.0.1"),
            ("for=1.1.1.1 x", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(client(&format!("Forwarded: {value}\r\n")), wanted, "{value}");
        }
        assert_eq!(client("Forwarded: for=1.1.1.1\r\nForwarded: for=10.1.1.1\r\n"), "1.1.1.1");
    }

    #[test]
    fn what_is_written_is_read() {
        for (address, authority) in
            [("192.0.2.1", "a.example:80"), ("2001:db8::1", "a"), ("::ffff:192.0.2.1", "")]
        {
            let address: IpAddr = address.parse().unwrap();
            let mut out = Vec::new();
            write_forwarded(&mut out, address, authority.as_bytes(), true);
            assert_eq!(
                read_forwarded(&out),
                [Some(address.to_canonical())],
                "{}",
                String::from_utf8_lossy(&out)
            );
        }
    }
}
