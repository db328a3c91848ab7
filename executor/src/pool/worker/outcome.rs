//! A worker's report as an outcome.

use std::mem::take;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use clutch_worker_link::{
    BatchReport, ExceptionReport, FailureReport, FromWorker, Leftovers, Phase, SavedReport,
};

use super::message::{BatchOutcome, Note, Saved, Timings, Usage, Value};
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
    /// The first task that is its to run; those before it were saved.
    pub(super) first_task: u32,
    /// Which attempt this is.
    pub(super) attempt: u32,
    pub(super) task_timeout: Option<Duration>,
    pub(super) task_cpu: Option<Duration>,
    pub(super) queued_at: Monotonic,
    pub(super) assigned_at: Monotonic,
    /// As in [`Assignment`](super::message::Assignment).
    pub(super) claim: u64,
    /// The worker was told to put large results on disk.
    pub(super) spills: bool,
    /// What was saved until now.
    pub(super) saved: Saved,
}

/// What an answer tells.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) outcome: BatchOutcome,
    /// The worker's own memory, bytes.
    pub(super) memory_bytes: u64,
    pub(super) leftovers: Leftovers,
}

impl Running {
    /// Keeps results that a worker saved; false when it may not save these.
    pub(super) fn save(&mut self, report: SavedReport, pickle: Vec<u8>, most_bytes: u64) -> bool {
        let Saved { pickles, task_nanoseconds } = &mut self.saved;
        let tasks = self.first_task as usize + task_nanoseconds.len();
        let tasks = tasks.saturating_add(report.task_nanoseconds.len());
        let bytes = pickles.iter().map(Bytes::len).sum::<usize>().saturating_add(pickle.len());
        let sound = report.batch == self.batch.batch
            && !report.task_nanoseconds.is_empty()
            && tasks <= self.tasks as usize
            && bytes as u64 <= most_bytes;
        if sound {
            pickles.push(pickle.into());
            task_nanoseconds.extend(report.task_nanoseconds);
        }
        sound
    }

    /// The outcome that an answer tells; `None` when it is not the answer to this
    /// batch.
    pub(super) fn answered(
        &mut self,
        pid: Pid,
        answer: Answer,
        outputs: &Outputs,
        store: &Store,
    ) -> Option<Told> {
        let Answer { frame, file } = answer;
        let (mut report, result) = match frame.message {
            FromWorker::Done(report, lengths) => {
                let buffers = match file {
                    Some(file) => self.adopted(pid, file, lengths, store)?.map(Some),
                    None => Ok(None),
                };
                let payload = frame.payload.into();
                (report, buffers.map(|buffers| Value { payload, buffers }))
            }
            FromWorker::Failed(report, failed) => {
                let failure = failure(failed, frame.payload, outputs.stderr_tail());
                let failure = self.with_evidence(failure, &report);
                (report, Err(failure))
            }
            FromWorker::Ready | FromWorker::SetupFailed(_) | FromWorker::Saved(_) => return None,
        };
        if report.batch != self.batch.batch {
            return None;
        }
        let (memory_bytes, leftovers) = (report.memory_bytes, take(&mut report.leftovers));
        Some(Told { outcome: self.reported(pid, report, result), memory_bytes, leftovers })
    }

    /// A failure that a worker lived through to tell, with what else it told.
    fn with_evidence(&self, failure: Failure, report: &BatchReport) -> Failure {
        let (user, system) = (report.user_nanoseconds, report.system_nanoseconds);
        let ran = matches!(failure.kind, Kind::TaskRaised | Kind::TaskExited);
        let wall = report.task_nanoseconds.last().filter(|_| ran && failure.task_index.is_some());
        Failure {
            attempt: self.attempt,
            wall: wall.copied().map(Duration::from_nanos),
            cpu: Some(Duration::from_nanos(user.saturating_add(system))),
            ..failure
        }
    }

