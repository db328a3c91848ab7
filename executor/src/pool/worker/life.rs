//! From set up to gone.

use std::time::Duration;

use clutch_worker_link::{Frame, FromWorker, LinkError, RunBatch, ToWorker, write_frame};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::message::{Assignment, BatchOutcome, Order, WorkerEvent, WorkerStart};
use super::outcome::{self, Running};
use super::process::{Happening, Process, signal};
use crate::clock::Monotonic;
use crate::failure::Failure;
use crate::identifiers::{Pid, WorkerId};
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

/// A worker that is set up.
pub(super) struct Life {
    pub(super) process: Process,
    state: State,
    /// Why the agent kills it; once set, its answers do not count.
    intent: Option<Intent>,
    history: History,
}

enum State {
    Idle,
    Running(Running),
    Leaving,
}

impl Life {
    pub(super) fn new(process: Process) -> Self {
        Self { process, state: State::Idle, intent: None, history: History::default() }
    }

    /// Runs batches until the process is gone; says which batch went with it.
    pub(super) async fn live(
        mut self,
        id: WorkerId,
        events: &mpsc::Sender<WorkerEvent>,
        start: &WorkerStart,
    ) -> Option<Box<BatchOutcome>> {
        let options = &start.options;
        loop {
            match self.process.next().await {
                Happening::Frame(Ok(mut frame)) => {
                    if let Some(imported) = outcome::take_imported(&mut frame.message) {
                        start.zygote.imported(imported);
                    }
                    if let Some((outcome, recycle)) = self.answered(*frame, options) {
                        let outcome = Box::new(outcome);
                        let ended = WorkerEvent::Ended { worker: id, outcome, recycle };
                        // The dispatcher outlives every worker but at the end.
                        events.send(ended).await.ok();
                    }
                }
                Happening::Frame(Err(error)) => return self.line_ended(&error).await,
                Happening::Order(Some(Order::Run(assignment))) => self.run(*assignment).await,
                Happening::Order(Some(Order::Stop(reason))) => self.kill(Intent::Stop(reason)),
                Happening::Order(Some(Order::Retire)) => self.retire().await,
                Happening::Order(None) => self.kill(Intent::Stop(StopReason::AgentEnding)),
                Happening::Exited(exit) => return self.ended(exit).await,
                Happening::TimeToLook => self.time_to_look(),
            }
        }
    }

    async fn run(&mut self, assignment: Assignment) {
        let message = ToWorker::Run(RunBatch {
            batch: assignment.batch.batch,
            tasks: assignment.tasks,
            nesting_level: assignment.nesting_level,
            ..RunBatch::default()
        });
        self.process.outputs.begin_batch();
        self.process.look_at = assignment.task_timeout.map(|limit| Instant::now() + limit);
        self.state = State::Running(Running {
            batch: assignment.batch,
            tasks: assignment.tasks,
            task_timeout: assignment.task_timeout,
            queued_at: assignment.queued_at,
            assigned_at: Monotonic::now(),
        });
        let Process { writer, orders, pidfd, .. } = &mut self.process;
        let mut writing = std::pin::pin!(write_frame(writer, &message, &assignment.payload));
        loop {
            tokio::select! {
                // A write that fails means a dead worker, which its exit shows.
                _ = &mut writing => return,
                // A stopped worker reads nothing, and can be killed all the same.
                Some(Order::Stop(reason)) = orders.recv() => {
                    self.intent.get_or_insert(Intent::Stop(reason));
                    signal(pidfd.as_ref(), Signal::KILL);
                }
            }
        }
    }

    /// The outcome of the running batch, and whether to replace the worker.
    fn answered(
        &mut self,
        frame: Frame<FromWorker>,
        options: &PoolOptions,
    ) -> Option<(BatchOutcome, bool)> {
        if self.intent.is_some() {
            return None;
        }
        let pid = self.process.pid;
        let State::Running(running) = std::mem::replace(&mut self.state, State::Idle) else {
            self.kill(Intent::LinkLost);
            return None;
        };
        self.process.outputs.drain();
        self.process.look_at = None;
        let outputs = &self.process.outputs;
        let Some((outcome, memory_bytes)) = running.answered(pid, frame, outputs) else {
            self.state = State::Running(running);
            self.kill(Intent::LinkLost);
            return None;
        };
        Some((outcome, self.history.batch_ended(memory_bytes, options)))
    }

    async fn retire(&mut self) {
        self.state = State::Leaving;
        self.process.look_at = Some(Instant::now() + LEAVE);
        // A write that fails means a dead worker, which its exit shows.
        write_frame::<_, _, &[u8]>(&mut self.process.writer, &ToWorker::Retire, &[]).await.ok();
    }

    fn time_to_look(&mut self) {
        self.process.look_at = None;
        if self.intent.is_some() {
            // It had its last words.
            self.process.kill();
            return;
        }
        let limit = match &self.state {
            State::Running(running) => running.task_timeout,
            State::Leaving => return self.kill(Intent::Overstayed),
            State::Idle => None,
        };
        let Some(limit) = limit else { return };
        match look(self.process.progress.read(), limit, Monotonic::now()) {
            Look::Again(left) => self.process.look_at = Some(Instant::now() + left),
            Look::Expired => {
                self.intent = Some(Intent::Stop(StopReason::TimeLimit));
                self.process.ask_for_stacks();
                self.process.look_at = Some(Instant::now() + LAST_WORDS);
            }
        }
    }

    fn kill(&mut self, intent: Intent) {
        self.intent.get_or_insert(intent);
        self.process.kill();
    }

    /// The line broke: the worker is dead, or soon will be.
    async fn line_ended(mut self, error: &LinkError) -> Option<Box<BatchOutcome>> {
        let patience = if matches!(self.state, State::Leaving) { LEAVE } else { SETTLE };
        let exit = if let Ok(exit) = timeout(patience, self.process.end()).await {
            exit
        } else {
            tracing::debug!(pid = %self.process.pid, %error, "worker lost its line");
            self.kill(Intent::LinkLost);
            self.process.end().await
        };
        self.lost(exit)
    }

    /// The process is gone; its last answer may still be in the socket.
    async fn ended(mut self, exit: Exit) -> Option<Box<BatchOutcome>> {
        self.process.outputs.drain();
        if matches!(self.state, State::Running(_)) && self.intent.is_none() {
            let answer = timeout(SETTLE, self.process.frame()).await;
            if let (Ok(Ok(frame)), State::Running(running)) = (answer, &self.state) {
                let Process { pid, outputs, .. } = &self.process;
                if let Some((outcome, _)) = running.answered(*pid, frame, outputs) {
                    return Some(Box::new(outcome));
                }
            }
        }
        self.lost(exit)
    }

    fn lost(self, exit: Exit) -> Option<Box<BatchOutcome>> {
        let State::Running(running) = self.state else { return None };
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
        Some(Box::new(running.lost(Some(pid), failure)))
    }
}
