//! From set up to gone.

use std::io::ErrorKind;
use std::time::Duration;

use clutch_worker_link::{LinkError, RunBatch, ToWorker, write_frame};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::mapping::{self, Mapping};
use super::message::{Assignment, BatchOutcome, Order, Remains, WorkerEvent, WorkerStart};
use super::outcome::{self, Running};
use super::process::{Happening, Process, signal};
use super::reader::Answer;
use crate::blobs::Store;
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::identifiers::{BatchId, Pid, WorkerId};
use crate::pool::deadline::{Look, look};
use crate::pool::exit::{Death, Intent, explain};
use crate::pool::reaper::Exit;
use crate::pool::recycle::History;
use crate::scheduler::StopReason;
use crate::settings::PoolOptions;

/// How long a worker may take to leave when asked: exit handlers run.
const LEAVE: Duration = Duration::from_secs(2);

/// How long a worker gets to print its stacks before it is killed for time.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How long a worker whose line broke may take to be seen dead, and how long
/// the last answer of a dead one may take to come out of the socket.
const SETTLE: Duration = Duration::from_millis(500);

/// Blobs that one message has a worker forget. It fits into the socket of one
/// that is busy.
const MAX_FORGOTTEN: usize = 256;

/// A worker that is set up.
pub(super) struct Life {
    pub(super) process: Process,
    state: State,
    /// Why the agent kills it; once set, its answers do not count.
    intent: Option<Intent>,
    history: History,
    /// Where its large results are booked.
    store: Store,
    mapping: Mapping,
    /// Something may be for it to forget, once it is idle.
    released: bool,
}

enum State {
    Idle,
    /// A batch, and one that was prefetched.
    Running(Running, Option<Running>),
    Leaving,
}

