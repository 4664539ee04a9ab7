//! TLS: certificates and what is asked of clients, from files to what a handshake uses.
//!
//! Owns everything about certificates: reading, checking, choosing one by name, and taking in new ones while the proxy runs. The
//! protocol is rustls's, its cryptography aws-lc's. Never touches a connection's bytes: that is [`crate::io`].

#[cfg(feature = "acme")]
mod acme;
#[cfg(not(feature = "acme"))]
#[path = "tls/no_acme.rs"]
mod acme;
mod backend;
mod certificate;
mod listener;
mod ocsp;
mod subject;
mod upkeep;
mod watch;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

pub use acme::Proofs;
pub use backend::{BackendTls, BackendTlsPolicy};
pub use certificate::{Certificate, CertificateProblem, is_exposed};
pub use listener::{ListenerTls, TlsProblem};
pub use subject::subject_of;
pub use upkeep::Upkeep;

/// The protocol of the handshake that proves a name to an authority (RFC 8737 section 6.2).
pub const PROOF: &[u8] = b"acme-tls/1";

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that it is signed by, the own one first, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM. May be the same file.
    pub key: PathBuf,
    /// An OCSP answer to be stapled (RFC 6066 section 8), as DER.
    pub ocsp: Option<PathBuf>,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked; one that is shown must be right.
    Optional,
    /// They must.
    Required,
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientAuth::None => "none",
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        })
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption only.
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for MinVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        })
    }
}

/// What an operator chooses for a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The certificates. The first one is for clients that name no host, or one that no certificate is for.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// Who must have signed them, as PEM.
    pub client_ca: Option<PathBuf>,
    /// Time for a handshake.
    pub handshake_timeout: Duration,
    /// The Strict-Transport-Security (RFC 6797) of every answer. `None`: a backend's, if it has one.
    pub hsts: Option<Arc<str>>,
    /// Where the first certificate comes from by itself. `None`: from nowhere.
    pub acme: Option<AcmePolicy>,
    /// Clients may agree on HTTP/2 in the handshake.
    pub offers_http2: bool,
}

/// An authority that is asked for a certificate (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmePolicy {
    /// The names that it is for.
    pub names: Vec<String>,
    /// Whom the authority may write to, as a URI.
    pub contact: Option<String>,
    /// The authority's directory.
    pub directory: String,
    /// Where account and certificate are kept.
    pub folder: PathBuf,
    /// Who has signed the authority's own certificate, as PEM. `None`: somebody whom the system trusts.
    pub roots: Option<PathBuf>,
}