    /// A batch fails whatever its tasks made of what happened.
    pub(super) fn fail(&self, outcome: &mut BatchOutcome, failure: Failure, outputs: &Outputs) {
        let told = outcome.result.as_ref().err();
        let only = (self.tasks.saturating_sub(self.first_task) == 1).then_some(self.first_task);
        let Usage { user, system, .. } = outcome.usage;
        outcome.result = Err(Failure {
            task_index: told.and_then(|told| told.task_index).or(only),
            attempt: self.attempt,
            wall: told.and_then(|told| told.wall),
            cpu: Some(user + system),
            stderr_tail: outputs.stderr_tail(),
            ..failure
        });
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
        &mut self,
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
            saved: take(&mut self.saved),
            notes: Vec::new(),
            earlier: Vec::new(),
        }
    }

    /// The outcome of a batch that died with its worker.
    pub(super) fn lost(&mut self, pid: Pid, failure: Failure, usage: Usage) -> BatchOutcome {
        BatchOutcome {
            batch: self.batch,
            result: Err(failure),
            timings: Timings {
                queued_at: self.queued_at,
                assigned_at: self.assigned_at,
                ended_at: Monotonic::now(),
                ..Timings::default()
            },
            usage,
            pid: Some(pid),
            saved: take(&mut self.saved),
            notes: Vec::new(),
            earlier: Vec::new(),
        }
    }
}

/// What is to be said of what tasks left behind, but for processes: these are
/// counted when they are killed.
pub(super) fn notes_of(leftovers: &Leftovers) -> impl Iterator<Item = Note> {
    let changed = u64::try_from(leftovers.changed.len()).unwrap_or(u64::MAX);
    let all = [
        Note::ThreadsLeft(leftovers.threads.into()),
        Note::FilesLeft(leftovers.files.into()),
        Note::StateChanged(changed),
    ];
    let counts = [leftovers.threads.into(), leftovers.files.into(), changed];
    all.into_iter().zip(counts).filter(|(_, count)| *count > 0).map(|(note, _)| note)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::SessionId;

    fn running() -> Running {
        Running {
            batch: BatchId { session: SessionId(1), batch: 9 },
            tasks: 5,
            first_task: 1,
            attempt: 2,
            task_timeout: None,
            task_cpu: None,
            queued_at: Monotonic::default(),
            assigned_at: Monotonic::default(),
            claim: 0,
            spills: false,
            saved: Saved::default(),
        }
    }

    fn report(batch: u64, tasks: u64) -> SavedReport {
        SavedReport { batch, task_nanoseconds: (0..tasks).collect() }
    }

    #[test]
    fn results_are_saved_in_order_and_go_with_the_outcome() {
        let mut running = running();
        assert!(running.save(report(9, 1), b"ab".to_vec(), 5));
        assert!(running.save(report(9, 3), b"cde".to_vec(), 5));
        let failure = Failure::new(Kind::WorkerKilled, "gone");
        let Saved { pickles, task_nanoseconds } =
            running.lost(Pid(7), failure, Usage::default()).saved;
        assert_eq!(pickles, [Bytes::from_static(b"ab"), Bytes::from_static(b"cde")]);
        assert_eq!(task_nanoseconds, [0, 0, 1, 2]);
    }

    #[test]
    fn a_worker_may_not_save_more_than_there_is() {
        let cases = [
            ("another batch", report(8, 1), 0),
            ("no task", report(9, 0), 0),
            ("more tasks than are its to run", report(9, 5), 0),
            ("more bytes than the bound", report(9, 1), 6),
        ];
        for (what, report, bytes) in cases {
            assert!(!running().save(report, vec![0; bytes], 5), "{what}");
        }
        let mut running = running();
        assert!(running.save(report(9, 1), vec![0; 3], 5));
        assert!(!running.save(report(9, 1), vec![0; 3], 5), "more bytes than the bound in all");
    }

    #[test]
    fn only_what_was_left_is_noted() {
        let left = Leftovers {
            threads: 2,
            changed: vec!["nice".to_owned()],
            children: true,
            out_of_memory: true,
            ..Leftovers::default()
        };
        let notes: Vec<_> = notes_of(&left).collect();
        assert_eq!(notes, [Note::ThreadsLeft(2), Note::StateChanged(1)]);
        assert_eq!(notes_of(&Leftovers::default()).count(), 0);
    }
}
