//! Certificates that are asked for and renewed by ACME (RFC 8555), proved by a handshake on the listener itself (tls-alpn-01, RFC 8737).
//!
//! Owns the account, the orders and the file that they end in. What is in that file is taken in like any other certificate, by
//! [`CertificateWatch`](super::CertificateWatch): nothing else in the program knows where it came from. Until the first one is there, the
//! listener has one that nobody believes.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    AcmePolicy, Certificate, CertificateFiles, ListenerTls, PROOF, TlsProblem, subject_of, upkeep::Secured,
};
use crate::{
    limits::{ACME_RETRY, ACME_RETRY_MOST, ACME_TRY},
    privileges,
};

impl AcmePolicy {
    /// Where the certificate and its key are kept.
    pub fn file(&self) -> PathBuf {
        let first = self.names.first().map_or("certificate", String::as_str);
        self.folder.join(format!("{first}.pem"))
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join("account.json")
    }

    /// The certificate as a listener has it.
    pub fn certificate(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.file(), key: self.file(), ocsp: None }
    }

    /// Makes the folder, and a certificate that nobody believes if there is none yet, so that the listener can be there for the proof.
    ///
    /// # Errors
    /// The folder or the file can't be written.
    pub fn prepare(&self) -> Result<(), TlsProblem> {
        let wrong = |error: &dyn std::fmt::Display| {
            let folder = self.folder.display();
            TlsProblem::Settings(format!(
                "{folder}: {error}; `acme.folder` must be a folder that Ringway can write to"
            ))
        };
        make_folder(&self.folder).map_err(|error| wrong(&error))?;
        if self.file().exists() {
            return Ok(());
        }
        let text = placeholder(&self.names).map_err(|error| wrong(&error))?;
        write(&self.file(), &text).map_err(|error| wrong(&error))
    }
}

/// Makes a folder, and those that it is in where they are missing. What is made belongs to the user whom the process is to become.
fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            privileges::give_made(folder);
            Ok(())
        }
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing above it: that is not to be had.
            make_folder(folder.parent().filter(|above| !above.as_os_str().is_empty()).ok_or(error)?)?;
            make_folder(folder)
        }
        Err(error) => Err(error),
    }
}

/// Whose the first certificate is.
const WAITING: &str = "waiting for a certificate";

/// Whether this is the certificate that is there until the authority has given one.
pub(super) fn is_placeholder(certificate: &Certificate) -> bool {
    certificate
        .pair
        .cert
        .first()
        .and_then(|der| subject_of(der))
        .is_some_and(|subject| subject.ends_with(WAITING))
}

/// Signed by itself, and so old that it is due to be renewed at once.
fn placeholder(names: &[String]) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, WAITING);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Writes a file so that nobody ever sees half of it, or may read it who should not.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{} can't be written: {error}", file.display()))
    };
    replace(file, text).map_err(named)
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Never through a link that is there already: the folder may belong to a user who is not to write elsewhere.
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    privileges::give(&opened, file);
    io::Write::write_all(&mut opened, text.as_bytes())?;
    fs::rename(new, file)
}

/// The handshakes that prove names at present.
#[derive(Debug)]
pub struct Proofs {
    by_name: Arc<ByName>,
    config: Arc<ServerConfig>,
}

#[derive(Debug, Default)]
struct ByName(Mutex<HashMap<String, Arc<CertifiedKey>>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(hello.server_name()?).cloned()
    }
}

impl Proofs {
    /// None yet.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Result<Proofs, rustls::Error> {
        let by_name = Arc::new(ByName::default());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(by_name.clone());
        config.alpn_protocols = vec![PROOF.to_vec()];
        Ok(Proofs { by_name, config: Arc::new(config) })
    }

    /// What such a handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    fn show(&self, name: &str, digest: &[u8]) -> Result<(), Failed> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        // Its extension is critical and known to authorities alone: whatever checks certificates refuses it.
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(der)?;
        let pair = CertifiedKey::new(chain, key);
        let mut names = self.by_name.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), Arc::new(pair));
        Ok(())
    }

    fn clear(&self) {
        self.by_name.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Why no certificate came of it.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Acme(#[from] instant_acme::Error),
    #[error("{0}")]
    Made(#[from] rcgen::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("`acme.roots`, {0}: {1}")]
    Roots(String, instant_acme::Error),
    #[error("the account in {0} can't be read: {1}; remove the file for a new one")]
    Account(String, serde_json::Error),
    #[error("the authority offers no proof by tls-alpn-01 for {0}")]
    NoProof(String),
    #[error(
        "the authority does not believe that the names are ours: is this listener at port 443 of each of them?"
    )]
    NotProved,
    #[error("it took too long")]
    TooLong,
}

/// The thread that asks for certificates.
#[derive(Debug)]
pub(super) struct AcmeClient {
    thread: JoinHandle<()>,
    /// Nothing is ever sent: the thread ends when this is dropped.
    stop: SyncSender<()>,
}

