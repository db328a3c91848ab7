//! From dead to explained: what a worker leaves behind.

use std::time::Duration;

use clutch_worker_link::LinkError;
use tokio::time::{Instant, timeout};

use super::life::{LEAVE, Life, Seen, State};
use super::message::{BatchOutcome, Remains, Usage, WorkerStart};
use super::outcome::Running;
use crate::clock::Monotonic;
use crate::pool::death::{Death, Intent, KILLED, MemoryEvidence, explain};
use crate::pool::reaper::Ended;
use crate::processes::Proc;

/// How long a worker whose line broke may take to end, unless that has begun.
const BROKEN: Duration = Duration::from_millis(200);

/// How long a worker whose line broke while it was set up may take to end, and
/// how long the last answer of a dead one may take to come out of the socket.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// A worker's end and what is known of it.
struct End {
    ended: Ended,
    memory: MemoryEvidence,
    /// When it was seen.
    at: Monotonic,
}

impl Life {
    /// The line broke: the worker is dead, or soon will be.
    pub(super) async fn line_ended(mut self, error: &LinkError, start: &WorkerStart) -> Remains {
        let patience = match (&self.state, self.process.look_at) {
            (State::Leaving, Some(at)) => at.saturating_duration_since(Instant::now()),
            (State::Leaving, None) => LEAVE,
            (State::Idle | State::Running(..), _) => BROKEN,
        };
        let ended = if let Ok(ended) = timeout(patience, self.process.end()).await {
            ended
        } else {
            // On a busy machine a death takes its time, and is no intent of ours.
            if !Proc::default().is_ending(self.process.pid) {
                tracing::debug!(pid = %self.process.pid, %error, "worker lost its line");
                self.kill(Intent::LinkLost);
            }
            self.process.end().await
        };
        let end = self.bury(ended, start).await;
        self.remains(&end, [None, None])
    }

    /// The process is gone; its last answers may still be in the socket.
    pub(super) async fn ended(mut self, ended: Ended, start: &WorkerStart) -> Remains {
        let end = self.bury(ended, start).await;
        self.process.outputs.drain();
        let answered = self.last_answers(start).await;
        self.remains(&end, answered)
    }

    /// Takes down the evidence, and only then lets go of what held the worker
    /// and of all that it started: a child that has its line would have us wait
    /// for last answers.
    async fn bury(&mut self, ended: Ended, start: &WorkerStart) -> End {
        let at = Monotonic::now();
        let killed = ended.exit == KILLED && self.intent.is_none();
        let memory = self.process.enclosed.evidence(killed);
        self.process.enclosed.dissolve().await;
        start.reaper.sweep_or_go_on().await;
        End { ended, memory, at }
    }

    async fn last_answers(&mut self, start: &WorkerStart) -> [Option<Box<BatchOutcome>>; 2] {
        let mut answered = [None, None];
        for outcome in &mut answered {
            *outcome = self.last_answer(start).await.map(Box::new);
        }
        answered
    }

    async fn last_answer(&mut self, start: &WorkerStart) -> Option<BatchOutcome> {
        loop {
            let State::Running(running, _) = &self.state else { return None };
            if self.intent.is_some() || !self.has_begun(running) {
                return None;
            }
            let answer = timeout(SETTLE, self.process.answer()).await.ok()?.ok()?;
            // Without an outcome it saved results, or it lied, which is an intent.
            if let Some(answered) = self.answered(answer, &start.options) {
                return Some(answered.told.outcome);
            }
        }
    }

    /// False for a prefetched batch that the dead worker had not claimed; and
    /// now it never will.
    fn has_begun(&self, running: &Running) -> bool {
        running.claim == 0 || !self.process.progress.withdraw(running.claim)
    }

    /// What the dead worker had begun fails; the rest is given back.
    fn remains(mut self, end: &End, answered: [Option<Box<BatchOutcome>>; 2]) -> Remains {
        let (now, next) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(running, next) => (Some(running), next),
            State::Idle | State::Leaving => (None, None),
        };
        let given = [now, next].map(|given| given.filter(|given| self.has_begun(given)));
        let lost =
            given.into_iter().flatten().map(|mut given| Box::new(self.lost(&mut given, end)));
        let mut ended = answered.into_iter().flatten().chain(lost);
        Remains { ended: [ended.next(), ended.next()] }
    }

    fn lost(&self, running: &mut Running, end: &End) -> BatchOutcome {
        let (pid, progress) = (self.process.pid, &self.process.progress);
        let at_death = Seen { task: progress.read(), at: end.at };
        let Seen { task, at } = self.blamed.unwrap_or(at_death);
        let usage = usage(&end.ended, &end.memory, progress.cpu_at_start());
        let failure = explain(Death {
            pid,
            exit: end.ended.exit,
            intent: self.intent,
            task_index: task.map(|task| task.task_index),
            tasks: running.tasks,
            attempt: running.attempt,
            task_timeout: running.task_timeout,
            wall: task.map(|task| at.since(Monotonic::from_nanoseconds(task.started_at))),
            cpu: Some(usage.user + usage.system),
            memory: end.memory,
            stderr_tail: self.process.outputs.stderr_tail(),
        });
        running.lost(pid, failure, usage)
    }
}

/// What a dead worker, and what it started, used since its batch began.
fn usage(ended: &Ended, memory: &MemoryEvidence, at_start: Duration) -> Usage {
    let own = ended.user + ended.system;
    let counted = memory.counters.cpu_nanoseconds.map_or(Duration::ZERO, Duration::from_nanos);
    let used = own.max(counted).saturating_sub(at_start);
    // How it was divided before the batch began is not known.
    let part = if own.is_zero() { 1.0 } else { ended.user.div_duration_f64(own) };
    let user = used.mul_f64(part.clamp(0.0, 1.0));
    let peak = memory.counters.peak_memory_bytes.unwrap_or_default();
    let peak_memory_bytes = peak.max(ended.peak_memory_bytes);
    Usage { user, system: used.saturating_sub(user), peak_memory_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Counters;
    use crate::pool::reaper::Exit;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn ended() -> Ended {
        Ended {
            exit: Exit::Code(0),
            user: MILLISECOND * 30,
            system: MILLISECOND * 10,
            peak_memory_bytes: 5,
        }
    }

    #[test]
    fn a_batch_is_charged_for_what_was_used_since_it_began() {
        let usage = usage(&ended(), &MemoryEvidence::default(), MILLISECOND * 20);
        assert_eq!((usage.user, usage.system), (MILLISECOND * 15, MILLISECOND * 5));
        assert_eq!(usage.peak_memory_bytes, 5);
    }

    #[test]
    fn a_batch_is_charged_for_what_the_workers_children_used() {
        let counters = Counters {
            cpu_nanoseconds: Some(80_000_000),
            peak_memory_bytes: Some(9),
            ..Counters::default()
        };
        let memory = MemoryEvidence { counters, ..MemoryEvidence::default() };
        let usage = usage(&ended(), &memory, Duration::ZERO);
        assert_eq!((usage.user, usage.system), (MILLISECOND * 60, MILLISECOND * 20));
        assert_eq!(usage.peak_memory_bytes, 9);
    }
}
