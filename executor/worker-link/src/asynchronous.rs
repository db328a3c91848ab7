//! The agent's side of the task line, on tokio.

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt};

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
