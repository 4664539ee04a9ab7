//! The side of the process that comes: takes the sockets, says when it is ready, and accepts once it may.
//!
//! Owns the conversation with the process before it. If that one ends without a word, this one is the only one left, and goes on.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Instant,
};

use tokio::io::AsyncReadExt;

use super::{
    SIGN,
    wire::{Reader, say},
};
use crate::{limits::TAKEOVER_ANSWER, server::Handed};

/// The process before this one, which serves until this one is ready.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// The process that has started this one to take over, if there is one.
    ///
    /// # Errors
    /// The descriptor for it can't be had.
    pub fn find() -> io::Result<Option<Predecessor>> {
        if std::env::var_os(SIGN).is_none() {
            return Ok(None);
        }
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // What this process starts itself, or reads, is not to take it for an input.
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Ok(Some(Predecessor { stream }))
    }

    /// The sockets that it hands over.
    ///
    /// # Errors
    /// They did not come, or are not what they are said to be.
    pub fn sockets(&self) -> io::Result<Vec<Handed>> {
        let sockets = Reader::new().sockets(&self.stream, Instant::now() + TAKEOVER_ANSWER)?;
        sockets.iter().try_for_each(Handed::check)?;
        Ok(sockets)
    }

    /// Tells it that nothing will come of this.
    pub fn refuse(&self, reason: &str) {
        // It may be gone; this process is about to be.
        let _ = say(&self.stream, &format!("error {}", reason.trim()));
    }

    /// Tells it that everything is ready, and waits until this process may accept. `false`: the other one is gone.
    ///
    /// # Errors
    /// It can't be talked to.
    pub async fn ready(&self) -> io::Result<bool> {
        self.stream.set_nonblocking(false)?;
        // One that is gone is found so below.
        let _ = say(&self.stream, "ready");
        let stream = self.stream.try_clone()?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        let mut heard = Vec::new();
        loop {
            match stream.read_buf(&mut heard).await {
                Ok(1..) if heard.ends_with(b"go\n") => return Ok(true),
                Ok(1..) if heard.len() <= b"go\n".len() => {}
                Ok(1..) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it did not say \"go\"")),
                Ok(0) | Err(_) => return Ok(false),
            }
        }
    }

    /// Tells it that this process accepts: it may leave.
    pub fn taken(self) {
        // If it is gone, it knows what it needs to know.
        let _ = say(&self.stream, "taken");
    }
}
