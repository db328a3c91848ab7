//! The three kinds of connections, as one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::{ConnectionEnd, Watched};

/// A connection between a driver and an agent, on either side.
#[derive(Debug)]
pub enum Socket {
    /// On this machine.
    Unix(Watched<UnixStream>),
    /// Plain, which is for loopback only.
    Tcp(Watched<TcpStream>),
    /// Under TLS.
    Tls(Box<TlsStream<Watched<TcpStream>>>),
}

impl Socket {
    /// How it ended, once it has.
    pub fn end(&self) -> ConnectionEnd {
        match self {
            Self::Unix(socket) => socket.end().clone(),
            Self::Tcp(socket) => socket.end().clone(),
            Self::Tls(stream) => stream.get_ref().0.end().clone(),
        }
    }
}

/// Hands on to whichever it is.
macro_rules! each {
    ($self:ident, $inner:ident => $result:expr) => {
        match $self.get_mut() {
            Socket::Unix($inner) => $result,
            Socket::Tcp($inner) => $result,
            Socket::Tls($inner) => $result,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(inner) => inner.is_write_vectored(),
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(context))
    }
}
