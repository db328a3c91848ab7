//! What may be said to the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::presence::StreamEnd;
use super::status::AgentSnapshot;
use crate::failure::Failure;
use crate::identifiers::SessionId;
use crate::pool::WorkerEvent;
use crate::scheduler::Share;
use crate::session::{Ceilings, Command, OutboxReceiver, Quota, SessionBlobs};

/// Everything that reaches the dispatcher.
#[derive(Debug)]
pub(super) enum Message {
    /// A driver wants a session.
    Open { opening: Opening, answer: oneshot::Sender<Result<String, Failure>> },
    /// A driver begins its conversation, or goes on with it.
    Attach { token: String, resuming: bool, answer: oneshot::Sender<Result<Attached, AttachError>> },
    /// A driver's data line begins.
    Join { token: String, answer: oneshot::Sender<Option<Joined>> },
    /// A driver asks for things, in order.
    Commands { session: SessionId, commands: Vec<Command> },
    /// A stream of a conversation has ended.
    Detached { session: SessionId, stream: u64, end: StreamEnd },
    /// A worker reports.
    Worker(WorkerEvent),
    /// Somebody wants to know.
    Snapshot(oneshot::Sender<AgentSnapshot>),
    /// Take nothing new; answered with the batches that were open until now.
    Drain(oneshot::Sender<usize>),
    /// Answered when nothing runs any more.
    Quiet(oneshot::Sender<()>),
    /// Whether drivers have taken what there was for them.
    Taken(oneshot::Sender<bool>),
    /// Kill what runs.
    StopAll,
    /// End every session; answered when no worker is left.
    EndSessions(oneshot::Sender<()>),
}

/// A stream of a session.
#[derive(Debug)]
pub(crate) enum Attached {
    /// The first one.
    Begun(Lease),
    /// One in the place of another.
    Again { session: SessionId, stream: u64 },
}

/// What a driver wants of a session.
#[derive(Debug)]
pub(crate) struct Opening {
    /// For people.
    pub(crate) name: String,
    /// The environment that runs its tasks.
    pub(crate) environment: usize,
    /// How long it outlives a connection that broke.
    pub(crate) silence: Duration,
    /// What it gets of the slots.
    pub(crate) share: Share,
}

/// An attached session.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) session: SessionId,
    /// Number of the stream.
    pub(crate) stream: u64,
    /// How long the session outlives a connection that broke.
    pub(crate) silence: Duration,
    pub(crate) quota: Quota,
    pub(crate) ceilings: Ceilings,
    pub(crate) outbox: OutboxReceiver,
    pub(crate) blobs: Arc<SessionBlobs>,
    /// Resolves, with an error, when the session has ended.
    pub(crate) ended: watch::Receiver<()>,
}

/// A session as a data line has it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) blobs: Arc<SessionBlobs>,
    /// Resolves, with an error, when the session has ended.
    pub(crate) ended: watch::Receiver<()>,
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
