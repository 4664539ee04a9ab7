//! In the place of `acme.rs` in a build without the feature `acme`: a configuration that asks for it is refused.
//!
//! Owns that refusal.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ServerConfig, crypto::CryptoProvider};

use super::{AcmePolicy, Certificate, CertificateFiles, TlsProblem, upkeep::Secured};

impl AcmePolicy {
    /// Where the certificate and its key would be kept.
    pub fn file(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// The certificate as a listener would have it.
    pub fn certificate(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.file(), key: self.file(), ocsp: None }
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn prepare(&self) -> Result<(), TlsProblem> {
        Err(TlsProblem::Settings("this build has no ACME: build it with the feature `acme`".into()))
    }
}

/// There is none.
pub(super) fn is_placeholder(_: &Certificate) -> bool {
    false
}

/// Never made.
#[derive(Debug)]
pub struct Proofs(Arc<ServerConfig>);

impl Proofs {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Result<Proofs, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let none = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        Ok(Proofs(Arc::new(builder.with_no_client_auth().with_cert_resolver(none))))
    }

    /// What such a handshake would use.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

/// Never started.
#[derive(Debug)]
pub(super) struct AcmeClient;

impl AcmeClient {
    /// Starts nothing.
    ///
    /// # Errors
    /// Always: there would be something to start.
    pub(super) fn start(_: Secured) -> io::Result<AcmeClient> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing to leave.
    pub(super) fn leave(self) {}
}
