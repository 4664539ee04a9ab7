//! Certificates are kept up to date while the proxy runs: the listeners that have some, and the threads that look after them.
//!
//! Owns the list and those threads, which begin when there is something for them to do. What they do stands in [`super::watch`] and
//! [`super::acme`].

use std::{io, sync::Arc};

use arc_swap::ArcSwap;

use super::{ListenerTls, acme::AcmeClient, watch::CertificateWatch};

/// The listeners that speak TLS now, with their names. The threads look here each time.
pub(super) type Secured = Arc<ArcSwap<Vec<(String, Arc<ListenerTls>)>>>;

/// What is kept up to date, and by whom.
#[derive(Debug, Default)]
pub struct Upkeep {
    listeners: Secured,
    watch: Option<CertificateWatch>,
    acme: Option<AcmeClient>,
}

impl Upkeep {
    /// Looks after these listeners from now on, and no others.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn follow(&mut self, listeners: Vec<(String, Arc<ListenerTls>)>) -> io::Result<()> {
        let (is_any, asks) = (!listeners.is_empty(), listeners.iter().any(|(_, tls)| tls.acme().is_some()));
        self.listeners.store(Arc::new(listeners));
        if asks && self.acme.is_none() {
            self.acme = Some(AcmeClient::start(self.listeners.clone())?);
        }
        if is_any && self.watch.is_none() {
            self.watch = Some(CertificateWatch::start(self.listeners.clone())?);
        }
        Ok(())
    }

    /// Ends the threads.
    pub fn end(self) {
        if let Some(acme) = self.acme {
            acme.leave();
        }
        if let Some(watch) = self.watch {
            watch.join();
        }
    }
}
