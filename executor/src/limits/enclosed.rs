//! What the worker's own task and the looking thread both have of a worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Limits;
use super::cgroup::{Group, GroupUsage};
use super::scratch::Scratch;
use super::watch::Passed;
use crate::pool::ProgressPage;
use crate::processes::Process;

/// An enclosed worker. The numbers are written by the worker's task and read by
/// the looking thread, or the other way round, and need no order among them.
#[derive(Debug)]
pub(super) struct Enclosed {
    pub(super) process: Process,
    pub(super) limits: Limits,
    pub(super) progress: Arc<ProgressPage>,
    memory_held_by: MemoryHolder,
    /// The kernel counts its CPU time.
    pub(super) kernel_counts_cpu: bool,
    /// The kernel holds it to its processes.
    pub(super) kernel_holds_processes: bool,
    pub(super) passed: mpsc::Sender<Passed>,
    parts: Mutex<Parts>,
    /// Odd while it is busy; another number for each batch.
    period: AtomicU64,
    /// CPU time of each task, nanoseconds; 0: any.
    task_cpu: AtomicU64,
    /// What it may ask for before allocations fail, bytes; 0: anything.
    soft_bytes: AtomicU64,
    /// The most memory that was seen, bytes; 0: nobody looked.
    peak_memory: AtomicU64,
    /// Processes killed for want of memory, up to the last one that was not
    /// killed at its own limit, or was told of.
    explained_kills: AtomicU64,
}

/// Who holds a worker to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemoryHolder {
    /// The agent, which looks.
    Agent,
    /// The kernel, which kills all of it.
    Kernel,
    /// The kernel, which kills one process and lets the others live.
    KernelInParts,
}

/// What ends with the worker.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) group: Option<Arc<Group>>,
    pub(super) scratch: Option<Arc<Scratch>>,
}

/// Which counts there are to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LooksAt {
    /// Its group's counts.
    pub(super) group: bool,
    /// Its processes.
    pub(super) tree: bool,
    /// Their memory.
    pub(super) memory: bool,
}

impl Enclosed {
    pub(super) fn new(
        process: Process,
        limits: Limits,
        progress: Arc<ProgressPage>,
        parts: Parts,
        passed: mpsc::Sender<Passed>,
    ) -> Self {
        let usage = parts.group.as_ref().and_then(|group| group.usage().ok()).unwrap_or_default();
        let memory_held_by = match &parts.group {
            Some(group) if usage.memory_bytes.is_some() && group.dies_in_parts() => {
                MemoryHolder::KernelInParts
            }
            Some(_) if usage.memory_bytes.is_some() => MemoryHolder::Kernel,
            Some(_) | None => MemoryHolder::Agent,
        };
        Self {
            process,
            limits,
            progress,
            memory_held_by,
            kernel_counts_cpu: usage.cpu_nanoseconds.is_some(),
            kernel_holds_processes: usage.processes.is_some(),
            passed,
            parts: Mutex::new(parts),
            period: AtomicU64::new(0),
            task_cpu: AtomicU64::new(0),
            soft_bytes: AtomicU64::new(0),
            peak_memory: AtomicU64::new(0),
            explained_kills: AtomicU64::new(0),
        }
    }

    /// A batch begins; `true`: none ran.
    pub(super) fn begin(&self, task_cpu: Option<Duration>) -> bool {
        let task_cpu =
            task_cpu.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.task_cpu.store(task_cpu, Ordering::Relaxed);
        let before = self.period.load(Ordering::Relaxed);
        // The limit above is seen by whoever sees this.
        self.period.store(before + 1 + before % 2, Ordering::Release);
        before.is_multiple_of(2)
    }

    /// No batch runs; `true`: one did.
    pub(super) fn end(&self) -> bool {
        let before = self.period.load(Ordering::Relaxed);
        self.period.store(before + before % 2, Ordering::Release);
        before % 2 == 1
    }

    /// A number of what runs now; `None`: nothing.
    pub(super) fn period(&self) -> Option<u64> {
        Some(self.period.load(Ordering::Acquire)).filter(|period| period % 2 == 1)
    }

    /// CPU time that each task may use.
    pub(super) fn task_cpu(&self) -> Option<Duration> {
        let nanoseconds = self.task_cpu.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }

    /// The running task: its index and when it was called.
    pub(super) fn task(&self) -> Option<(u32, u64)> {
        self.progress.read().map(|reading| (reading.task_index, reading.started_at))
    }

    /// Whether there is anything to look at.
    pub(super) fn is_limited(&self) -> bool {
        let LooksAt { group, tree, .. } = self.looks_at();
        group || tree || self.limits.scratch_bytes.is_some()
    }

    /// Which counts there are to read while it is busy.
    pub(super) fn looks_at(&self) -> LooksAt {
        let cpu = self.task_cpu.load(Ordering::Relaxed) > 0 || self.soft_bytes().is_some();
        let processes = self.limits.processes.is_some();
        let held_by = self.limits.memory_bytes.map(|_| self.memory_held_by);
        let memory = held_by == Some(MemoryHolder::Agent);
        let tree =
            memory || cpu && !self.kernel_counts_cpu || processes && !self.kernel_holds_processes;
        let kills = held_by == Some(MemoryHolder::KernelInParts);
        let group =
            kills || cpu && self.kernel_counts_cpu || processes && self.kernel_holds_processes;
        LooksAt { group, tree, memory }
    }

