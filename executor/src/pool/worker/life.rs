//! From set up to gone.

use std::io::ErrorKind;
use std::time::Duration;

use clutch_worker_link::{
    FromWorker, Leftovers, LinkError, ProgressReading, RunBatch, ToWorker, write_frame,
};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mapping::{self, Mapping};
use super::message::{
    Assignment, BatchOutcome, Note, Order, Remains, Saved, WorkerEvent, WorkerStart,
};
use super::outcome::{self, Running, Told};
use super::process::{Happening, Process, signal};
use super::reader::Answer;
use crate::blobs::Store;
use crate::clock::Monotonic;
use crate::identifiers::{BatchId, WorkerId};
use crate::limits::{Passed, Resource};
use crate::pool::ProgressPage;
use crate::pool::deadline::{Look, look};
use crate::pool::death::{Intent, explain_lost};
use crate::pool::recycle::History;
use crate::scheduler::StopReason;
use crate::settings::PoolOptions;

/// How long a worker may take to leave when asked: exit handlers run.
pub(super) const LEAVE: Duration = Duration::from_secs(2);

/// The same while a batch that was taken back from it waits for its end, which
/// is when the scheduler gives it to another one.
const LEAVE_AT_ONCE: Duration = Duration::from_millis(100);

/// How long a worker gets to print its stacks before it is killed for time.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Blobs that one message has a worker forget. It fits into the socket of one
/// that is busy.
const MAX_FORGOTTEN: usize = 256;

/// A worker that is set up.
pub(super) struct Life {
    pub(super) process: Process,
    pub(super) state: State,
    /// Why the agent kills it; once set, its answers do not count.
    pub(super) intent: Option<Intent>,
    /// Which task that is held against; `None`: the one that runs at its death.
    pub(super) blamed: Option<Seen>,
    history: History,
    /// It has something left of its tasks, and must be replaced.
    spent: bool,
    /// Where its large results are booked.
    store: Store,
    mapping: Mapping,
    /// Something may be for it to forget, once it is idle.
    released: bool,
}

/// What a worker was at, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) task: Option<ProgressReading>,
    pub(super) at: Monotonic,
}

pub(super) enum State {
    Idle,
    /// A batch, and one that was prefetched.
    Running(Box<Running>, Option<Box<Running>>),
    Leaving,
}

/// What is to be done about a batch that ended.
pub(super) struct Answered {
    pub(super) told: Told,
    /// The worker should be replaced.
    recycle: bool,
    /// It has to go at once: what it would run next was taken back, and nobody
    /// else will tell it to.
    leave: bool,
}

impl Life {
    pub(super) fn new(process: Process, store: Store) -> Self {
        Self {
            process,
            state: State::Idle,
            intent: None,
            blamed: None,
            history: History::default(),
            spent: false,
            store,
            mapping: Mapping::default(),
            released: false,
        }
    }

    /// Runs batches until the process is gone; says what it leaves behind.
    pub(super) async fn live(
        mut self,
        id: WorkerId,
        events: &mpsc::Sender<WorkerEvent>,
        start: &WorkerStart,
    ) -> Remains {
        let options = &start.options;
        loop {
            match self.process.next().await {
                Happening::Answer(Ok(mut answer)) => {
                    if let Some(imported) = outcome::take_imported(&mut answer.frame.message) {
                        start.zygote.imported(imported);
                    }
                    if let Some(answered) = self.answered(*answer, options) {
                        let recycle = answered.recycle;
                        let outcome = Box::new(self.tidied(answered).await);
                        let ended = WorkerEvent::Ended { worker: id, outcome, recycle };
                        // The dispatcher outlives every worker but at the end.
                        events.send(ended).await.ok();
                    }
                }
                Happening::Answer(Err(error)) => return self.line_ended(&error, start).await,
                // What it does not begin is given to another one when it is gone.
                Happening::Order(Some(Order::Run(_))) if self.is_closed() => {}
                Happening::Order(Some(Order::Run(assignment))) => self.run(*assignment).await,
                Happening::Order(Some(Order::Withdrawn(batch))) => self.withdrawn(batch),
                Happening::Order(Some(Order::Stop(reason))) => self.kill(Intent::Stop(reason)),
                Happening::Order(Some(Order::Retire)) => self.retire(LEAVE).await,
                Happening::Order(None) => self.kill(Intent::Stop(StopReason::AgentEnding)),
                Happening::Exited(ended) => return self.ended(ended, start).await,
                Happening::Passed(passed) => self.passed(passed),
                Happening::TimeToLook => self.time_to_look(),
                Happening::Released => self.released = true,
            }
            while self.released && matches!(self.state, State::Idle) {
                self.forget().await;
            }
        }
    }

