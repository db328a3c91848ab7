//! One session's conversation, in both directions.

use std::sync::Arc;

use clutch_access::{ConnectionEnd, End};
use clutch_protocol::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Status, Streaming};

use super::connection::Peer;
use super::ears::Ears;
use super::resumable::Resumable;
use super::said_all::SaidAll;
use super::speak::{Envelope, Mouth, speak};
use crate::dispatch::{AttachError, Attached, DispatchHandle, Lease, StreamEnd};
use crate::session::Inbox;

/// Envelopes that may wait for the network.
const MAX_ENVELOPES: usize = 8;

/// A driver's stream, with its first envelope read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) first: v1::ClientEnvelope,
    pub(super) rest: Streaming<v1::ClientEnvelope>,
    pub(super) ending: Ending,
}

/// What tells how a stream ended, once it has.
#[derive(Debug)]
pub(super) struct Ending {
    connection: ConnectionEnd,
    said_all: SaidAll,
}

impl Ending {
    /// That of a request.
    pub(super) fn of(extensions: &Extensions) -> Self {
        let connection = extensions.get::<Peer>().map(|peer| peer.end().clone());
        let connection = connection.unwrap_or_default();
        Self { connection, said_all: extensions.get().cloned().unwrap_or_default() }
    }

    /// How it ended.
    pub(super) fn end(&self) -> StreamEnd {
        if self.said_all.is_set() {
            StreamEnd::Ended
        } else if self.connection.get() == Some(End::Closed) || self.said_all.is_cancelled() {
            // The kernel of a machine that is alive closes the connections of a
            // process that is dead.
            StreamEnd::HungUp
        } else {
            StreamEnd::Broken
        }
    }
}

/// Begins the conversation of the session that the first envelope names, or
/// goes on with it.
pub(super) async fn attach(
    dispatch: DispatchHandle,
    resumable: &Resumable,
    mut stream: Streaming<v1::ClientEnvelope>,
    ending: Ending,
) -> Result<ReceiverStream<Envelope>, Status> {
    let first = stream.message().await?;
    let first = first.ok_or_else(|| Status::invalid_argument("the stream has no envelope"))?;
    let incoming = Incoming { first, rest: stream, ending };
    let (token, resuming) = (incoming.first.session_id.clone(), incoming.first.resume.is_some());
    let (envelopes, receiver) = mpsc::channel(MAX_ENVELOPES);
    // Whoever resumes finds what it resumes.
    let mut conversations = resumable.lock().await;
    let attached = dispatch.attach(token, resuming).await.map_err(|error| match error {
        AttachError::Unknown => Status::not_found(error.to_string()),
        AttachError::Attached => Status::already_exists(error.to_string()),
    })?;
    match attached {
        Attached::Begun(lease) if lease.silence.is_zero() => {
            drop(conversations);
            if resuming {
                dispatch.detached(lease.session, lease.stream, StreamEnd::Ended).await;
                let why = "the session was opened with `silence_seconds` 0: it cannot be resumed";
                return Err(Status::invalid_argument(why));
            }
            tokio::spawn(converse(dispatch, lease, incoming, envelopes));
        }
        Attached::Begun(lease) => {
            let stream = lease.stream;
            let conversation = conversations.begin(resumable, dispatch, lease);
            drop(conversations);
            conversation.carry(stream, incoming, envelopes).await?;
        }
        Attached::Again { session, stream } => {
            let found = conversations.find(session);
            drop(conversations);
            // It ends at this moment.
            let gone = || Status::not_found(AttachError::Unknown.to_string());
            found.ok_or_else(gone)?.carry(stream, incoming, envelopes).await?;
        }
    }
    Ok(ReceiverStream::new(receiver))
}

/// A conversation that ends with its stream, whoever closes it.
async fn converse(
    dispatch: DispatchHandle,
    lease: Lease,
    incoming: Incoming,
    envelopes: mpsc::Sender<Envelope>,
) {
    let Lease { session, stream, quota, ceilings, outbox, blobs, .. } = lease;
    let mouth = Mouth::Stream(envelopes.clone());
    let mut writing = tokio::spawn(speak(outbox, Arc::clone(&blobs), mouth));
    let inbox = Inbox::new(session, quota, ceilings, Arc::clone(&blobs));
    let mut ears = Ears { session, inbox, blobs };
    let ended = tokio::select! {
        ended = read(&mut ears, &dispatch, incoming, &envelopes) => ended,
        () = envelopes.closed() => Ok(()),
        // The agent closed the session, and everything was said.
        _ = &mut writing => Ok(()),
    };
    dispatch.detached(session, stream, StreamEnd::Ended).await;
    if let Err(status) = ended {
        tracing::info!(%session, %status, "conversation ended");
        // A driver that is gone need not be told.
        envelopes.send(Err(status)).await.ok();
    }
}

async fn read(
    ears: &mut Ears,
    dispatch: &DispatchHandle,
    incoming: Incoming,
    answers: &mpsc::Sender<Envelope>,
) -> Result<(), Status> {
    let Incoming { first, rest: mut stream, .. } = incoming;
    let mut next = Some(first);
    while let Some(envelope) = next {
        let (commands, frames) = ears.hear(envelope.frames).await?;
        if !commands.is_empty() {
            dispatch.submit(ears.session, commands).await;
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
