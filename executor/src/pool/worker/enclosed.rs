//! What holds one worker to its limits, and what it tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::message::{Note, WorkerStart};
use crate::failure::{Breach, Failure, Kind};
use crate::identifiers::Pid;
use crate::limits::{Counters, Enclosure, Limits, Passed, Resource};
use crate::pool::ProgressPage;
use crate::pool::death::{Lost, MemoryEvidence};
use crate::pool::oom;
use crate::processes::Proc;

/// A batch that ran shorter than this is not worth a look at the counters.
const WORTH_A_LOOK: Duration = Duration::from_millis(1);

/// After a batch that ran longer than this, killings nearby are counted anew, so
/// that what happened to others long ago is no evidence. Nobody notices a file
/// read then.
const LONG: Duration = Duration::from_millis(100);

/// A worker's enclosure.
#[derive(Debug)]
pub(super) struct Enclosed {
    enclosure: Arc<Enclosure>,
    pid: Pid,
    /// `None`: nobody looks.
    passed: Option<mpsc::Receiver<Passed>>,
    /// What came by there and is still to be told.
    waiting: Option<Passed>,
    /// The counters when they were looked at last.
    seen: Counters,
    /// How many were killed near it when that was looked at last; `None`:
    /// somebody counts for it alone, or nobody knows.
    killings: Option<oom::Before>,
}

impl Enclosed {
    /// Encloses a worker that has run nothing of its session yet.
    ///
    /// # Errors
    /// When a limit cannot be put in force.
    pub(super) async fn new(
        start: &WorkerStart,
        pid: Pid,
        progress: Arc<ProgressPage>,
    ) -> Result<Self, Failure> {
        let (id, limits, enforcer) = (start.id, start.setup.limits, start.enforcer.clone());
        // Before it is moved to a group of its own.
        let killings = oom::count_for(pid).filter(|_| limits.memory_bytes.is_none());
        let enclosed = if limits == Limits::default() {
            enforcer.enclose(id, pid, limits, progress)
        } else {
            let enclosing = spawn_blocking(move || enforcer.enclose(id, pid, limits, progress));
            enclosing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        };
        let (enclosure, passed) = enclosed.map_err(|error| {
            let why = format!("the limits of worker {pid} cannot be put in force: {error}");
            Failure::new(Kind::WorkerStartFailed, why)
        })?;
        let seen = Counters::default();
        Ok(Self { enclosure, pid, passed: Some(passed), waiting: None, seen, killings })
    }

    /// The same, with another channel for what is passed.
    #[cfg(test)]
    pub(super) fn told_by(self, passed: mpsc::Receiver<Passed>) -> Self {
        Self { passed: Some(passed), ..self }
    }

