//! One certificate: read from its files, checked, and the names that it is for.
//!
//! Owns the decision which certificate is not fit to be served. Keeps no file open.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_rustls::rustls::{
    self,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{CertificateFiles, ocsp::Answer};
use crate::limits::CERTIFICATE_FILE_BYTES;

/// Why a certificate can't be used: the file, what is wrong with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    /// A file can't be read.
    #[error("can't read {}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A file holds nothing of what it should hold.
    #[error("{} holds no {what}; it must be PEM with `-----BEGIN {marker}-----`", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// What is looked for.
        what: &'static str,
        /// How it begins.
        marker: &'static str,
    },
    /// What it holds can't be understood.
    #[error("the {what} in {} is not valid: {error}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is not valid.
        what: &'static str,
        /// Why.
        error: String,
    },
    /// Key and certificate belong to different pairs.
    #[error(
        "the key in {} is not that of the first certificate in {}; give the two that were made together, and the own certificate \
         before those that it is signed by",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
    /// The key is encrypted.
    #[error("the key in {0} is encrypted, and nobody is asked for its passphrase: `openssl pkey -in {0} -out FILE` makes one that is not", file.display())]
    Encrypted {
        /// The file.
        file: PathBuf,
    },
    /// The file is none that certificates are in.
    #[error("{} {what}", file.display())]
    NoSuchFile {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Its time is over, or has not come.
    #[error("the certificate in {} {when}; renew it", file.display())]
    Untimely {
        /// The file.
        file: PathBuf,
        /// When it ended, or will begin.
        when: String,
    },
    /// The time of an OCSP answer is over, or has not come.
    #[error("the OCSP answer in {} {when}; get a new one", file.display())]
    Stale {
        /// The file.
        file: PathBuf,
        /// When it ended, or will begin.
        when: String,
    },
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its file, by which people know it.
    pub file: PathBuf,
    /// The host names that it is for, in lower case; `*.` begins those for all names one level below.
    pub names: Vec<String>,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
    /// An OCSP answer about it, and the file that it is from.
    ocsp: Option<(PathBuf, Answer)>,
    /// What a handshake needs.
    pub(super) pair: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads and checks one, but for its time.
    ///
    /// # Errors
    /// See [`CertificateProblem`].
    pub fn load(
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertificateProblem> {
        let file = files.certificate.clone();
        let chain = read_certificates(&file)?;
        let key = read_key(&files.key)?;
        let malformed =
            |error: String| CertificateProblem::Malformed { file: file.clone(), what: "certificate", error };
        let Own { names, begins, ends, serial } = read_own(&chain[0]).map_err(malformed)?;
        let pair = match CertifiedKey::from_der(chain, key, provider) {
            Ok(pair) => pair,
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(CertificateProblem::Mismatch { key: files.key.clone(), certificate: file });
            }
            Err(error) => {
                return Err(CertificateProblem::Malformed {
                    file: files.key.clone(),
                    what: "key",
                    error: error.to_string(),
                });
            }
        };
        let ocsp =
            files.ocsp.as_ref().map(|file| Ok((file.clone(), read_ocsp(file, &serial)?))).transpose()?;
        let certificate = Certificate { file, names, begins, ends, ocsp, pair: Arc::new(pair) };
        Ok(certificate.stapled(SystemTime::now()))
    }

    /// The same with its OCSP answer if the time of that is now, and without otherwise.
    pub(super) fn stapled(&self, now: SystemTime) -> Certificate {
        let timely = self.ocsp.as_ref().filter(|(_, answer)| answer.is_timely(now));
        let mut pair = CertifiedKey::clone(&self.pair);
        pair.ocsp = timely.map(|(_, answer)| answer.der.clone());
        Certificate { pair: Arc::new(pair), ..self.clone() }
    }

    /// Whether [`stapled`](Certificate::stapled) would change it.
    pub(super) fn is_stapled_otherwise(&self, now: SystemTime) -> bool {
        let is_timely = self.ocsp.as_ref().is_some_and(|(_, answer)| answer.is_timely(now));
        self.pair.ocsp.is_some() != is_timely
    }

    /// Why its OCSP answer is not stapled, if there is one.
    pub(super) fn stale(&self, now: SystemTime) -> Option<CertificateProblem> {
        let (file, answer) = self.ocsp.as_ref()?;
        answer.untimely(now).map(|when| CertificateProblem::Stale { file: file.clone(), when })
    }

    /// Why its time is not now, if it is not.
    pub fn untimely(&self, now: SystemTime) -> Option<CertificateProblem> {
        let when = if self.ends <= now {
            format!("ended at {}", humantime::format_rfc3339_seconds(self.ends))
        } else if self.begins > now {
            format!("does not begin before {}", humantime::format_rfc3339_seconds(self.begins))
        } else {
            return None;
        };
        Some(CertificateProblem::Untimely { file: self.file.clone(), when })
    }

    /// Whether this is the same one.
    pub(super) fn is(&self, other: &Certificate) -> bool {
        self.pair.cert == other.pair.cert
    }
}

