//! One session's conversation, in both directions.

use std::sync::Arc;

use clutch_protocol::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::decode::{self, BlobSaid, Spoken};
use super::encode;
use super::speak::{Envelope, speak};
use crate::dispatch::{AttachError, DispatchHandle, Lease};
use crate::identifiers::SessionId;
use crate::session::{Command, Inbox, SessionBlobs, Violation};

/// Envelopes that may wait for the network.
const MAX_ENVELOPES: usize = 8;

/// Begins the conversation of the session that the first envelope names. It
/// ends, and the session with it, when either side closes its stream.
pub(super) async fn attach(
    dispatch: DispatchHandle,
    mut stream: Streaming<v1::ClientEnvelope>,
) -> Result<ReceiverStream<Envelope>, Status> {
    let first = stream.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("the stream has no envelope"))?;
    let lease = dispatch.attach(first.session_id.clone()).await.map_err(|error| match error {
        AttachError::Unknown => Status::not_found(error.to_string()),
        AttachError::Attached => Status::already_exists(error.to_string()),
    })?;
    let Lease { session, quota, ceilings, outbox, blobs } = lease;
    let (envelopes, receiver) = mpsc::channel(MAX_ENVELOPES);
    let mut writing = tokio::spawn(speak(outbox, Arc::clone(&blobs), envelopes.clone()));
    let inbox = Inbox::new(session, quota, ceilings, Arc::clone(&blobs));
    let ears = Ears { session, inbox, blobs };
    let answers = envelopes.clone();
    tokio::spawn(async move {
        let reading = ears.read(&dispatch, first, stream, &answers);
        let ended = tokio::select! {
            ended = reading => ended,
            () = envelopes.closed() => Ok(()),
            // The agent closed the session, and everything was said.
            _ = &mut writing => Ok(()),
        };
        dispatch.detached(session).await;
        if let Err(status) = ended {
            tracing::info!(%session, %status, "conversation ended");
            // A driver that is gone need not be told.
            envelopes.send(Err(status)).await.ok();
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// What is needed to understand a driver.
pub(super) struct Ears {
    pub(super) session: SessionId,
    pub(super) inbox: Inbox,
    pub(super) blobs: Arc<SessionBlobs>,
}

impl Ears {
    async fn read(
        mut self,
        dispatch: &DispatchHandle,
        first: v1::ClientEnvelope,
        mut stream: Streaming<v1::ClientEnvelope>,
        answers: &mpsc::Sender<Envelope>,
    ) -> Result<(), Status> {
        let mut next = Some(first);
        while let Some(envelope) = next {
            let (commands, frames) = self.hear(envelope.frames).await?;
            if !commands.is_empty() {
                dispatch.submit(self.session, commands).await;
            }
            // A driver that does not take its answers is not heard either.
            let answer = v1::AgentEnvelope { frames, ..Default::default() };
            if !answer.frames.is_empty() && answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
            next = stream.message().await?;
        }
        Ok(())
    }

    /// Takes the frames of an envelope in; gives what is to be done, and what
    /// is to be said at once.
    pub(super) async fn hear(
        &mut self,
        frames: Vec<v1::ClientFrame>,
    ) -> Result<(Vec<Command>, Vec<v1::AgentFrame>), Status> {
        let refused = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let mut commands = Vec::with_capacity(frames.len());
        let mut answers = Vec::new();
        for frame in frames {
            match decode::spoken(self.session, frame).map_err(|error| refused(&error))? {
                Spoken::Said(said) => {
                    commands.extend(self.inbox.take(said).map_err(|error| refused(&error))?);
                }
                Spoken::Blob(said) => {
                    let answer = self.blob(said).await.map_err(|error| refused(&error))?;
                    answers.extend(answer);
                }
            }
        }
        Ok((commands, answers))
    }

    async fn blob(&self, said: BlobSaid) -> Result<Option<v1::AgentFrame>, Violation> {
        self.inbox.between_payloads()?;
        let (blob, state) = match said {
            BlobSaid::Offer(offer) => (offer.blob, self.blobs.offer(offer).await?),
            BlobSaid::Part { blob, data } => (blob, self.blobs.part(blob, data).await?),
            BlobSaid::Release(blobs) => {
                self.blobs.release(&blobs)?;
                return Ok(None);
            }
        };
        Ok(state.map(|state| encode::blob_state(blob, state)))
    }
}
