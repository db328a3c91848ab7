//! What a driver says, understood.

use std::sync::Arc;

use clutch_protocol::v1;
use tonic::Status;

use super::decode::{self, BlobSaid, Spoken};
use super::encode;
use crate::identifiers::SessionId;
use crate::session::{Command, Inbox, SessionBlobs, Violation};

/// What is needed to understand a driver.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) session: SessionId,
    pub(super) inbox: Inbox,
    pub(super) blobs: Arc<SessionBlobs>,
}

impl Ears {
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
