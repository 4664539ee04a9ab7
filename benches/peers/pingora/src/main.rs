//! A consistent-hash balancer on Pingora: path and query choose the backend on its ketama ring.
//!
//! Called as `pingora-balancer LISTEN IDLE-CONNECTIONS check|trust BACKEND...`. Never anything but what ../README.md
//! compares: no TLS, no log, no health checks unless they are asked for.

use std::{env::args, sync::Arc, time::Duration};

use async_trait::async_trait;
use pingora::lb::{LoadBalancer, health_check::TcpHealthCheck, selection::Consistent};
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use pingora::services::background::background_service;

struct Balancer(Arc<LoadBalancer<Consistent>>);

#[async_trait]
impl ProxyHttp for Balancer {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let uri = &session.req_header().uri;
        let key = uri.path_and_query().map_or("/", |both| both.as_str());
        let backend =
            self.0.select(key.as_bytes(), 256).ok_or_else(|| Error::new_str("every backend is down"))?;
        Ok(Box::new(HttpPeer::new(backend, false, String::new())))
    }
}

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let idle = words[1].parse().expect("a number of idle connections");
    let mut conf = ServerConf { threads: 1, upstream_keepalive_pool_size: idle, ..ServerConf::default() };
    // Ends at once when told to, instead of minutes later.
    (conf.grace_period_seconds, conf.graceful_shutdown_timeout_seconds) = (Some(0), Some(0));
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut backends = LoadBalancer::try_from_iter(&words[3..]).expect("addresses of backends");
    if words[2] == "check" {
        backends.set_health_check(TcpHealthCheck::new());
        backends.health_check_frequency = Some(Duration::from_secs(1));
    }
    let background = background_service("backends", backends);
    let mut proxy = http_proxy_service(&server.configuration, Balancer(background.task()));
    proxy.add_tcp(&words[0]);
    server.add_service(proxy);
    server.add_service(background);
    server.run_forever();
}
