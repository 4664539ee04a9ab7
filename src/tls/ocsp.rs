//! A stapled OCSP answer (RFC 6960 section 4.2.1), as far as a server needs to understand it: which certificate it is about, what it says, when.
//!
//! Owns which of its fields these are. Checks no signature: clients do, and what they refuse is no better for having been refused here.

use std::time::SystemTime;

use x509_parser::asn1_rs::{Any, Class, FromDer, GeneralizedTime, Tag};

/// An answer that says that the certificate is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// As it goes to clients.
    pub(super) der: Vec<u8>,
    /// From when on it counts.
    pub(super) from: SystemTime,
    /// Until when. `None`: there may be a newer one at any time.
    pub(super) until: Option<SystemTime>,
}

impl Answer {
    /// Reads one about the certificate with this serial number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(der: Vec<u8>, serial: &[u8]) -> Result<Answer, &'static str> {
        let single = singles(&der).ok_or("it is no successful answer as DER")?;
        let serial = significant(serial);
        let mut of_others = false;
        let mut rest = single;
        while !rest.is_empty() {
            let single = Single::take(&mut rest).ok_or("it is no successful answer as DER")?;
            if significant(single.serial) != serial {
                of_others = true;
                continue;
            }
            let (from, until) = (single.from, single.until);
            return match single.status {
                0 => Ok(Answer { from, until, der }),
                1 => Err("it says that the certificate is revoked"),
                _ => Err("it says that the certificate is not known"),
            };
        }
        Err(if of_others { "it is about another certificate" } else { "it is about no certificate" })
    }

    /// Whether its time is now.
    pub(super) fn is_timely(&self, now: SystemTime) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }

    /// Why its time is not now, if it is not.
    pub(super) fn untimely(&self, now: SystemTime) -> Option<String> {
        let shown = humantime::format_rfc3339_seconds;
        match self.until {
            _ if self.is_timely(now) => None,
            Some(until) if until <= now => Some(format!("ended at {}", shown(until))),
            _ => Some(format!("does not begin before {}", shown(self.from))),
        }
    }
}

/// What an answer says about one certificate.
struct Single<'a> {
    serial: &'a [u8],
    /// The tag of the choice: good, revoked or unknown.
    status: u32,
    from: SystemTime,
    until: Option<SystemTime>,
}

impl<'a> Single<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Single<'a>> {
        let mut single = wanted(rest, Tag::Sequence)?;
        let mut about = wanted(&mut single, Tag::Sequence)?;
        wanted(&mut about, Tag::Sequence)?;
        wanted(&mut about, Tag::OctetString)?;
        wanted(&mut about, Tag::OctetString)?;
        let serial = wanted(&mut about, Tag::Integer)?;
        let status = element(&mut single)?.header.tag().0;
        let from = time(&mut single)?;
        let until = match explicit(&mut single) {
            Some(mut until) => Some(time(&mut until)?),
            None => None,
        };
        Some(Single { serial, status, from, until })
    }
}

/// id-pkix-ocsp-basic, the only kind of answer there is.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// The list of what it says about certificates.
fn singles(der: &[u8]) -> Option<&[u8]> {
    let mut all = der;
    let mut outer = wanted(&mut all, Tag::Sequence)?;
    if !all.is_empty() || wanted(&mut outer, Tag::Enumerated)? != [0] {
        return None;
    }
    let mut bytes = wanted(&mut explicit(&mut outer)?, Tag::Sequence)?;
    if wanted(&mut bytes, Tag::Oid)? != BASIC {
        return None;
    }
    let mut answer = wanted(&mut wanted(&mut bytes, Tag::OctetString)?, Tag::Sequence)?;
    let mut data = wanted(&mut answer, Tag::Sequence)?;
    // A version may stand before who answers; both are of no interest here.
    explicit(&mut data);
    element(&mut data)?;
    wanted(&mut data, Tag::GeneralizedTime)?;
    wanted(&mut data, Tag::Sequence)
}

