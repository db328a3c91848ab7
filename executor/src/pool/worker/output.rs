//! What a worker prints: two pipes, forwarded as it comes, the end of standard
//! error kept as evidence.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::message::{Output, OutputStream};
use crate::identifiers::Pid;
use crate::pool::stderr_tail::StderrTail;

const READ_BYTES: usize = 64 << 10;

/// Most bytes read at one go before something else gets a turn: a task may
/// print without end.
const DRAIN_BYTES: usize = 4 << 20;

/// The agent's ends of a worker's two pipes.
#[derive(Debug)]
pub(super) struct Outputs {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    tail: StderrTail,
    forward: mpsc::Sender<Output>,
    pid: Pid,
    buffer: Vec<u8>,
}

impl Outputs {
    pub(super) fn new(
        stdout: OwnedFd,
        stderr: OwnedFd,
        forward: mpsc::Sender<Output>,
        pid: Pid,
    ) -> io::Result<Self> {
        Ok(Self {
            stdout: Some(pipe::Receiver::from_owned_fd(stdout)?),
            stderr: Some(pipe::Receiver::from_owned_fd(stderr)?),
            tail: StderrTail::default(),
            forward,
            pid,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Forwards what is printed until cancelled.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read is forwarded before the next wait.
    pub(super) async fn forward(&mut self) -> Infallible {
        loop {
            let stream = tokio::select! {
                () = readable(self.stdout.as_ref()) => OutputStream::Stdout,
                () = readable(self.stderr.as_ref()) => OutputStream::Stderr,
            };
            self.pump(stream, pipe::Receiver::try_read);
        }
    }

    /// Forwards everything that was printed so far. Reads the descriptors
    /// themselves, because tokio may not have noticed yet that there is
    /// something.
    pub(super) fn drain(&mut self) {
        let read = |pipe: &pipe::Receiver, buffer: &mut [u8]| {
            rustix::io::retry_on_intr(|| rustix::io::read(pipe.as_fd(), &mut *buffer))
                .map_err(io::Error::from)
        };
        self.pump(OutputStream::Stdout, read);
        self.pump(OutputStream::Stderr, read);
    }

    /// Forgets the evidence of earlier batches.
    pub(super) fn begin_batch(&mut self) {
        self.tail.clear();
    }

    pub(super) fn stderr_tail(&self) -> String {
        self.tail.text()
    }

    /// Reads one pipe until it is empty.
    fn pump(
        &mut self,
        stream: OutputStream,
        read: impl Fn(&pipe::Receiver, &mut [u8]) -> io::Result<usize>,
    ) {
        let pipe = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let mut total = 0;
        while let Some(open) = pipe.as_ref().filter(|_| total < DRAIN_BYTES) {
            let read = match read(open, &mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => 0,
            };
            if read == 0 {
                *pipe = None;
                return;
            }
            if stream == OutputStream::Stderr {
                self.tail.push(&self.buffer[..read]);
            }
            let data = Bytes::copy_from_slice(&self.buffer[..read]);
            // Best effort: a driver that does not keep up loses output, not work.
            self.forward.try_send(Output { pid: self.pid, stream, data }).ok();
            total += read;
        }
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        Some(pipe) if pipe.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
