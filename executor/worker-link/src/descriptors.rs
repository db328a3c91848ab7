//! The control line: frames that carry descriptors.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{LinkError, PREFIX_BYTES, Prefix, decode_header, encode_frame_head};

/// Most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 64;

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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(line, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })
    .map_err(std::io::Error::from)?;
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // The descriptors come with the first byte.
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            line,
            &mut [IoSliceMut::new(&mut prefix)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })
    .map_err(std::io::Error::from)?;
    if received.bytes == 0 {
        return Err(LinkError::Closed);
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let mut line = line;
    line.read_exact(&mut prefix[received.bytes..])?;
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
