//! What a listener's handshakes use, made from files, and made anew when they change.
//!
//! Owns the choice of a certificate by the name that the client asks for, and the settings of the protocol. A change replaces all of it at
//! once; handshakes under way go on with what they began with.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    AcmePolicy, Certificate, CertificateProblem, ClientAuth, MinVersion, Proofs, TlsPolicy,
    acme::is_placeholder,
    certificate::read_certificates,
    watch::{Stamp, stamp},
};
use crate::tally::HandshakeEnd;

/// Why a listener's TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// A certificate, key or list of authorities is not fit for use.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// The library refuses the settings.
    #[error("{0}")]
    Settings(String),
}

/// The TLS of one listener.
#[derive(Debug)]
pub struct ListenerTls {
    policy: TlsPolicy,
    proofs: Option<Proofs>,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    now: ArcSwap<InForce>,
    /// The files as they were before they were read at the start.
    pub(super) first_stamps: Vec<Stamp>,
    /// What is counted about it.
    pub cells: Arc<TlsCells>,
}

/// What is counted about a listener's TLS.
#[derive(Debug, Default)]
pub struct TlsCells {
    /// How handshakes ended, by [`HandshakeEnd`].
    pub handshakes: [AtomicU64; HandshakeEnd::ALL.len()],
    /// Times that changed files were taken in.
    pub reloads: AtomicU64,
    /// Times that they were refused.
    pub refused: AtomicU64,
}

/// What is in force.
#[derive(Debug)]
struct InForce {
    config: Arc<ServerConfig>,
    certificates: Vec<Certificate>,
}

impl ListenerTls {
    /// All that is wrong with the files, certificates whose time is not now included.
    pub fn problems(policy: &TlsPolicy) -> Vec<TlsProblem> {
        // What an authority is still to be asked for is not there yet.
        if let Some(acme) = policy.acme.as_ref().filter(|acme| !acme.file().exists()) {
            let mut rest = policy.clone();
            rest.certificates.retain(|files| files.certificate != acme.file());
            rest.acme = None;
            return ListenerTls::problems(&rest);
        }
        let (provider, now) = (Arc::new(aws_lc_rs::default_provider()), SystemTime::now());
        let of_one = |files| match Certificate::load(files, &provider) {
            Ok(certificate) if is_placeholder(&certificate) => vec![],
            Ok(certificate) => certificate.untimely(now).into_iter().chain(certificate.stale(now)).collect(),
            Err(problem) => vec![problem],
        };
        let certificates = policy.certificates.iter().flat_map(of_one);
        let authorities = policy.client_ca.as_ref().and_then(|file| read_certificates(file).err());
        let mut problems: Vec<TlsProblem> = certificates.chain(authorities).map(TlsProblem::from).collect();
        if problems.is_empty()
            && let Err(problem) = ListenerTls::load(policy.clone())
        {
            problems.push(problem);
        }
        problems
    }

