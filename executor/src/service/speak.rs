//! What an agent says in a conversation.

use std::io;
use std::sync::Arc;

use clutch_protocol::{CHUNK_BYTES, v1};
use tokio::sync::mpsc;
use tonic::Status;

use super::encode;
use super::line::Line;
use crate::blobs::{Blob, Buffers, Piece};
use crate::pool::BatchOutcome;
use crate::session::{OutboxReceiver, Sent, SessionBlobs};

/// Bytes after which an envelope is full.
pub(super) const ENVELOPE_BYTES: usize = CHUNK_BYTES;

pub(super) type Envelope = Result<v1::AgentEnvelope, Status>;

/// Nobody listens any more, or no sense can be made any more.
struct Over;

/// Where envelopes go.
#[derive(Debug)]
pub(super) enum Mouth {
    /// Into the session's only stream.
    Stream(mpsc::Sender<Envelope>),
    /// Where they are kept for whatever stream there is.
    Line(Arc<Line>),
}

impl Mouth {
    async fn say(&self, frames: Vec<v1::AgentFrame>) -> Result<(), Over> {
        match self {
            Self::Stream(envelopes) => {
                let envelope = v1::AgentEnvelope { frames, ..Default::default() };
                envelopes.send(Ok(envelope)).await.map_err(|_| Over)
            }
            Self::Line(line) => {
                line.say(frames).await;
                Ok(())
            }
        }
    }

    async fn fail(&self, status: Status) {
        match self {
            // A driver that is gone need not be told.
            Self::Stream(envelopes) => drop(envelopes.send(Err(status)).await),
            Self::Line(line) => line.fail(status),
        }
    }
}

/// Frames on their way into envelopes.
struct Voice {
    blobs: Arc<SessionBlobs>,
    mouth: Mouth,
    frames: Vec<v1::AgentFrame>,
    bytes: usize,
}

/// Sends outcomes and output home, several in an envelope when they are there.
pub(super) async fn speak(mut outbox: OutboxReceiver, blobs: Arc<SessionBlobs>, mouth: Mouth) {
    let mut voice = Voice { blobs, mouth, frames: Vec::new(), bytes: 0 };
    while let Some(first) = outbox.next().await {
        let mut item = Some(first);
        while let Some(next) = item {
            if voice.say(next).await.is_err() {
                return;
            }
            item = outbox.ready();
        }
        if voice.flush().await.is_err() {
            return;
        }
        outbox.gone();
    }
}

impl Voice {
    async fn say(&mut self, item: Sent) -> Result<(), Over> {
        match item {
            Sent::Output(output) => self.push(encode::output(output)).await,
            Sent::Answer(blob, offered) => self.push(encode::blob_state(blob, offered)).await,
            Sent::Outcome(outcome) => self.outcome(*outcome).await,
            Sent::Slots(slots) => self.push(encode::capacity(slots)).await,
        }
    }

    async fn outcome(&mut self, outcome: BatchOutcome) -> Result<(), Over> {
        let batch = outcome.batch.batch;
        let (frames, follow) = encode::outcome(outcome, &self.blobs);
        for frame in frames {
            self.push(frame).await?;
        }
        let Some(Buffers { blob, .. }) = &follow else { return Ok(()) };
        let blob = blob.clone();
        for piece in follow.iter().flat_map(|buffers| buffers.steps(CHUNK_BYTES as u64)) {
            match read(blob.clone(), piece).await {
                Ok(data) => self.push(encode::payload_part(batch, data.into())).await?,
                Err(error) => {
                    // The driver was promised these bytes.
                    let status = Status::internal(format!("a result cannot be read: {error}"));
                    self.mouth.fail(status).await;
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    async fn push(&mut self, frame: v1::AgentFrame) -> Result<(), Over> {
        let size = encode::size(&frame);
        if self.bytes > 0 && self.bytes + size > ENVELOPE_BYTES {
            self.flush().await?;
        }
        self.bytes += size;
        self.frames.push(frame);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Over> {
        self.bytes = 0;
        self.mouth.say(std::mem::take(&mut self.frames)).await
    }
}

/// Off the runtime's threads: it may be on a disk.
async fn read(blob: Blob, piece: Piece) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(piece.bytes).map_err(io::Error::other)?;
    let read = tokio::task::spawn_blocking(move || {
        let mut room = vec![0; bytes];
        blob.read_at(&mut room, piece.offset)?;
        Ok(room)
    });
    read.await.map_err(io::Error::other)?
}