/// All certificates in a PEM file; at least one.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    let found = found.map_err(|error| CertificateProblem::Malformed {
        file: file.to_owned(),
        what: "certificate",
        error: error.to_string(),
    })?;
    if found.is_empty() {
        let (what, marker) = ("certificate", "CERTIFICATE");
        return Err(CertificateProblem::Missing { file: file.to_owned(), what, marker });
    }
    Ok(found)
}

/// Whether everybody on this machine can read, or change, this file.
pub fn is_exposed(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

pub(super) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    let bytes = read(file)?;
    if is_exposed(file) {
        tracing::warn!(
            file = %file.display(),
            "everybody on this machine can read this private key: take the others' permissions away (chmod o= FILE)"
        );
    }
    let has = |mark: &str| memchr::memmem::find(&bytes, mark.as_bytes()).is_some();
    if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateProblem::Encrypted { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            CertificateProblem::Missing { file: file.to_owned(), what: "private key", marker: "PRIVATE KEY" }
        }
        error => {
            CertificateProblem::Malformed { file: file.to_owned(), what: "key", error: error.to_string() }
        }
    })
}

/// The answer in this file about the certificate with this serial number.
fn read_ocsp(file: &Path, serial: &[u8]) -> Result<Answer, CertificateProblem> {
    Answer::read(read(file)?, serial).map_err(|error| CertificateProblem::Malformed {
        file: file.to_owned(),
        what: "OCSP answer",
        error: error.into(),
    })
}

/// The whole file, if it is one that certificates can be in: reading must come to an end.
fn read(file: &Path) -> Result<Vec<u8>, CertificateProblem> {
    let unreadable = |error| CertificateProblem::Unreadable { file: file.to_owned(), error };
    let found = fs::metadata(file).map_err(unreadable)?;
    let what = match found.len() {
        _ if !found.is_file() => "is no regular file",
        length if length > CERTIFICATE_FILE_BYTES => "is too large for certificates and keys",
        _ => return fs::read(file).map_err(unreadable),
    };
    Err(CertificateProblem::NoSuchFile { file: file.to_owned(), what })
}

/// What a certificate says about itself.
struct Own {
    names: Vec<String>,
    begins: SystemTime,
    ends: SystemTime,
    serial: Vec<u8>,
}

fn read_own(der: &CertificateDer<'_>) -> Result<Own, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    let mut names = Vec::new();
    // RFC 9525 section 2: only the alternative names count, never the common name.
    let alternatives = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    for name in alternatives.map(|extension| &extension.value.general_names).into_iter().flatten() {
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        }
    }
    Ok(Own {
        names,
        begins: time(validity.not_before.timestamp()),
        ends: time(validity.not_after.timestamp()),
        serial: certificate.raw_serial().to_vec(),
    })
}
