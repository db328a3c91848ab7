//! The agent's side of the task line, on tokio.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::frame::{Frame, LinkError, PREFIX_BYTES, Prefix, decode_header, encode_frame_head};

/// Reads one frame.
///
/// # Cancel safety
/// Not cancel safe: bytes already read are lost. Give it a task of its own.
///
/// # Errors
/// [`LinkError::Closed`] at the end of the line, otherwise what is wrong.
pub async fn read_frame<M, R>(line: &mut R, max_payload: u64) -> Result<Frame<M>, LinkError>
where
    M: DeserializeOwned,
    R: AsyncRead + Unpin + Send,
{
    let mut prefix = [0; PREFIX_BYTES];
    let first = line.read(&mut prefix).await?;
    if first == 0 {
        return Err(LinkError::Closed);
    }
    line.read_exact(&mut prefix[first..]).await?;
    let prefix = Prefix::parse(prefix, max_payload)?;
    let mut header = vec![0; prefix.header];
    line.read_exact(&mut header).await?;
    let message = decode_header(&header)?;
    let mut payload = Vec::with_capacity(prefix.payload);
    line.take(prefix.payload as u64).read_to_end(&mut payload).await?;
    if payload.len() < prefix.payload {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Frame { message, payload })
}

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
