//! Everything that can happen.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

use super::share::Share;

/// What the scheduler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A driver attached, and may have this share of the slots.
    SessionOpened(SessionId, Share),
    /// A driver is gone; so is everything of it.
    SessionClosed(SessionId),
    /// A driver does not take its outcomes: nothing more begins for it.
    OutcomesPile(SessionId),
    /// It has taken most of them.
    OutcomesTaken(SessionId),
    /// A joblib call begins.
    CallOpened {
        /// The call.
        call: CallId,
        /// How its workers are set up.
        profile: ProfileId,
        /// Batches of it that may run at once; `None`: no bound but the slots.
        max_running: Option<u32>,
        /// Its batches may be run again after they made way for others.
        makes_way: bool,
    },
    /// A joblib call is over; what is left of it is cancelled.
    CallClosed(CallId),
    /// A batch waits to run.
    BatchSubmitted {
        /// The batch.
        batch: BatchId,
        /// Its call.
        call: CallId,
        /// It may be prefetched: a worker's socket has room for it.
        small: bool,
    },
    /// A batch made way for others as often as it must: from now on it is
    /// stopped only when no other will do.
    BatchStays {
        /// The batch.
        batch: BatchId,
        /// Its call.
        call: CallId,
    },
    /// A worker is set up.
    WorkerReady(WorkerId),
    /// A worker finished its batch and lives on.
    BatchEnded {
        /// The worker.
        worker: WorkerId,
        /// It should be replaced: old, or grown.
        recycle: bool,
        /// How long it took the worker.
        ran: Duration,
        /// It failed, and is to be run again.
        again: bool,
    },
    /// A batch that was to fail with the start of its worker is to be run again.
    BatchReturned {
        /// The batch.
        batch: BatchId,
        /// Its call.
        call: CallId,
        /// It may make way for others; else as after [`Self::BatchStays`].
        makes_way: bool,
    },
    /// A prefetched batch was to be taken back.
    BatchWithdrawn {
        /// The worker.
        worker: WorkerId,
        /// The batch.
        batch: BatchId,
        /// It is ours again; else its worker has begun it.
        won: bool,
    },
    /// A worker process is gone, or never came to be.
    WorkerExited {
        /// The worker.
        worker: WorkerId,
        /// The batches that ended with it. Any other one that it was given had
        /// not begun, or is to be run again.
        ended: [Option<BatchId>; 2],
    },
    /// A batch was lost because memory was short, and is to be run again. Its
    /// worker still has it, or is gone and about to be told of.
    BatchMadeWay {
        /// The batch.
        batch: BatchId,
        /// Its call.
        call: CallId,
    },
    /// The kernel killed a worker because there was no memory left.
    MemoryRanOut,
    /// A look at memory found it short: somebody has to go.
    PressureSeen {
        /// When that was.
        at: Monotonic,
    },
    /// What runs fits, and nothing more does.
    PressureEased,
    /// There is enough memory again.
    PressureEnded,
    /// Time has passed.
    Tick,
    /// The agent takes nothing new.
    Drain,
    /// The agent's patience is over: what runs is killed.
    StopAll,
}