    /// Reads all files. A certificate whose time is over is served all the same, and the log says so: clients that refuse it would get nothing
    /// from a proxy that does not start either, and all others would lose theirs. An OCSP answer whose time is over is not stapled.
    ///
    /// # Errors
    /// The first thing that is wrong with one of them.
    pub fn load(policy: TlsPolicy) -> Result<ListenerTls, TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let proofs = match &policy.acme {
            Some(acme) => {
                acme.prepare()?;
                Some(Proofs::new(provider.clone()).map_err(settings)?)
            }
            None => None,
        };
        let tickets = aws_lc_rs::Ticketer::new().map_err(settings)?;
        let first_stamps = files(&policy).iter().map(stamp).collect();
        let served_anyway = |certificate: &Certificate| {
            if is_placeholder(certificate) {
                tracing::info!(file = %certificate.file.display(), "there is no certificate yet: the authority is asked for one");
            } else if let Some(problem) = certificate.untimely(SystemTime::now()) {
                tracing::error!(%problem, "a certificate is served that clients will refuse");
            }
            told_if_stale(certificate);
            Ok(())
        };
        let now = ArcSwap::from_pointee(in_force(&policy, &provider, &tickets, served_anyway)?);
        Ok(ListenerTls { policy, proofs, provider, tickets, now, first_stamps, cells: Arc::default() })
    }

    /// The same in the place of another one, whose counts go on.
    pub fn after(self, old: &ListenerTls) -> ListenerTls {
        ListenerTls { cells: old.cells.clone(), ..self }
    }

    /// Whether this is what was asked for.
    pub fn is_as(&self, policy: &TlsPolicy) -> bool {
        self.policy == *policy
    }

    /// Reads all files again. If something is wrong, what was in force stays.
    ///
    /// # Errors
    /// What is wrong.
    pub fn reload(&self) -> Result<(), TlsProblem> {
        let old = self.now.load_full();
        // One that is in force already keeps no other from being renewed.
        let is_new = |certificate: &Certificate| match certificate.untimely(SystemTime::now()) {
            Some(problem) if !old.certificates.iter().any(|old| old.is(certificate)) => Err(problem),
            _ => {
                told_if_stale(certificate);
                Ok(())
            }
        };
        let new = in_force(&self.policy, &self.provider, &self.tickets, is_new)?;
        self.now.store(Arc::new(new));
        self.cells.reloads.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Staples no OCSP answer whose time is over, and those whose time has come. Reads no file.
    pub(super) fn staple(&self, now: SystemTime) {
        let old = self.now.load_full();
        if !old.certificates.iter().any(|certificate| certificate.is_stapled_otherwise(now)) {
            return;
        }
        let certificates: Vec<_> =
            old.certificates.iter().map(|certificate| certificate.stapled(now)).collect();
        old.certificates.iter().filter(|old| old.is_stapled_otherwise(now)).for_each(told_if_stale);
        let mut config = ServerConfig::clone(&old.config);
        config.cert_resolver = Arc::new(ByName::new(&certificates));
        self.now.store(Arc::new(InForce { config: Arc::new(config), certificates }));
    }

    /// The authority that it has a certificate from, and how names are proved to it.
    pub(super) fn acme(&self) -> Option<(&AcmePolicy, &Proofs)> {
        self.policy.acme.as_ref().zip(self.proofs.as_ref())
    }

    /// What proves names to an authority, if one is asked.
    pub fn proofs(&self) -> Option<&Proofs> {
        self.proofs.as_ref()
    }

    /// Counts changed files that were refused.
    pub(super) fn count_refused(&self) {
        self.cells.refused.fetch_add(1, Relaxed);
    }

    /// What a new handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.now.load().config.clone()
    }

    /// The certificates in force.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.now.load().certificates.clone()
    }

    /// Time for a handshake.
    pub fn handshake_timeout(&self) -> Duration {
        self.policy.handshake_timeout
    }

    /// The files that it is made from.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        files(&self.policy)
    }

    /// Counts a handshake.
    pub fn count(&self, end: HandshakeEnd) {
        self.cells.handshakes[end as usize].fetch_add(1, Relaxed);
    }
}

fn told_if_stale(certificate: &Certificate) {
    if let Some(problem) = certificate.stale(SystemTime::now()) {
        tracing::warn!(%problem, "an OCSP answer is not stapled");
    }
}

fn files(policy: &TlsPolicy) -> Vec<PathBuf> {
    let of_one = |files: &super::CertificateFiles| {
        [Some(files.certificate.clone()), Some(files.key.clone()), files.ocsp.clone()]
    };
    let certificates = policy.certificates.iter().flat_map(of_one);
    certificates.chain([policy.client_ca.clone()]).flatten().collect()
}

fn settings(error: impl ToString) -> TlsProblem {
    TlsProblem::Settings(error.to_string())
}

fn in_force(
    policy: &TlsPolicy,
    provider: &Arc<CryptoProvider>,
    tickets: &Arc<dyn ProducesTickets>,
    judge: impl Fn(&Certificate) -> Result<(), CertificateProblem>,
) -> Result<InForce, TlsProblem> {
    let load = |files| {
        let certificate = Certificate::load(files, provider)?;
        judge(&certificate).map(|()| certificate)
    };
    let certificates = policy.certificates.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let versions: &[_] = match policy.min_version {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).map_err(settings)?;
    let builder = match (&policy.client_ca, policy.client_auth) {
        (Some(file), ClientAuth::Optional | ClientAuth::Required) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(file)? {
                roots.add(certificate).map_err(|error| CertificateProblem::Malformed {
                    file: file.clone(),
                    what: "certificate",
                    error: error.to_string(),
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            let verifier = match policy.client_auth {
                ClientAuth::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(settings)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&certificates)));
    // Clients that only speak the older version say so: they would be turned away without it.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    if policy.offers_http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    // A ticket would carry a client's certificate past a change of those who may sign it.
    if policy.client_auth == ClientAuth::None {
        config.ticketer = tickets.clone();
    }
    Ok(InForce { config: Arc::new(config), certificates })
}

/// The certificates by the names that they are for.
#[derive(Debug)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    below: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> ByName {
        let (mut exact, mut below) = (HashMap::new(), HashMap::new());
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut below, parent),
                    None => (&mut exact, name.as_str()),
                };
                // The first certificate for a name is the one that counts.
                map.entry(name.to_owned()).or_insert_with(|| certificate.pair.clone());
            }
        }
        ByName { exact, below, default: certificates.first().map(|first| first.pair.clone()) }
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let of_name = |name: &str| {
            let below = || self.below.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(below).cloned()
        };
        name.and_then(|name| of_name(&name.to_ascii_lowercase())).or_else(|| self.default.clone())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}
