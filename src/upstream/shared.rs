//! Connections that carry many exchanges at a time: HTTP/2 to backends.
//!
//! Owns them by backend, the tasks that carry their bytes, and who waits while one is being opened: requests that come together share
//! one connection instead of opening one each. A connection from which the backend has taken leave, or that is too old, takes no further
//! stream and ends with its last one.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::Instant,
};

use super::{Care, ReusePolicy, idle::count};
use crate::{
    endpoint::Endpoint,
    fleet::Backend,
    http2::{ErrorCode, Limits, Mux},
    io::{Buffer, Carrier, Deadline, Stopped, Stream},
    limits::{ANSWER_HEAD_BYTES, BACKEND_STALL, BACKEND_STREAM_WINDOW, BACKEND_STREAMS, HEADERS_MAX},
    tally::Closed,
};

/// A worker's shared connections.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By [`Backend::id`], which is dense.
    backends: RefCell<Vec<OfBackend>>,
}

#[derive(Debug, Default)]
struct OfBackend {
    trunks: Vec<Rc<Trunk>>,
    /// Somebody is opening one, and these wait for it.
    opening: Option<Vec<Waker>>,
    /// The last connection that was opened can't be shared: nobody waits for the next one.
    is_alone: bool,
}

/// One connection.
#[derive(Debug)]
struct Trunk {
    mux: Rc<Mux>,
    stream: RefCell<Stream>,
    address: Endpoint,
    /// It takes no further stream.
    is_retired: Cell<bool>,
}

/// Somebody opens a connection. When this is dropped, those who wait look again.
#[derive(Debug)]
pub struct Opening<'a> {
    shared: &'a Shared,
    backend: usize,
    has_waiting: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.has_waiting {
            return;
        }
        let waiting = self.shared.backends.borrow_mut()[self.backend].opening.take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Shared {
    fn with<T>(&self, backend: &Backend, look: impl FnOnce(&mut OfBackend) -> T) -> T {
        let mut backends = self.backends.borrow_mut();
        if backends.len() <= backend.id {
            backends.resize_with(backend.id + 1, OfBackend::default);
        }
        look(&mut backends[backend.id])
    }

    /// A stream on a connection that still goes to one of `addresses`. Each has carried one before: its first is opened with it.
    pub(super) fn take(
        &self,
        backend: &Backend,
        addresses: &[Endpoint],
        care: Care,
        is_for_head: bool,
    ) -> Option<(Stream, Endpoint)> {
        self.with(backend, |of| {
            of.trunks.retain(|trunk| !trunk.mux.is_spent());
            of.trunks.iter().filter(|trunk| !trunk.is_retired.get()).find_map(|trunk| {
                // Not where a request that can't be repeated would meet a backend that is gone.
                let is_gone = care == Care::Full && trunk.stream.borrow().has_ended();
                if is_gone || !addresses.contains(&trunk.address) {
                    trunk.is_retired.set(true);
                    trunk.mux.wake();
                    return None;
                }
                let stream = trunk.mux.open(is_for_head)?;
                Some((Stream::Multiplexed(stream), trunk.address.clone()))
            })
        })
    }

    /// Lets go of connections that take no further stream: whoever carries their bytes closes them with the last one. Nobody may ask for their
    /// backends again.
    pub(super) fn sweep(&self) {
        self.backends.borrow_mut().iter_mut().for_each(|of| of.trunks.retain(|trunk| !trunk.mux.is_spent()));
    }

    /// Waits while somebody else opens a connection to this backend. `None` if nobody does: then it is the caller's to do.
    pub(super) async fn opening<'a>(&'a self, backend: &Backend) -> Option<Opening<'a>> {
        let mut has_waited = false;
        std::future::poll_fn(|cx| {
            let opening = |has_waiting| Opening { shared: self, backend: backend.id, has_waiting };
            self.with(backend, |of| match &mut of.opening {
                _ if of.is_alone => Poll::Ready(Some(opening(false))),
                Some(waiting) => {
                    has_waited = true;
                    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                        waiting.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
                None if has_waited => Poll::Ready(None),
                none => {
                    *none = Some(Vec::new());
                    Poll::Ready(Some(opening(true)))
                }
            })
        })
        .await
    }

    /// Says whether a connection that was opened can be shared.
    pub(super) fn note(&self, backend: &Backend, is_shared: bool) {
        self.with(backend, |of| of.is_alone = !is_shared);
    }

    /// Takes a new connection in, and opens its first stream once the backend has said how many it allows. `None`: none, or the
    /// connection is gone.
    pub(super) async fn add(
        &self,
        worker: usize,
        backend: &Arc<Backend>,
        policy: &ReusePolicy,
        (stream, address): (Stream, Endpoint),
        is_for_head: bool,
    ) -> Option<Stream> {
        let mux = Mux::client(Limits {
            streams: BACKEND_STREAMS,
            stream_window: BACKEND_STREAM_WINDOW,
            // One client that takes nothing must not stop the answers of others.
            connection_window: BACKEND_STREAMS * BACKEND_STREAM_WINDOW,
            head_bytes: ANSWER_HEAD_BYTES / 2,
            head_fields: HEADERS_MAX,
        });
        let stream = RefCell::new(stream);
        let trunk = Rc::new(Trunk { mux: mux.clone(), stream, address, is_retired: Cell::new(false) });
        tokio::task::spawn_local(carry(worker, backend.clone(), policy.clone(), trunk.clone()));
        // Whoever stops waiting leaves a connection that nobody knows of: it ends as idle ones do.
        if !mux.ready().await {
            return None;
        }
        let first = mux.open(is_for_head)?;
        self.with(backend, |of| of.trunks.push(trunk));
        Some(Stream::Multiplexed(first))
    }
}

