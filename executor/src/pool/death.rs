//! What the death of a worker means: our own intent first, then what the kernel
//! counted, and only then the signal.

use std::time::Duration;

use super::exit::ended;
use super::reaper::Exit;
use crate::failure::{Breach, Failure, Kind};
use crate::identifiers::Pid;
use crate::limits::{Counters, Passed, Resource};
use crate::scheduler::StopReason;

/// What is known about a worker that died with a batch.
#[derive(Debug, Clone)]
pub(super) struct Death {
    pub(super) pid: Pid,
    pub(super) exit: Exit,
    /// Why the agent killed it, if it did.
    pub(super) intent: Option<Intent>,
    /// The task that ran, by the progress page.
    pub(super) task_index: Option<u32>,
    /// Number of tasks in the batch.
    pub(super) tasks: u32,
    /// Which attempt at the batch it was.
    pub(super) attempt: u32,
    pub(super) task_timeout: Option<Duration>,
    /// How long the task ran.
    pub(super) wall: Option<Duration>,
    /// What the worker, and what it started, used since the batch began.
    pub(super) cpu: Option<Duration>,
    pub(super) memory: MemoryEvidence,
    pub(super) stderr_tail: String,
}

/// What is known about the memory of a worker that died.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MemoryEvidence {
    /// Its limit in bytes.
    pub(super) limit: Option<u64>,
    /// Its allocations failed short of the limit.
    pub(super) soft: bool,
    /// What was counted; kills since the batch began only.
    pub(super) counters: Counters,
    /// A look had found the limit passed, and nobody had acted yet.
    pub(super) passed: Option<Breach>,
    /// The kernel killed somebody near it for want of memory while it ran.
    /// Known only where nobody counted for it alone.
    pub(super) killings_nearby: bool,
}

/// What the kernel killed of a worker at its memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many processes.
    pub(super) processes: u64,
    pub(super) breach: Breach,
}

/// Why the agent killed a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// The scheduler wanted it.
    Stop(StopReason),
    /// It passed a limit.
    Passed(Passed),
    /// The worker lives but its line is closed or broken.
    LinkLost,
    /// It did not leave when asked.
    Overstayed,
}

/// What ended a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// We did.
    Intent(Intent),
    /// The kernel did, at the worker's own memory limit.
    OwnLimit(Breach),
    /// The task did, when the kernel had killed others of it there.
    Bereaved(Lost),
    /// It could not live with allocations that fail.
    SoftLimit(Breach),
    /// The kernel did, short of memory that others used.
    Shortage,
    /// The same, but nobody saw it.
    ProbableShortage,
    /// Somebody outside did.
    Outside,
    /// The task did.
    Itself,
}

/// By SIGKILL, whoever sent it.
pub(super) const KILLED: Exit = Exit::Signal(libc::SIGKILL);

/// Part of a limit in use from which on an allocation may have failed: it is
/// what was asked for that counts, not what was there already.
const NEARLY: (u64, u64) = (3, 4);

/// What is printed by libraries that cannot go on without memory.
const LAST_WORDS: [&str; 4] = ["OpenBLAS", "MemoryError", "bad_alloc", "Cannot allocate memory"];

impl Death {
    fn cause(&self) -> Cause {
        if let Some(intent) = self.intent {
            return Cause::Intent(intent);
        }
        let MemoryEvidence { limit, soft, counters, passed, killings_nearby } = self.memory;
        let breach = limit.map(|limit| {
            let peak = counters.peak_memory_bytes.unwrap_or(limit);
            passed.map_or(Breach { limit, peak }, |passed| larger(passed, peak))
        });
        match (self.exit, breach) {
            (KILLED, Some(breach)) if counters.oom_kills > 0 && counters.at_own_limit => {
                Cause::OwnLimit(breach)
            }
            (KILLED, _) if counters.oom_kills > 0 => Cause::Shortage,
            (KILLED, Some(breach)) if passed.is_some() => Cause::OwnLimit(breach),
            (KILLED, _) if killings_nearby => Cause::ProbableShortage,
            (KILLED, _) => Cause::Outside,
            (_, Some(breach)) if counters.kills_at_limit > 0 => {
                Cause::Bereaved(Lost { processes: counters.kills_at_limit, breach })
            }
            (_, Some(breach)) if soft && self.died_of_want(breach) => Cause::SoftLimit(breach),
            _ => Cause::Itself,
        }
    }

    /// Whether it looks as if an allocation had failed.
    fn died_of_want(&self, breach: Breach) -> bool {
        let says_so = LAST_WORDS.iter().any(|words| self.stderr_tail.contains(words));
        match self.exit {
            Exit::Code(code) => code == 1 && says_so,
            Exit::Signal(libc::SIGSEGV | libc::SIGABRT | libc::SIGBUS) => {
                says_so || breach.peak >= breach.limit / NEARLY.1 * NEARLY.0
            }
            Exit::Signal(_) => false,
        }
    }

