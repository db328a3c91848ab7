//! Conversations that outlive their streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clutch_protocol::v1;
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

use super::attach::Incoming;
use super::ears::Ears;
use super::line::Line;
use super::speak::{Envelope, Mouth, speak};
use crate::dispatch::{DispatchHandle, Lease, StreamEnd};
use crate::identifiers::SessionId;
use crate::session::{Inbox, OutboxReceiver, SessionBlobs};

/// How long what a closed session still has to say may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a stream may take to tell why it broke.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// The conversations, as long as their sessions are there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resumable(Arc<Mutex<Conversations>>);

#[derive(Debug, Default)]
pub(super) struct Conversations(HashMap<SessionId, Arc<Conversation>>);

/// What of a session outlives its streams.
#[derive(Debug)]
pub(super) struct Conversation {
    session: SessionId,
    dispatch: DispatchHandle,
    /// Held by the stream that is heard.
    ears: Mutex<Ears>,
    line: Arc<Line>,
    /// Number of the stream that is to be heard.
    stream: watch::Sender<u64>,
}

/// How a stream ended, as its reader knows it.
enum Heard {
    /// It did, as the dispatcher is to be told.
    End(StreamEnd),
    /// The driver broke the rules.
    Violation(Status),
    /// Another one took over.
    Superseded,
}

impl Resumable {
    pub(super) async fn lock(&self) -> MutexGuard<'_, Conversations> {
        self.0.lock().await
    }

    /// Waits until drivers have acknowledged everything that was said.
    pub(crate) async fn settled(&self) {
        let all: Vec<_> = self.lock().await.0.values().cloned().collect();
        for conversation in all {
            conversation.line.settled().await;
        }
    }
}

impl Conversations {
    /// Begins a conversation; it is forgotten when its session ends.
    pub(super) fn begin(
        &mut self,
        all: &Resumable,
        dispatch: DispatchHandle,
        lease: Lease,
    ) -> Arc<Conversation> {
        let Lease { session, quota, ceilings, outbox, blobs, ended, .. } = lease;
        let inbox = Inbox::new(session, quota, ceilings, Arc::clone(&blobs));
        let conversation = Arc::new(Conversation {
            session,
            dispatch,
            ears: Mutex::new(Ears { session, inbox, blobs: Arc::clone(&blobs) }),
            line: Arc::default(),
            stream: watch::Sender::new(0),
        });
        self.0.insert(session, Arc::clone(&conversation));
        tokio::spawn(keep(all.clone(), Arc::clone(&conversation), outbox, blobs, ended));
        conversation
    }

    pub(super) fn find(&self, session: SessionId) -> Option<Arc<Conversation>> {
        self.0.get(&session).cloned()
    }
}

/// Has everything said, until the session ends.
async fn keep(
    all: Resumable,
    conversation: Arc<Conversation>,
    outbox: OutboxReceiver,
    blobs: Arc<SessionBlobs>,
    mut ended: watch::Receiver<()>,
) {
    let mouth = Mouth::Line(Arc::clone(&conversation.line));
    let mut speaking = std::pin::pin!(speak(outbox, blobs, mouth));
    tokio::select! {
        () = &mut speaking => {}
        _ = ended.changed() => if timeout(FAREWELL, speaking).await.is_err() {
            tracing::info!(session = %conversation.session, "last outcomes were not taken");
        },
    }
    conversation.line.finish();
    all.lock().await.0.remove(&conversation.session);
}

