//! Who the client is, behind the proxies that the operator trusts.
//!
//! Owns the reading of `X-Forwarded-For`. What a stranger says about himself counts for nothing.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http1::{Known, RequestHead, list_items};

/// The networks whose forwarding headers count.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether this address is one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address: the last one in `X-Forwarded-For`, read from the right, that is not itself a trusted proxy.
    pub fn client(&self, peer: IpAddr, head: &RequestHead) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contain(client) {
            return client;
        }
        for value in head.values(Known::XForwardedFor).rev() {
            let items: Vec<&[u8]> = list_items(value).collect();
            for item in items.into_iter().rev() {
                // What can't be read can't be trusted either: the last address that was known stands.
                let Some(address) = read_address(item) else {
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
        let trusted = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]);
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
}
