//! The subject of a client's certificate as text (RFC 4514), for a header field.
//!
//! Owns the escaping: two subjects that differ are two texts, and no value can pass for another attribute. Never judges a certificate.

use std::fmt::Write as _;

use x509_parser::{
    asn1_rs::{Any, Tag, ToDer},
    prelude::{AttributeTypeAndValue, FromDer, X509Certificate},
};

/// The subject of a certificate as OpenSSL and nginx (`$ssl_client_s_dn`) write it: by RFC 4514, the last attribute first, in printable
/// ASCII. `None` if it is empty, or if this is no certificate.
pub fn subject_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let attributes: Vec<Vec<_>> = certificate.subject().iter_rdn().map(|rdn| rdn.iter().collect()).collect();
    let mut text = String::new();
    for set in attributes.iter().rev() {
        for (i, attribute) in set.iter().rev().enumerate() {
            if !text.is_empty() {
                text.push(if i == 0 { ',' } else { '+' });
            }
            write_attribute(&mut text, attribute);
        }
    }
    (!text.is_empty()).then_some(text)
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    match (short_name(&kind), characters(value)) {
        (Some(name), Some(value)) => {
            text.push_str(name);
            text.push('=');
            write_value(text, &value);
        }
        // Section 2.4: what has no short name, or is no string, is written as its encoding.
        (name, _) => {
            text.push_str(name.unwrap_or(&kind));
            text.push_str("=#");
            for byte in value.to_der_vec().unwrap_or_default() {
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
}

/// Section 3, and what OpenSSL knows beside it.
fn short_name(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.46" => "dnQualifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// A string in any of the forms that certificates have.
fn characters(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        Tag::TeletexString => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|unit| Some(u16::from_be_bytes(unit.try_into().ok()?)));
            String::from_utf16(&units.collect::<Option<Vec<_>>>()?).ok()
        }
        Tag::UniversalString => {
            let units = bytes.chunks(4).map(|unit| char::from_u32(u32::from_be_bytes(unit.try_into().ok()?)));
            units.collect()
        }
        _ => None,
    }
}

/// Section 2.4. Spaces at the ends are written in digits, because white space at the end of a field's value is lost.
fn write_value(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at > 0 && at < last => text.push(' '),
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn subject(attributes: &[(DnType, DnValue)]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().unwrap();
        subject_of(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn no_value_passes_for_another_attribute() {
        let name = |organization: &str, name: &str| {
            let organization = DnValue::Utf8String(organization.into());
            subject(&[
                (DnType::OrganizationName, organization),
                (DnType::CommonName, DnValue::Utf8String(name.into())),
            ])
        };
        for (organization, common, wanted) in [
            ("x", "bob", "CN=bob,O=x"),
            ("x, CN=admin", "bob", "CN=bob,O=x\\, CN=admin"),
            ("x", "bob+UID=1", "CN=bob\\+UID=1,O=x"),
            ("<\"a\">;", "b\\", "CN=b\\\\,O=\\<\\\"a\\\"\\>\\;"),
            ("#0C01", " b c ", "CN=\\20b c\\20,O=\\#0C01"),
            ("%41", "ü\0\n", "CN=\\C3\\BC\\00\\0A,O=%41"),
            (" ", "", "CN=,O=\\20"),
        ] {
            assert_eq!(name(organization, common).as_deref(), Some(wanted));
        }
        assert_eq!(subject(&[]), None);
    }

    #[test]
    fn other_strings_and_unknown_kinds_are_told_apart() {
        let unknown = DnType::CustomDnType(vec![1, 2, 3, 4]);
        let text = |value: &str| DnValue::Utf8String(value.into());
        assert_eq!(subject(&[(unknown, text("ab"))]).as_deref(), Some("1.2.3.4=#0C026162"));
        let wide = DnValue::BmpString("aé".try_into().unwrap());
        assert_eq!(subject(&[(DnType::CommonName, wide)]).as_deref(), Some("CN=a\\C3\\A9"));
    }
}
