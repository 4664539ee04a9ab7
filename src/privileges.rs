//! What the process may do: given up once everything is bound and open.
//!
//! Owns the change of user, whose the files are that are made before it, and the report of what is left. The C library changes all threads at
//! once, so it does not matter which have been started; nothing has been read from a client by then.

use std::{fs::File, io, os::unix::fs::fchown, path::Path, sync::OnceLock};

use nix::unistd::{Uid, User, getegid, geteuid, setgid, setgroups, setuid};
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs},
};

/// Why the user can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Nobody has that name.
    #[error("there is no user {0:?} (`server.user`); `useradd --system {0}` makes one")]
    NoSuchUser(String),
    /// It is a number, and nobody has that as a name.
    #[error("{number:?} is no user (`server.user`): it takes a name, not a number{}", who.as_ref().map_or_else(String::new, |who| format!(", here {who:?}")))]
    Number {
        /// The number.
        number: String,
        /// Who has it.
        who: Option<String>,
    },
    /// The system does not allow it, or can't tell.
    #[error(
        "can't become the user {user:?} (`server.user`): {error}; only root can change the user, so start as root or leave `server.user` out"
    )]
    Refused {
        /// Whom.
        user: String,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// The user who has this name.
///
/// # Errors
/// Nobody has, or the system can't tell.
pub fn find(name: &str) -> Result<User, PrivilegeError> {
    let refused = |error: nix::Error| PrivilegeError::Refused { user: name.to_owned(), error: error.into() };
    match User::from_name(name).map_err(refused)? {
        Some(user) => Ok(user),
        None => Err(match name.parse() {
            Ok(number) => {
                let who = User::from_uid(Uid::from_raw(number)).ok().flatten();
                PrivilegeError::Number { number: name.to_owned(), who: who.map(|user| user.name) }
            }
            Err(_) => PrivilegeError::NoSuchUser(name.to_owned()),
        }),
    }
}

/// Whom the process is to become: its user and group.
static TO_BE: OnceLock<(u32, u32)> = OnceLock::new();

/// Takes the ways back to more rights from the calling thread and all that it starts, if the process is to become another user: no program
/// that it runs gets any (PR_SET_NO_NEW_PRIVS), not even those of its own file (PR_CAPBSET_DROP). What it may do itself stays until
/// [`become_user`]. Each thread has these for itself, so this comes before the first one is started. What the system does not allow is left;
/// [`left`] shows that.
pub fn narrow(name: &str) {
    if find(name).is_ok_and(|user| user.uid != geteuid()) {
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            // The first one that the kernel does not know ends it, or that it may not take.
            if remove_capability_from_bounding_set(capability).is_err() {
                break;
            }
        }
        let _ = set_no_new_privs(true);
    }
}

/// From now on, what is made for the user whom the process will become is given to that user.
///
/// # Errors
/// There is no such user.
pub fn will_become(name: &str) -> Result<(), PrivilegeError> {
    let user = find(name)?;
    // Once in a process: a second proxy in one is the tests' case alone.
    let _ = TO_BE.set((user.uid.as_raw(), user.gid.as_raw()));
    Ok(())
}

/// To whom something that is made now has to be given, if not to the one who makes it.
fn whose() -> Option<(u32, u32)> {
    TO_BE.get().copied().filter(|(user, _)| geteuid().as_raw() != *user)
}

/// Gives a file that was just made to the user whom the process will become. Where the system does not allow that, the log says so: what is
/// open works all the same.
pub fn give(file: &File, path: &Path) {
    if let Some((user, group)) = whose() {
        told_if_kept(path, fchown(file, Some(user), Some(group)));
    }
}

/// The same with a folder or a socket. Follows no link, and gives nothing else that may have taken its place.
pub fn give_made(path: &Path) {
    if let Some((user, group)) = whose() {
        told_if_kept(path, give_what_is_at(path, user, group));
    }
}

fn told_if_kept(path: &Path, given: io::Result<()>) {
    if let Err(error) = given {
        tracing::warn!(path = %path.display(), %error, "what was made here can't be given to the user of `server.user`");
    }
}

fn give_what_is_at(path: &Path, user: u32, group: u32) -> io::Result<()> {
    let found =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::Socket) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has taken its place"));
    }
    let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
    Ok(rustix::fs::chownat(&found, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
}

/// Becomes this user, with that user's own group and no other, for good.
///
/// # Errors
/// It did not come about: the process must not go on with more than it was meant to have.
pub fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let refused = |error: nix::Error| PrivilegeError::Refused { user: name.to_owned(), error: error.into() };
    let user = find(name)?;
    if (geteuid(), getegid()) == (user.uid, user.gid) {
        return Ok(());
    }
    // Groups first: afterwards there is no right to.
    setgroups(&[]).map_err(refused)?;
    setgid(user.gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)?;
    // One that could come back was not given up.
    if !user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::Refused { user: name.to_owned(), error: io::ErrorKind::Other.into() });
    }
    Ok(())
}

/// The name of the user that the process is.
pub fn name() -> String {
    let user = User::from_uid(geteuid()).ok().flatten();
    user.map_or_else(|| geteuid().to_string(), |user| user.name)
}

/// User, group and capabilities that the process has, and may still get, for its log.
pub fn left() -> String {
    let (user, group) = (geteuid(), getegid());
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let set = |name: &str| {
        let set = status.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
        match u64::from_str_radix(set, 16) {
            Ok(0) => "none".to_owned(),
            _ => set.to_owned(),
        }
    };
    let (has, bound) = (set("CapEff:"), set("CapBnd:"));
    let can_get = match rustix::thread::no_new_privs() {
        Ok(true) => "none".to_owned(),
        _ => bound,
    };
    format!("uid {user}, gid {group}, capabilities {has}, can get {can_get}")
}
