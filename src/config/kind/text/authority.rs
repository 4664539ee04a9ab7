//! What an authority for certificates (RFC 8555) is told, and where it is.
//!
//! Owns what these texts may be. Asks nobody whether they are right.

use super::{super::quoted, Fault, Text, host_name};

/// A host name that can be proved to an authority by a handshake (RFC 8737).
pub(in crate::config) fn proved_name() -> Text<String> {
    Text {
        noun: "a host name",
        pattern: None,
        parse: |text| match text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            Ok(_) => Err(Fault::new(
                "an authority is asked for host names here, not for IP addresses",
                "write a host name, for example \"example.org\"",
            )),
            Err(_) if text.starts_with('*') => Err(Fault::new(
                "a name with `*` can't be proved by a handshake",
                "name each host, or use a certificate that another tool gets (by dns-01) in `certificates`",
            )),
            Err(_) => (host_name().parse)(text),
        },
        show: String::clone,
    }
}

/// An address for mail, as a URI (RFC 6068).
pub(in crate::config) fn mail() -> Text<String> {
    Text {
        noun: "a URI",
        pattern: Some("^(mailto:.+@.+)?$".into()),
        parse: |text| match text.strip_prefix("mailto:") {
            Some(address) if is_mail(address) => Ok(text.to_owned()),
            None if is_mail(text) => {
                Err(Fault::new("it has no scheme", format!("write \"mailto:{}\"", quoted(text))))
            }
            _ => Err(Fault::new(
                "authorities take addresses for mail alone",
                "write for example \"mailto:admin@example.org\"",
            )),
        },
        show: String::clone,
    }
}

fn is_mail(text: &str) -> bool {
    let is_plain = text.chars().all(|c| c.is_ascii_graphic() && c != ':');
    is_plain && text.split_once('@').is_some_and(|(who, at)| !who.is_empty() && !at.is_empty())
}

/// Where something is had by https.
pub(in crate::config) fn secure_url() -> Text<String> {
    Text {
        noun: "a URL",
        pattern: Some("^[hH][tT][tT][pP][sS]://".into()),
        parse: |text| match text.parse::<hyper::Uri>() {
            Ok(url)
                if url.scheme_str() == Some("https") && url.host().is_some_and(|host| !host.is_empty()) =>
            {
                Ok(text.to_owned())
            }
            Ok(url) if url.scheme_str() == Some("http") => {
                Err(Fault::new("it is not https", "RFC 8555 section 6.1 has authorities speak https alone"))
            }
            _ => Err(Fault::new(
                "it is no URL that begins with `https://`",
                "write for example \"https://acme-v02.api.letsencrypt.org/directory\"",
            )),
        },
        show: String::clone,
    }
}
