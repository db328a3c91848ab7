//! One session's conversation, in both directions.

use clutch_protocol::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{decode, encode};
use crate::dispatch::{AttachError, DispatchHandle, Lease};
use crate::identifiers::SessionId;
use crate::session::{Inbox, OutboxReceiver, Sent};

/// Envelopes that may wait for the network.
const MAX_ENVELOPES: usize = 8;

/// Bytes after which an envelope is full.
const ENVELOPE_BYTES: usize = clutch_protocol::CHUNK_BYTES;

type Envelope = Result<v1::AgentEnvelope, Status>;

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
    let Lease { session, quota, outbox } = lease;
    let (envelopes, receiver) = mpsc::channel(MAX_ENVELOPES);
    let mut writing = tokio::spawn(write(outbox, envelopes.clone()));
    let inbox = Inbox::new(session, quota);
    tokio::spawn(async move {
        let reading = read(&dispatch, session, inbox, first, stream);
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

async fn read(
    dispatch: &DispatchHandle,
    session: SessionId,
    mut inbox: Inbox,
    first: v1::ClientEnvelope,
    mut stream: Streaming<v1::ClientEnvelope>,
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(envelope) = next {
        let mut commands = Vec::with_capacity(envelope.frames.len());
        for frame in envelope.frames {
            let refused =
                |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
            let said = decode::said(session, frame).map_err(|error| refused(&error))?;
            commands.extend(inbox.take(said).map_err(|error| refused(&error))?);
        }
        dispatch.submit(session, commands).await;
        next = stream.message().await?;
    }
    Ok(())
}

/// Sends outcomes and output home, several in an envelope when they are there.
async fn write(mut outbox: OutboxReceiver, envelopes: mpsc::Sender<Envelope>) {
    let mut sent = outbox.next().await;
    while let Some(item) = sent {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut item = Some(item);
        while let Some(next) = item {
            let (one, many) = match next {
                Sent::Output(output) => (Some(encode::output(output)), None),
                Sent::Outcome(outcome) => (None, Some(encode::outcome(outcome))),
            };
            for frame in one.into_iter().chain(many.into_iter().flatten()) {
                let size = encode::size(&frame);
                if bytes > 0 && bytes + size > ENVELOPE_BYTES {
                    let full = std::mem::take(&mut frames);
                    if envelopes.send(Ok(v1::AgentEnvelope { frames: full })).await.is_err() {
                        return;
                    }
                    bytes = 0;
                }
                bytes += size;
                frames.push(frame);
            }
            item = outbox.ready();
        }
        if envelopes.send(Ok(v1::AgentEnvelope { frames })).await.is_err() {
            return;
        }
        sent = outbox.next().await;
    }
}
