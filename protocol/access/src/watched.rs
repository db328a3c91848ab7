//! Remembers how a connection ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the peer's side of a connection ended, as the socket told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed it: it wanted to, or its process is gone and its machine's
    /// kernel says so.
    Closed,
    /// The peer's kernel knows nothing of it any more: the process ended with
    /// something unread, the machine was started again, or somebody in between
    /// cut it.
    Reset,
    /// The network does not reach the peer.
    Broken,
}

/// A handle on how a connection ended. It may be kept after the connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionEnd(Arc<AtomicU8>);

impl ConnectionEnd {
    /// The end, if the socket told one. `None` while the connection lasts, and for
    /// good when this side gave it up: its peer did not answer keepalives.
    pub fn get(&self) -> Option<End> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(End::Closed),
            2 => Some(End::Reset),
            3 => Some(End::Broken),
            _ => None,
        }
    }

    /// The first one counts.
    fn set(&self, end: End) {
        let number = match end {
            End::Closed => 1,
            End::Reset => 2,
            End::Broken => 3,
        };
        // Somebody else was first.
        self.0.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).ok();
    }
}

/// A socket that remembers its end. Under TLS it sees what the kernel says.
#[derive(Debug)]
pub struct Watched<S> {
    socket: S,
    end: ConnectionEnd,
}

impl<S> Watched<S> {
    /// Watches it.
    pub fn new(socket: S) -> Self {
        Self { socket, end: ConnectionEnd::default() }
    }

    /// How it ended.
    pub fn end(&self) -> &ConnectionEnd {
        &self.end
    }

    /// The socket.
    pub const fn socket(&self) -> &S {
        &self.socket
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            self.end.set(if is_reset(error.kind()) { End::Reset } else { End::Broken });
        }
        result
    }
}

const fn is_reset(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && before > 0 && buffer.remaining() == before {
            self.end.set(End::Closed);
        }
        self.note(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, Watched<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (there, Watched::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn a_close_is_told_from_a_reset() {
        let (there, mut here) = pair().await;
        let end = here.end().clone();
        assert_eq!(end.get(), None);
        drop(there);
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(end.get(), Some(End::Closed));

        let (there, mut here) = pair().await;
        let end = here.end().clone();
        here.write_all(b"unread").await.unwrap();
        there.readable().await.unwrap();
        drop(there);
        here.read(&mut [0]).await.unwrap_err();
        assert_eq!(end.get(), Some(End::Reset));
    }
}
