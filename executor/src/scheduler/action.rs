//! Everything the scheduler can ask for.

use crate::identifiers::{BatchId, ProfileId, WorkerId};

/// What the scheduler wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a worker; answered by `WorkerReady` or `WorkerExited`.
    Spawn {
        /// Its name from now on.
        worker: WorkerId,
        /// How it is set up, and for which session.
        profile: ProfileId,
    },
    /// Give a batch to an idle worker; answered by `BatchEnded` or
    /// `WorkerExited`.
    Run {
        /// The worker.
        worker: WorkerId,
        /// The batch.
        batch: BatchId,
    },
    /// Give a batch to a busy worker, to run after the one that it runs. Nothing
    /// answers it: when that one ends, this one runs.
    Prefetch {
        /// The worker.
        worker: WorkerId,
        /// The batch.
        batch: BatchId,
    },
    /// Take a prefetched batch back, unless its worker has begun it; answered by
    /// `BatchWithdrawn` before anything else is.
    Withdraw {
        /// The worker.
        worker: WorkerId,
        /// The batch.
        batch: BatchId,
    },
    /// Kill a worker; answered by `WorkerExited`.
    Stop {
        /// The worker.
        worker: WorkerId,
        /// Why.
        reason: StopReason,
    },
    /// Let an idle worker leave; answered by `WorkerExited`.
    Retire(WorkerId),
    /// A waiting batch will not run: its call was closed.
    Cancel(BatchId),
    /// A waiting batch will not run: the agent drains.
    TurnAway(BatchId),
    /// A waiting batch will not run: the worker meant for it did not start.
    FailStart {
        /// The batch.
        batch: BatchId,
        /// The worker that did not start.
        worker: WorkerId,
    },
}

/// Why a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Its call was closed by the driver.
    Cancelled,
    /// Its driver is gone.
    SessionClosed,
    /// The running task passed its wall-time limit.
    TimeLimit,
    /// The agent itself ends.
    AgentEnding,
    /// Memory runs short, and its batch was chosen to make way.
    Pressure,
}
