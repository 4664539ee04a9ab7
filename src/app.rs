//! Assembly: binds, starts every part, and stops them in order.
//!
//! Owns the order. Nothing is left running when [`Running::stop`] returns.

mod plans;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use self::plans::{kept_orders, make_fleet, watch_policies};
pub use self::plans::{load_approaches, make_plan, offline_view};
use crate::{
    admin::{Admin, State},
    config::{Config, Loaded},
    control::{self, Control, Events},
    endpoint::Endpoint,
    fleet::{Unchanged, View},
    privileges::{self, PrivilegeError, become_user},
    proxy::{Common, Gateway, Picture},
    server::{Admission, Doorway, Entrance, Listener, ListenerPolicy, Phase, ServerPolicy, Worker},
    tally::{ListenerCells, WorkerCells},
    telemetry::{
        access::{AccessLog, AccessWriter},
        metrics::{Metrics, Sources},
    },
    tls::{AcmeClient, CertificateWatch, ListenerTls, TlsProblem},
};

/// Why the process can't start. Nothing is left running or bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be bound.
    #[error("can't listen on {address} ({what}): {error}")]
    Bind {
        /// The address.
        address: Endpoint,
        /// What was to listen there.
        what: String,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A pool's ring can't be built.
    #[error(transparent)]
    Ring(#[from] Unchanged),
    /// The file with operators' orders can't be read.
    #[error("operators' orders: {0}; remove the file to begin without them")]
    Orders(String),
    /// The admin token can't be read.
    #[error("can't read the admin token from {file}: {error}")]
    Token {
        /// The file.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// A listener's certificates can't be used.
    #[error("listener {listener:?}: {problem}")]
    Tls {
        /// The listener.
        listener: String,
        /// What is wrong.
        problem: TlsProblem,
    },
    /// What secures the connections to a pool's backends can't be used.
    #[error("pool {pool:?}: {problem}")]
    BackendTls {
        /// The pool.
        pool: String,
        /// What is wrong.
        problem: TlsProblem,
    },
    /// The process can't give up what it should.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The access log can't be opened.
    #[error("can't open the access log {file}: {error}")]
    AccessLog {
        /// The file, or standard output.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// The kernel gives no thread or no runtime.
    #[error("can't start a thread: {0}")]
    Thread(#[from] io::Error),
    /// The metrics contradict themselves.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// The listeners' addresses, with the ports that the kernel chose, in the order of the configuration.
    pub listeners: Vec<Endpoint>,
    /// The admin listener's address.
    pub admin: Option<SocketAddr>,
    pictures: Arc<ArcSwap<Picture>>,
    phase: watch::Sender<Phase>,
    proven: watch::Receiver<bool>,
    policy: ServerPolicy,
    workers: Vec<Worker>,
    /// Closed once all workers have ended.
    workers_ended: mpsc::Receiver<()>,
    control: Control,
    admin_thread: Option<Admin>,
    access_writer: Option<AccessWriter>,
    acme: Option<AcmeClient>,
    certificate_watch: Option<CertificateWatch>,
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request that was accepted was answered.
    Drained,
    /// The deadline, or a second signal, cut requests off.
    CutOff,
}

/// Sockets that are bound before anything runs.
struct Bound {
    listeners: Vec<Listener>,
    admin: Option<TcpListener>,
}

impl Running {
    /// Binds all addresses and starts all parts. Traffic is accepted once every backend has been probed once.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(loaded: Loaded) -> Result<Running, StartError> {
        let Loaded { config, public, .. } = loaded;
        let token = read_token(&config)?;
        let tls = load_tls(&config)?;
        let approaches = load_approaches(&config)?;
        let worker_count = worker_count(&config.server);
        let bound = bind(&config, worker_count)?;
        let orders = kept_orders(&config.server)?;
        let mut fleet = make_fleet(&config, orders, worker_count)?;
        let (report, events) = Events::pipe();
        let access = config.access_log.as_ref().map(AccessLog::open).transpose();
        let (access_log, access_writer) = access.map_err(|error| no_access_log(&config, error))?.unzip();
        if let Some(user) = &config.server.user {
            become_user(user)?;
        }
        tracing::info!(has = privileges::left(), "privileges");
        let watch_policies = watch_policies(&config, &approaches);
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let (proven_sender, proven) = watch::channel(false);
        let listener_cells: Arc<[ListenerCells]> =
            bound.listeners.iter().map(|_| ListenerCells::default()).collect();
        let admission = Admission::new(
            config.client.max_connections,
            config.client.max_connections_per_address,
            listener_cells.clone(),
        );
        let plan = Arc::new(make_plan(&config, &approaches));
        let pictures =
            Arc::new(ArcSwap::from_pointee(Picture { view: Arc::new(fleet.view()), plan: plan.clone() }));
        let cells: Vec<_> = (0..worker_count).map(|_| Arc::new(WorkerCells::default())).collect();
        let names = bound.listeners.iter().map(|listener| listener.name.clone()).collect();
        let addresses = bound.listeners.iter().map(|listener| listener.address.clone()).collect();
        let entrances =
            Entrance::for_workers(worker_count, bound.listeners, &Arc::new(admission), &proven, &phase_seen);
        let common = Common {
            pictures: pictures.clone(),
            access_log: access_log.clone(),
            report,
            under_way: Arc::default(),
        };
        let (workers, workers_ended) = start_workers(&config, &common, &cells, &tls, &phase_seen, entrances)?;
        let config_loaded = SystemTime::now();
        let is_ready = {
            let (proven, phase) = (proven.clone(), phase_seen.clone());
            move || *proven.borrow() && *phase.borrow() == Phase::Serving
        };
        let read = pictures.clone();
        let metrics = Metrics::new(Sources {
            view: Box::new(move || read.load().view.clone()),
            workers: cells,
            tls: with_names(&config, &tls),
            listeners: names,
            listener_cells,
            access_log,
            config_loaded,
            ready: Box::new(is_ready),
        })?;
        let admin = bound.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let state = State {
            pictures: pictures.clone(),
            metrics,
            proven: proven.clone(),
            phase: phase_seen.clone(),
            config: public,
            config_loaded,
            token,
        };
        let admin_thread = bound.admin.map(|socket| Admin::start(socket, state)).transpose()?;
        let acme = AcmeClient::start(with_names(&config, &tls))?;
        let certificate_watch = CertificateWatch::start(with_names(&config, &tls))?;
        let hung = pictures.clone();
        let publish = move |view| hung.store(Arc::new(Picture { view, plan: plan.clone() }));
        let (control, _desk) = Control::start(control::Start {
            fleet,
            policies: watch_policies,
            publish: Box::new(publish),
            proven: proven_sender,
            phase: phase_seen,
            state_file: config.server.state_file.clone(),
            events,
        })?;
        Ok(Running {
            listeners: addresses,
            admin,
            pictures,
            phase,
            proven,
            policy: config.server,
            workers,
            workers_ended,
            control,
            admin_thread,
            access_writer,
            certificate_watch,
            acme,
        })
    }

    /// The published view.
    pub fn view(&self) -> Arc<View> {
        self.pictures.load().view.clone()
    }

    /// Waits until every backend has had its first result. Traffic is accepted from then on.
    pub async fn ready(&self) {
        // An error means that the control thread is gone: then nothing better will come.
        let _ = self.proven.clone().wait_for(|proven| *proven).await;
    }

    /// Stops: unready at once, after the drain delay no new connections, then the end of the last request or the deadline,
    /// whichever comes first. `hurry` cuts all of that short.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) -> Stopped {
        tracing::info!(delay = ?self.policy.drain_delay, timeout = ?self.policy.drain_timeout, "draining");
        self.phase.send_replace(Phase::Leaving);
        let (phase, policy, ended) = (&self.phase, &self.policy, &mut self.workers_ended);
        let drain = async {
            tokio::time::sleep(policy.drain_delay).await;
            phase.send_replace(Phase::Draining);
            // Nothing is ever sent: the channel closes when the last worker has ended.
            tokio::time::timeout(policy.drain_timeout, ended.recv()).await.is_ok()
        };
        let drained = tokio::select! {
            drained = drain => drained,
            () = hurry => false,
        };
        self.phase.send_replace(Phase::Stopping);
        self.workers.into_iter().for_each(Worker::join);
        self.control.join();
        if let Some(acme) = self.acme {
            acme.leave();
        }
        if let Some(watch) = self.certificate_watch {
            watch.join();
        }
        if let Some(admin) = self.admin_thread {
            admin.join();
        }
        if let Some(writer) = self.access_writer {
            writer.finish();
        }
        if drained {
            tracing::info!("drained");
            Stopped::Drained
        } else {
            tracing::warn!("stopped before all connections had ended");
            Stopped::CutOff
        }
    }
}

fn worker_count(policy: &ServerPolicy) -> usize {
    match policy.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// Workers, and a channel that closes when the last of them has ended.
type Workers = (Vec<Worker>, mpsc::Receiver<()>);

fn start_workers(
    config: &Config,
    common: &Common,
    cells: &[Arc<WorkerCells>],
    tls: &Arc<[Option<Arc<ListenerTls>>]>,
    phase: &watch::Receiver<Phase>,
    entrances: Vec<Entrance>,
) -> io::Result<Workers> {
    let client = Arc::new(config.client.clone());
    let doorway = |(listener, tls): (&ListenerPolicy, &Option<Arc<ListenerTls>>)| Doorway {
        preface_from: listener.preface_from.clone(),
        tls: tls.clone(),
        redirect: listener.redirect,
        http2: listener.http2,
    };
    let doorways: Arc<[Doorway]> = config.listeners.iter().zip(&**tls).map(doorway).collect();
    let (alive, ended) = mpsc::channel(1);
    let mut workers = Vec::new();
    for ((number, cells), entrance) in cells.iter().enumerate().zip(entrances) {
        let (common, cells, alive) = (common.clone(), cells.clone(), alive.clone());
        let gateway = move || (Gateway::new(number, common, cells), alive);
        workers.push(Worker::start(
            number,
            gateway,
            client.clone(),
            doorways.clone(),
            phase.clone(),
            entrance,
        )?);
    }
    Ok((workers, ended))
}

fn no_access_log(config: &Config, error: io::Error) -> StartError {
    let file = config.access_log.as_ref().and_then(|log| log.file.as_ref());
    StartError::AccessLog {
        file: file.map_or_else(|| "standard output".into(), |file| file.display().to_string()),
        error,
    }
}

fn read_token(config: &Config) -> Result<Option<String>, StartError> {
    Admin::token(&config.admin).map_err(|error| {
        let file = config.admin.token_file.as_deref().unwrap_or_else(|| "".as_ref());
        StartError::Token { file: file.display().to_string(), error }
    })
}

/// The TLS of each listener, where it has one, from its files.
///
/// # Errors
/// What is wrong with them.
fn load_tls(config: &Config) -> Result<Arc<[Option<Arc<ListenerTls>>]>, StartError> {
    let load = |listener: &ListenerPolicy| {
        let loaded = listener.tls.clone().map(ListenerTls::load).transpose();
        let loaded =
            loaded.map_err(|problem| StartError::Tls { listener: listener.name.clone(), problem })?;
        Ok(loaded.map(Arc::new))
    };
    config.listeners.iter().map(load).collect()
}

fn with_names(config: &Config, tls: &[Option<Arc<ListenerTls>>]) -> Vec<(String, Arc<ListenerTls>)> {
    let named = config.listeners.iter().zip(tls);
    named.filter_map(|(listener, tls)| Some((listener.name.clone(), tls.clone()?))).collect()
}

fn bind(config: &Config, workers: usize) -> Result<Bound, StartError> {
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for policy in &config.listeners {
        let what = format!("listener {:?}", policy.name);
        let bound = Listener::bind(policy, workers);
        listeners.push(bound.map_err(|error| StartError::Bind {
            address: policy.address.clone(),
            what,
            error,
        })?);
    }
    let bind_admin = |address: SocketAddr| {
        let what = "admin".to_owned();
        TcpListener::bind(address).map_err(|error| StartError::Bind { address: address.into(), what, error })
    };
    let admin = config.admin.address.map(bind_admin).transpose()?;
    Ok(Bound { listeners, admin })
}