impl Conversation {
    /// Goes on over a stream, until it ends or another takes over.
    ///
    /// # Errors
    /// When the driver's numbers cannot be; the session is closed.
    pub(super) async fn carry(
        self: Arc<Self>,
        stream: u64,
        incoming: Incoming,
        envelopes: mpsc::Sender<Envelope>,
    ) -> Result<(), Status> {
        // The last stream is heard no more, but for what it is saying now.
        self.stream.send_if_modified(|current| {
            let newer = stream > *current;
            *current = stream.max(*current);
            newer
        });
        let ears = self.ears.lock().await;
        if *self.stream.borrow() != stream {
            return Err(Status::aborted("another stream has taken over"));
        }
        let resume = incoming.first.resume;
        let begun = self.line.resume(stream, resume.map_or(0, |resume| resume.received));
        let speaks_early = resume.is_some() && !incoming.first.frames.is_empty();
        drop(ears);
        let refused = match begun {
            Ok(_) if speaks_early => "frames before the answer to `resume`".to_owned(),
            Ok(received) => {
                let resumed = resume.map(|_| v1::Resumed { received });
                if resumed.is_some() {
                    tracing::info!(session = %self.session, received, "session resumed");
                }
                tokio::spawn(self.flow(stream, resumed, incoming, envelopes));
                return Ok(());
            }
            Err(miscount) => miscount.to_string(),
        };
        self.dispatch.detached(self.session, stream, StreamEnd::Ended).await;
        Err(Status::invalid_argument(refused))
    }

    async fn flow(
        self: Arc<Self>,
        stream: u64,
        resumed: Option<v1::Resumed>,
        incoming: Incoming,
        envelopes: mpsc::Sender<Envelope>,
    ) {
        // On a task of its own: what it takes in, it takes in whole.
        let mut reading = tokio::spawn(Arc::clone(&self).read(stream, incoming));
        let heard = tokio::select! {
            heard = &mut reading => heard.ok(),
            all_said = self.line.carry(stream, resumed, &envelopes) => all_said.then(|| {
                reading.abort();
                Heard::End(StreamEnd::Ended)
            }),
            () = envelopes.closed() => None,
        };
        let heard = match heard {
            Some(heard) => heard,
            None => match timeout(TELL_WITHIN, &mut reading).await {
                Ok(Ok(heard)) => heard,
                Ok(Err(_)) | Err(_) => Heard::End(StreamEnd::Broken),
            },
        };
        match heard {
            Heard::End(end) => self.dispatch.detached(self.session, stream, end).await,
            Heard::Superseded => {}
            Heard::Violation(status) => {
                tracing::info!(session = %self.session, %status, "conversation ended");
                self.dispatch.detached(self.session, stream, StreamEnd::Ended).await;
                // A driver that is gone need not be told.
                envelopes.send(Err(status)).await.ok();
            }
        }
    }

    async fn read(self: Arc<Self>, stream: u64, incoming: Incoming) -> Heard {
        let mut current = self.stream.subscribe();
        let mut ears = self.ears.lock().await;
        if *current.borrow() != stream {
            return Heard::Superseded;
        }
        let Incoming { first, mut rest, ending } = incoming;
        let mut next = Some(first);
        while let Some(envelope) = next {
            if let Err(status) = self.hear(&mut ears, envelope).await {
                return Heard::Violation(status);
            }
            let message = tokio::select! {
                biased;
                _ = current.wait_for(|current| *current != stream) => return Heard::Superseded,
                message = rest.message() => message,
            };
            next = match message {
                Ok(Some(envelope)) => Some(envelope),
                Ok(None) => None,
                Err(status) => {
                    tracing::info!(session = %self.session, %status, "connection lost");
                    None
                }
            };
        }
        Heard::End(ending.end())
    }

    async fn hear(&self, ears: &mut Ears, envelope: v1::ClientEnvelope) -> Result<(), Status> {
        let refused = |error: clutch_protocol::delivery::Miscount| {
            Status::invalid_argument(error.to_string())
        };
        self.line.acknowledge(envelope.acknowledged).map_err(refused)?;
        let (count, bytes) = (envelope.frames.len() as u64, prost::Message::encoded_len(&envelope));
        if count == 0 {
            return Ok(());
        }
        let (commands, answers) = ears.hear(envelope.frames).await?;
        if !commands.is_empty() {
            self.dispatch.submit(self.session, commands).await;
        }
        // Counted with its answers: both are there to stay.
        self.line.answer(answers)?;
        self.line.took(count, bytes);
        Ok(())
    }
}
