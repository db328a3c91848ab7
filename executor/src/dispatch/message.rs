//! What may be said to the dispatcher.

use tokio::sync::oneshot;

use super::status::AgentSnapshot;
use crate::failure::Failure;
use crate::identifiers::SessionId;
use crate::pool::WorkerEvent;
use crate::session::{Command, OutboxReceiver, Quota};

/// Everything that reaches the dispatcher.
#[derive(Debug)]
pub(super) enum Message {
    /// A driver wants a session in an environment.
    Open { name: String, environment: usize, answer: oneshot::Sender<Result<String, Failure>> },
    /// A driver begins its conversation.
    Attach { token: String, answer: oneshot::Sender<Result<Lease, AttachError>> },
    /// A driver asks for things, in order.
    Commands { session: SessionId, commands: Vec<Command> },
    /// A conversation is over.
    Detached { session: SessionId },
    /// A worker reports.
    Worker(WorkerEvent),
    /// Somebody wants to know.
    Snapshot(oneshot::Sender<AgentSnapshot>),
    /// Take nothing new; answered when nothing runs any more.
    Drain(oneshot::Sender<()>),
    /// Kill what runs.
    StopAll,
    /// End every session; answered when no worker is left.
    EndSessions(oneshot::Sender<()>),
}

/// An attached session.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) session: SessionId,
    pub(crate) quota: Quota,
    pub(crate) outbox: OutboxReceiver,
}

/// Why a driver cannot attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttachError {
    /// Nobody was given that name, or its time is over.
    #[error("there is no such session")]
    Unknown,
    /// It has its one conversation already.
    #[error("the session is attached already")]
    Attached,
}
