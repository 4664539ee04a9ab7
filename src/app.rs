//! Assembly: binds, starts every part, and stops them in order.
//!
//! Owns the order. Nothing is left running when [`Running::stop`] returns.

mod charts;
mod plans;
mod reload;
mod succession;
pub mod surroundings;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

pub use self::{
    charts::chart,
    plans::{load_approaches, make_plan, offline_plans, offline_view},
    reload::{MovedKeys, ReloadCounts, Reloader, Report},
    succession::{Inherited, Source, Upgrade},
};
use self::{
    plans::{kept_orders, make_fleet, watch_policies},
    reload::Access,
    succession::Handover,
};
use crate::{
    admin::{Admin, InForce, State},
    config::{Config, Loaded},
    control::{self, Control, Events},
    endpoint::Endpoint,
    fleet::{Unchanged, View},
    privileges::{self, PrivilegeError, become_user},
    proxy::{Common, Gateway, Picture},
    server::{
        Entrance, Front, FrontError, Handed, Phase, ServerPolicy, Site, Worker, right_needed, take_handed,
    },
    tally::WorkerCells,
    telemetry::{
        access::AccessLog,
        metrics::{ListenerSource, Metrics, Sources},
        news::News,
    },
    tls::TlsProblem,
};

/// Why the process can't start. Nothing is left running or bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be bound.
    #[error("can't listen on {address} ({what}): {error}{}", right_needed(address, error))]
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
    #[error("operators' orders (`server.state_file`): {0}; remove the file to begin without them")]
    Orders(String),
    /// The admin token can't be read.
    #[error("can't read the admin token from {file} (`admin.token_file`): {error}{}", denied(error))]
    Token {
        /// The file.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// Sockets were handed over that nobody asks for.
    #[error(
        "the service manager hands over sockets that no listener is for: {0}; add a [[listeners]] with this address, or remove the socket from its unit"
    )]
    LeftOver(String),
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
    #[error("can't open the access log {file} (`access_log.file`): {error}{}", denied(error))]
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

