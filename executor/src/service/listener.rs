//! The one listener: a Unix socket that only this machine's own user may use.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{
    SocketAddr, UnixListener as StdUnixListener, UnixStream as StdUnixStream,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::door::Door;
use super::hung_up::Watched;
use crate::dispatch::DispatchHandle;
use crate::random_name::random_name;
use crate::settings::Address;

/// Connections that may wait to be served.
const MAX_WAITING: usize = 64;

/// How long to wait when the system has no descriptors left: trying again at
/// once would only spin.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Connections of this process's own user.
pub(crate) type Connections = ReceiverStream<Result<Watched<UnixStream>, io::Error>>;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {why}")]
pub(crate) struct ListenError {
    address: String,
    why: String,
}

/// A bound address, not yet served.
#[derive(Debug)]
pub(crate) struct BoundListener {
    listener: StdUnixListener,
    /// As a gRPC client names it.
    pub(crate) address: String,
    /// The socket file, removed when this is dropped.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "socket file is gone already");
        }
    }
}

/// Binds the address; a socket file that nobody listens on any more is replaced.
pub(crate) fn bind(address: &Address) -> Result<BoundListener, ListenError> {
    match address {
        Address::Path(path) => bind_path(path),
        Address::Abstract(name) => bind_abstract(name),
        Address::Private => {
            let name = random_name().map_err(|error| refused("unix-abstract:", error))?;
            bind_abstract(&format!("clutch-{name}"))
        }
    }
}

fn bind_abstract(name: &str) -> Result<BoundListener, ListenError> {
    let address = format!("unix-abstract:{name}");
    let bound = SocketAddr::from_abstract_name(name).and_then(|at| StdUnixListener::bind_addr(&at));
    let listener = bound.map_err(|error| refused(&address, error))?;
    Ok(BoundListener { listener, address, _file: None })
}

fn bind_path(path: &Path) -> Result<BoundListener, ListenError> {
    let address = format!("unix:{}", path.display());
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if StdUnixStream::connect(path).is_ok() {
            return Err(refused(&address, "somebody listens there already"));
        }
        if !found.file_type().is_socket() {
            return Err(refused(&address, "a file that is no socket is there"));
        }
        std::fs::remove_file(path).map_err(|error| refused(&address, error))?;
    }
    let listener = StdUnixListener::bind(path).map_err(|error| refused(&address, error))?;
    let file = SocketFile(path.to_owned());
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(|error| refused(&address, error))?;
    Ok(BoundListener { listener, address, _file: Some(file) })
}

fn refused(address: &str, why: impl std::fmt::Display) -> ListenError {
    ListenError { address: address.to_owned(), why: why.to_string() }
}

impl BoundListener {
    /// Accepts connections of this process's own user, for ever. Gives those
    /// that speak gRPC; `dispatch` serves the data lines.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub(crate) fn serve(&self, dispatch: DispatchHandle) -> io::Result<Connections> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let own_user = rustix::process::geteuid().as_raw();
        let (connections, receiver) = mpsc::channel(MAX_WAITING);
        let door = Door::new(connections, dispatch);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if is_of(&stream, own_user) => {
                        if !door.open(stream).await {
                            return;
                        }
                    }
                    Ok(_) => tracing::warn!("connection of another user refused"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(BACK_OFF).await;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

fn is_of(stream: &UnixStream, user: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_file_is_private_replaced_when_stale_and_kept_when_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let stale = StdUnixListener::bind(&path).unwrap();
        drop(stale);
        let bound = bind(&Address::Path(path.clone())).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind(&Address::Path(path.clone())).unwrap_err();
        assert!(error.to_string().contains("somebody listens there already"), "{error}");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = bind(&Address::Path(path.clone())).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
