//! A new configuration for a running proxy, and operators' other wishes.
//!
//! Owns the order of a reload: first everything that can fail (the file, certificates, addresses, rings, the access log), then, in one go,
//! what can't. A wrong configuration changes nothing. Never stops anything.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    charts::planned,
    no_access_log,
    plans::{fleet_plans, load_approaches, make_plan, watch_policies},
    read_token,
    succession::Handover,
};
use crate::{
    admin::{self, InForce, Operator, OperatorError},
    analysis::compare::Comparison,
    config::{self, Config, Loaded},
    control::{Desk, Obeyed, Reconfiguration},
    fleet::{Order, Reconfigured},
    proxy::Picture,
    server::{self, Front, Phase},
    service,
    telemetry::{
        access::{AccessLog, AccessLogPolicy, AccessWriter},
        log,
        news::{News, What},
    },
};

/// What a reload did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In one line.
    pub summary: String,
    /// Backends that came, as `POOL/BACKEND`.
    pub added: Vec<String>,
    /// Backends that went.
    pub removed: Vec<String>,
    /// Backends with another address, weight or way of being reached.
    pub changed: Vec<String>,
    /// Pools whose keys move.
    pub moved: Vec<MovedKeys>,
    /// Listeners that came, changed or went.
    pub listeners: Vec<String>,
    /// What is allowed but doubtful, and what a reload can't change.
    pub warnings: Vec<String>,
}

/// Keys that move.
#[derive(Clone, Debug, Serialize)]
pub struct MovedKeys {
    /// The pool.
    pub pool: String,
    /// The share of its keys, from 0 to 1.
    pub share: f64,
    /// The seconds that it takes.
    pub seconds: f64,
}

/// Whoever changes the running proxy.
#[derive(Debug)]
pub struct Reloader {
    pub(super) file: Option<PathBuf>,
    pub(super) front: Arc<Front>,
    pub(super) desk: Desk,
    pub(super) pictures: Arc<ArcSwap<Picture>>,
    pub(super) in_force: Arc<ArcSwap<InForce>>,
    /// The configuration that is in force. Locked while it changes: one change at a time.
    pub(super) config: tokio::sync::Mutex<Config>,
    /// How many workers there are, as long as the process lasts.
    pub(super) workers: usize,
    /// What is asked of the end, as it is now.
    pub(super) policy: ArcSwap<server::ServerPolicy>,
    pub(super) access: Mutex<Access>,
    pub(super) counts: Arc<ReloadCounts>,
    /// Where changes are told, beside the log.
    pub(super) news: Arc<News>,
    pub(super) handover: Arc<Handover>,
    /// How far the end has come.
    pub(super) phase: watch::Receiver<Phase>,
}

/// How reloads ended.
#[derive(Debug, Default)]
pub struct ReloadCounts {
    /// Taken in.
    pub done: AtomicU64,
    /// Refused.
    pub refused: AtomicU64,
    /// The last one was refused: what runs is not what the file says.
    pub is_behind: AtomicBool,
}

/// The access log in force, and the writers that are not done yet.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) log: Option<AccessLog>,
    pub(super) writers: Vec<AccessWriter>,
}

impl Access {
    /// The log that is wanted from now on: the same one, which begins its file anew in case that was moved away, or another.
    fn follow(
        &mut self,
        now: Option<&AccessLogPolicy>,
        wanted: Option<&AccessLogPolicy>,
    ) -> std::io::Result<Option<AccessLog>> {
        match (&self.log, wanted) {
            (Some(log), Some(policy)) if now == wanted => {
                log.reopen(policy)?;
                Ok(Some(log.clone()))
            }
            _ => self.open(wanted),
        }
    }

    /// Opens the log.
    pub(super) fn open(&mut self, policy: Option<&AccessLogPolicy>) -> std::io::Result<Option<AccessLog>> {
        let opened = policy.map(|policy| AccessLog::open(policy, self.log.as_ref())).transpose()?;
        let (log, writer) = opened.unzip();
        self.writers.retain(|writer| !writer.has_ended());
        self.writers.extend(writer);
        Ok(log)
    }
}

