//! A connection as the gRPC server has it: its socket, and what is known of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use clutch_access::{ConnectionEnd, Socket, Watched};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

use super::entry::Entry;
use super::leash::{Caller, Leash, Watch};

/// What requests know of their connection: in their extensions.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(super) leash: Arc<Leash>,
    end: ConnectionEnd,
}

impl Peer {
    /// How the connection ended, once it has: a driver that is gone from a network
    /// that broke.
    #[expect(dead_code, reason = "for sessions that outlive their connection")]
    pub(crate) const fn end(&self) -> &ConnectionEnd {
        &self.end
    }
}

/// A connection that speaks gRPC, or should.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    leash: Arc<Leash>,
    /// `None`: it may stay as long as it likes.
    watch: Option<Watch>,
    entry: Entry,
    /// It said something.
    heard: bool,
}

impl Connection {
    /// Somebody on TCP.
    pub(super) fn stranger(socket: Socket, leash: Arc<Leash>, entry: Entry) -> Self {
        let watch = Some(Watch::new(Arc::clone(&leash)));
        Self { socket, leash, watch, entry, heard: false }
    }

    /// Somebody whom the kernel has named.
    pub(super) fn local(stream: UnixStream, entry: Entry) -> Self {
        let leash = Arc::new(Leash::new(Caller::Local));
        let socket = Socket::Unix(Watched::new(stream));
        Self { socket, leash, watch: None, entry, heard: false }
    }

    /// Fails once the connection has to go. Whoever does not read what we write has
    /// to go too, so this is asked before each operation.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.watch.as_mut().map(|watch| watch.poll_cut(context)) {
            Some(Poll::Ready(why)) => Err(io::Error::new(io::ErrorKind::TimedOut, why)),
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whoever only looks whether somebody listens is not worth a word.
        if self.watch.is_none() || !self.heard {
            return;
        }
        if let Some(why) = self.leash.why_cut() {
            self.entry.complain(&self.leash, "time", why);
        } else if self.leash.is_stranger() {
            let why = "it ended, or broke the rules of HTTP/2, before it had authenticated";
            self.entry.complain(&self.leash, "protocol", why);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { leash: Arc::clone(&self.leash), end: self.socket.end() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.heard |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