impl AcmeClient {
    /// For those of these listeners that have their certificates from an authority.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(listeners: Secured) -> io::Result<AcmeClient> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("ringway-acme".into()).spawn(move || {
            run(&listeners, &runtime, &stopped);
            // A name that is being resolved is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(AcmeClient { thread, stop })
    }

    /// Ends it. An order under way is left: the next start makes another.
    pub(super) fn leave(self) {
        drop(self.stop);
        if self.thread.is_finished() && self.thread.join().is_err() {
            tracing::error!("the thread that asks for certificates panicked");
        }
    }
}

/// A listener that has its certificate from an authority.
struct Wanted {
    listener: String,
    tls: Arc<ListenerTls>,
    /// When to ask.
    next: SystemTime,
    /// How long to wait after a try that fails.
    pause: Duration,
}

fn run(listeners: &Secured, runtime: &tokio::runtime::Runtime, stopped: &Receiver<()>) {
    let mut wanted: Vec<Wanted> = Vec::new();
    loop {
        let now = listeners.load_full();
        wanted.retain(|one| now.iter().any(|(_, tls)| Arc::ptr_eq(tls, &one.tls)));
        for (listener, tls) in &*now {
            let is_known = wanted.iter().any(|one| Arc::ptr_eq(tls, &one.tls));
            if let Some((policy, _)) = tls.acme().filter(|_| !is_known) {
                let (listener, tls) = (listener.clone(), tls.clone());
                wanted.push(Wanted { listener, next: due(policy), tls, pause: ACME_RETRY });
            }
        }
        wanted.iter_mut().for_each(|one| one.ask_if_due(runtime));
        if stopped.recv_timeout(Duration::from_secs(1)) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Wanted {
    fn ask_if_due(&mut self, runtime: &tokio::runtime::Runtime) {
        let Wanted { listener, tls, next, pause } = self;
        let Some((policy, proofs)) = tls.acme() else { return };
        if *next > SystemTime::now() {
            return;
        }
        tracing::info!(listener, names = policy.names.join(", "), "asking for a certificate");
        let asked = runtime.block_on(async {
            tokio::time::timeout(ACME_TRY, ask(policy, proofs)).await.unwrap_or(Err(Failed::TooLong))
        });
        proofs.clear();
        match asked {
            Ok(()) => (*next, *pause) = (due(policy), ACME_RETRY),
            Err(error) => {
                let (error, directory) = (with_causes(&error), &policy.directory);
                tracing::error!(listener, error, directory, again_in = ?*pause, "no certificate came of it");
                *next = SystemTime::now() + *pause;
                *pause = (*pause * 2).min(ACME_RETRY_MOST);
            }
        }
    }
}

/// An error with all that led to it: the first one alone often says no more than that there was one.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// When the certificate in the file is to be renewed: when a third of its time is left.
fn due(policy: &AcmePolicy) -> SystemTime {
    let provider = Arc::new(aws_lc_rs::default_provider());
    match Certificate::load(&policy.certificate(), &provider) {
        Ok(certificate) => {
            let life = certificate.ends.duration_since(certificate.begins).unwrap_or_default();
            certificate.ends - life / 3
        }
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

/// One order, from the account to the file.
async fn ask(policy: &AcmePolicy, proofs: &Proofs) -> Result<(), Failed> {
    let account = account(policy).await?;
    let names: Vec<Identifier> = policy.names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(Failed::NoProof(name));
        };
        proofs.show(&name, challenge.key_authorization().digest().as_ref())?;
        challenge.set_ready().await?;
    }
    if order.poll_ready(&RetryPolicy::default()).await? != OrderStatus::Ready {
        return Err(Failed::NotProved);
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await?;
    write(&policy.file(), &(chain + "\n" + &key))?;
    Ok(())
}

/// The account in the folder, or a new one.
async fn account(policy: &AcmePolicy) -> Result<Account, Failed> {
    let builder = || match &policy.roots {
        Some(roots) => Account::builder_with_root(roots)
            .map_err(|error| Failed::Roots(roots.display().to_string(), error)),
        None => Ok(Account::builder()?),
    };
    let file = policy.account_file();
    match fs::read_to_string(&file) {
        Ok(text) => {
            let unreadable = |error| Failed::Account(file.display().to_string(), error);
            let credentials: AccountCredentials = serde_json::from_str(&text).map_err(unreadable)?;
            Ok(builder()?.from_credentials(credentials).await?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let contact: Vec<&str> = policy.contact.iter().map(String::as_str).collect();
            let new =
                NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
            let (account, credentials) = builder()?.create(&new, policy.directory.clone(), None).await?;
            let text = serde_json::to_string(&credentials).map_err(|error| Failed::File(error.into()))?;
            write(&file, &text)?;
            Ok(account)
        }
        Err(error) => {
            let named = format!("{} can't be read: {error}", file.display());
            Err(io::Error::new(error.kind(), named).into())
        }
    }
}