/// Why nothing has changed.
struct Problem {
    /// With the lines of the file that are wrong, for those who may change it.
    whole: String,
    /// For all who may watch.
    brief: String,
}

impl<T: Into<String>> From<T> for Problem {
    fn from(problem: T) -> Problem {
        let whole = problem.into();
        Problem { brief: whole.clone(), whole }
    }
}

impl Reloader {
    /// Reads the file again and takes it in.
    ///
    /// # Errors
    /// Why nothing has changed, with places in the file.
    pub async fn reload(&self) -> Result<Report, String> {
        if *self.phase.borrow() != Phase::Serving {
            return Err("this process is about to end, and takes no new configuration in".into());
        }
        service::reloading();
        let done = self.try_reload().await;
        service::ready("serving");
        let done = done.map_err(|problem| {
            self.news.tell(What::Reload { done: false, summary: &problem.brief });
            problem.whole
        });
        self.counts.is_behind.store(done.is_err(), Relaxed);
        match &done {
            Ok(report) => {
                self.counts.done.fetch_add(1, Relaxed);
                self.news.tell(What::Reload { done: true, summary: &report.summary });
                tracing::info!("{}", report.summary);
                report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            }
            Err(problem) => {
                self.counts.refused.fetch_add(1, Relaxed);
                tracing::error!("the new configuration is refused, the old one stays: {problem}");
            }
        }
        done
    }

    async fn try_reload(&self) -> Result<Report, Problem> {
        let mut config = self.config.lock().await;
        if self.handover.is_under_way() {
            return Err("another process is about to take over, with the file as it is now".into());
        }
        let file = self.file.as_deref().ok_or("this proxy has no configuration file")?;
        let loaded = config::load(file)
            .map_err(|errors| Problem { whole: errors.to_string(), brief: errors.places() })?;
        Ok(self.take_in(&mut config, loaded).await?)
    }

    async fn take_in(&self, current: &mut Config, loaded: Loaded) -> Result<Report, String> {
        let Loaded { config, warnings, public, .. } = loaded;
        let token = read_token(&config).map_err(|error| error.to_string())?;
        log::check(&config.log).map_err(|error| format!("log level: {error}"))?;
        let approaches = load_approaches(&config).map_err(|error| error.to_string())?;
        let listeners =
            self.front.prepare(&config.listeners, &config.client).map_err(|error| error.to_string())?;
        let opened = self.access().follow(current.access_log.as_ref(), config.access_log.as_ref());
        let access_log = opened.map_err(|error| no_access_log(&config, error).to_string())?;
        let plan = Arc::new(make_plan(&config, &approaches, self.workers, access_log.clone()));
        let hung = self.pictures.clone();
        let report = self.desk.reconfigure(Reconfiguration {
            plans: fleet_plans(&config),
            policies: watch_policies(&config, &approaches),
            publish: Box::new(move |view| hung.store(Arc::new(Picture { view, plan: plan.clone() }))),
            state_file: config.server.state_file.clone(),
        });
        let Obeyed { report, not_kept } = report.await?;
        // From here on nothing fails.
        let changed = self.front.take_in(listeners);
        self.access().log = access_log;
        let mut notes: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        notes.extend(log::change(&current.log, &config.log));
        notes.extend(needs_restart(current, &config));
        notes.extend(not_kept.map(|problem| format!("operators' orders are not kept: {problem}")));
        self.in_force.store(Arc::new(InForce {
            config: public,
            loaded: SystemTime::now(),
            token,
            free_reads: config.admin.allow_unauthenticated_reads,
        }));
        self.policy.store(Arc::new(config.server.clone()));
        *current = config;
        Ok(tell(report, changed, notes))
    }

    fn access(&self) -> std::sync::MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the access log written to its end. No worker is left.
    pub(super) fn finish_access_log(&self) {
        let mut access = self.access();
        if let Some(log) = access.log.take() {
            log.close();
        }
        access.writers.drain(..).for_each(AccessWriter::finish);
    }