    async fn run(&mut self, assignment: Assignment) {
        let spill_directory = self.store.spill_directory();
        let given = Box::new(Running {
            batch: assignment.batch,
            tasks: assignment.tasks,
            first_task: assignment.first_task,
            attempt: assignment.attempt,
            task_timeout: assignment.task_timeout,
            task_cpu: assignment.task_cpu,
            queued_at: assignment.queued_at,
            assigned_at: Monotonic::now(),
            claim: assignment.claim,
            spills: spill_directory.is_some(),
            saved: Saved::default(),
        });
        let blobs = &assignment.blobs;
        let message = ToWorker::Run(RunBatch {
            batch: assignment.batch.batch,
            tasks: assignment.tasks,
            nesting_level: assignment.nesting_level,
            claim: assignment.claim,
            buffers: blobs.buffers.clone(),
            shared: blobs.shared.clone(),
            spill_directory: spill_directory.unwrap_or_default().to_owned(),
            first_task: assignment.first_task,
        });
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, _) => self.state = State::Running(running, Some(given)),
            State::Idle | State::Leaving => {
                self.process.outputs.begin_batch();
                self.go_on(Some(given));
            }
        }
        let forgotten = self.forgotten();
        let lacking = self.mapping.add(&blobs.held);
        let writing = async |line: &mut UnixStream| {
            mapping::take_back(line, forgotten).await?;
            mapping::give(line, &lacking).await?;
            write_frame(line, &message, &assignment.payload).await
        };
        self.write(writing).await;
    }

    /// Has it unmap what nobody will use any more.
    async fn forget(&mut self) {
        let forgotten = self.forgotten();
        self.write(async |line| mapping::take_back(line, forgotten).await).await;
    }

    /// What it will not use any more, if something was let go of. What is too
    /// much for one message comes next time.
    fn forgotten(&mut self) -> Vec<u64> {
        if !self.released {
            return Vec::new();
        }
        let forgotten = self.mapping.sweep(MAX_FORGOTTEN);
        self.released = forgotten.len() == MAX_FORGOTTEN;
        forgotten
    }

    /// Writes to it, and listens to orders meanwhile: a stopped worker reads
    /// nothing, and can be killed all the same.
    async fn write(&mut self, write: impl AsyncFnOnce(&mut UnixStream) -> Result<(), LinkError>) {
        let written = {
            let Process { line, orders, deferred, pidfd, enclosed, progress, .. } =
                &mut self.process;
            let mut kill = |intent| {
                self.state.withdraw_next(progress);
                self.intent.get_or_insert(intent);
                signal(pidfd.as_ref(), Signal::KILL);
            };
            // Whose it is shows once the answers are read again.
            let mut of_a_task = None;
            let mut writing = std::pin::pin!(write(line));
            let written = loop {
                tokio::select! {
                    biased;
                    written = &mut writing => break written,
                    Some(order) = orders.recv() => match order {
                        Order::Stop(reason) => kill(Intent::Stop(reason)),
                        Order::Run(_) | Order::Withdrawn(_) | Order::Retire => {
                            deferred.push_back(order);
                        }
                    },
                    passed = enclosed.passed() => match passed.resource {
                        Resource::CpuTime => of_a_task = Some(passed),
                        Resource::Memory if enclosed.is_hit() => {}
                        Resource::Memory | Resource::Processes | Resource::Scratch => {
                            kill(Intent::Passed(passed));
                        }
                    }
                }
            };
            if let Some(passed) = of_a_task {
                enclosed.put_back(passed);
            }
            written
        };
        // A line that is closed means a dead worker, which its exit shows.
        if let Err(LinkError::Io(error)) = written
            && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            tracing::warn!(pid = %self.process.pid, %error, "a worker cannot be written to");
            self.kill(Intent::LinkLost);
        }
    }

    /// A prefetched batch was taken back. We may have taken it for running when
    /// the one before it ended.
    fn withdrawn(&mut self, batch: BatchId) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, None) if running.batch == batch => self.go_on(None),
            State::Running(running, next) => {
                self.state = State::Running(running, next.filter(|next| next.batch != batch));
            }
            other @ (State::Idle | State::Leaving) => self.state = other,
        }
    }

    /// This batch runs now, or none does.
    fn go_on(&mut self, running: Option<Box<Running>>) {
        let Some(running) = running else {
            self.process.look_at = None;
            self.process.enclosed.rest();
            self.state = State::Idle;
            return;
        };
        self.process.look_at = running.task_timeout.map(|limit| Instant::now() + limit);
        self.process.enclosed.begin(running.task_cpu);
        self.state = State::Running(running, None);
    }

    /// What an answer tells of the running batch, if that has ended.
    pub(super) fn answered(&mut self, answer: Answer, options: &PoolOptions) -> Option<Answered> {
        if self.intent.is_some() {
            return None;
        }
        let pid = self.process.pid;
        let State::Running(mut running, next) = std::mem::replace(&mut self.state, State::Idle)
        else {
            self.kill(Intent::LinkLost);
            return None;
        };
        self.process.outputs.drain();
        let told = match answer.frame.message {
            FromWorker::Saved(report) => {
                let most = options.max_batch_bytes;
                if running.save(report, answer.frame.payload, most) {
                    self.state = State::Running(running, next);
                    return None;
                }
                None
            }
            FromWorker::Done(..)
            | FromWorker::Failed(..)
            | FromWorker::Ready
            | FromWorker::SetupFailed(_) => {
                running.answered(pid, answer, &self.process.outputs, &self.store)
            }
        };
        let Some(mut told) = told else {
            self.state = State::Running(running, next);
            self.kill(Intent::LinkLost);
            return None;
        };
        self.spent |= told.leftovers != Leftovers::default();
        let counted = self.process.enclosed.ended(told.outcome.timings.ran());
        told.outcome.notes.extend(counted.notes);
        if let Some(lost) = counted.lost {
            self.spent = true;
            let failure = explain_lost(pid, lost, "while it ran this batch");
            running.fail(&mut told.outcome, failure, &self.process.outputs);
        }
        told.outcome.notes.extend(outcome::notes_of(&told.leftovers));
        // The prefetched batch, if there is one, runs now. What it printed may
        // have come together with the last words of the one before, so nothing
        // of that is forgotten. A worker that must go does not begin another.
        let progress = &self.process.progress;
        let had_next = next.is_some();
        let next = next.filter(|next| {
            let claim = next.claim;
            !if self.spent { progress.withdraw(claim) } else { progress.is_withdrawn(claim) }
        });
        let leave = self.spent && had_next && next.is_none();
        self.go_on(next);
        let worn = self.history.batch_ended(told.memory_bytes, options);
        Some(Answered { told, recycle: worn || self.spent, leave })
    }

    /// Clears away what a batch left behind, unless another one runs already;
    /// gives the outcome.
    async fn tidied(&mut self, answered: Answered) -> BatchOutcome {
        let Answered { told: Told { mut outcome, leftovers, .. }, leave, .. } = answered;
        if leftovers.children && matches!(self.state, State::Idle) {
            let killed = self.process.enclosed.kill_children().await;
            outcome.notes.extend((killed > 0).then_some(Note::ChildrenKilled(killed)));
        }
        if leave {
            self.retire(LEAVE_AT_ONCE).await;
        }
        outcome
    }

    /// A limit was passed.
    fn passed(&mut self, passed: Passed) {
        match passed.resource {
            Resource::CpuTime if self.intent.is_some() => {}
            Resource::CpuTime => {
                // Between batches it is news of the last one, which is over.
                if matches!(self.state, State::Running(..)) {
                    self.kill_for_time(Intent::Passed(passed), self.seen());
                }
            }
            Resource::Memory if self.process.enclosed.is_hit() => {}
            Resource::Memory | Resource::Processes | Resource::Scratch => {
                self.kill(Intent::Passed(passed));
            }
        }
    }

    /// Whether a batch that comes now is not its to run. One that is idle and
    /// over a limit must not take another with it.
    fn is_closed(&mut self) -> bool {
        if matches!(self.state, State::Idle)
            && let Some(passed) = self.process.enclosed.passed_idle()
        {
            self.kill(Intent::Passed(passed));
        }
        self.intent.is_some() || matches!(self.state, State::Leaving)
    }

    async fn retire(&mut self, patience: Duration) {
        self.state = State::Leaving;
        self.process.look_at = Some(Instant::now() + patience);
        // A write that fails means a dead worker, which its exit shows.
        write_frame::<_, _, &[u8]>(&mut self.process.line, &ToWorker::Retire, &[]).await.ok();
    }

    fn time_to_look(&mut self) {
        self.process.look_at = None;
        if self.intent.is_some() {
            // It had its last words.
            self.process.kill();
            return;
        }
        let limit = match &self.state {
            State::Running(running, _) => running.task_timeout,
            State::Leaving => return self.kill(Intent::Overstayed),
            State::Idle => None,
        };
        let Some(limit) = limit else { return };
        let seen = self.seen();
        match look(seen.task, limit, seen.at) {
            Look::Again(left) => self.process.look_at = Some(Instant::now() + left),
            Look::Expired => self.kill_for_time(Intent::Stop(StopReason::TimeLimit), seen),
        }
    }

    /// What it is at now.
    pub(super) fn seen(&self) -> Seen {
        Seen { task: self.process.progress.read(), at: Monotonic::now() }
    }

    /// Kills it after it could say what it was at. It may be at another task by
    /// then, which is not to blame.
    fn kill_for_time(&mut self, intent: Intent, blamed: Seen) {
        self.state.withdraw_next(&self.process.progress);
        self.intent = Some(intent);
        self.blamed = Some(blamed);
        self.process.ask_for_stacks();
        self.process.look_at = Some(Instant::now() + LAST_WORDS);
    }

    pub(super) fn kill(&mut self, intent: Intent) {
        self.state.withdraw_next(&self.process.progress);
        self.intent.get_or_insert(intent);
        self.process.kill();
    }
}

impl State {
    /// A batch that is not to blame must not die with the worker.
    fn withdraw_next(&self, progress: &ProgressPage) {
        if let Self::Running(_, Some(next)) = self {
            progress.withdraw(next.claim);
        }
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
