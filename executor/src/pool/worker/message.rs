//! What may be said to a worker's task, and what it says.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::identifiers::{BatchId, Pid, WorkerId};
use crate::pool::{Reaper, Zygote};
use crate::scheduler::StopReason;
use crate::settings::PoolOptions;

/// Everything that a worker is started with.
#[derive(Debug)]
pub(crate) struct WorkerStart {
    pub(crate) id: WorkerId,
    pub(crate) zygote: Zygote,
    pub(crate) setup: WorkerSetup,
    pub(crate) options: PoolOptions,
    pub(crate) reaper: Reaper,
    /// Where its events go.
    pub(crate) events: mpsc::Sender<WorkerEvent>,
    /// Where what it prints goes; best effort.
    pub(crate) output: mpsc::Sender<Output>,
}

/// How a worker is set up before its first batch.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSetup {
    /// Environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// Threads for inner pools.
    pub(crate) threads: u32,
    /// The profile's pickled setup.
    pub(crate) payload: Bytes,
}

/// A batch for a worker.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) batch: BatchId,
    pub(crate) tasks: u32,
    pub(crate) nesting_level: u32,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) queued_at: Monotonic,
    pub(crate) payload: Vec<Bytes>,
}

/// What a worker's task can be told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run a batch; only when idle.
    Run(Box<Assignment>),
    /// Die.
    Stop(StopReason),
    /// Leave in peace; only when idle.
    Retire,
}

/// Tells a worker's task what to do.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    pub(super) orders: mpsc::Sender<Order>,
}

impl WorkerHandle {
    /// Gives an order. A worker is given at most one batch, one stop and one
    /// retirement at a time, so there is always room; an order to a worker that
    /// is gone is moot, since its exit is already on the way.
    pub(crate) fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            tracing::debug!(%error, "order to a worker that is gone");
        }
    }
}

/// What a worker's task reports.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// The process exists.
    Forked { worker: WorkerId, pid: Pid },
    /// It is set up.
    Ready { worker: WorkerId },
    /// Its batch ended, and it lives on.
    Ended { worker: WorkerId, outcome: Box<BatchOutcome>, recycle: bool },
    /// It is gone, perhaps with a batch.
    Exited { worker: WorkerId, lost: Option<Box<BatchOutcome>>, start_failure: Option<Failure> },
}

/// How a batch ended.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    pub(crate) batch: BatchId,
    /// The pickled results, or why there are none.
    pub(crate) result: Result<Bytes, Failure>,
    pub(crate) timings: Timings,
    pub(crate) usage: Usage,
    /// The worker; `None` when the batch never reached one.
    pub(crate) pid: Option<Pid>,
}

/// When each phase of a batch happened; see `outcome.proto`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timings {
    pub(crate) queued_at: Monotonic,
    pub(crate) assigned_at: Monotonic,
    pub(crate) received_at: Monotonic,
    pub(crate) unpickled_at: Monotonic,
    pub(crate) ran_at: Monotonic,
    pub(crate) pickled_at: Monotonic,
    pub(crate) ended_at: Monotonic,
    pub(crate) task_nanoseconds: Vec<u64>,
}

/// What a batch used.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) peak_memory_bytes: u64,
}

/// Which stream a worker wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// Bytes that a worker wrote.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pid: Pid,
    pub(crate) stream: OutputStream,
    pub(crate) data: Bytes,
}
