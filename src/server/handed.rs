//! Listening sockets that come from another process, or go to one: from the Ringway before this one, to the one after it, or from the
//! service manager.
//!
//! Owns what is said about them and the choice of those that a listener goes on with. Neither sends nor receives any.

use std::{io, sync::Arc};

use socket2::{Domain, Socket, Type};

use crate::endpoint::Endpoint;

/// The sockets of one address.
#[derive(Debug)]
pub struct Handed {
    /// The listener's name, or what the service manager calls it.
    pub name: String,
    /// The address as it was asked for. `None`: nobody says.
    pub asked: Option<Endpoint>,
    /// Where they listen.
    pub address: Endpoint,
    /// Them: at least one.
    pub sockets: Vec<Socket>,
    /// Device and number of a Unix socket's file, if it is to be taken away at the end. `None`: somebody else does.
    pub file: Option<(u64, u64)>,
}

impl Handed {
    /// One of which nothing is known but itself.
    ///
    /// # Errors
    /// It is not a socket that listens for streams at an address of ours.
    pub fn unknown(name: String, socket: Socket) -> io::Result<Handed> {
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(wrong("not a stream socket that listens"));
        }
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), local.as_pathname()) {
            (Some(address), _) => Endpoint::Tcp(address),
            (_, Some(path)) => Endpoint::Unix(Arc::from(path)),
            _ => return Err(wrong("neither at an IP address nor at a path")),
        };
        Ok(Handed { name, asked: None, address, sockets: vec![socket], file: None })
    }

    /// Whether these are sockets for what stands in the configuration.
    fn is_for(&self, wanted: &Endpoint) -> bool {
        self.asked.as_ref() == Some(wanted) || self.address == *wanted
    }

    /// Whether they are what they are said to be.
    ///
    /// # Errors
    /// They are not.
    pub fn check(&self) -> io::Result<()> {
        let is_unix = matches!(self.address, Endpoint::Unix(_));
        for socket in &self.sockets {
            if (socket.domain()? == Domain::UNIX) != is_unix || !socket.is_listener()? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("what was handed over for {} does not listen there", self.address),
                ));
            }
        }
        Ok(())
    }
}

/// Takes those that are for this address, of this name if several were asked for in the same way.
pub fn take_handed(all: &mut Vec<Handed>, name: &str, wanted: &Endpoint) -> Option<Handed> {
    let named = all.iter().position(|one| one.is_for(wanted) && one.name == name);
    let at = named.or_else(|| all.iter().position(|one| one.is_for(wanted)))?;
    Some(all.remove(at))
}
