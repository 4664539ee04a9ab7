//! The client's end of an exchange: its stream, and what is known about its connection.
//!
//! Owns what stays from one request of a connection to the next. Never says what becomes of the connection.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use super::own_fields::HSTS;
use crate::{
    io::{Buffer, Deadline, Stream},
    preface::Ends,
};

/// The client's end of the exchange.
#[derive(Debug)]
pub struct ClientEnd {
    /// Its bytes.
    pub stream: Stream,
    /// What was read from it and not used yet.
    pub input: Buffer,
    /// The connection's timer.
    pub timer: Deadline,
    /// The connection's other end, or whom a balancer named as such; loopback for a client on a Unix socket.
    pub peer: IpAddr,
    /// What is known before the client's first request. On the heap, as most have nothing, and shared by the streams of one connection.
    pub(super) told: Option<Rc<Told>>,
    /// The port of the listener that speaks TLS, if this one only says so.
    pub redirect: Option<u16>,
    /// Time without a byte passing in a body, in either direction.
    pub idle_body_timeout: Duration,
}

/// What is known about a client's connection before its first request, and holds for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Both ends of its connection, if a balancer named them.
    pub ends: Option<Ends>,
    /// The subject of its certificate by RFC 4514, in printable ASCII.
    pub subject: Option<String>,
    /// What all answers say about the use of TLS (RFC 6797).
    pub hsts: Option<Arc<str>>,
}

impl ClientEnd {
    /// The end of a connection that nothing has been read from.
    pub fn new(
        stream: Stream,
        peer: IpAddr,
        told: Option<Rc<Told>>,
        idle_body_timeout: Duration,
    ) -> ClientEnd {
        ClientEnd {
            stream,
            input: Buffer::default(),
            timer: Deadline::default(),
            peer,
            told,
            redirect: None,
            idle_body_timeout,
        }
    }

    /// What all answers to it say about the use of TLS (RFC 6797).
    pub fn hsts(&self) -> Option<(&str, &str)> {
        Some((HSTS, self.told.as_ref()?.hsts.as_deref()?))
    }

    /// What was said about the client, for those who serve its streams.
    pub fn take_told(&mut self) -> Option<Rc<Told>> {
        self.told.take()
    }

    /// Both ends of the client's connection, as far as they have addresses.
    pub fn ends(&self) -> Option<Ends> {
        let told = self.told.as_ref().and_then(|told| told.ends);
        told.or_else(|| self.stream.ends().map(|(source, destination)| Ends { source, destination }))
    }
}
