//! The PROXY protocol: what a balancer says about a client before the client's own first byte.
//!
//! Owns both of its versions as bytes, strictly, as HAProxy's `proxy-protocol.txt` (2020) describes them. Never reads a socket, and decides
//! nothing about whom to believe: that is [`crate::server`].

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

const SIGNATURE_BYTES: usize = 12;

/// The first bytes of version 2.
const SIGNATURE: &[u8; SIGNATURE_BYTES] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of version 1.
const WORD: &[u8] = b"PROXY ";

/// The longest line of version 1, its end included (section 2.1).
const LINE_BYTES: usize = 107;

/// The most that may follow the fixed part of version 2: addresses, and whatever balancers add.
const REST_BYTES: usize = 2048;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefaceVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Both ends of the connection that a balancer has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// So many bytes at least are missing.
    More(usize),
    /// The balancer speaks for itself, a health check for example, or of something that has no address.
    Own,
    /// It speaks of a client.
    Of(Ends),
}

/// Bytes that are no preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol: {0}")]
pub struct PrefaceError(&'static str);

/// Reads a preface that is all of `bytes`, or the beginning of one. Whoever reads what is missing and no more has
/// nothing to put back.
///
/// # Errors
/// It is none.
pub fn read(bytes: &[u8]) -> Result<Preface, PrefaceError> {
    let of_second = bytes.len().min(SIGNATURE.len());
    let of_first = bytes.len().min(WORD.len());
    let (is_second, is_first) =
        (bytes[..of_second] == SIGNATURE[..of_second], bytes[..of_first] == WORD[..of_first]);
    match bytes.len() {
        _ if !is_first && !is_second => Err(PrefaceError("the first bytes are not its")),
        // Both are longer than that, so that it can be read before it is known which one it is.
        length @ ..SIGNATURE_BYTES => Ok(Preface::More(SIGNATURE_BYTES - length)),
        _ if is_second => read_second(bytes),
        _ => read_first(bytes),
    }
}

fn read_first(bytes: &[u8]) -> Result<Preface, PrefaceError> {
    // The shortest line says UNKNOWN.
    const LEAST: usize = b"PROXY UNKNOWN\r\n".len();
    if bytes.len() < LEAST {
        return Ok(Preface::More(LEAST - bytes.len()));
    }
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        let missing = if bytes.ends_with(b"\r") { 1 } else { 2 };
        if bytes.len() + missing > LINE_BYTES {
            return Err(PrefaceError("the line is too long"));
        }
        return Ok(Preface::More(missing));
    };
    let bad = PrefaceError("the line is not valid");
    let text = std::str::from_utf8(&line[WORD.len()..]).map_err(|_| bad)?;
    // Whatever follows UNKNOWN is to be ignored (section 2.1).
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Preface::Own);
    }
    let mut parts = text.split(' ');
    let mut next = || parts.next().ok_or(bad);
    let (family, source, destination) = (next()?, next()?, next()?);
    let (source_port, destination_port) = (port(next()?).ok_or(bad)?, port(next()?).ok_or(bad)?);
    if parts.next().is_some() {
        return Err(bad);
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let (source, destination) = (address(source).ok_or(bad)?, address(destination).ok_or(bad)?);
    Ok(Preface::Of(Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

/// Digits without a zero in front.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn read_second(bytes: &[u8]) -> Result<Preface, PrefaceError> {
    const FIXED: usize = 16;
    if bytes.len() < FIXED {
        return Ok(Preface::More(FIXED - bytes.len()));
    }
    let (command, family) = (bytes[12], bytes[13]);
    let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command >> 4 != 2 {
        return Err(PrefaceError("the version is not 2"));
    }
    if rest > REST_BYTES {
        return Err(PrefaceError("it is too long"));
    }
    if bytes.len() < FIXED + rest {
        return Ok(Preface::More(FIXED + rest - bytes.len()));
    }
    let addresses = &bytes[FIXED..];
    let short = PrefaceError("it is too short for its addresses");
    match (command & 0xf, family) {
        (0, _) => Ok(Preface::Own),
        // Unspecified, or a Unix socket: nothing that could be somebody's address.
        (1, 0x00 | 0x31) => Ok(Preface::Own),
        (1, 0x11) => ends::<4>(addresses).ok_or(short),
        (1, 0x21) => ends::<16>(addresses).ok_or(short),
        (1, _) => Err(PrefaceError("it is not about a TCP connection")),
        _ => Err(PrefaceError("the command is unknown")),
    }
}

fn ends<const N: usize>(bytes: &[u8]) -> Option<Preface>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let port = |at| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Preface::Of(Ends {
        source: SocketAddr::new(IpAddr::from(*source), port(0)),
        destination: SocketAddr::new(IpAddr::from(*destination), port(2)),
    }))
}