/// Takes the next element.
fn element<'a>(rest: &mut &'a [u8]) -> Option<Any<'a>> {
    let (after, found) = Any::from_der(rest).ok()?;
    *rest = after;
    Some(found)
}

/// The contents of the next element if it has this tag. It is taken in any case.
fn wanted<'a>(rest: &mut &'a [u8], tag: Tag) -> Option<&'a [u8]> {
    element(rest)
        .filter(|found| found.class() == Class::Universal && found.tag() == tag)
        .map(|found| found.data)
}

/// The contents of the next element if it is tagged as `[0] EXPLICIT`; it is taken only then.
fn explicit<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut after = *rest;
    let found = element(&mut after)?;
    let is_it =
        found.class() == Class::ContextSpecific && found.tag() == Tag(0) && found.header.is_constructed();
    is_it.then(|| {
        *rest = after;
        found.data
    })
}

/// Takes a time (RFC 5280 section 4.1.2.5.2).
fn time(rest: &mut &[u8]) -> Option<SystemTime> {
    let (after, found) = GeneralizedTime::from_der(rest).ok()?;
    *rest = after;
    found.utc_datetime().ok().map(SystemTime::from)
}

/// A number's bytes without the zeros before it.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 0x04;
    const INTEGER: u8 = 0x02;
    const ENUMERATED: u8 = 0x0a;
    const OBJECT: u8 = 0x06;
    const TIME: u8 = 0x18;
    const CONTEXT_0: u8 = 0xa0;

    fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = contents.len();
        let mut all = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        all.extend(contents);
        all
    }

    fn single(serial: &[u8], status: &[u8], from: &str, until: Option<&str>) -> Vec<u8> {
        let algorithm = tlv(SEQUENCE, &tlv(OBJECT, &[0x2b, 0x0e, 0x03, 0x02, 0x1a]));
        let about = tlv(
            SEQUENCE,
            &[algorithm, tlv(OCTETS, &[1; 20]), tlv(OCTETS, &[2; 20]), tlv(INTEGER, serial)].concat(),
        );
        let until = until.map(|until| tlv(CONTEXT_0, &tlv(TIME, until.as_bytes()))).unwrap_or_default();
        tlv(SEQUENCE, &[about, status.to_vec(), tlv(TIME, from.as_bytes()), until].concat())
    }

    fn answer(singles: &[Vec<u8>]) -> Vec<u8> {
        let by = tlv(0xa2, &tlv(OCTETS, &[3; 20]));
        let data =
            tlv(SEQUENCE, &[by, tlv(TIME, b"20260101000000Z"), tlv(SEQUENCE, &singles.concat())].concat());
        let basic = tlv(SEQUENCE, &[data, tlv(SEQUENCE, &[]), tlv(0x03, &[0; 65])].concat());
        let bytes = tlv(SEQUENCE, &[tlv(OBJECT, BASIC), tlv(OCTETS, &basic)].concat());
        tlv(SEQUENCE, &[tlv(ENUMERATED, &[0]), tlv(CONTEXT_0, &bytes)].concat())
    }

    const GOOD: &[u8] = &[0x80, 0];

    #[test]
    fn an_answer_counts_for_its_certificate_and_its_time_alone() {
        let (from, until) = ("20260101000000Z", "20260108000000Z");
        let one = single(&[0, 0x81, 7], GOOD, from, Some(until));
        let read = Answer::read(answer(&[single(&[5], GOOD, from, None), one.clone()]), &[0x81, 7]).unwrap();
        let at = |text: &str| humantime::parse_rfc3339(text).unwrap();
        let (begin, end) = (at("2026-01-01T00:00:00Z"), at("2026-01-08T00:00:00Z"));
        assert_eq!((read.from, read.until), (begin, Some(end)));
        let second = Duration::from_secs(1);
        assert_eq!(
            [begin - second, begin, end - second, end].map(|now| read.is_timely(now)),
            [false, true, true, false]
        );
        assert_eq!(read.untimely(end).unwrap(), "ended at 2026-01-08T00:00:00Z");
        assert_eq!(read.untimely(begin - second).unwrap(), "does not begin before 2026-01-01T00:00:00Z");
        assert_eq!(Answer::read(answer(&[one]), &[8]), Err("it is about another certificate"));
        assert_eq!(Answer::read(answer(&[]), &[8]), Err("it is about no certificate"));
        let revoked = tlv(0xa1, &tlv(TIME, from.as_bytes()));
        let revoked = answer(&[single(&[8], &revoked, from, None)]);
        assert_eq!(Answer::read(revoked, &[8]), Err("it says that the certificate is revoked"));
        let unknown = answer(&[single(&[8], &[0x82, 0], from, None)]);
        assert_eq!(Answer::read(unknown, &[8]), Err("it says that the certificate is not known"));
    }

    #[test]
    fn what_is_cut_or_changed_is_no_answer_and_no_panic() {
        let whole = answer(&[single(&[8], GOOD, "20260101000000Z", Some("20260108000000Z"))]);
        assert!(Answer::read(whole.clone(), &[8]).is_ok());
        for cut in 0..whole.len() {
            assert!(Answer::read(whole[..cut].to_vec(), &[8]).is_err(), "{cut}");
        }
        for place in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0x83, 0xff] {
                let mut changed = whole.clone();
                changed[place] = value;
                let _ = Answer::read(changed, &[8]);
            }
        }
        // tryLater, which carries nothing else.
        assert!(Answer::read(tlv(SEQUENCE, &tlv(ENUMERATED, &[3])), &[8]).is_err());
    }

    #[test]
    fn a_stale_answer_is_not_stapled_and_a_wrong_one_is_refused() {
        use crate::tls::{CertificateFiles, ClientAuth, ListenerTls, MinVersion, TlsPolicy};
        let folder = std::env::temp_dir().join(format!("ringway-ocsp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(vec![0x7a, 7].into());
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        let (file, ocsp) = (folder.join("a.pem"), folder.join("a.ocsp"));
        std::fs::write(&file, pem).unwrap();
        let policy = TlsPolicy {
            certificates: vec![CertificateFiles {
                certificate: file.clone(),
                key: file,
                ocsp: Some(ocsp.clone()),
            }],
            min_version: MinVersion::Tls12,
            client_auth: ClientAuth::None,
            client_ca: None,
            handshake_timeout: Duration::from_secs(1),
            offers_http2: true,
            hsts: None,
            acme: None,
        };
        let write = |serial: &[u8], until: &str| {
            std::fs::write(&ocsp, answer(&[single(serial, GOOD, "20200101000000Z", Some(until))])).unwrap();
        };
        let problems = || ListenerTls::problems(&policy).iter().map(ToString::to_string).collect::<Vec<_>>();
        let is_stapled = |tls: &ListenerTls| tls.certificates()[0].pair.ocsp.is_some();

        write(&[0x7a, 7], "20990101000000Z");
        assert_eq!(problems(), Vec::<String>::new());
        let tls = ListenerTls::load(policy.clone()).unwrap();
        assert!(is_stapled(&tls));
        // Its time passes while the proxy runs, and nobody brings another.
        tls.staple(humantime::parse_rfc3339("2099-01-01T00:00:00Z").unwrap());
        assert!(!is_stapled(&tls));
        tls.staple(SystemTime::now());
        assert!(is_stapled(&tls));

        write(&[0x7a, 7], "20210101000000Z");
        assert!(problems()[0].contains("a.ocsp ended at 2021-01-01T00:00:00Z"), "{:?}", problems());
        assert!(!is_stapled(&ListenerTls::load(policy.clone()).unwrap()));

        write(&[0x7a, 8], "20990101000000Z");
        let refused = ListenerTls::load(policy.clone()).unwrap_err().to_string();
        assert!(refused.contains("a.ocsp is not valid: it is about another certificate"), "{refused}");
        assert_eq!(problems(), [refused]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
