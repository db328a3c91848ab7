//! TCP: whoever calls has to show a certificate, later a token, and soon.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;

use clutch_access::{Socket, Watched};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{BACK_OFF, Bound, BoundListener, ListenError, refused};
use crate::service::connection::Connection;
use crate::service::entry::Entry;
use crate::service::leash::Leash;

pub(super) fn bind(address: SocketAddr) -> Result<BoundListener, ListenError> {
    let told = address.to_string();
    let failed = |error: io::Error| refused(&told, error);
    let listener = StdTcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?.to_string();
    Ok(BoundListener { bound: Bound::Tcp(listener), address })
}

/// Accepts everybody, and lets in who is fit to be asked for a token.
pub(super) fn serve(
    listener: &StdTcpListener,
    entry: Entry,
    grpc: mpsc::Sender<io::Result<Connection>>,
) -> io::Result<()> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok(_) if grpc.is_closed() => return,
                Ok((stream, peer)) => {
                    let leash = entry.stranger(peer);
                    tokio::spawn(welcome(stream, leash, entry.clone(), grpc.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    });
    Ok(())
}

async fn welcome(
    stream: TcpStream,
    leash: Arc<Leash>,
    entry: Entry,
    grpc: mpsc::Sender<io::Result<Connection>>,
) {
    if let Err(error) = clutch_access::prepare(&stream, entry.keepalive()) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let stream = Watched::new(stream, entry.keepalive());
    let socket = match entry.tls() {
        None => Socket::Tcp(stream),
        Some(config) => {
            let accepting = TlsAcceptor::from(config).accept(stream);
            let accepted = tokio::select! {
                accepted = accepting => accepted.map_err(|error| error.to_string()),
                why = leash.cut() => Err(why.to_owned()),
            };
            match accepted {
                Ok(stream) => Socket::Tls(Box::new(TlsStream::Server(stream))),
                Err(why) => return entry.complain(&leash, "TLS", &why),
            }
        }
    };
    // A server that is gone serves nobody.
    grpc.send(Ok(Connection::stranger(socket, leash, entry))).await.ok();
}