/// Carries a connection's bytes until it has come to its end.
async fn carry(worker: usize, backend: Arc<Backend>, policy: ReusePolicy, trunk: Rc<Trunk>) {
    let mux = &trunk.mux;
    let mut carrier = Carrier::new(mux.clone());
    let (mut input, mut timer) = (Buffer::default(), Deadline::default());
    let old = Instant::now() + policy.max_age;
    let mut idle_since = None;
    let mut code = ErrorCode::NoError;
    let reason = std::future::poll_fn(|cx| {
        match carrier.run(cx, &mut trunk.stream.borrow_mut(), &mut input, &mut |_| {}) {
            Ok(()) => {}
            Err(Stopped::Gone) if mux.open_streams() == 0 => return Poll::Ready(Closed::ByBackend),
            Err(Stopped::Gone) => return Poll::Ready(Closed::Aborted),
            Err(Stopped::Fault(fault)) => {
                tracing::debug!(
                    backend = &*backend.name,
                    kind = fault.kind.word(),
                    "an HTTP/2 connection ends: {}",
                    fault.why
                );
                code = fault.code;
                return Poll::Ready(Closed::Aborted);
            }
        }
        let now = Instant::now();
        if now >= old {
            trunk.is_retired.set(true);
        }
        let is_idle = mux.open_streams() == 0;
        if let Some(since) = carrier.stalled_since
            && timer.poll(cx, since + BACKEND_STALL).is_ready()
        {
            return Poll::Ready(Closed::Aborted);
        }
        if !is_idle {
            idle_since = None;
            // Whoever works on a stream has times of his own.
            return Poll::Pending;
        }
        if idle_since.is_none() {
            mux.rest();
            carrier.rest();
            // A frame of which a part has come stays.
            if input.is_empty() {
                input = Buffer::default();
            }
        }
        let since = *idle_since.get_or_insert(now);
        if mux.is_spent() {
            return Poll::Ready(Closed::NotKept);
        }
        if trunk.is_retired.get() {
            return Poll::Ready(if now >= old { Closed::Age } else { Closed::Retired });
        }
        timer.poll(cx, (since + policy.keep_alive).min(old)).map(|()| Closed::Idle)
    })
    .await;
    trunk.is_retired.set(true);
    mux.leave(code);
    mux.end();
    // The last words, as far as they are taken at once.
    let _ =
        std::future::poll_fn(|cx| Poll::Ready(carrier.poll_write(cx, &mut trunk.stream.borrow_mut()))).await;
    count(backend.cells(worker), reason);
}