    /// When the configuration in force was read.
    pub fn loaded(&self) -> SystemTime {
        self.in_force.load().loaded
    }

    /// The file that the configuration is from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether that is to be read again when it changes.
    pub fn is_watched(&self) -> bool {
        self.file.is_some() && self.policy.load().watch_config
    }
}

/// What a reload can't change.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (key, differs) in [
        ("server.workers", old.server.workers != new.server.workers),
        ("admin.address", old.admin.address != new.admin.address),
        ("log.format", old.log.format != new.log.format),
    ] {
        if differs {
            notes.push(format!("`{key}` has changed, which takes a restart or an upgrade"));
        }
    }
    if old.server.user != new.server.user {
        notes.push("`server.user` has changed, which takes a restart".to_owned());
    }
    notes
}

fn tell(report: Reconfigured, changed: server::Changed, warnings: Vec<String>) -> Report {
    let Reconfigured { added, removed, changed: others, moved } = report;
    let mut parts =
        vec![format!("backends: {} added, {} removed, {} changed", added.len(), removed.len(), others.len())];
    for moved in &moved {
        let within = match moved.within.is_zero() {
            true => "at once".to_owned(),
            false => format!("within {}", humantime::format_duration(moved.within)),
        };
        parts.push(format!("pool {}: {:.2} % of the keys move {within}", moved.pool, moved.share * 100.0));
    }
    let of_kind = |names: Vec<String>, what: &str| -> Vec<String> {
        names.into_iter().map(|name| format!("{name} {what}")).collect()
    };
    let listeners: Vec<String> = [
        of_kind(changed.opened, "opened"),
        of_kind(changed.changed, "changed"),
        of_kind(changed.closed, "closed"),
    ]
    .concat();
    if !listeners.is_empty() {
        parts.push(format!("listeners: {}", listeners.join(", ")));
    }
    let moved = moved.into_iter().map(|moved| MovedKeys {
        pool: moved.pool.to_string(),
        share: moved.share,
        seconds: moved.within.as_secs_f64(),
    });
    Report {
        summary: format!("reloaded; {}", parts.join("; ")),
        added,
        removed,
        changed: others,
        moved: moved.collect(),
        listeners,
        warnings,
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, OperatorError>> + Send + 'a>>;

impl Operator for Reloader {
    fn reload(self: Arc<Self>) -> Answer<'static, serde_json::Value> {
        Box::pin(async {
            // A task of its own: whoever asked may go away, and half a reload is worse than none.
            let reload = tokio::spawn(async move { Reloader::reload(&self).await });
            let report = reload.await.map_err(|error| OperatorError::Failed(error.to_string()))?;
            let report = report.map_err(OperatorError::Refused)?;
            Ok(serde_json::to_value(report).unwrap_or_default())
        })
    }

    fn obey<'a>(&'a self, pool: &'a str, backend: &'a str, order: Order) -> Answer<'a, admin::Obeyed> {
        Box::pin(async move {
            // What another process has read already, it would not hear of.
            let _stays = self.config.lock().await;
            if self.handover.is_under_way() {
                return Err(OperatorError::NotNow("another process is taking over: ask that one".into()));
            }
            let obeyed = self.desk.obey(pool, backend, order).await.map_err(OperatorError::Refused)?;
            Ok(admin::Obeyed { share_moved: obeyed.report.share_moved(), not_kept: obeyed.not_kept })
        })
    }

    fn plan(&self, text: String) -> Answer<'_, Comparison> {
        Box::pin(async move {
            let current = self.config.lock().await.clone();
            let orders = self.pictures.load().view.orders.clone();
            let planned = tokio::task::spawn_blocking(move || planned(&current, &orders, &text));
            planned.await.map_err(|error| OperatorError::Failed(error.to_string()))?
        })
    }

    fn upgrade(&self) -> Answer<'_, u32> {
        Box::pin(self.handover.ask())
    }
}
