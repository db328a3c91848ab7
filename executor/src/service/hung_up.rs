//! Whether a driver's connection ended because it was closed over there: the
//! kernel of a machine that is alive does that for a process that is dead.
//!
//! HTTP/2 does not tell: to its streams, a connection that we gave up for want
//! of an answer ends in the same way. And a driver closes a connection that was
//! cut, too, which we hear when the network has healed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// After so long without a byte, a connection was cut: on one that is whole,
/// either side asks for a sign of life before. Shorter than it takes to give up.
const CUT: Duration = Duration::from_secs(12);

/// How long after such a pause an end is still the end of a connection that was
/// cut: what its driver said before it gave up arrives ahead of that.
const HEALING: Duration = Duration::from_secs(2);

/// Set when the other end has closed the connection. Requests have it among
/// their extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// Whether it has.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// When bytes came.
#[derive(Debug)]
struct Rhythm {
    last: Instant,
    /// When they came again after they had ceased.
    healed: Option<Instant>,
}

impl Rhythm {
    fn beat(&mut self, now: Instant) {
        if now.duration_since(self.last) >= CUT {
            self.healed = Some(now);
        }
        self.last = now;
    }

    /// Whether an end now is that of a connection that was whole.
    fn was_whole(&mut self, now: Instant) -> bool {
        self.beat(now);
        self.healed.is_none_or(|healed| now.duration_since(healed) >= HEALING)
    }
}

/// A connection that notes its end.
#[derive(Debug)]
pub(crate) struct Watched<C> {
    connection: C,
    rhythm: Rhythm,
    hung_up: HungUp,
}

impl<C> Watched<C> {
    pub(crate) fn new(connection: C) -> Self {
        let rhythm = Rhythm { last: Instant::now(), healed: None };
        Self { connection, rhythm, hung_up: HungUp::default() }
    }
}

impl<C> Connected for Watched<C> {
    type ConnectInfo = HungUp;

    fn connect_info(&self) -> HungUp {
        self.hung_up.clone()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Watched<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            if buffer.filled().len() > before {
                self.rhythm.beat(Instant::now());
            } else if buffer.remaining() > 0 && self.rhythm.was_whole(Instant::now()) {
                self.hung_up.0.store(true, Ordering::Release);
            }
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Watched<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_the_other_end_closed_is_told_from_what_goes_on() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut watched = Watched::new(here);
        let hung_up = watched.connect_info();
        there.write_all(b"x").await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap(), b'x');
        assert!(!hung_up.is_set());
        drop(there);
        assert!(watched.read_u8().await.is_err());
        assert!(hung_up.is_set());
    }

    #[test]
    fn the_end_of_a_connection_that_was_cut_is_not_its_drivers() {
        let start = Instant::now();
        let rhythm = || Rhythm { last: start, healed: None };
        assert!(rhythm().was_whole(start + CUT / 2));
        assert!(!rhythm().was_whole(start + CUT));
        let mut healed = rhythm();
        healed.beat(start + CUT);
        assert!(!healed.was_whole(start + CUT + HEALING / 2));
        assert!(healed.was_whole(start + CUT + HEALING));
    }
}