impl Life {
    pub(super) fn new(process: Process, store: Store) -> Self {
        Self {
            process,
            state: State::Idle,
            intent: None,
            history: History::default(),
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
                    if let Some((outcome, recycle)) = self.answered(*answer, options) {
                        let outcome = Box::new(outcome);
                        let ended = WorkerEvent::Ended { worker: id, outcome, recycle };
                        // The dispatcher outlives every worker but at the end.
                        events.send(ended).await.ok();
                    }
                }
                Happening::Answer(Err(error)) => return self.line_ended(&error).await,
                Happening::Order(Some(Order::Run(assignment))) => self.run(*assignment).await,
                Happening::Order(Some(Order::Withdrawn(batch))) => self.withdrawn(batch),
                Happening::Order(Some(Order::Stop(reason))) => self.kill(Intent::Stop(reason)),
                Happening::Order(Some(Order::Retire)) => self.retire().await,
                Happening::Order(None) => self.kill(Intent::Stop(StopReason::AgentEnding)),
                Happening::Exited(exit) => return self.ended(exit, options).await,
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
        let given = Running {
            batch: assignment.batch,
            tasks: assignment.tasks,
            task_timeout: assignment.task_timeout,
            queued_at: assignment.queued_at,
            assigned_at: Monotonic::now(),
            claim: assignment.claim,
            spills: spill_directory.is_some(),
        };
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
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, _) => State::Running(running, Some(given)),
            State::Idle | State::Leaving => {
                self.process.outputs.begin_batch();
                self.process.look_at = given.task_timeout.map(|limit| Instant::now() + limit);
                State::Running(given, None)
            }
        };
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
            let Process { line, orders, deferred, pidfd, .. } = &mut self.process;
            let mut writing = std::pin::pin!(write(line));
            loop {
                tokio::select! {
                    biased;
                    written = &mut writing => break written,
                    Some(order) = orders.recv() => match order {
                        Order::Stop(reason) => {
                            self.intent.get_or_insert(Intent::Stop(reason));
                            signal(pidfd.as_ref(), Signal::KILL);
                        }
                        Order::Run(_) | Order::Withdrawn(_) | Order::Retire => {
                            deferred.push_back(order);
                        }
                    }
                }
            }
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
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, None) if running.batch == batch => {
                self.process.look_at = None;
                State::Idle
            }
            State::Running(running, next) => {
                State::Running(running, next.filter(|next| next.batch != batch))
            }
            other @ (State::Idle | State::Leaving) => other,
        };
    }

    /// The prefetched batch, if there is one, runs now. What it printed may have
    /// come together with the last words of the one before, so nothing of that
    /// is forgotten.
    fn go_on(&mut self, next: Option<Running>) {
        let progress = &self.process.progress;
        let next = next.filter(|next| !progress.is_withdrawn(next.claim));
        let limit = next.as_ref().and_then(|next| next.task_timeout);
        self.process.look_at = limit.map(|limit| Instant::now() + limit);
        self.state = next.map_or(State::Idle, |next| State::Running(next, None));
    }

    /// The outcome of the running batch, and whether to replace the worker.
    fn answered(&mut self, answer: Answer, options: &PoolOptions) -> Option<(BatchOutcome, bool)> {
        if self.intent.is_some() {
            return None;
        }
        let pid = self.process.pid;
        let State::Running(running, next) = std::mem::replace(&mut self.state, State::Idle) else {
            self.kill(Intent::LinkLost);
            return None;
        };
        self.process.outputs.drain();
        let outputs = &self.process.outputs;
        let Some((outcome, memory_bytes)) = running.answered(pid, answer, outputs, &self.store)
        else {
            self.state = State::Running(running, next);
            self.kill(Intent::LinkLost);
            return None;
        };
        self.go_on(next);
        Some((outcome, self.history.batch_ended(memory_bytes, options)))
    }

    async fn retire(&mut self) {
        self.state = State::Leaving;
        self.process.look_at = Some(Instant::now() + LEAVE);
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
        match look(self.process.progress.read(), limit, Monotonic::now()) {
            Look::Again(left) => self.process.look_at = Some(Instant::now() + left),
            Look::Expired => {
                self.intent = Some(Intent::Stop(StopReason::TimeLimit));
                self.withdraw_next();
                self.process.ask_for_stacks();
                self.process.look_at = Some(Instant::now() + LAST_WORDS);
            }
        }
    }

    fn kill(&mut self, intent: Intent) {
        self.withdraw_next();
        self.intent.get_or_insert(intent);
        self.process.kill();
    }

    /// A batch that is not to blame must not die with the worker.
    fn withdraw_next(&self) {
        if let State::Running(_, Some(next)) = &self.state {
            self.process.progress.withdraw(next.claim);
        }
    }

    /// The line broke: the worker is dead, or soon will be.
    async fn line_ended(mut self, error: &LinkError) -> Remains {
        let patience = if matches!(self.state, State::Leaving) { LEAVE } else { SETTLE };
        let exit = if let Ok(exit) = timeout(patience, self.process.end()).await {
            exit
        } else {
            tracing::debug!(pid = %self.process.pid, %error, "worker lost its line");
            self.kill(Intent::LinkLost);
            self.process.end().await
        };
        self.remains(exit, [None, None])
    }

    /// The process is gone; its last answers may still be in the socket.
    async fn ended(mut self, exit: Exit, options: &PoolOptions) -> Remains {
        self.process.outputs.drain();
        let mut answered = [None, None];
        for answer in &mut answered {
            *answer = self.last_answer(options).await.map(Box::new);
        }
        self.remains(exit, answered)
    }

    async fn last_answer(&mut self, options: &PoolOptions) -> Option<BatchOutcome> {
        let State::Running(running, _) = &self.state else { return None };
        if self.intent.is_some() || !self.has_begun(running) {
            return None;
        }
        let answer = timeout(SETTLE, self.process.answer()).await.ok()?.ok()?;
        self.answered(answer, options).map(|(outcome, _)| outcome)
    }

    /// False for a prefetched batch that the dead worker had not claimed; and
    /// now it never will.
    fn has_begun(&self, running: &Running) -> bool {
        running.claim == 0 || !self.process.progress.withdraw(running.claim)
    }

    /// What the dead worker had begun fails; the rest is given back.
    fn remains(mut self, exit: Exit, answered: [Option<Box<BatchOutcome>>; 2]) -> Remains {
        let (now, next) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, next) => (Some(running), next),
            State::Idle | State::Leaving => (None, None),
        };
        let given = [now, next].map(|given| given.filter(|given| self.has_begun(given)));
        let lost = given.into_iter().flatten().map(|given| Box::new(self.lost(&given, exit)));
        let mut ended = answered.into_iter().flatten().chain(lost);
        let ended = [ended.next(), ended.next()];
        Remains { ended, orders: self.process.unheard() }
    }

    fn lost(&self, running: &Running, exit: Exit) -> BatchOutcome {
        let pid: Pid = self.process.pid;
        let failure: Failure = explain(Death {
            pid,
            exit,
            intent: self.intent,
            task_index: self.process.progress.read().map(|progress| progress.task_index),
            tasks: running.tasks,
            task_timeout: running.task_timeout,
            stderr_tail: self.process.outputs.stderr_tail(),
        });
        running.lost(Some(pid), failure)
    }
}