    /// Environment variables that the worker needs.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        self.enclosure.variables()
    }

    /// The worker is set up.
    pub(super) fn soften(&self) {
        self.enclosure.soften();
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, task_cpu: Option<Duration>) {
        self.receive();
        // The CPU time of an earlier batch is not this one's.
        self.waiting = self.waiting.filter(|passed| passed.resource != Resource::CpuTime);
        self.enclosure.busy(task_cpu);
    }

    /// No batch runs.
    pub(super) fn rest(&self) {
        self.enclosure.rest();
    }

    /// Resolves when a limit was passed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn passed(&mut self) -> Passed {
        if let Some(passed) = self.waiting.take() {
            return passed;
        }
        if let Some(open) = &mut self.passed {
            if let Some(passed) = open.recv().await {
                return passed;
            }
            self.passed = None;
        }
        std::future::pending().await
    }

    /// Has this passed again, unless something else waits.
    pub(super) fn put_back(&mut self, passed: Passed) {
        self.waiting.get_or_insert(passed);
    }

    /// Whether the kernel chose the worker itself at its memory limit. Then its
    /// end is on the way, and tells more than an intent of ours.
    pub(super) fn is_hit(&self) -> bool {
        self.enclosure.counters().kills_at_limit > 0 && Proc::default().is_ending(self.pid)
    }

    /// A limit that was passed although no batch runs, if there is one.
    pub(super) fn passed_idle(&mut self) -> Option<Passed> {
        self.receive();
        self.waiting.take().filter(|passed| passed.resource != Resource::CpuTime)
    }

    /// Takes what came by the channel; of several, memory tells most.
    fn receive(&mut self) {
        let Some(open) = &mut self.passed else { return };
        while let Ok(passed) = open.try_recv() {
            if self.waiting.is_none_or(|waiting| waiting.resource != Resource::Memory) {
                self.waiting = Some(passed);
            }
        }
    }

    /// What is to be said of a batch that ended, while the worker lives on.
    pub(super) fn ended(&mut self, ran: Duration) -> Counted {
        if ran > LONG && self.killings.is_some() {
            self.killings = oom::count_again();
        }
        let Limits { memory_bytes, cpus, .. } = self.enclosure.limits();
        if ran < WORTH_A_LOOK || memory_bytes.is_none() && cpus.is_none() {
            return Counted::default();
        }
        let now = self.enclosure.counters();
        let before = std::mem::replace(&mut self.seen, now);
        oom::explain_counted(now.oom_kills.saturating_sub(before.oom_kills));
        Counted { notes: notes(before, now), lost: self.lost(&now) }
    }

    /// The same of a set-up, which is nobody's batch.
    pub(super) fn set_up(&mut self) -> Option<Lost> {
        self.enclosure.limits().memory_bytes?;
        let now = self.enclosure.counters();
        self.lost(&now)
    }

    /// What it lost at its memory limit. It is told once, and not again of a
    /// batch that has begun meanwhile.
    fn lost(&mut self, now: &Counters) -> Option<Lost> {
        let limit = self.enclosure.limits().memory_bytes.filter(|_| now.kills_at_limit > 0)?;
        self.enclosure.explained(now);
        self.enclosure.rest();
        self.receive();
        self.waiting = self.waiting.filter(|passed| passed.resource != Resource::Memory);
        let breach = Breach { limit, peak: now.peak_memory_bytes.unwrap_or(limit) };
        Some(Lost { processes: now.kills_at_limit, breach })
    }

    /// Kills what the worker started; gives how many processes there were.
    pub(super) async fn kill_children(&self) -> u64 {
        let enclosure = Arc::clone(&self.enclosure);
        let killed = spawn_blocking(move || enclosure.kill_children()).await;
        let killed = killed.unwrap_or_else(|error| {
            tracing::error!(%error, pid = %self.pid, "nobody killed its children");
            0
        });
        u64::try_from(killed).unwrap_or(u64::MAX)
    }

    /// What was counted until now; the worker is dead, and not dissolved yet.
    /// `killed`: by a SIGKILL that is not ours.
    pub(super) fn evidence(&mut self, killed: bool) -> MemoryEvidence {
        let Limits { memory_bytes: limit, soft_memory: soft, .. } = *self.enclosure.limits();
        self.receive();
        let passed = self.waiting.filter(|passed| passed.resource == Resource::Memory);
        let now = self.enclosure.counters();
        let oom_kills = now.oom_kills.saturating_sub(self.seen.oom_kills);
        oom::explain_counted(oom_kills);
        let killings_nearby = killed && self.killings.is_some_and(oom::explains);
        MemoryEvidence {
            limit,
            soft,
            counters: Counters { oom_kills, ..now },
            passed: passed.map(|passed| passed.breach),
            killings_nearby,
        }
    }

    /// Ends what is left of a worker that is dead, and lets go of what held it.
    pub(super) async fn dissolve(&self) {
        let enclosure = Arc::clone(&self.enclosure);
        if *enclosure.limits() == Limits::default() {
            // Nothing holds it.
            enclosure.dissolve();
            return;
        }
        match spawn_blocking(move || enclosure.dissolve()).await {
            Ok(0) => {}
            Ok(left) => tracing::debug!(pid = %self.pid, left, "killed what a worker left"),
            Err(error) => tracing::error!(%error, pid = %self.pid, "nobody dissolved it"),
        }
    }
}

/// What was counted while a batch ran that the worker lived through.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) notes: Vec<Note>,
    /// Where the kernel kills one process of many, a task may have lived on.
    pub(super) lost: Option<Lost>,
}

/// What happened between two looks.
fn notes(before: Counters, now: Counters) -> Vec<Note> {
    let killed = now.oom_kills.saturating_sub(before.oom_kills);
    // These are no note, but a failure.
    let killed = killed.saturating_sub(now.kills_at_limit);
    let throttled = now.throttled_nanoseconds.saturating_sub(before.throttled_nanoseconds);
    let milliseconds = throttled.div_ceil(1_000_000);
    [
        (killed > 0).then_some(Note::ChildrenOutOfMemory(killed)),
        (throttled > 0).then_some(Note::CpuThrottled(milliseconds)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_since_the_last_look_is_noted() {
        let counters = |oom_kills, throttled_nanoseconds| Counters {
            oom_kills,
            throttled_nanoseconds,
            ..Counters::default()
        };
        assert_eq!(
            notes(counters(1, 5_000_000), counters(3, 7_000_001)),
            [Note::ChildrenOutOfMemory(2), Note::CpuThrottled(3)]
        );
        assert_eq!(notes(counters(3, 5), counters(3, 5)), []);
        let lost = Counters { kills_at_limit: 2, ..counters(3, 5) };
        assert_eq!(notes(counters(1, 5), lost), []);
        assert_eq!(notes(counters(0, 5), lost), [Note::ChildrenOutOfMemory(1)]);
    }
}
