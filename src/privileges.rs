//! What the process may do: given up once everything is bound and open.
//!
//! Owns the change of user and the report of what is left. The C library changes all threads at once, so it does not matter which have been
//! started; nothing has been read from a client by then.

use std::io;

use nix::unistd::{User, getegid, geteuid, setgid, setgroups, setuid};

/// Why the user can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Nobody has that name.
    #[error("there is no user {0:?}; `useradd --system {0}` makes one")]
    NoSuchUser(String),
    /// The system does not allow it, or can't tell.
    #[error(
        "can't become the user {user:?}: {error}; only root can change the user, so start as root or leave `server.user` out"
    )]
    Refused {
        /// Whom.
        user: String,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// Becomes this user, with that user's own group and no other, for good.
///
/// # Errors
/// It did not come about: the process must not go on with more than it was meant to have.
pub fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let refused = |error: nix::Error| PrivilegeError::Refused { user: name.to_owned(), error: error.into() };
    let user = User::from_name(name).map_err(refused)?;
    let user = user.ok_or_else(|| PrivilegeError::NoSuchUser(name.to_owned()))?;
    if (geteuid(), getegid()) == (user.uid, user.gid) {
        return Ok(());
    }
    // Groups first: afterwards there is no right to.
    setgroups(&[]).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)?;
    // One that could come back was not given up.
    if !user.uid.is_root() && setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::Refused { user: name.to_owned(), error: io::ErrorKind::Other.into() });
    }
    Ok(())
}

/// User, group and capabilities that the process has, for its log.
pub fn left() -> String {
    let (user, group) = (geteuid(), getegid());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map_or("?", str::trim);
    let capabilities = match u64::from_str_radix(capabilities, 16) {
        Ok(0) => "none".to_owned(),
        _ => capabilities.to_owned(),
    };
    format!("uid {user}, gid {group}, capabilities {capabilities}")
}