    fn doing(&self) -> String {
        match self.task_index {
            Some(index) => format!("while it ran task {index} of {}", self.tasks),
            None => "between tasks".to_owned(),
        }
    }

    fn task(&self) -> String {
        self.task_index.map_or_else(|| "a task".to_owned(), |index| format!("task {index}"))
    }

    fn by_intent(&self, intent: Intent) -> (Kind, String, Option<Breach>) {
        let (pid, doing) = (self.pid, self.doing());
        let (kind, message) = match intent {
            Intent::Stop(StopReason::Cancelled | StopReason::SessionClosed) => {
                (Kind::Cancelled, format!("the call was closed; worker {pid} was killed {doing}"))
            }
            Intent::Stop(StopReason::TimeLimit) => {
                let limit = self.task_timeout.unwrap_or_default();
                let wall = self.wall.unwrap_or(limit);
                let breach = Breach { limit: nanoseconds(limit), peak: nanoseconds(wall) };
                let (task, limit) = (self.task(), limit.as_secs_f64());
                let message = format!("{task} ran longer than its limit of {limit} s");
                return (Kind::TimeLimit, message, Some(breach));
            }
            Intent::Stop(StopReason::AgentEnding) => {
                (Kind::AgentDraining, format!("the agent ended; worker {pid} was killed {doing}"))
            }
            Intent::Stop(StopReason::Pressure) => (
                Kind::MemoryPressure,
                format!("memory ran short; worker {pid} was killed to make room {doing}"),
            ),
            Intent::Passed(passed) => {
                return by_limit(passed, self.memory.counters, pid, &doing, &self.task());
            }
            Intent::LinkLost => (
                Kind::WorkerCrashed,
                format!("worker {pid} closed or damaged its line to the agent {doing}"),
            ),
            Intent::Overstayed => {
                (Kind::WorkerCrashed, format!("worker {pid} did not leave when asked"))
            }
        };
        (kind, message, None)
    }
}

/// Names what ended the batch.
pub(super) fn explain(death: Death) -> Failure {
    let (pid, exit, doing) = (death.pid, death.exit, death.doing());
    let ended = ended(exit);
    let (kind, message, breach) = match death.cause() {
        Cause::Intent(intent) => death.by_intent(intent),
        Cause::OwnLimit(breach) => {
            let limit = bytes(breach.limit, breach.limit);
            let message =
                format!("the kernel killed worker {pid} at its memory limit of {limit} {doing}");
            (Kind::MemoryLimit, message, Some(breach))
        }
        Cause::Bereaved(lost) => {
            (Kind::MemoryLimit, lost_processes(pid, lost, &doing), Some(lost.breach))
        }
        Cause::SoftLimit(breach) => {
            let limit = bytes(breach.limit, breach.limit);
            let message = format!("worker {pid} {ended} near its memory limit of {limit} {doing}");
            (Kind::MemoryLimit, message, Some(breach))
        }
        Cause::Shortage => {
            let message = format!(
                "the kernel killed worker {pid} {doing}, because memory ran short outside of the \
                 worker"
            );
            (Kind::MemoryPressure, message, None)
        }
        Cause::ProbableShortage => {
            let message = format!(
                "worker {pid} {ended} {doing}, probably by the kernel: it killed processes because \
                 memory ran short"
            );
            (Kind::MemoryPressure, message, None)
        }
        Cause::Outside => {
            (Kind::WorkerKilled, format!("worker {pid} {ended} from outside {doing}"), None)
        }
        Cause::Itself => (Kind::WorkerCrashed, format!("worker {pid} {ended} {doing}"), None),
    };
    let (signal, exit_code) = match exit {
        Exit::Signal(signal) => (Some(signal), None),
        Exit::Code(code) => (None, Some(code)),
    };
    Failure {
        task_index: death.task_index,
        signal,
        exit_code,
        stderr_tail: death.stderr_tail,
        attempt: death.attempt,
        breach,
        wall: death.wall,
        cpu: death.cpu,
        ..Failure::new(kind, message)
    }
}

/// What a worker does that has no batch yet.
pub(super) const SETTING_UP: &str = "while it was set up";

