//! The one listener: a Unix socket that only this machine's own user may use, or
//! TCP behind a secret.

mod tcp;
mod unix;

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::Connection;
use super::door::Door;
use super::entry::Entry;
use crate::dispatch::DispatchHandle;
use crate::settings::Address;

/// Connections that may wait to be served.
const MAX_WAITING: usize = 64;

/// How long to wait when the system has no descriptors left: trying again at
/// once would only spin.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Connections that may speak gRPC.
pub(crate) type Connections = ReceiverStream<Result<Connection, io::Error>>;

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
    bound: Bound,
    /// As a gRPC client names it, with the port that was given to us.
    pub(crate) address: String,
}

#[derive(Debug)]
enum Bound {
    Unix {
        listener: StdUnixListener,
        group: Option<u32>,
        /// Removed when this is dropped.
        _file: Option<unix::SocketFile>,
    },
    Tcp(StdTcpListener),
}

/// Binds the address; a socket file that nobody listens on any more is replaced.
/// On a Unix socket the members of `group` may connect too.
pub(crate) fn bind(address: &Address, group: Option<u32>) -> Result<BoundListener, ListenError> {
    match address {
        Address::Path(path) => unix::bind_path(path, group),
        Address::Abstract(name) => unix::bind_abstract(name, group),
        Address::Private => unix::bind_private(group),
        Address::Tcp(socket) => tcp::bind(*socket),
    }
}

fn refused(address: &str, why: impl std::fmt::Display) -> ListenError {
    ListenError { address: address.to_owned(), why: why.to_string() }
}

impl BoundListener {
    /// The port on TCP.
    pub(crate) fn port(&self) -> Option<u16> {
        match &self.bound {
            Bound::Unix { .. } => None,
            Bound::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
        }
    }

    /// Accepts connections for ever. Gives those that speak gRPC; `dispatch`
    /// serves the data lines.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime.
    pub(crate) fn serve(&self, dispatch: DispatchHandle, entry: Entry) -> io::Result<Connections> {
        let (connections, receiver) = mpsc::channel(MAX_WAITING);
        match &self.bound {
            Bound::Unix { listener, group, .. } => {
                unix::serve(listener, *group, Door::new(connections, dispatch, entry))?;
            }
            Bound::Tcp(listener) => tcp::serve(listener, entry, connections)?,
        }
        Ok(ReceiverStream::new(receiver))
    }
}
