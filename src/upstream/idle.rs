//! A worker's idle connections, by backend.
//!
//! Owns their number and age: at most `max_idle` each, last in first out, none past its time. So a pool that is used
//! little keeps few connections, and those are the ones that were alive most recently.

use std::{cell::RefCell, sync::Arc, time::Instant};

use super::{
    Connection, ReusePolicy,
    shared::{Opening, Shared},
};
use crate::{
    endpoint::Endpoint,
    fleet::Backend,
    tally::{BackendCells, Closed},
};

/// The connections that wait for their next exchange.
#[derive(Debug)]
pub struct Upstreams {
    worker: usize,
    /// By [`Backend::id`], which is dense.
    stacks: RefCell<Vec<Stack>>,
    shared: Shared,
}

#[derive(Debug, Default)]
struct Stack {
    backend: Option<Arc<Backend>>,
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    /// When it stops being used, and the reason that will be.
    expires: Instant,
    because: Closed,
}

/// Whom a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// A request that can be repeated: what the runtime knows is enough.
    Usual,
    /// One that can't: the kernel is asked whether the backend has closed it.
    Full,
}

impl Upstreams {
    /// None yet.
    pub fn new(worker: usize) -> Upstreams {
        Upstreams { worker, stacks: RefCell::default(), shared: Shared::default() }
    }

    /// The connection to this backend that was used last, if there is one that still goes to one of `addresses`.
    pub fn take(
        &self,
        backend: &Backend,
        addresses: &[Endpoint],
        care: Care,
        now: Instant,
    ) -> Option<Connection> {
        let mut stacks = self.stacks.borrow_mut();
        let idle = &mut stacks.get_mut(backend.id)?.idle;
        let cells = backend.cells(self.worker);
        while let Some(Idle { connection, expires, because }) = idle.pop() {
            let fault = if expires <= now {
                because
            } else if !addresses.contains(&connection.address) {
                Closed::Retired
            } else if !connection.stream.seems_open()
                || ((care == Care::Full || connection.suspect) && !connection.stream.is_open())
            {
                Closed::ByBackend
            } else {
                cells.reused.bump();
                return Some(Connection { reused: true, ..connection });
            };
            count(cells, fault);
        }
        None
    }

    /// A stream of its own on a connection that others use too.
    pub fn take_stream(
        &self,
        backend: &Backend,
        addresses: &[Endpoint],
        care: Care,
        is_for_head: bool,
        now: Instant,
    ) -> Option<Connection> {
        let (stream, address) = self.shared.take(backend, addresses, care, is_for_head)?;
        backend.cells(self.worker).reused.bump();
        Some(Connection { reused: true, ..Connection::new(stream, address, now) })
    }

    /// Waits while somebody else opens a connection to this backend that can be shared. Whoever gets an [`Opening`] is to open one.
    pub async fn opening<'a>(&'a self, backend: &Backend) -> Option<Opening<'a>> {
        self.shared.opening(backend).await
    }

    /// Says whether a connection that was opened to this backend can be shared.
    pub fn note_shared(&self, backend: &Backend, is_shared: bool) {
        self.shared.note(backend, is_shared);
    }

    /// Shares a new connection, and gives a stream on it.
    pub async fn share(
        &self,
        backend: &Arc<Backend>,
        policy: &ReusePolicy,
        connection: Connection,
        is_for_head: bool,
    ) -> Option<Connection> {
        let Connection { stream, address, born, .. } = connection;
        let to = address.clone();
        let stream = self.shared.add(self.worker, backend, policy, (stream, address), is_for_head).await?;
        Some(Connection::new(stream, to, born))
    }

    /// Keeps a connection whose exchange has come to its proper end.
    pub fn give_back(
        &self,
        backend: &Arc<Backend>,
        policy: &ReusePolicy,
        connection: Connection,
        now: Instant,
    ) {
        // The stream has ended; its connection is others' too.
        if connection.is_stream() {
            return;
        }
        debug_assert!(connection.input.is_empty(), "bytes after the last answer belong to nobody");
        let mut stacks = self.stacks.borrow_mut();
        if stacks.len() <= backend.id {
            stacks.resize_with(backend.id + 1, Stack::default);
        }
        let stack = &mut stacks[backend.id];
        let (idle_end, age_end) = (now + policy.keep_alive, connection.born + policy.max_age);
        if stack.idle.len() >= policy.max_idle {
            return count(backend.cells(self.worker), Closed::Excess);
        }
        if age_end <= now {
            return count(backend.cells(self.worker), Closed::Age);
        }
        stack.backend.get_or_insert_with(|| backend.clone());
        let (expires, because) =
            if idle_end < age_end { (idle_end, Closed::Idle) } else { (age_end, Closed::Age) };
        stack.idle.push(Idle { connection, expires, because });
    }

    /// Closes a connection that can't be kept.
    pub fn close(&self, backend: &Backend, connection: Connection, reason: Closed) {
        if connection.is_stream() {
            return;
        }
        drop(connection);
        count(backend.cells(self.worker), reason);
    }

    /// Closes those whose time is over and those that their backend has closed.
    pub fn sweep(&self, now: Instant) {
        self.shared.sweep();
        for stack in self.stacks.borrow_mut().iter_mut() {
            let Some(backend) = &stack.backend else { continue };
            let cells = backend.cells(self.worker);
            stack.idle.retain(|idle| {
                let open = idle.connection.stream.seems_open();
                if open && idle.expires > now {
                    return true;
                }
                count(cells, if open { idle.because } else { Closed::ByBackend });
                false
            });
            if stack.idle.is_empty() {
                // It may be gone for good, and its counts with it.
                *stack = Stack::default();
            }
        }
    }

    /// Closes all of them.
    pub fn close_all(&self) {
        for stack in self.stacks.borrow_mut().drain(..) {
            if let Some(backend) = stack.backend {
                stack.idle.iter().for_each(|_| count(backend.cells(self.worker), Closed::Retired));
            }
        }
    }
}

pub(super) fn count(cells: &BackendCells, reason: Closed) {
    cells.closed.at(reason as usize).bump();
}
