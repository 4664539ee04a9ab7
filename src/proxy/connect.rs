//! How an attempt comes by its connection: one that is idle, a stream on one that others use too, or a new one.
//!
//! Owns that choice, and the waiting for it. Never decides what becomes of a connection afterwards: that is [`super::attempt`].

use std::time::Instant;

use super::attempt::Attempt;
use crate::{
    fleet::MemberView,
    http1::Method,
    io::Deadline,
    tally::AttemptEnd,
    upstream::{Care, Connection, Protocol},
};

impl Attempt<'_> {
    /// A connection to the backend, and the time when it was there.
    pub(super) async fn connection(&self, timer: &mut Deadline) -> Result<(Connection, Instant), AttemptEnd> {
        let MemberView { backend, addresses, .. } = self.member;
        let care = if self.head.method.is_idempotent() { Care::Usual } else { Care::Full };
        let now = Instant::now();
        if self.plan.approach.protocol != Protocol::Http1 {
            return Box::pin(self.shared_connection(timer, now)).await;
        }
        if !self.fresh
            && let Some(connection) = self.gateway.upstreams.take(backend, addresses, care, now)
        {
            return Ok((connection, now));
        }
        Box::pin(self.open(timer, now)).await
    }

    /// A stream on a connection that others use too; or a connection, if the backend does not speak HTTP/2.
    async fn shared_connection(
        &self,
        timer: &mut Deadline,
        begun: Instant,
    ) -> Result<(Connection, Instant), AttemptEnd> {
        let MemberView { backend, addresses, .. } = self.member;
        let upstreams = &self.gateway.upstreams;
        let is_for_head = self.head.method == Method::Head;
        let limit = self.plan.forward.connect_timeout;
        let limit = self.total.map_or(limit, |total| limit.min(total.saturating_duration_since(begun)));
        let mut is_fresh = self.fresh;
        let _opening = loop {
            if !is_fresh {
                let care = if self.head.method.is_idempotent() { Care::Usual } else { Care::Full };
                let stream = upstreams.take_stream(backend, addresses, care, is_for_head, begun);
                let kept = || upstreams.take(backend, addresses, care, begun);
                if let Some(connection) = stream.or_else(kept) {
                    return Ok((connection, Instant::now()));
                }
            }
            let rest = limit.saturating_sub(begun.elapsed());
            match timer.within(rest, upstreams.opening(backend)).await {
                Some(Some(opening)) => break opening,
                // What somebody else has opened is new.
                Some(None) => is_fresh = false,
                None => return Err(AttemptEnd::ConnectTimeout),
            }
        };
        let (connection, now) = self.open(timer, Instant::now()).await?;
        let is_shared = self.plan.approach.speaks_http2(&connection.stream);
        upstreams.note_shared(backend, is_shared);
        if !is_shared {
            return Ok((connection, now));
        }
        let shared = upstreams.share(backend, &self.plan.reuse, connection, is_for_head);
        match timer.within(limit, shared).await {
            Some(Some(connection)) => Ok((connection, now)),
            Some(None) => Err(AttemptEnd::ConnectFailed),
            None => Err(AttemptEnd::ConnectTimeout),
        }
    }

    async fn open(&self, timer: &mut Deadline, begun: Instant) -> Result<(Connection, Instant), AttemptEnd> {
        let MemberView { backend, addresses, .. } = self.member;
        let limit = self.plan.forward.connect_timeout;
        let limit = self.total.map_or(limit, |total| limit.min(total.saturating_duration_since(begun)));
        let open = || Connection::open((addresses, limit), &self.plan.approach, &backend.address, self.ends);
        let mut opened = timer.within(limit, open()).await;
        if matches!(&opened, Some(Err(error)) if error.is_local()) {
            // Idle connections are worth less than this request.
            self.gateway.upstreams.close_all();
            opened = timer.within(limit, open()).await;
        }
        match opened {
            Some(Ok(connection)) => {
                let now = Instant::now();
                backend.cells(self.gateway.worker).opened.bump();
                self.pool.cells(self.gateway.worker).connect.observe(now - begun);
                Ok((connection, now))
            }
            Some(Err(error)) if error.is_local() => {
                tracing::debug!(%error, "short of descriptors or memory");
                Err(AttemptEnd::Shortage)
            }
            Some(Err(error)) => {
                tracing::debug!(pool = &*self.pool.name, backend = &*backend.name, %error, "connect failed");
                Err(AttemptEnd::ConnectFailed)
            }
            None => Err(AttemptEnd::ConnectTimeout),
        }
    }
}
