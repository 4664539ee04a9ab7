//! What a configuration takes for granted of the machine that it runs on: users, files and folders.
//!
//! Owns the look at them: what a start would fail at, and what would fail later, when the process is somebody else. Opens nothing for use,
//! changes nothing.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use rustix::{fs::Access, io::Errno};

use super::{StartError, plans::kept_orders, read_token};
use crate::{config::Config, privileges, tls::is_exposed};

/// All that a start would fail at, with the keys that it is about; certificates aside.
pub fn faults(config: &Config) -> Vec<String> {
    let user = config.server.user.as_deref().map(privileges::find).transpose();
    let log = config.access_log.as_ref().and_then(|log| log.file.as_deref());
    let log =
        log.map_or(Ok(()), |file| can_be_appended(file).map_err(|error| super::no_access_log(config, error)));
    [user.err().map(StartError::from), read_token(config).err(), kept_orders(&config.server).err(), log.err()]
        .into_iter()
        .flatten()
        .map(|fault| fault.to_string())
        .collect()
}

/// Whether there is a file or could be one.
fn can_be_appended(file: &Path) -> io::Result<()> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::metadata(folder_of(file)).map(drop),
        Err(error) => Err(error),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Private files that everybody on this machine can read, each with what it is.
pub fn exposed(config: &Config) -> Vec<String> {
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let keys = listeners.flat_map(|tls| &tls.certificates).map(|files| &files.key);
    let keys = keys.chain(config.pools.iter().filter_map(|pool| pool.tls.as_ref()?.key.as_ref()));
    let keys = keys.map(|file| (file, "private key"));
    keys.filter_map(|(file, what)| told_if_exposed(file, what)).chain(exposed_token(config)).collect()
}

/// The same about the admin token alone: of keys, whoever reads them tells.
pub(super) fn exposed_token(config: &Config) -> Option<String> {
    told_if_exposed(config.admin.token_file.as_ref()?, "admin token")
}

fn told_if_exposed(file: &Path, what: &str) -> Option<String> {
    let told = || {
        format!(
            "everybody on this machine can read the {what} in {}: take the others' permissions away (chmod o= FILE)",
            file.display()
        )
    };
    is_exposed(file).then(told)
}

/// Somebody who is to read and write files.
struct Who {
    name: String,
    user: u32,
    group: u32,
}

/// What is asked of a file or folder.
struct Wish {
    key: &'static str,
    path: PathBuf,
    access: Access,
    /// What comes of it if it is not granted.
    else_: &'static str,
}

/// What the process will not be able to do as the user that it is or is to become. What can't be known is left out.
pub fn doubts(config: &Config, file: Option<&Path>) -> Vec<String> {
    let who = match &config.server.user {
        Some(name) => match privileges::find(name) {
            Ok(user) => Who { name: user.name, user: user.uid.as_raw(), group: user.gid.as_raw() },
            Err(_) => return vec![],
        },
        None => {
            Who { name: privileges::name(), user: geteuid().as_raw(), group: nix::unistd::getegid().as_raw() }
        }
    };
    wishes(config, file).iter().filter_map(|wish| who.told_if_refused(wish)).collect()
}

fn wishes(config: &Config, file: Option<&Path>) -> Vec<Wish> {
    const RELOAD: &str = "every reload and upgrade will be refused";
    let reading =
        |key, path: &Path| Wish { key, path: path.to_owned(), access: Access::READ_OK, else_: RELOAD };
    let mut wishes: Vec<Wish> = file.map(|file| reading("the configuration", file)).into_iter().collect();
    wishes.extend(config.admin.token_file.as_deref().map(|file| reading("`admin.token_file`", file)));
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        for files in &tls.certificates {
            wishes.push(reading("a listener's certificate", &files.certificate));
            wishes.push(reading("a listener's private key", &files.key));
            wishes.extend(files.ocsp.as_deref().map(|file| reading("a listener's `ocsp`", file)));
        }
        wishes.extend(tls.client_ca.as_deref().map(|file| reading("`client_ca`", file)));
        wishes.extend(tls.acme.as_ref().map(|acme| Wish {
            key: "`acme.folder`",
            path: acme.folder.clone(),
            access: Access::WRITE_OK | Access::EXEC_OK,
            else_: "no certificate can be kept there",
        }));
    }
    for tls in config.pools.iter().filter_map(|pool| pool.tls.as_ref()) {
        let files = [&tls.roots, &tls.certificate, &tls.key];
        wishes.extend(files.into_iter().flatten().map(|file| reading("a pool's TLS", file)));
    }
    if let Some(file) = config.access_log.as_ref().and_then(|log| log.file.as_deref()) {
        let (path, access) = (file.to_owned(), Access::WRITE_OK);
        wishes.push(Wish { key: "`access_log.file`", path, access, else_: RELOAD });
    }
    if let Some(file) = config.server.state_file.as_deref() {
        wishes.push(reading("`server.state_file`", file));
        // It is written beside the old one, and takes its place.
        wishes.push(Wish {
            key: "the folder of `server.state_file`",
            path: folder_of(file).to_owned(),
            access: Access::WRITE_OK | Access::EXEC_OK,
            else_: "orders (drain, weight) will not outlive a restart",
        });
    }
    wishes.dedup_by(|a, b| a.path == b.path && a.access == b.access);
    wishes
}

impl Who {
    fn told_if_refused(&self, wish: &Wish) -> Option<String> {
        let Wish { key, path, access, else_ } = wish;
        let (what, remedy) = match access.contains(Access::WRITE_OK) {
            true => ("written", format!("chown {} {}", self.name, path.display())),
            false => (
                "read",
                format!(
                    "let that user read it, for example by its group: chgrp and chmod g+r {}",
                    path.display()
                ),
            ),
        };
        let is_missing_folder =
            access.contains(Access::EXEC_OK) && is_missing(path) && *key != "`acme.folder`";
        if is_missing_folder {
            return Some(format!("{key}, {}, is missing: {else_}", path.display()));
        }
        self.is_refused(path, *access).then(|| {
            format!(
                "{key}, {}, can't be {what} by the user {:?}: {else_}; {remedy}",
                path.display(),
                self.name
            )
        })
    }

    /// Whether the access is known not to be granted. Of somebody else it is known by owner, group and permissions alone.
    fn is_refused(&self, path: &Path, access: Access) -> bool {
        if geteuid().as_raw() == self.user {
            let refused = rustix::fs::access(path, access);
            return matches!(refused, Err(Errno::ACCESS | Errno::PERM | Errno::ROFS));
        }
        // Nothing is refused to root.
        let Some(real) = path.canonicalize().ok().filter(|_| self.user != 0) else { return false };
        let refuses = |path: &Path, access: Access| {
            fs::metadata(path).is_ok_and(|found| {
                let shift = match () {
                    () if found.uid() == self.user => 6,
                    () if found.gid() == self.group => 3,
                    () => 0,
                };
                (found.permissions().mode() >> shift) & access.bits() != access.bits()
            })
        };
        real.ancestors().skip(1).any(|folder| refuses(folder, Access::EXEC_OK)) || refuses(&real, access)
    }
}

fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
