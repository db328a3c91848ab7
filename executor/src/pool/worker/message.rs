//! What may be said to a worker's task, and what it says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::blobs::{BatchBlobs, Buffers, Releases, Store};
use crate::clock::Monotonic;
use crate::failure::{Failure, Kind};
use crate::identifiers::{BatchId, Pid, WorkerId};
use crate::limits::{Enforcer, Limits, SessionFiles};
use crate::pool::{ProgressPage, Reaper, Zygote};
use crate::scheduler::StopReason;
use crate::session::CodeArchive;
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
    /// Where its large results are booked.
    pub(crate) store: Store,
    /// Says when its session let go of a blob.
    pub(crate) releases: Releases,
    /// Where what it prints goes; best effort.
    pub(crate) output: mpsc::Sender<Output>,
    /// What holds it to its limits.
    pub(crate) enforcer: Enforcer,
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
    /// What it may use, with all that it starts.
    pub(crate) limits: Limits,
    /// Modules that live only at the driver.
    pub(crate) code: Option<WorkerCode>,
}

/// Code of the driver for a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerCode {
    /// Where the session's workers unpack it. Stays as long as one of them.
    pub(crate) files: Arc<SessionFiles>,
    /// In the order of the search path.
    pub(crate) archives: Arc<[CodeArchive]>,
}

/// A batch for a worker.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) batch: BatchId,
    pub(crate) tasks: u32,
    pub(crate) nesting_level: u32,
    pub(crate) task_timeout: Option<Duration>,
    /// CPU time that each task may use.
    pub(crate) task_cpu: Option<Duration>,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
    /// Tasks whose results were saved by an earlier attempt.
    pub(crate) first_task: u32,
    pub(crate) queued_at: Monotonic,
    /// 0: for an idle worker. Otherwise prefetched, see
    /// [`RunBatch`](clutch_worker_link::RunBatch).
    pub(crate) claim: u64,
    pub(crate) payload: Vec<Bytes>,
    pub(crate) blobs: Arc<BatchBlobs>,
}

/// What a worker's task can be told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run a batch: when idle, or prefetched when busy with one.
    Run(Box<Assignment>),
    /// Forget a prefetched batch: the progress page says it was taken back.
    Withdrawn(BatchId),
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
    /// Gives an order. A worker is given at most two batches, one withdrawal,
    /// one stop and one retirement at a time, so there is always room.
    ///
    /// # Errors
    /// The order, when the worker is gone. Its exit is already on the way.
    pub(crate) fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).map_err(|error| {
            tracing::debug!(%error, "order to a worker that is gone");
            error.into_inner()
        })
    }
}

/// What a worker's task reports.
#[derive(Debug)]
pub(crate) enum WorkerEvent {
    /// The process exists.
    Forked { worker: WorkerId, pid: Pid, progress: Arc<ProgressPage> },
    /// It is set up.
    Ready { worker: WorkerId },
    /// Its batch ended, and it lives on.
    Ended { worker: WorkerId, outcome: Box<BatchOutcome>, recycle: bool },
    /// It is gone.
    Exited { worker: WorkerId, remains: Remains, start_failure: Option<Failure> },
}

/// What a worker leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Batches that ended with it: it was answered last, or it had begun. Any
    /// other one that it was told of it has not begun.
    pub(crate) ended: [Option<Box<BatchOutcome>>; 2],
}

/// How a batch ended.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    pub(crate) batch: BatchId,
    /// The results, or why there are none.
    pub(crate) result: Result<Value, Failure>,
    pub(crate) timings: Timings,
    pub(crate) usage: Usage,
    /// The worker; `None` when the batch never reached one.
    pub(crate) pid: Option<Pid>,
    /// Results that this attempt saved before it ended.
    pub(crate) saved: Saved,
    /// What else there is to know.
    pub(crate) notes: Vec<Note>,
    /// Attempts before this one.
    pub(crate) earlier: Vec<Attempt>,
}

/// Results of the first tasks of a batch, which do not die with their worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    /// Pickled lists, in order.
    pub(crate) pickles: Vec<Bytes>,
    /// How long each of the tasks ran: as many as there are results.
    pub(crate) task_nanoseconds: Vec<u64>,
}

/// An attempt at a batch that failed and was followed by another one.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) pid: Option<Pid>,
    pub(crate) ended_at: Monotonic,
}

/// Something to know of a batch that is not its failure; see `outcome.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    ChildrenKilled(u64),
    ThreadsLeft(u64),
    FilesLeft(u64),
    ChildrenOutOfMemory(u64),
    /// Milliseconds.
    CpuThrottled(u64),
    StateChanged(u64),
}

/// The results of a batch, or of the tasks whose results were not saved.
#[derive(Debug)]
pub(crate) struct Value {
    /// Pickled.
    pub(crate) payload: Bytes,
    /// What the pickle refers to outside of itself.
    pub(crate) buffers: Option<Buffers>,
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

impl Timings {
    /// How long the worker was at it, as far as it said.
    pub(crate) fn ran(&self) -> Duration {
        let end = self.unpickled_at.max(self.ran_at).max(self.pickled_at);
        end.since(self.received_at)
    }
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