impl From<FrontError> for StartError {
    fn from(error: FrontError) -> StartError {
        match error {
            FrontError::Bind { listener, address, error } => {
                StartError::Bind { address, what: format!("listener {listener:?}"), error }
            }
            FrontError::Tls { listener, problem } => StartError::Tls { listener, problem },
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Running {
    /// The addresses of the listeners that it began with, with the ports that the kernel chose, in the order of the configuration.
    pub listeners: Vec<Endpoint>,
    /// The admin listener's address.
    pub admin: Option<SocketAddr>,
    /// The admin listener's socket, with the address that was asked for.
    admin_socket: Option<(TcpListener, SocketAddr)>,
    front: Arc<Front>,
    /// Whether this process answers at its addresses: not before it has taken over, and no more once another one has.
    in_charge: watch::Sender<bool>,
    /// Those who ask for another process.
    upgrades: mpsc::Receiver<Upgrade>,
    pictures: Arc<ArcSwap<Picture>>,
    phase: watch::Sender<Phase>,
    proven: watch::Receiver<bool>,
    reloader: Arc<Reloader>,
    workers: Vec<Worker>,
    /// Closed once all workers have ended.
    workers_ended: mpsc::Receiver<()>,
    control: Control,
    admin_thread: Option<Admin>,
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request that was accepted was answered.
    Drained,
    /// The deadline, or a second signal, cut requests off.
    CutOff,
}

impl Running {
    /// Binds all addresses and starts all parts. Traffic is accepted once every backend has been probed once.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(loaded: Loaded) -> Result<Running, StartError> {
        Running::start_with(loaded, Inherited::default())
    }

    /// The same with sockets from another process.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_with(loaded: Loaded, inherited: Inherited) -> Result<Running, StartError> {
        let Loaded { config, public, file, .. } = loaded;
        let Inherited { mut sockets, from } = inherited;
        if let Some(user) = &config.server.user {
            privileges::will_become(user)?;
        }
        let token = read_token(&config)?;
        let approaches = load_approaches(&config)?;
        let worker_count = worker_count(&config.server);
        let admin_socket = admin_socket(&config, &mut sockets)?;
        let front = Arc::new(Front::new(worker_count, &config.client, sockets));
        let listeners = front.prepare(&config.listeners, &config.client)?;
        succession::refuse_left_over(&front, from)?;
        let orders = kept_orders(&config.server)?;
        let mut fleet = make_fleet(&config, orders, worker_count)?;
        let (report, events) = Events::pipe();
        let mut access = Access::default();
        let access_log = access.open(config.access_log.as_ref());
        access.log = access_log.map_err(|error| no_access_log(&config, error))?;
        if let Some(user) = &config.server.user {
            become_user(user)?;
        }
        surroundings::doubts(&config, file.as_deref())
            .into_iter()
            .chain(surroundings::exposed_token(&config))
            .for_each(|doubt| tracing::warn!("{doubt}"));
        tracing::info!(has = privileges::left(), "privileges");
        let watch_policies = watch_policies(&config, &approaches);
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let (proven_sender, proven) = watch::channel(false);
        let plan = Arc::new(make_plan(&config, &approaches, worker_count, access.log.clone()));
        let pictures =
            Arc::new(ArcSwap::from_pointee(Picture { view: Arc::new(fleet.view()), plan: plan.clone() }));
        let cells: Vec<_> = (0..worker_count).map(|_| Arc::new(WorkerCells::default())).collect();
        let (in_charge, in_charge_seen) = watch::channel(from != Source::Predecessor);
        let entrances = front.entrances(&[proven.clone(), in_charge_seen.clone()], &phase_seen);
        front.take_in(listeners);
        let common = Common { pictures: pictures.clone(), report, under_way: Arc::default() };
        let (workers, workers_ended) = start_workers(&common, &cells, &phase_seen, entrances)?;
        let in_force = Arc::new(ArcSwap::from_pointee(InForce {
            config: public,
            loaded: SystemTime::now(),
            token,
            free_reads: config.admin.allow_unauthenticated_reads,
        }));
        let news = Arc::new(News::default());
        let hung = pictures.clone();
        let publish = move |view| hung.store(Arc::new(Picture { view, plan: plan.clone() }));
        let (control, desk) = Control::start(control::Start {
            fleet,
            policies: watch_policies,
            publish: Box::new(publish),
            proven: proven_sender,
            phase: phase_seen.clone(),
            state_file: config.server.state_file.clone(),
            events,
            news: news.clone(),
        })?;
        let admin = admin_socket.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin_kept = admin_socket.as_ref().map(TcpListener::try_clone).transpose()?;
        let admin_kept = admin_kept.zip(config.admin.address);
        let (handover, upgrades) = Handover::new();
        let reloader = Arc::new(Reloader {
            file,
            front: front.clone(),
            desk,
            pictures: pictures.clone(),
            in_force: in_force.clone(),
            workers: worker_count,
            policy: ArcSwap::from_pointee(config.server.clone()),
            config: tokio::sync::Mutex::new(config),
            access: Mutex::new(access),
            counts: Arc::default(),
            news: news.clone(),
            handover: Arc::new(handover),
            phase: phase_seen.clone(),
        });
        let is_ready = {
            let (proven, phase) = (proven.clone(), phase_seen.clone());
            move || *proven.borrow() && *phase.borrow() == Phase::Serving
        };
        let metrics = Metrics::new(sources(&reloader, cells, is_ready))?;
        let state = State {
            pictures: pictures.clone(),
            metrics,
            proven: proven.clone(),
            phase: phase_seen,
            in_force,
            in_charge: in_charge_seen,
            news,
            operator: reloader.clone(),
        };
        let admin_thread = admin_socket.map(|socket| Admin::start(socket, state)).transpose()?;
        Ok(Running {
            listeners: front.sites().iter().map(|site| site.address.clone()).collect(),
            admin,
            admin_socket: admin_kept,
            front,
            in_charge,
            upgrades,
            pictures,
            phase,
            proven,
            reloader,
            workers,
            workers_ended,
            control,
            admin_thread,
        })
    }

    /// The listeners, which can be changed while it runs.
    pub fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// The way to change it.
    pub fn reloader(&self) -> &Arc<Reloader> {
        &self.reloader
    }

    /// Whether the control thread is gone, which takes a restart.
    pub fn is_headless(&self) -> bool {
        self.control.has_ended()
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
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> Stopped {
        let delay = self.reloader.policy.load().drain_delay;
        self.stop_after(delay, hurry).await
    }

    async fn stop_after(mut self, delay: Duration, hurry: impl Future<Output = ()>) -> Stopped {
        let policy = self.reloader.policy.load_full();
        tracing::info!(?delay, timeout = ?policy.drain_timeout, "draining");
        self.phase.send_replace(Phase::Leaving);
        // Whoever waits for another process is told that none comes.
        drop(self.upgrades);
        let front = &self.front;
        let (phase, ended) = (&self.phase, &mut self.workers_ended);
        let drain = async {
            tokio::time::sleep(delay).await;
            front.let_go();
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
        self.front.end();
        if let Some(admin) = self.admin_thread {
            admin.join();
        }
        self.reloader.finish_access_log();
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
    common: &Common,
    cells: &[Arc<WorkerCells>],
    phase: &watch::Receiver<Phase>,
    entrances: Vec<Entrance>,
) -> io::Result<Workers> {
    let (alive, ended) = mpsc::channel(1);
    let mut workers = Vec::new();
    for ((number, cells), entrance) in cells.iter().enumerate().zip(entrances) {
        let (common, cells, alive) = (common.clone(), cells.clone(), alive.clone());
        let gateway = move || (Gateway::new(number, common, cells), alive);
        workers.push(Worker::start(number, gateway, phase.clone(), entrance)?);
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

/// Who was denied something: after the start that is not who started it.
fn denied(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("; the process is the user {:?}, who must be allowed to", privileges::name())
        }
        _ => String::new(),
    }
}

fn read_token(config: &Config) -> Result<Option<String>, StartError> {
    Admin::token(&config.admin).map_err(|error| {
        let file = config.admin.token_file.as_deref().unwrap_or_else(|| "".as_ref());
        StartError::Token { file: file.display().to_string(), error }
    })
}

/// What a scrape reads.
fn sources(
    reloader: &Arc<Reloader>,
    workers: Vec<Arc<WorkerCells>>,
    is_ready: impl Fn() -> bool + Send + Sync + 'static,
) -> Sources {
    let (pictures, lost, loaded) =
        (reloader.pictures.clone(), reloader.pictures.clone(), reloader.in_force.clone());
    let (counts, handover) = (reloader.counts.clone(), reloader.handover.clone());
    let behind = counts.clone();
    Sources {
        view: Box::new(move || pictures.load().view.clone()),
        workers,
        listeners: listener_sources(reloader.front.clone()),
        access_dropped: Box::new(move || lost.load().plan.access_log.as_ref().map_or(0, AccessLog::dropped)),
        config_loads: Box::new(move || (1 + counts.done.load(Relaxed), counts.refused.load(Relaxed))),
        config_loaded: Box::new(move || loaded.load().loaded),
        config_behind: Box::new(move || behind.is_behind.load(Relaxed)),
        takeovers: Box::new(move || handover.counts()),
        ready: Box::new(is_ready),
    }
}

/// What a scrape reads of the listeners, whichever there are at the time.
fn listener_sources(front: Arc<Front>) -> Box<dyn Fn() -> Vec<ListenerSource> + Send + Sync> {
    let of_one = |site: &Arc<Site>| {
        let doorway = site.doorway();
        let (name, tls) = (doorway.policy.name.clone(), doorway.tls.clone());
        ListenerSource { name, cells: site.cells.clone(), tls }
    };
    Box::new(move || front.sites().iter().map(of_one).collect())
}

/// The admin listener's socket, from those that were handed over or a new one.
fn admin_socket(config: &Config, handed: &mut Vec<Handed>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = config.admin.address else { return Ok(None) };
    let ours = take_handed(handed, "admin", &address.into()).and_then(|mut handed| handed.sockets.pop());
    ours.map_or_else(|| bind_admin(address), |socket| Ok(socket.into())).map(Some)
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let what = "admin".to_owned();
    TcpListener::bind(address).map_err(|error| StartError::Bind { address: address.into(), what, error })
}
