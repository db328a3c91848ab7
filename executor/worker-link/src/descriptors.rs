//! The control line: frames that carry descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{LinkError, PREFIX_BYTES, Prefix, decode_header, encode_frame_head};

/// Most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 64;

/// One attempt to send bytes, and descriptors with the first of them; says how
/// many bytes went. Not more than [`MAX_DESCRIPTORS`].
pub(crate) fn send_once(
    line: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL;
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&line, &[IoSlice::new(bytes)], &mut ancillary, flags)
    })?;
    Ok(sent)
}

/// One attempt to receive bytes, and the descriptors that come with the first
/// of them that have any, closed on exec; 0 bytes: the line is closed.
///
/// # Errors
/// When the line is broken, or nothing is there and it does not block.
pub fn receive_once(line: impl AsFd, room: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&line, &mut [IoSliceMut::new(room)], &mut ancillary, flags)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((received.bytes, descriptors))
}

/// Sends one message without payload, and descriptors with it.
///
/// # Errors
/// What is wrong with the line or the message.
pub fn send_with_descriptors<M: Serialize>(
    line: &UnixStream,
    message: &M,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    let bytes = encode_frame_head(message, 0)?;
    let sent = send_once(line, &bytes, descriptors)?;
    let mut line = line;
    line.write_all(&bytes[sent..])?;
    Ok(())
}

/// Receives one message without payload, and the descriptors that came with it.
/// Received descriptors are closed on exec.
///
/// # Errors
/// [`LinkError::Closed`] at the end of the line, otherwise what is wrong.
pub fn receive_with_descriptors<M: DeserializeOwned>(
    line: &UnixStream,
) -> Result<(M, Vec<OwnedFd>), LinkError> {
    let mut prefix = [0; PREFIX_BYTES];
    // The descriptors come with the first byte.
    let (received, descriptors) = receive_once(line, &mut prefix)?;
    if received == 0 {
        return Err(LinkError::Closed);
    }
    let mut line = line;
    line.read_exact(&mut prefix[received..])?;
    let prefix = Prefix::parse(prefix, 0)?;
    let mut header = vec![0; prefix.header];
    line.read_exact(&mut header)?;
    Ok((decode_header(&header)?, descriptors))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::ToZygote;

    #[test]
    fn a_descriptor_travels_with_its_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut kept, given) = UnixStream::pair().unwrap();
        let message = ToZygote::Spawn { worker: 3 };
        send_with_descriptors(&here, &message, &[given.as_fd()]).unwrap();
        drop(given);
        let (received, mut descriptors) = receive_with_descriptors::<ToZygote>(&there).unwrap();
        assert_eq!(received, message);
        let mut arrived = UnixStream::from(descriptors.pop().unwrap());
        arrived.write_all(b"x").unwrap();
        let mut byte = [0];
        kept.read_exact(&mut byte).unwrap();
        assert_eq!((&byte, descriptors.len()), (b"x", 0));
    }

    #[test]
    fn a_closed_line_says_so() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let error = receive_with_descriptors::<ToZygote>(&here).unwrap_err();
        assert!(matches!(error, LinkError::Closed));
    }
}
