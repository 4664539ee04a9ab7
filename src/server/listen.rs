//! Bound addresses: TCP sockets, one for each worker, and Unix sockets, which all workers share.
//!
//! Owns binding, and the file of a Unix socket: it makes it and takes it away again. Accepts when asked; decides nothing about what
//! it accepts.

use std::{
    fs, io,
    net::{self, IpAddr, Ipv4Addr, SocketAddr},
    os::unix::{
        self,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::{Handed, ListenerPolicy};
use crate::{
    endpoint::Endpoint,
    io::{Detached, Stream},
    limits::LISTEN_BACKLOG,
    privileges,
};

/// The address of a client that has none: whoever reaches a Unix socket is on this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A bound address that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Listener {
    /// Where it listens, with the port that the kernel chose if 0 was asked for.
    pub(super) address: Endpoint,
    /// One for each worker, or fewer, which they share.
    pub(super) doors: Vec<Door>,
}

/// A worker's way to the connections of a listener.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(net::TcpListener),
    Unix(unix::net::UnixListener, Arc<SocketFile>),
}

/// The same, while the worker's runtime watches it.
#[derive(Debug)]
pub(super) enum OpenDoor {
    Tcp(TcpListener),
    Unix(UnixListener, Arc<SocketFile>),
}

impl Listener {
    /// Binds, so that the address is known and refused connections are over, before anything else starts.
    ///
    /// # Errors
    /// As the kernel has them: the address is in use, not ours, or not allowed.
    pub(super) fn bind(policy: &ListenerPolicy, workers: usize) -> io::Result<Listener> {
        let (address, doors) = match &policy.address {
            Endpoint::Tcp(address) => bind_tcp(*address, workers)?,
            Endpoint::Unix(path) => bind_unix(path, policy.mode)?,
        };
        Ok(Listener { address, doors })
    }

    /// Goes on with sockets that listen already.
    ///
    /// # Errors
    /// They are not what they are said to be.
    pub(super) fn adopt(handed: Handed, workers: usize) -> io::Result<Listener> {
        handed.check()?;
        let Handed { address, sockets, file, .. } = handed;
        let mut doors = Vec::with_capacity(sockets.len());
        let file = match &address {
            Endpoint::Unix(path) => Some(Arc::new(SocketFile::handed(path, file))),
            Endpoint::Tcp(_) => None,
        };
        for socket in sockets {
            socket.set_nonblocking(true)?;
            doors.push(match &file {
                None => {
                    socket.set_tcp_nodelay(true)?;
                    Door::Tcp(socket.into())
                }
                Some(file) => Door::Unix(socket.into(), file.clone()),
            });
        }
        if let Endpoint::Tcp(socket) = &address
            && doors.len() < workers
        {
            match join_tcp(*socket, &doors, workers) {
                Ok(further) => doors.extend(further),
                Err(error) => tracing::debug!(%address, %error, "workers share sockets"),
            }
        }
        Ok(Listener { address, doors })
    }
}

fn bind_tcp(wanted: SocketAddr, workers: usize) -> io::Result<(Endpoint, Vec<Door>)> {
    // Bound without `SO_REUSEPORT`: with it, another program of the same user could have the address already.
    let first = tcp_socket(wanted)?;
    first.bind(&wanted.into())?;
    let address = first.local_addr()?.as_socket().unwrap_or(wanted);
    let mut sockets = vec![first];
    if workers > 1 {
        sockets[0].set_reuse_port(true)?;
    }
    for _ in 1..workers {
        let further = tcp_socket(address)?;
        further.set_reuse_port(true)?;
        further.bind(&address.into())?;
        sockets.push(further);
    }
    for socket in &sockets {
        socket.listen(LISTEN_BACKLOG as i32)?;
    }
    Ok((address.into(), sockets.into_iter().map(|socket| Door::Tcp(socket.into())).collect()))
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by what is accepted, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn bind_unix(path: &Arc<Path>, mode: u32) -> io::Result<(Endpoint, Vec<Door>)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_socket(path) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something there that is no socket",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = Arc::new(SocketFile::of(path)?);
    // Before it listens: nobody gets in whom the mode keeps out.
    set_mode(path, mode)?;
    // The process after this one sets the mode again.
    privileges::give_made(path);
    socket.listen(LISTEN_BACKLOG as i32)?;
    Ok((Endpoint::Unix(path.clone()), vec![Door::Unix(socket.into(), file)]))
}

/// Further sockets on an address that others have handed over, as many as workers would be left without. They join at the first
/// [`Door::open`]: until then the kernel gives them nothing. Where it allows none, because another user made the first, workers share.
fn join_tcp(address: SocketAddr, doors: &[Door], workers: usize) -> io::Result<Vec<Door>> {
    for door in doors {
        if let Door::Tcp(socket) = door {
            SockRef::from(socket).set_reuse_port(true)?;
        }
    }
    let further = |_| {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(Door::Tcp(socket.into()))
    };
    (doors.len()..workers).map(further).collect()
}

