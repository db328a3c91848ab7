//! Descriptors that travel on the task line.

use std::io::{Error, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use clutch_worker_link::{LinkError, MAX_DESCRIPTORS};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Descriptors that arrived and that no message has claimed yet, oldest first.
/// Those that are never claimed are closed with the line.
#[derive(Debug, Default)]
pub(crate) struct Arrived(Vec<OwnedFd>);

impl Arrived {
    /// Receives some bytes, and keeps descriptors that come along.
    pub(crate) fn receive(
        &mut self,
        socket: &OwnedFd,
        target: &mut [u8],
    ) -> Result<usize, LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let target = &mut [IoSliceMut::new(target)];
            rustix::net::recvmsg(socket, target, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })
        .map_err(Error::from)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.0.extend(descriptors);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // Too many of them, or this process may open no more.
            let (expected, got) = (MAX_DESCRIPTORS, self.0.len());
            return Err(LinkError::Descriptors { expected, got });
        }
        Ok(received.bytes)
    }

    /// Takes the oldest, as many as a message says that it brings.
    pub(crate) fn take(&mut self, expected: usize) -> Result<Vec<OwnedFd>, LinkError> {
        let got = self.0.len();
        if got < expected {
            return Err(LinkError::Descriptors { expected, got });
        }
        Ok(self.0.drain(..expected).collect())
    }

    /// Refuses what came with messages that bring nothing. To be called when
    /// everything that was received has been read as messages: the kernel may
    /// hand over a message together with descriptors of the next one.
    pub(crate) fn nothing_left(&self) -> Result<(), LinkError> {
        match self.0.len() {
            0 => Ok(()),
            got => Err(LinkError::Descriptors { expected: 0, got }),
        }
    }
}

/// Sends the first of some bytes with a descriptor; says how many were sent.
pub(crate) fn send_with(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<usize, LinkError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    });
    Ok(sent.map_err(Error::from)?)
}
