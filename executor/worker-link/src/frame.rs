//! Frames: a prefix of two lengths, a header, a payload.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Bytes before the header: header length (u32), payload length (u64), both
/// little-endian.
pub const PREFIX_BYTES: usize = 12;

/// Most bytes that a header may have. Tracebacks and texts are cut well below.
pub const MAX_HEADER_BYTES: usize = 16 << 20;

/// A received frame.
#[derive(Debug)]
pub struct Frame<M> {
    /// The message.
    pub message: M,
    /// The raw bytes that came with it.
    pub payload: Vec<u8>,
}

/// Why a line cannot be read or written any further.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed the line between two frames.
    #[error("the line was closed")]
    Closed,
    /// The socket failed, or closed inside a frame.
    #[error("the line failed")]
    Io(#[from] io::Error),
    /// The header is not a message of this line.
    #[error("a frame's header cannot be decoded")]
    Header(#[source] postcard::Error),
    /// A length is over its bound.
    #[error("a frame claims {claimed} bytes of {part}, at most {limit} are allowed")]
    TooLong {
        /// `header` or `payload`.
        part: &'static str,
        /// The length in the prefix.
        claimed: u64,
        /// The bound.
        limit: u64,
    },
    /// Descriptors that had to come along are missing.
    #[error("expected {expected} descriptors with the message, got {got}")]
    Descriptors {
        /// How many the message needs.
        expected: usize,
        /// How many came.
        got: usize,
    },
}

/// The two lengths in front of a frame, checked against their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Length of the header in bytes.
    pub header: usize,
    /// Length of the payload in bytes.
    pub payload: usize,
}

impl Prefix {
    /// Reads the lengths.
    ///
    /// # Errors
    /// [`LinkError::TooLong`] when a length is over its bound.
    pub fn parse(bytes: [u8; PREFIX_BYTES], max_payload: u64) -> Result<Self, LinkError> {
        let (header, payload) = bytes.split_at(4);
        let header = header.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let payload = payload.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let bounded = |part, claimed, limit| match usize::try_from(claimed) {
            Ok(length) if claimed <= limit => Ok(length),
            _ => Err(LinkError::TooLong { part, claimed, limit }),
        };
        Ok(Self {
            header: bounded("header", header, MAX_HEADER_BYTES as u64)?,
            payload: bounded("payload", payload, max_payload)?,
        })
    }
}

/// Prefix and header of a frame whose payload has `payload_bytes` bytes; the
/// payload is to be written right after.
///
/// # Errors
/// [`LinkError::TooLong`] when the header is over its bound, and
/// [`LinkError::Header`] when the message cannot be encoded.
pub fn encode_frame_head<M: Serialize>(
    message: &M,
    payload_bytes: u64,
) -> Result<Vec<u8>, LinkError> {
    let head = postcard::to_extend(message, vec![0; PREFIX_BYTES]).map_err(LinkError::Header)?;
    let header = head.len() - PREFIX_BYTES;
    let too_long = LinkError::TooLong {
        part: "header",
        claimed: header as u64,
        limit: MAX_HEADER_BYTES as u64,
    };
    let length = match u32::try_from(header) {
        Ok(length) if header <= MAX_HEADER_BYTES => length,
        _ => return Err(too_long),
    };
    let mut head = head;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..PREFIX_BYTES].copy_from_slice(&payload_bytes.to_le_bytes());
    Ok(head)
}

/// Decodes a header.
///
/// # Errors
/// [`LinkError::Header`] when the bytes are no message of this line.
pub fn decode_header<M: DeserializeOwned>(header: &[u8]) -> Result<M, LinkError> {
    postcard::from_bytes(header).map_err(LinkError::Header)
}

/// Reads one frame, blocking.
///
/// # Errors
/// [`LinkError::Closed`] at the end of the line, otherwise what is wrong.
pub fn read_frame_blocking<M: DeserializeOwned>(
    line: &mut impl Read,
    max_payload: u64,
) -> Result<Frame<M>, LinkError> {
    let mut prefix = [0; PREFIX_BYTES];
    let first = loop {
        match line.read(&mut prefix) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(read) => break read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    };
    line.read_exact(&mut prefix[first..])?;
    let prefix = Prefix::parse(prefix, max_payload)?;
    let mut header = vec![0; prefix.header];
    line.read_exact(&mut header)?;
    let message = decode_header(&header)?;
    let mut payload = Vec::with_capacity(prefix.payload);
    line.take(prefix.payload as u64).read_to_end(&mut payload)?;
    if payload.len() < prefix.payload {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Frame { message, payload })
}

/// Writes one frame, blocking.
///
/// # Errors
/// What is wrong with the line or the message.
pub fn write_frame_blocking<M: Serialize>(
    line: &mut impl Write,
    message: &M,
    payload: &[u8],
) -> Result<(), LinkError> {
    let mut head = encode_frame_head(message, payload.len() as u64)?;
    // Small frames leave in one system call; large payloads are not copied.
    if payload.len() <= 64 << 10 {
        head.extend_from_slice(payload);
        line.write_all(&head)?;
    } else {
        line.write_all(&head)?;
        line.write_all(payload)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RunBatch, ToWorker};

    #[test]
    fn a_frame_survives_the_line() {
        let mut line = Vec::new();
        let message =
            ToWorker::Run(RunBatch { batch: 7, tasks: 2, nesting_level: 1, ..Default::default() });
        write_frame_blocking(&mut line, &message, b"payload").unwrap();
        let frame: Frame<ToWorker> = read_frame_blocking(&mut line.as_slice(), 7).unwrap();
        assert_eq!((frame.message, frame.payload.as_slice()), (message, b"payload".as_slice()));
    }

    #[test]
    fn a_payload_over_its_bound_is_refused_before_it_is_read() {
        let mut line = Vec::new();
        write_frame_blocking(&mut line, &ToWorker::Retire, b"payload").unwrap();
        let error = read_frame_blocking::<ToWorker>(&mut line.as_slice(), 6).unwrap_err();
        assert!(matches!(error, LinkError::TooLong { part: "payload", claimed: 7, limit: 6 }));
    }

    #[test]
    fn a_line_that_ends_between_frames_is_closed_and_inside_one_is_broken() {
        let mut line = Vec::new();
        write_frame_blocking(&mut line, &ToWorker::Retire, b"payload").unwrap();
        let closed = read_frame_blocking::<ToWorker>(&mut [].as_slice(), 99).unwrap_err();
        assert!(matches!(closed, LinkError::Closed));
        for end in 1..line.len() {
            let error = read_frame_blocking::<ToWorker>(&mut &line[..end], 99).unwrap_err();
            assert!(matches!(error, LinkError::Io(_)), "cut at {end}: {error:?}");
        }
    }
}