/// Names what ended a worker that had no batch yet. What it did itself is a
/// failed start.
pub(super) fn explain_start(pid: Pid, exit: Exit, memory: MemoryEvidence) -> Failure {
    let MemoryEvidence { limit, counters, killings_nearby, .. } = memory;
    let ended = ended(exit);
    if exit != KILLED {
        let why = format!("worker {pid} {ended} {SETTING_UP}");
        return Failure::new(Kind::WorkerStartFailed, why);
    }
    let own = limit.filter(|_| counters.oom_kills > 0 && counters.at_own_limit);
    let (kind, why) = match own {
        Some(limit) => {
            let limit = bytes(limit, limit);
            let why = format!(
                "the kernel killed worker {pid} at its memory limit of {limit} {SETTING_UP}"
            );
            (Kind::MemoryLimit, why)
        }
        None if counters.oom_kills > 0 || killings_nearby => {
            let why = format!("worker {pid} {ended} {SETTING_UP}, when memory ran short");
            (Kind::MemoryPressure, why)
        }
        None => (Kind::WorkerKilled, format!("worker {pid} {ended} from outside {SETTING_UP}")),
    };
    let peak = |limit| counters.peak_memory_bytes.unwrap_or(limit);
    let breach = own.map(|limit| Breach { limit, peak: peak(limit) });
    Failure { breach, signal: Some(libc::SIGKILL), ..Failure::new(kind, why) }
}

/// Names what a worker lost that lived on.
pub(super) fn explain_lost(pid: Pid, lost: Lost, doing: &str) -> Failure {
    let why = lost_processes(pid, lost, doing);
    Failure { breach: Some(lost.breach), ..Failure::new(Kind::MemoryLimit, why) }
}

/// The worker itself may be one of them.
fn lost_processes(pid: Pid, lost: Lost, doing: &str) -> String {
    let Lost { processes, breach: Breach { limit, .. } } = lost;
    let (some, limit) = (if processes == 1 { "process" } else { "processes" }, bytes(limit, limit));
    format!(
        "the kernel killed {processes} {some} of worker {pid} at its memory limit of {limit} {doing}"
    )
}

/// What to say of a worker that passed a limit.
fn by_limit(
    passed: Passed,
    counters: Counters,
    pid: Pid,
    doing: &str,
    task: &str,
) -> (Kind, String, Option<Breach>) {
    let Passed { resource, breach } = passed;
    let Breach { limit, peak } = breach;
    let told = |breach: Breach| [breach.peak, breach.limit].map(|count| bytes(count, limit));
    let (kind, message) = match resource {
        Resource::Memory => {
            let breach = larger(breach, counters.peak_memory_bytes.unwrap_or_default());
            let [peak, limit] = told(breach);
            let message = if counters.kills_at_limit > 0 {
                lost_processes(pid, Lost { processes: counters.kills_at_limit, breach }, doing)
            } else if breach.peak < breach.limit {
                format!("worker {pid} stood still near its memory limit of {limit} {doing}")
            } else {
                format!(
                    "worker {pid} and what it started used {peak} of memory, more than the limit \
                     of {limit}, {doing}"
                )
            };
            return (Kind::MemoryLimit, message, Some(breach));
        }
        Resource::CpuTime => {
            let [limit, peak] = [limit, peak].map(|time| Duration::from_nanos(time).as_secs_f64());
            let message =
                format!("{task} used {peak:.2} s of CPU time, more than its limit of {limit} s");
            (Kind::CpuTimeLimit, message)
        }
        Resource::Processes => {
            let message = format!(
                "worker {pid} had {peak} processes and threads, more than the limit of {limit}, \
                 {doing}"
            );
            (Kind::ProcessLimit, message)
        }
        Resource::Scratch => {
            let [peak, limit] = told(breach);
            let message = format!(
                "the scratch directory of worker {pid} had {peak}, more than the limit of \
                 {limit}, {doing}"
            );
            (Kind::ScratchLimit, message)
        }
    };
    (kind, message, Some(breach))
}

/// Names the limit that a worker passed before it had a batch.
pub(super) fn explain_start_limit(pid: Pid, passed: Passed, memory: MemoryEvidence) -> Failure {
    let (kind, message, breach) = by_limit(passed, memory.counters, pid, SETTING_UP, "its setup");
    Failure { breach, ..Failure::new(kind, message) }
}

fn larger(breach: Breach, peak: u64) -> Breach {
    Breach { peak: breach.peak.max(peak), ..breach }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// For people, for example `512.0 MiB`; in powers of ten where a limit was
/// written so.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is told")]
fn bytes(count: u64, limit: u64) -> String {
    let (base, units) = if limit.is_multiple_of(1_000_000) {
        (1000.0, ["kB", "MB", "GB"])
    } else {
        (1024.0, ["KiB", "MiB", "GiB"])
    };
    let thousands = count as f64 / base;
    let (number, unit) = match thousands {
        ..1000.0 => (thousands, units[0]),
        ..1_000_000.0 => (thousands / base, units[1]),
        _ => (thousands / base / base, units[2]),
    };
    format!("{number:.1} {unit}")
}

#[cfg(test)]
#[path = "death_tests.rs"]
mod tests;
