//! TLS to backends: whom they must prove to be, and what is shown to them.
//!
//! Owns verification and its one exception. Opens no connection: that is [`crate::upstream`].

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsConnector;

use super::{
    CertificateProblem, MinVersion, TlsProblem,
    certificate::{read_certificates, read_key},
};

/// What an operator chooses for the backends of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// The name that their certificates must be for. `None`: the host of each one's address.
    pub server_name: Option<String>,
    /// Who must have signed them, as PEM. `None`: whomever the system trusts.
    pub roots: Option<PathBuf>,
    /// The certificate that is shown to them, as PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key. `None`: it is in the same file.
    pub key: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Nothing about their certificates is looked at: whoever is on the way can read and change all.
    pub accepts_any_certificate: bool,
}

/// The same, ready for handshakes.
#[derive(Clone)]
pub struct BackendTls {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl BackendTls {
    /// Reads all files. `offers` are the protocols to agree on in the handshake.
    ///
    /// # Errors
    /// The first thing that is wrong with one of them.
    pub fn load(policy: &BackendTlsPolicy, offers: Vec<Vec<u8>>) -> Result<BackendTls, TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = match policy.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(versions).map_err(settings)?;
        let builder = if policy.accepts_any_certificate {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots(policy)?)
        };
        let mut config = match &policy.certificate {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let key_file = policy.key.as_ref().unwrap_or(file);
                let (chain, key) = (read_certificates(file)?, read_key(key_file)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    Error::InconsistentKeys(_) => {
                        CertificateProblem::Mismatch { key: key_file.clone(), certificate: file.clone() }
                    }
                    error => malformed(key_file, "key", &error),
                })?
            }
        };
        config.alpn_protocols = offers;
        let name = policy.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = name.map_err(|error: InvalidDnsNameError| settings(error))?;
        Ok(BackendTls { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    /// What makes handshakes.
    pub fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// The name that a backend with this host must prove to have.
    ///
    /// # Errors
    /// The host can't stand in a certificate.
    pub fn name_for(&self, host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned()),
        }
    }
}

fn settings(error: impl ToString) -> TlsProblem {
    TlsProblem::Settings(error.to_string())
}

fn malformed(file: &std::path::Path, what: &'static str, error: &impl ToString) -> CertificateProblem {
    CertificateProblem::Malformed { file: file.to_owned(), what, error: error.to_string() }
}

fn roots(policy: &BackendTlsPolicy) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &policy.roots {
        for certificate in read_certificates(file)? {
            roots.add(certificate).map_err(|error| malformed(file, "certificate", &error))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificates can't be read");
    }
    // A system's list has odd ones in it: those that can't be used are left out.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(settings(
            "this system trusts nobody: install its list (Debian: ca-certificates), or name a file in `roots`",
        ));
    }
    Ok(roots)
}

/// Takes every certificate, but only from who has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
