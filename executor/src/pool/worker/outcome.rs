//! A worker's report as an outcome.

use std::os::fd::OwnedFd;
use std::time::Duration;

use clutch_worker_link::{BatchReport, ExceptionReport, FailureReport, FromWorker, Phase};

use super::message::{BatchOutcome, Saved, Timings, Usage, Value};
use super::output::Outputs;
use super::reader::Answer;
use crate::blobs::{AdoptError, Buffers, Store, end_of};
use crate::clock::Monotonic;
use crate::failure::{Failure, Kind, RemoteException};
use crate::identifiers::{BatchId, Pid};

/// The batch that a worker runs, without its payload.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) batch: BatchId,
    pub(super) tasks: u32,
    pub(super) task_timeout: Option<Duration>,
    pub(super) queued_at: Monotonic,
    pub(super) assigned_at: Monotonic,
    /// As in [`Assignment`](super::message::Assignment).
    pub(super) claim: u64,
    /// The worker was told to put large results on disk.
    pub(super) spills: bool,
}

impl Running {
    /// The outcome that an answer tells, and the worker's own memory then, in
    /// bytes; `None` when it is not the answer to this batch.
    pub(super) fn answered(
        &self,
        pid: Pid,
        answer: Answer,
        outputs: &Outputs,
        store: &Store,
    ) -> Option<(BatchOutcome, u64)> {
        let Answer { frame, file } = answer;
        let (report, result) = match frame.message {
            FromWorker::Done(report, lengths) => {
                let buffers = match file {
                    Some(file) => self.adopted(pid, file, lengths, store)?.map(Some),
                    None => Ok(None),
                };
                let payload = frame.payload.into();
                (report, buffers.map(|buffers| Value { payload, buffers }))
            }
            FromWorker::Failed(report, failed) => {
                (report, Err(failure(failed, frame.payload, outputs.stderr_tail())))
            }
            FromWorker::Ready | FromWorker::SetupFailed(_) | FromWorker::Saved(_) => return None,
        };
        if report.batch != self.batch.batch {
            return None;
        }
        let memory_bytes = report.memory_bytes;
        Some((self.reported(pid, report, result), memory_bytes))
    }

    /// The buffers of a result; `None` when their file makes no sense, and the
    /// inner failure when there is no room for it.
    fn adopted(
        &self,
        pid: Pid,
        file: OwnedFd,
        lengths: Vec<u64>,
        store: &Store,
    ) -> Option<Result<Buffers, Failure>> {
        match store.adopt(file, end_of(&lengths)?, self.spills) {
            Ok(blob) => Some(Ok(Buffers { blob, lengths })),
            Err(AdoptError::Refused(failure)) => Some(Err(failure)),
            Err(error @ AdoptError::Nonsense(_)) => {
                tracing::warn!(%pid, %error, "a worker is killed");
                None
            }
        }
    }

    fn reported(
        &self,
        pid: Pid,
        report: BatchReport,
        result: Result<Value, Failure>,
    ) -> BatchOutcome {
        let at = Monotonic::from_nanoseconds;
        BatchOutcome {
            batch: self.batch,
            result,
            timings: Timings {
                queued_at: self.queued_at,
                assigned_at: self.assigned_at,
                received_at: at(report.received_at),
                unpickled_at: at(report.unpickled_at),
                ran_at: at(report.ran_at),
                pickled_at: at(report.pickled_at),
                ended_at: Monotonic::now(),
                task_nanoseconds: report.task_nanoseconds,
            },
            usage: Usage {
                user: Duration::from_nanos(report.user_nanoseconds),
                system: Duration::from_nanos(report.system_nanoseconds),
                peak_memory_bytes: report.peak_memory_bytes,
            },
            pid: Some(pid),
            saved: Saved::default(),
            notes: Vec::new(),
            earlier: Vec::new(),
        }
    }

    /// The outcome of a batch that died with its worker.
    pub(super) fn lost(&self, pid: Option<Pid>, failure: Failure) -> BatchOutcome {
        BatchOutcome {
            batch: self.batch,
            result: Err(failure),
            timings: Timings {
                queued_at: self.queued_at,
                assigned_at: self.assigned_at,
                ended_at: Monotonic::now(),
                ..Timings::default()
            },
            usage: Usage::default(),
            pid,
            saved: Saved::default(),
            notes: Vec::new(),
            earlier: Vec::new(),
        }
    }
}

/// Takes the modules that a worker says it imported; `None`: no new ones.
pub(super) fn take_imported(message: &mut FromWorker) -> Option<Vec<String>> {
    let (FromWorker::Done(report, _) | FromWorker::Failed(report, _)) = message else {
        return None;
    };
    Some(std::mem::take(&mut report.imported)).filter(|imported| !imported.is_empty())
}

/// What Python reported, as a failure of the closed list.
pub(super) fn failure(report: FailureReport, pickle: Vec<u8>, stderr_tail: String) -> Failure {
    let kind = match report.phase {
        Phase::Setup => Kind::WorkerStartFailed,
        Phase::Initializer => Kind::InitializerFailed,
        Phase::Unpickle => Kind::ArgumentUnreadable,
        Phase::Run => Kind::TaskRaised,
        Phase::Exit => Kind::TaskExited,
        Phase::Pickle => Kind::ResultUnpicklable,
        Phase::TooLarge => Kind::QuotaExceeded,
    };
    let ExceptionReport { type_name, text, traceback } = report.exception;
    let exception = RemoteException { pickle: pickle.into(), type_name, text, traceback };
    Failure {
        task_index: report.task_index,
        exit_code: report.exit_code,
        stderr_tail,
        exception: Some(Box::new(exception)),
        ..Failure::new(kind, report.message)
    }
}
