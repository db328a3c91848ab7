//! A Unix socket: the kernel says who calls.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{
    SocketAddr, UnixListener as StdUnixListener, UnixStream as StdUnixStream,
};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::{BACK_OFF, Bound, BoundListener, ListenError, refused};
use crate::random_name::random_name;
use crate::service::door::Door;
use crate::service::peer_groups::is_member;

/// Only the owner may connect; and members of a group, if there is one.
const PRIVATE: u32 = 0o600;
const FOR_GROUP: u32 = 0o660;

#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "socket file is gone already");
        }
    }
}

pub(super) fn bind_private(group: Option<u32>) -> Result<BoundListener, ListenError> {
    let name = random_name().map_err(|error| refused("unix-abstract:", error))?;
    bind_abstract(&format!("clutch-{name}"), group)
}

pub(super) fn bind_abstract(name: &str, group: Option<u32>) -> Result<BoundListener, ListenError> {
    let address = format!("unix-abstract:{name}");
    let bound = SocketAddr::from_abstract_name(name).and_then(|at| StdUnixListener::bind_addr(&at));
    let listener = bound.map_err(|error| refused(&address, error))?;
    Ok(BoundListener { bound: Bound::Unix { listener, group, _file: None }, address })
}

pub(super) fn bind_path(path: &Path, group: Option<u32>) -> Result<BoundListener, ListenError> {
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
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(|error| refused(&address, error))?;
    }
    let mode = if group.is_some() { FOR_GROUP } else { PRIVATE };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| refused(&address, error))?;
    Ok(BoundListener { bound: Bound::Unix { listener, group, _file: Some(file) }, address })
}

/// Accepts connections of this process's own user and of the group's members.
pub(super) fn serve(listener: &StdUnixListener, group: Option<u32>, door: Door) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let own_user = rustix::process::geteuid().as_raw();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if may_enter(&stream, own_user, group) => {
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
    Ok(())
}

fn may_enter(stream: &UnixStream, user: u32, group: Option<u32>) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    peer.uid() == user || group.is_some_and(|group| peer.gid() == group || is_member(stream, group))
}

#[cfg(test)]
mod tests {
    use super::super::bind;
    use super::*;
    use crate::settings::Address;

    #[test]
    fn a_socket_file_is_private_replaced_when_stale_and_kept_when_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let stale = StdUnixListener::bind(&path).unwrap();
        drop(stale);
        let bound = bind(&Address::Path(path.clone()), None).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = bind(&Address::Path(path.clone()), None).unwrap_err();
        assert!(error.to_string().contains("somebody listens there already"), "{error}");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_group_may_use_the_socket_file_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let own = rustix::process::getegid().as_raw();
        let _bound = bind(&Address::Path(path.clone()), Some(own)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = bind(&Address::Path(path.clone()), None).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }
}