/// Writes a preface about a client, or, with `None`, for oneself.
pub fn write(version: PrefaceVersion, ends: Option<Ends>, out: &mut Vec<u8>) {
    match version {
        PrefaceVersion::V1 => write_first(ends, out),
        PrefaceVersion::V2 => write_second(ends, out),
    }
}

fn write_first(ends: Option<Ends>, out: &mut Vec<u8>) {
    const FITS: &str = "a vector takes every byte";
    let Some((source, destination)) = ends.map(alike) else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).expect(FITS);
}

fn write_second(ends: Option<Ends>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some((source, destination)) = ends.map(alike) else {
        return out.extend_from_slice(&[0x20, 0, 0, 0]);
    };
    out.push(0x21);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, 0, 36]);
            out.extend_from_slice(&sixteen(source));
            out.extend_from_slice(&sixteen(destination));
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Both ends in one family: the one of both if they agree, else IPv6.
fn alike(Ends { source, destination }: Ends) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (from, to) =
        if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (sixteen(from).into(), sixteen(to).into()) };
    (SocketAddr::new(from, source.port()), SocketAddr::new(to, destination.port()))
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn lines_are_read_strictly() {
        let good = [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n", of("192.0.2.1:1", "192.0.2.2:65535")),
            ("PROXY TCP6 2001:db8::1 ::1 0 80\r\n", of("[2001:db8::1]:0", "[::1]:80")),
        ];
        for (text, ends) in good {
            assert_eq!(read(text.as_bytes()), Ok(Preface::Of(ends)), "{text}");
        }
        for text in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 x\r\n"] {
            assert_eq!(read(text.as_bytes()), Ok(Preface::Own), "{text}");
        }
        for text in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNX 1 2 3\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        assert!(read(long.as_bytes()).is_err());
    }

    #[test]
    fn no_more_is_asked_for_than_either_version_has() {
        // 15 bytes can be all of version 1, 16 of version 2.
        assert_eq!(read(b""), Ok(Preface::More(12)));
        assert_eq!(read(b"PROXY UNKNOW"), Ok(Preface::More(3)));
        assert_eq!(read(SIGNATURE), Ok(Preface::More(4)));
    }

    #[test]
    fn binary_ones_are_read_strictly() {
        let mut good = Vec::new();
        write(PrefaceVersion::V2, Some(of("192.0.2.1:1", "192.0.2.2:2")), &mut good);
        let wrong = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            read(&bytes)
        };
        assert!(wrong(12, 0x11).is_err() && wrong(12, 0x22).is_err());
        assert!(wrong(13, 0x12).is_err() && wrong(13, 0x44).is_err());
        assert!(wrong(14, 0xff).is_err());
        assert_eq!(wrong(12, 0x20), Ok(Preface::Own));
        assert_eq!(wrong(13, 0x00), Ok(Preface::Own));
        // Announced too short for its addresses.
        let mut short = good[..16].to_vec();
        (short[14], short[15]) = (0, 0);
        assert!(read(&short).is_err());
        // What follows the addresses is for others.
        let mut longer = good.clone();
        (longer[15], longer[13]) = (15, 0x11);
        longer.extend_from_slice(&[4, 0, 0]);
        assert_eq!(read(&longer), Ok(Preface::Of(of("192.0.2.1:1", "192.0.2.2:2"))));
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
            (any::<[u16; 8]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
        ]
    }

    proptest! {
        /// Read as the reader is told to, it takes exactly the preface, and says what was written.
        #[test]
        fn what_is_written_is_read(source in address(), destination in address(), first in any::<bool>(), own in any::<bool>()) {
            let version = if first { PrefaceVersion::V1 } else { PrefaceVersion::V2 };
            let ends = Ends { source, destination };
            let mut bytes = Vec::new();
            write(version, (!own).then_some(ends), &mut bytes);
            let whole = bytes.len();
            bytes.extend_from_slice(b"\r\nGET / HTTP/1.1\r\n\r\n");
            let mut at = 0;
            let result = loop {
                match read(&bytes[..at]).unwrap() {
                    Preface::More(n) => at += n,
                    other => break other,
                }
            };
            prop_assert_eq!(at, whole);
            match result {
                Preface::Of(read) => {
                    prop_assert_eq!(read.source.ip().to_canonical(), source.ip().to_canonical());
                    prop_assert_eq!(read.destination.ip().to_canonical(), destination.ip().to_canonical());
                    prop_assert_eq!((read.source.port(), read.destination.port()), (source.port(), destination.port()));
                }
                other => prop_assert!(own && other == Preface::Own),
            }
        }

        #[test]
        fn nothing_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), second in any::<bool>()) {
            let mut whole = if second { SIGNATURE.to_vec() } else { WORD.to_vec() };
            whole.extend(bytes);
            if let Ok(Preface::More(n)) = read(&whole) {
                prop_assert!(n > 0);
            }
        }
    }
}
