//! The proxy between the process before it and the one after it.
//!
//! Owns what changes hands: which sockets, when this process begins to answer, and when it has been succeeded. The conversation with
//! the other process is [`crate::takeover`]'s.

use std::{
    io,
    net::TcpListener,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{Running, StartError, Stopped};
use crate::{
    admin::OperatorError,
    limits::{ADMIN_CONNECTIONS, TAKEOVER},
    server::{Front, Handed},
    service,
};

/// Sockets from another process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Them.
    pub sockets: Vec<Handed>,
    /// Who had them.
    pub from: Source,
}

impl Inherited {
    /// What the service manager has opened for this process, if there is one.
    ///
    /// # Errors
    /// One of its sockets is of no use to a proxy.
    pub fn from_service_manager() -> io::Result<Inherited> {
        let of_one = |(name, socket): (String, _)| {
            let wrong = |error: io::Error| io::Error::new(error.kind(), format!("socket {name:?}: {error}"));
            Handed::unknown(name.clone(), socket).map_err(wrong)
        };
        let sockets = service::sockets()?.into_iter().map(of_one).collect::<io::Result<Vec<_>>>()?;
        let from = if sockets.is_empty() { Source::Nobody } else { Source::ServiceManager };
        Ok(Inherited { sockets, from })
    }
}

/// Who hands sockets over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    #[default]
    Nobody,
    /// The service manager. Each socket must be for a listener: it was made for one.
    ServiceManager,
    /// The Ringway before this one, which accepts until [`Running::take_charge`]. Those that no listener is for any more are left to it.
    Predecessor,
}

/// Sockets that nobody asks for would have clients wait in vain.
pub(super) fn refuse_left_over(front: &Front, from: Source) -> Result<(), StartError> {
    let left = front.left_over();
    if from != Source::ServiceManager || left.is_empty() {
        return Ok(());
    }
    let names = left.iter().map(|handed| format!("{} ({:?})", handed.address, handed.name));
    Err(StartError::LeftOver(names.collect::<Vec<_>>().join(", ")))
}

/// Who waits for another process to take over.
pub type Upgrade = oneshot::Sender<Result<u32, OperatorError>>;

/// What operators and scrapes know of takeovers.
#[derive(Debug)]
pub(super) struct Handover {
    wishes: mpsc::Sender<Upgrade>,
    is_under_way: AtomicBool,
    /// This process has taken over from the one before.
    done: AtomicU64,
    /// Another one was to take over from this one, and has not.
    failed: AtomicU64,
}

impl Handover {
    /// Beside it, where wishes come out.
    pub(super) fn new() -> (Handover, mpsc::Receiver<Upgrade>) {
        let (wishes, wished) = mpsc::channel(ADMIN_CONNECTIONS);
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        (Handover { wishes, is_under_way: AtomicBool::new(false), done, failed }, wished)
    }

    /// Whether another process is to take over what there is now: nothing may change meanwhile.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way.load(Relaxed)
    }

    /// Takeovers that came about, and those that did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Asks for a takeover, and waits for it.
    pub(super) async fn ask(&self) -> Result<u32, OperatorError> {
        let (answer, told) = oneshot::channel();
        // One that can't be sent is dropped, and what would be told with it.
        let _ = self.wishes.try_send(answer);
        match tokio::time::timeout(TAKEOVER, told).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => Err(OperatorError::NotNow("this process is about to end".into())),
            Err(_) => Err(OperatorError::Failed("nothing was heard of it".into())),
        }
    }
}

impl Running {
    /// All listening sockets, the admin listener's too, for the process after this one. From now on nothing may change, until
    /// [`handover_failed`](Running::handover_failed) or the end.
    ///
    /// # Errors
    /// Something changes just now, or there are no descriptors for copies.
    pub fn begin_handover(&self) -> Result<Vec<Handed>, OperatorError> {
        let Ok(_unchanged) = self.reloader.config.try_lock() else {
            return Err(OperatorError::NotNow("a new configuration is being taken in".into()));
        };
        self.reloader.handover.is_under_way.store(true, Relaxed);
        self.to_hand_over().map_err(|error| {
            self.handover_failed();
            OperatorError::Failed(error.to_string())
        })
    }

    fn to_hand_over(&self) -> io::Result<Vec<Handed>> {
        let mut all = self.front.to_hand_over()?;
        if let Some((socket, asked)) = &self.admin_socket {
            all.push(Handed {
                name: "admin".into(),
                asked: Some((*asked).into()),
                address: TcpListener::local_addr(socket)?.into(),
                sockets: vec![socket.try_clone()?.into()],
                file: None,
            });
        }
        Ok(all)
    }

    /// Nothing came of it: this process goes on.
    pub fn handover_failed(&self) {
        self.reloader.handover.failed.fetch_add(1, Relaxed);
        self.reloader.handover.is_under_way.store(false, Relaxed);
    }

    /// Begins to answer at the addresses that it was handed.
    pub fn take_charge(&self) {
        self.reloader.handover.done.fetch_add(1, Relaxed);
        self.front.claim();
        self.in_charge.send_replace(true);
    }

    /// The next one who asks for another process through the admin listener.
    pub async fn next_upgrade(&mut self) -> Upgrade {
        match self.upgrades.recv().await {
            Some(upgrade) => upgrade,
            // Whoever could ask is gone.
            None => std::future::pending().await,
        }
    }

    /// Stops because another process answers at the addresses now: as [`stop`](Running::stop), without delay, as nobody needs to be told.
    pub async fn leave(mut self, hurry: impl Future<Output = ()>) -> Stopped {
        self.front.give_away();
        self.in_charge.send_replace(false);
        self.admin_socket = None;
        self.stop_after(Duration::ZERO, hurry).await
    }
}
