//! The proxy in this process, from real TOML.

use std::{net::SocketAddr, path::Path, sync::Arc};

use ringway::{
    app::{Reloader, Running, Stopped},
    config::Loaded,
    fleet::{Standing, View},
    server::{Changed, Front, FrontError},
};
use serde_json::Value;

use super::{Answer, Origin, eventually, get, soon};

/// A running proxy. A test that ends with an error prints what it was configured with.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    running: Option<Running>,
    text: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the configuration was\n{}", self.text);
            if let Some(running) = &self.running {
                let view = running.view();
                eprintln!("---- the last view was {}", view.revision);
                for pool in &view.pools {
                    for member in &pool.members {
                        eprintln!(
                            "{} {}: {:?}, {}",
                            pool.pool.name, member.backend.name, member.standing, member.reason
                        );
                    }
                }
            }
        }
    }
}

/// A configuration with one pool `p` of these origins; `pool` is added to the pool's table, `rest` comes after it.
pub fn configuration(origins: &[&Origin], pool: &str, rest: &str) -> String {
    let entries: Vec<String> = origins.iter().map(|origin| origin.entry()).collect();
    let key = if pool.contains("key =") { "" } else { "key = [\"header:x-key\", \"path\"]\n" };
    let health = if pool.contains("[pools.p.health]") { "" } else { "[pools.p.health]\nkind = \"off\"\n" };
    format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n\n[server]\nworkers = 2\n\n[admin]\naddress = \"127.0.0.1:0\"\n\n\
         [pools.p]\n{key}backends = [{}]\n{pool}\n{health}\n{rest}\n",
        entries.join(", ")
    )
}

impl Proxy {
    /// In front of these origins, with further keys for the pool's table.
    pub async fn before(origins: &[&Origin], pool: &str) -> Proxy {
        Proxy::start(&configuration(origins, pool, "")).await
    }

    /// From a whole configuration.
    pub async fn start(text: &str) -> Proxy {
        let loaded = match ringway::config::parse(text, "test.toml") {
            Ok(loaded) => loaded,
            Err(errors) => panic!("the test's configuration is wrong:\n{errors}\n{text}"),
        };
        Proxy::run(loaded, text).await
    }

    /// From a file, which can be written anew and read again.
    pub async fn from_file(file: &Path) -> Proxy {
        let text = std::fs::read_to_string(file).unwrap();
        match ringway::config::load(file) {
            Ok(loaded) => Proxy::run(loaded, &text).await,
            Err(errors) => panic!("the test's configuration is wrong:\n{errors}\n{text}"),
        }
    }

    async fn run(loaded: Loaded, text: &str) -> Proxy {
        let running = Running::start(loaded).unwrap();
        soon("every backend is probed", running.ready()).await;
        Proxy {
            address: running.listeners[0].socket().unwrap(),
            admin: running.admin.unwrap(),
            running: Some(running),
            text: text.to_owned(),
        }
    }

    pub fn reloader(&self) -> Arc<Reloader> {
        self.running.as_ref().unwrap().reloader().clone()
    }

    pub fn view(&self) -> Arc<View> {
        self.running.as_ref().unwrap().view()
    }

    /// Its listeners.
    pub fn front(&self) -> &Arc<Front> {
        self.running.as_ref().unwrap().front()
    }

    /// Has it take in the listeners, and what is asked of clients, from another configuration.
    pub fn change(&self, text: &str) -> Result<Changed, FrontError> {
        let config =
            ringway::config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        self.front().change(&config.config.listeners, &config.config.client)
    }

    /// Waits until this backend of the first pool stands so.
    pub async fn sees(&self, backend: &str, standing: Standing) {
        eventually(&format!("{backend} is {}", standing.word()), || {
            let view = self.view();
            let pool = &view.pools[0];
            let index = pool.ring.index_of(backend).unwrap();
            pool.member(index).standing == standing
        })
        .await;
    }

    /// An answer of the admin listener as JSON.
    pub async fn api(&self, path: &str) -> Value {
        let answer = self.admin_get(path).await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    pub async fn admin_get(&self, path: &str) -> Answer {
        get(self.admin, path, "Connection: close\r\n").await
    }

    /// The sum of a metric's samples whose labels contain all of these, as `name="value"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.admin_get("/metrics").await;
        sum(page.text(), name, labels)
    }

    /// Requests counted at another backend than their key's owner.
    pub async fn off_owner(&self) -> f64 {
        let name = "ringway_affinity_requests_total";
        let page = self.admin_get("/metrics").await;
        sum(page.text(), name, &[]) - sum(page.text(), name, &["reason=\"owner\""])
    }

    /// Waits until a metric's sum is this.
    pub async fn counts(&self, name: &str, labels: &[&str], wanted: f64) {
        let begun = std::time::Instant::now();
        loop {
            let now = self.metric(name, labels).await;
            if now == wanted {
                return;
            }
            assert!(begun.elapsed() < super::PATIENCE, "{name}{labels:?} is {now}, not {wanted}");
        }
    }

    /// Stops it, as a signal would.
    pub async fn stop(mut self) -> Stopped {
        let running = self.running.take().unwrap();
        soon("the proxy stops", running.stop(std::future::pending())).await
    }
}

/// The sum of a metric's samples on a page whose labels contain all of these.
pub fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let ours = samples.filter(|line| {
        let end = line.find(['{', ' ']).unwrap();
        &line[..end] == name && labels.iter().all(|label| line.contains(label))
    });
    ours.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
