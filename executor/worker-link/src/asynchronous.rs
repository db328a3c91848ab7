//! The agent's side of the task line, on tokio.

use std::io;
use std::os::fd::BorrowedFd;

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::descriptors::send_once;
use crate::frame::{LinkError, encode_frame_head};

/// Writes one frame whose payload is the chunks one after the other.
///
/// # Errors
/// What is wrong with the line or the message.
pub async fn write_frame<M, W, C>(line: &mut W, message: &M, chunks: &[C]) -> Result<(), LinkError>
where
    M: Serialize + Sync,
    W: AsyncWrite + Unpin + Send,
    C: AsRef<[u8]> + Sync,
{
    let payload: usize = chunks.iter().map(|chunk| chunk.as_ref().len()).sum();
    let mut head = encode_frame_head(message, payload as u64)?;
    // Small frames leave in one system call; large payloads are not copied.
    if payload <= 64 << 10 {
        for chunk in chunks {
            head.extend_from_slice(chunk.as_ref());
        }
        line.write_all(&head).await?;
        return Ok(());
    }
    line.write_all(&head).await?;
    for chunk in chunks {
        line.write_all(chunk.as_ref()).await?;
    }
    Ok(())
}

/// Sends all of the bytes, and descriptors with the first of them; at most
/// [`MAX_DESCRIPTORS`](crate::MAX_DESCRIPTORS).
///
/// # Cancel safety
/// Not cancel safe: a part may have gone.
///
/// # Errors
/// When the line is closed or broken.
pub async fn send_bytes_with_descriptors(
    line: &UnixStream,
    mut bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut descriptors = descriptors;
    while !bytes.is_empty() {
        let send = || send_once(line, bytes, descriptors);
        let sent = line.async_io(Interest::WRITABLE, send).await?;
        bytes = &bytes[sent..];
        descriptors = &[];
    }
    Ok(())
}

/// Sends a message without payload, and descriptors with it.
///
/// # Cancel safety
/// Not cancel safe: a part may have gone.
///
/// # Errors
/// What is wrong with the line or the message.
pub async fn write_with_descriptors<M: Serialize + Sync>(
    line: &UnixStream,
    message: &M,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), LinkError> {
    let bytes = encode_frame_head(message, 0)?;
    Ok(send_bytes_with_descriptors(line, &bytes, descriptors).await?)
}
