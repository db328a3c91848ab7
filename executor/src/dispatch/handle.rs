//! How the other rooms speak to the dispatcher.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::message::{AttachError, Attached, Joined, Message, Opening};
use super::presence::StreamEnd;
use super::status::AgentSnapshot;
use crate::failure::{Failure, Kind};
use crate::identifiers::SessionId;
use crate::session::Command;

/// How often to ask for what nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Cheap to clone; hides the channel.
#[derive(Debug, Clone)]
pub(crate) struct DispatchHandle {
    pub(super) messages: mpsc::Sender<Message>,
}

impl DispatchHandle {
    /// Opens a session; gives its unguessable name.
    pub(crate) async fn open(&self, opening: Opening) -> Result<String, Failure> {
        let ended = || Failure::new(Kind::AgentDraining, "the agent is ending");
        let answer = self.ask(|answer| Message::Open { opening, answer }).await;
        answer.unwrap_or_else(|| Err(ended()))
    }

    /// Begins the session's conversation, or goes on with it.
    pub(crate) async fn attach(
        &self,
        token: String,
        resuming: bool,
    ) -> Result<Attached, AttachError> {
        let answer = self.ask(|answer| Message::Attach { token, resuming, answer }).await;
        answer.unwrap_or(Err(AttachError::Unknown))
    }

    /// Finds the session of a data line; `None` when there is none.
    pub(crate) async fn join(&self, token: String) -> Option<Joined> {
        self.ask(|answer| Message::Join { token, answer }).await.flatten()
    }

    /// Hands over what a driver asks for. Waits while the dispatcher is busy:
    /// that is the back-pressure on drivers.
    pub(crate) async fn submit(&self, session: SessionId, commands: Vec<Command>) {
        self.tell(Message::Commands { session, commands }).await;
    }

    /// Tells that a stream of a session has ended; mostly the session ends too.
    pub(crate) async fn detached(&self, session: SessionId, stream: u64, end: StreamEnd) {
        self.tell(Message::Detached { session, stream, end }).await;
    }

    /// What goes on now; `None` when the agent is ending.
    pub(crate) async fn snapshot(&self) -> Option<AgentSnapshot> {
        self.ask(Message::Snapshot).await
    }

    /// Takes nothing new; gives the batches that were open until now.
    pub(crate) async fn drain(&self) -> usize {
        self.ask(Message::Drain).await.unwrap_or(0)
    }

    /// Resolves when nothing runs any more.
    pub(crate) async fn quiet(&self) {
        self.ask(Message::Quiet).await;
    }

    /// Resolves when drivers have taken what there was for them.
    pub(crate) async fn taken(&self) {
        // Nobody tells us of each thing that is taken.
        while self.ask(Message::Taken).await == Some(false) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Kills what runs; each batch still gets its outcome.
    pub(crate) async fn stop_all(&self) {
        self.tell(Message::StopAll).await;
    }

    /// Ends every session: what runs is killed, what idles leaves; resolves
    /// when no worker is left.
    pub(crate) async fn end_sessions(&self) {
        self.ask(Message::EndSessions).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.tell(message(answer)).await;
        answered.await.ok()
    }

    async fn tell(&self, message: Message) {
        if self.messages.send(message).await.is_err() {
            tracing::debug!("the dispatcher has ended");
        }
    }
}
