//! Which of the two languages a new connection speaks: gRPC, or that of the
//! data line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::connection::Connection;
use super::data_line::{GREETING, serve_line};
use super::entry::Entry;
use crate::dispatch::DispatchHandle;

/// Connections that have not yet said what they are; more wait to be accepted.
const MAX_STRANGERS: usize = 64;

/// How long a connection may take to say what it is.
const GREET_WITHIN: Duration = Duration::from_secs(5);

/// Where accepted connections go.
#[derive(Debug)]
pub(super) struct Door {
    grpc: mpsc::Sender<io::Result<Connection>>,
    dispatch: DispatchHandle,
    entry: Entry,
    strangers: Arc<Semaphore>,
}

/// What a connection speaks.
#[derive(Debug, PartialEq, Eq)]
enum Language {
    Grpc,
    DataLine,
}

impl Door {
    pub(super) fn new(
        grpc: mpsc::Sender<io::Result<Connection>>,
        dispatch: DispatchHandle,
        entry: Entry,
    ) -> Self {
        Self { grpc, dispatch, entry, strangers: Arc::new(Semaphore::new(MAX_STRANGERS)) }
    }

    /// Lets a connection in; false when nobody serves any more.
    pub(super) async fn open(&self, stream: UnixStream) -> bool {
        let Ok(stranger) = Arc::clone(&self.strangers).acquire_owned().await else { return false };
        if self.grpc.is_closed() {
            return false;
        }
        let (grpc, dispatch) = (self.grpc.clone(), self.dispatch.clone());
        let entry = self.entry.clone();
        tokio::spawn(async move {
            match timeout(GREET_WITHIN, language(&stream)).await {
                Ok(Ok(Language::Grpc)) => {
                    // A server that is gone serves nobody.
                    grpc.send(Ok(Connection::local(stream, entry))).await.ok();
                }
                Ok(Ok(Language::DataLine)) => serve_line(stream, dispatch, stranger).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection ended at once"),
                Err(_) => tracing::warn!("a connection that says nothing was closed"),
            }
        });
        true
    }
}

/// Looks at the first bytes and leaves them where they are.
async fn language(stream: &UnixStream) -> io::Result<Language> {
    stream
        .async_io(Interest::READABLE, || {
            let mut first = [0; GREETING.len()];
            let (_, seen) = recv(stream, &mut first, RecvFlags::PEEK)?;
            let seen = &first[..seen];
            match seen.len() {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ if !GREETING.starts_with(seen) => Ok(Language::Grpc),
                length if length < GREETING.len() => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(Language::DataLine),
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_language_and_stay_to_be_read() {
        for (said, expected) in
            [(&b"PRI * HTTP/2.0"[..], Language::Grpc), (GREETING, Language::DataLine)]
        {
            let (mut there, here) = UnixStream::pair().unwrap();
            there.write_all(said).await.unwrap();
            assert_eq!(language(&here).await.unwrap(), expected);
            let mut first = [0; 3];
            here.try_read(&mut first).unwrap();
            assert_eq!(first, said[..3]);
        }
    }

    #[tokio::test]
    async fn a_greeting_in_pieces_is_waited_for() {
        let (mut there, here) = UnixStream::pair().unwrap();
        there.write_all(&GREETING[..3]).await.unwrap();
        let told = async {
            tokio::task::yield_now().await;
            there.write_all(&GREETING[3..]).await
        };
        let (heard, told) = tokio::join!(language(&here), told);
        told.unwrap();
        assert_eq!(heard.unwrap(), Language::DataLine);
    }

    #[tokio::test]
    async fn a_connection_that_closes_says_nothing() {
        let (there, here) = UnixStream::pair().unwrap();
        drop(there);
        assert_eq!(language(&here).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
