//! Content for other agents.
//!
//! Whoever may call at all and knows a digest may have the content: the digest
//! is the permission.

use std::sync::Arc;
use std::time::Duration;

use clutch_protocol::{BLOB_PART_BYTES, v1};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::decode;
use crate::blobs::{ReadError, Reader, Store};

/// Readers that are served at once. In a chain there is one.
const MAX_READERS: usize = 64;

/// Parts of a reader that may wait for the network.
const MAX_WAITING: usize = 2;

/// How long content may take to begin to arrive: a driver tells agents of each
/// other at once, and its words take their own ways.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);

/// How long a reader may take no part.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

type Part = Result<v1::ContentPart, Status>;

/// Lends out content, to so many at once.
#[derive(Debug)]
pub(crate) struct Library {
    readers: Arc<Semaphore>,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self { readers: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// Finds a content, whole or arriving, and sends it.
    pub(super) async fn fetch(
        &self,
        store: &Store,
        request: &v1::FetchContentRequest,
    ) -> Result<ReceiverStream<Part>, Status> {
        let wanted = decode::wanted(request);
        let wanted = wanted.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let Ok(reading) = Arc::clone(&self.readers).try_acquire_owned() else {
            let message =
                format!("{MAX_READERS} others get content from this agent already; ask another");
            return Err(Status::resource_exhausted(message));
        };
        let reader = store.reader(&wanted.digest, ARRIVES_WITHIN).await;
        let reader = reader.ok_or_else(|| Status::not_found("there is no such content here"))?;
        if reader.bytes() != wanted.bytes {
            let message = format!("the content with that digest has not {} bytes", wanted.bytes);
            return Err(Status::invalid_argument(message));
        }
        let (parts, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(send(reader, wanted.offset, parts, reading));
        Ok(ReceiverStream::new(receiver))
    }
}

/// Sends content to its end, or as far as the other side takes it.
async fn send(
    mut reader: Reader,
    mut offset: u64,
    parts: mpsc::Sender<Part>,
    _reading: OwnedSemaphorePermit,
) {
    loop {
        let read = tokio::select! {
            read = reader.read(offset, BLOB_PART_BYTES as u64) => read,
            () = parts.closed() => return,
        };
        let part = match read {
            Ok(None) => return,
            Ok(Some(data)) => {
                offset += data.len() as u64;
                Ok(v1::ContentPart { data })
            }
            Err(error @ ReadError::GaveUp) => Err(Status::aborted(error.to_string())),
            Err(error @ (ReadError::Corrupt | ReadError::Failed(_))) => {
                tracing::error!(%error, "a content was not given to another agent");
                Err(Status::data_loss(error.to_string()))
            }
        };
        let over = part.is_err();
        match timeout(TAKEN_WITHIN, parts.send(part)).await {
            Ok(Ok(())) if !over => {}
            Ok(_) => return,
            Err(_) => return tracing::warn!("another agent takes no content; it was given up"),
        }
    }
}