/// Who may connect.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether this is the socket of a process that is gone. Nothing is waited for: a process that is there may have no room for another
/// connection, and does not answer then.
fn is_left_over(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a Unix socket. It goes when the last worker has stopped accepting, unless another process has put its own in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode. `None`: it is not known, and somebody else's.
    identity: Option<(u64, u64)>,
    /// Somebody else takes it away.
    is_foreign: AtomicBool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: Some(identity(path)?),
            is_foreign: AtomicBool::new(false),
        })
    }

    /// One that another process has made. It hands it over later, with the sockets' charge, if it tells its identity.
    fn handed(path: &Path, identity: Option<(u64, u64)>) -> SocketFile {
        SocketFile { path: path.to_owned(), identity, is_foreign: AtomicBool::new(true) }
    }

    fn is_ours(&self) -> bool {
        !self.is_foreign.load(Relaxed)
    }

    /// What another process needs to know to take it away.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        self.identity.filter(|_| self.is_ours())
    }

    /// From now on this process takes it away, and has said who may connect. A service manager's stays that one's.
    pub(super) fn claim(&self, mode: u32) {
        if self.identity.is_none() {
            return;
        }
        self.is_foreign.store(false, Relaxed);
        // Somebody else may have made it: what is right already needs no rights.
        let has = fs::symlink_metadata(&self.path).map(|found| found.permissions().mode() & 0o7777);
        let set = has.and_then(|has| if has == mode { Ok(()) } else { set_mode(&self.path, mode) });
        if let Err(error) = set {
            tracing::error!(file = %self.path.display(), %error, "the mode of the socket's file can't be changed");
        }
    }

    /// From now on another process takes it away.
    pub(super) fn give_away(&self) {
        self.is_foreign.store(true, Relaxed);
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && identity(&self.path).is_ok_and(|found| Some(found) == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "the socket's file can't be removed");
        }
    }
}

impl Door {
    /// The same socket once more.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub(super) fn copy(&self) -> io::Result<Door> {
        Ok(match self {
            Door::Tcp(socket) => Door::Tcp(socket.try_clone()?),
            Door::Unix(socket, file) => Door::Unix(socket.try_clone()?, file.clone()),
        })
    }

    /// The socket for another process.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub(super) fn to_hand_over(&self) -> io::Result<Socket> {
        match self {
            Door::Tcp(socket) => SockRef::from(socket).try_clone(),
            Door::Unix(socket, _) => SockRef::from(socket).try_clone(),
        }
    }

    /// Has the runtime watch it. One that others have made gets our queue, one that has joined them begins to listen.
    pub(super) fn open(self) -> io::Result<OpenDoor> {
        match &self {
            Door::Tcp(socket) => SockRef::from(socket).listen(LISTEN_BACKLOG as i32)?,
            Door::Unix(socket, _) => SockRef::from(socket).listen(LISTEN_BACKLOG as i32)?,
        }
        Ok(match self {
            Door::Tcp(socket) => OpenDoor::Tcp(TcpListener::from_std(socket)?),
            Door::Unix(socket, file) => OpenDoor::Unix(UnixListener::from_std(socket)?, file),
        })
    }

    /// A connection that waits already.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub(super) fn accept(&self) -> io::Result<(Detached, IpAddr)> {
        match self {
            Door::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Detached::Tcp(stream), peer.ip()))
            }
            Door::Unix(socket, _) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Detached::Unix(stream), HERE))
            }
        }
    }
}

impl OpenDoor {
    /// The next connection, and the address of its other end.
    pub(super) async fn accept(&self) -> io::Result<(Stream, IpAddr)> {
        match self {
            OpenDoor::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Stream::Tcp(stream), peer.ip()))
            }
            OpenDoor::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), HERE))
            }
        }
    }

    /// Has the runtime watch it no longer.
    pub(super) fn close(self) -> io::Result<Door> {
        Ok(match self {
            OpenDoor::Tcp(socket) => Door::Tcp(socket.into_std()?),
            OpenDoor::Unix(socket, file) => Door::Unix(socket.into_std()?, file),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::server::site::{Doorway, Site};

    /// A listener, for tests of what stands around it.
    pub(in crate::server) fn site() -> Arc<Site> {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let policy = policy(any.into());
        let bound = Listener::bind(&policy, 1).unwrap();
        Arc::new(Site::new(bound, Arc::new(Doorway { policy, tls: None })))
    }

    fn policy(address: Endpoint) -> ListenerPolicy {
        ListenerPolicy {
            name: "a".into(),
            address,
            mode: 0o600,
            preface_from: vec![],
            tls: None,
            redirect: None,
            http2: crate::server::Http2::Auto,
        }
    }

    #[test]
    fn an_address_in_use_is_seen_and_all_workers_share_one() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = Listener::bind(&policy(any.into()), 3).unwrap();
        let error = Listener::bind(&policy(first.address.clone()), 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        for door in &first.doors {
            let Door::Tcp(socket) = door else { panic!("{door:?}") };
            assert_eq!(Endpoint::Tcp(socket.local_addr().unwrap()), first.address);
        }
    }

    #[test]
    fn a_socket_file_is_taken_over_from_the_dead_only_and_goes_with_its_owner() {
        let folder = std::env::temp_dir().join(format!("ringway-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path: Arc<Path> = folder.join("socket").into();
        let policy = policy(Endpoint::Unix(path.clone()));
        let first = Listener::bind(&policy, 2).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = Listener::bind(&policy, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // One that is there and has no room for another connection is not waited for.
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let address = SockAddr::unix(&path).unwrap();
        full.bind(&address).unwrap();
        full.listen(0).unwrap();
        let connect = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            client.connect(&address).map(|()| client)
        };
        let waiting: Vec<Socket> = std::iter::from_fn(|| connect().ok()).collect();
        let (told, heard) = std::sync::mpsc::sync_channel(1);
        let other = policy.clone();
        std::thread::spawn(move || told.send(Listener::bind(&other, 2).unwrap_err().kind()));
        let patience = std::time::Duration::from_secs(10);
        assert_eq!(heard.recv_timeout(patience), Ok(io::ErrorKind::AddrInUse));
        drop((waiting, full));
        fs::remove_file(&path).unwrap();
        // A process that was killed leaves its file behind.
        drop(unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = Listener::bind(&policy, 2).unwrap();
        // Another's file is not touched, whether in the way or in the same place.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
        assert!(Listener::bind(&policy, 2).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