    /// Allocations fail from now on when so much is asked for.
    pub(super) fn softened(&self, bytes: u64) {
        self.soft_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn soft_bytes(&self) -> Option<u64> {
        Some(self.soft_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    pub(super) fn saw_memory(&self, bytes: Option<u64>) {
        self.peak_memory.fetch_max(bytes.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn peak_memory(&self) -> Option<u64> {
        Some(self.peak_memory.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Says that a limit was passed.
    pub(super) fn tell(&self, passed: Passed) {
        tracing::debug!(pid = %self.process.pid, ?passed, "a limit was passed");
        if let Err(error) = self.passed.try_send(passed) {
            // One that was told before has not been read: it is killed for that.
            tracing::debug!(%error, pid = %self.process.pid, "nobody wants to know");
        }
    }

    /// What the kernel counted; `None`: it does not, or no longer.
    pub(super) fn usage(&self) -> Option<GroupUsage> {
        let usage = self.group()?.usage().ok()?;
        if !usage.at_own_limit {
            self.explain_kills(usage.oom_kills);
        }
        Some(usage)
    }

    /// How many of the processes that were killed for want of memory were killed
    /// at its own limit, and nobody was told yet.
    pub(super) fn kills_at_limit(&self, usage: &GroupUsage) -> u64 {
        let explained = self.explained_kills.load(Ordering::Relaxed);
        if usage.at_own_limit { usage.oom_kills.saturating_sub(explained) } else { 0 }
    }

    /// So many processes that were killed need nobody be told of any more.
    pub(super) fn explain_kills(&self, oom_kills: u64) {
        self.explained_kills.fetch_max(oom_kills, Ordering::Relaxed);
    }

    pub(super) fn group(&self) -> Option<Arc<Group>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).group.clone()
    }

    pub(super) fn scratch(&self) -> Option<Arc<Scratch>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).scratch.clone()
    }

    /// Takes what ends with the worker out of here.
    pub(super) fn take_parts(&self) -> Parts {
        std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Pid;

    fn enclosed(limits: Limits) -> Enclosed {
        let process = Process { pid: Pid(u32::MAX), started_at: 1 };
        let progress = Arc::new(ProgressPage::new().unwrap().0);
        Enclosed::new(process, limits, progress, Parts::default(), mpsc::channel(1).0)
    }

    #[test]
    fn each_batch_has_a_number_and_none_between_them() {
        let enclosed = enclosed(Limits::default());
        assert!(!enclosed.end() && enclosed.period().is_none());
        let mut periods = Vec::new();
        for task_cpu in [None, Some(Duration::from_secs(1)), None] {
            // The next batch follows without a rest, or after one.
            assert!(enclosed.begin(None));
            periods.push(enclosed.period());
            assert!(!enclosed.begin(task_cpu));
            periods.push(enclosed.period());
            assert_eq!(enclosed.task_cpu(), task_cpu);
            assert!(enclosed.end() && !enclosed.end());
            assert_eq!(enclosed.period(), None);
        }
        periods.dedup();
        assert!(periods.len() == 6 && periods.iter().all(Option::is_some), "{periods:?}");
    }

    #[test]
    fn there_is_something_to_look_at_only_with_limits_that_need_it() {
        let none = LooksAt { group: false, tree: false, memory: false };
        let tree = LooksAt { tree: true, ..none };
        let memory = LooksAt { memory: true, ..tree };
        let no = Limits::default();
        for (limits, task_cpu, looks_at, limited) in [
            (no, None, none, false),
            (Limits { cpus: Some(1.0), open_files: Some(9), ..no }, None, none, false),
            (no, Some(Duration::from_secs(1)), tree, true),
            (Limits { processes: Some(9), ..no }, None, tree, true),
            (Limits { memory_bytes: Some(9), ..no }, None, memory, true),
            (Limits { scratch_bytes: Some(9), ..no }, None, none, true),
        ] {
            let enclosed = enclosed(limits);
            enclosed.begin(task_cpu);
            let found = (enclosed.looks_at(), enclosed.is_limited());
            assert_eq!(found, (looks_at, limited), "{limits:?} {task_cpu:?}");
        }
    }

    #[test]
    fn a_kill_is_told_once_and_only_where_it_was_at_its_own_limit() {
        let enclosed = enclosed(Limits::default());
        let usage = |oom_kills, at_own_limit| GroupUsage {
            oom_kills,
            at_own_limit,
            ..GroupUsage::default()
        };
        assert_eq!(enclosed.kills_at_limit(&usage(1, false)), 0);
        enclosed.explain_kills(1);
        assert_eq!(enclosed.kills_at_limit(&usage(3, true)), 2);
        enclosed.explain_kills(3);
        enclosed.explain_kills(1);
        assert_eq!(enclosed.kills_at_limit(&usage(3, true)), 0);
    }

    #[test]
    fn the_highest_memory_is_kept() {
        let enclosed = enclosed(Limits::default());
        assert_eq!((enclosed.peak_memory(), enclosed.soft_bytes()), (None, None));
        for bytes in [Some(5), None, Some(9), Some(7)] {
            enclosed.saw_memory(bytes);
        }
        assert_eq!(enclosed.peak_memory(), Some(9));
        enclosed.softened(4);
        assert_eq!(enclosed.soft_bytes(), Some(4));
    }
}
