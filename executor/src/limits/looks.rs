//! Looks at one busy worker: reads what has to be read, and has it judged.

use std::sync::Arc;
use std::time::Duration;

use super::enclosed::Enclosed;
use super::memory::{Memory, processes};
use super::scratch_size::ScratchSize;
use super::watch::{Passed, Resource, Sample, Watch};
use crate::clock::Monotonic;
use crate::processes::{Proc, Process, Tree, cpu_nanoseconds, threads};

/// Time between looks.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// The same near a limit on memory, which fills by gigabytes in a second.
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// What a task may fill between looks that are late.
const FILLED_SOON_BYTES: u64 = 200 << 20;
const STALL_LOOK: Duration = Duration::from_millis(500);
/// Memory that allocations are refused in steps of, and some: with less left,
/// they fail.
const NEAR_BYTES: u64 = 64 << 20;

/// What is known of a worker by looks.
#[derive(Debug)]
pub(super) struct Looks {
    enclosed: Arc<Enclosed>,
    /// What it ran then.
    period: u64,
    watch: Watch,
    memory: Memory,
    scratch: ScratchSize,
    /// Its processes when they were listed last.
    tree: Vec<Process>,
    next: Monotonic,
    next_stall: Monotonic,
}

impl Looks {
    pub(super) fn new(enclosed: Arc<Enclosed>) -> Self {
        Self {
            watch: Watch::new(enclosed.limits, None),
            tree: vec![enclosed.process],
            enclosed,
            period: 0,
            memory: Memory::default(),
            scratch: ScratchSize::default(),
            next: Monotonic::default(),
            next_stall: Monotonic::default(),
        }
    }

    /// Whether these are looks at that one.
    pub(super) fn are_at(&self, enclosed: &Arc<Enclosed>) -> bool {
        Arc::ptr_eq(&self.enclosed, enclosed)
    }

    /// Itself, if there is something to see now: takes notice of a batch that
    /// began.
    pub(super) fn renewed(&mut self) -> Option<&mut Self> {
        let period = self.enclosed.period()?;
        if self.period != period {
            self.period = period;
            self.watch = Watch::new(self.enclosed.limits, self.enclosed.task_cpu());
        }
        self.enclosed.is_limited().then_some(self)
    }

    /// When to look next.
    pub(super) const fn next(&self) -> Monotonic {
        self.next
    }

    /// Whom to list, if anybody.
    pub(super) fn root(&self) -> Option<Process> {
        let looks_at = self.enclosed.looks_at();
        looks_at.tree.then_some(self.enclosed.process)
    }

    /// Looks. `tree`: its processes, if they were listed just now.
    pub(super) fn look(&mut self, proc: &Proc, tree: Option<&Tree>) {
        let now = Monotonic::now();
        if let Some(tree) = tree {
            self.tree = processes(tree);
        }
        let sample = self.sample(proc, tree, now);
        let close = sample.memory_bytes.zip(self.enclosed.limits.memory_bytes);
        let close = close.is_some_and(|(bytes, limit)| {
            bytes / 7 > limit / 10 || limit.saturating_sub(bytes) < FILLED_SOON_BYTES
        });
        self.next = now.after(if close { CLOSE_LOOK } else { LOOK });
        self.enclosed.saw_memory(sample.memory_bytes);
        let Some(passed) = self.watch.take(&sample) else { return };
        if self.still(passed, &sample) {
            self.enclosed.tell(passed);
        } else {
            self.watch.not_told();
        }
    }

    /// Reading takes a moment, in which the task may have ended in time.
    fn still(&self, passed: Passed, sample: &Sample) -> bool {
        let same_task = || self.enclosed.task() == sample.task;
        self.enclosed.period() == Some(self.period)
            && (passed.resource != Resource::CpuTime || same_task())
    }

    fn sample(&mut self, proc: &Proc, tree: Option<&Tree>, now: Monotonic) -> Sample {
        let (enclosed, looks_at) = (&self.enclosed, self.enclosed.looks_at());
        let limits = &enclosed.limits;
        let mut sample = Sample { at: now, task: enclosed.task(), ..Sample::default() };
        if looks_at.group
            && let Some(usage) = enclosed.usage()
        {
            sample.cpu_nanoseconds = usage.cpu_nanoseconds;
            if enclosed.kills_at_limit(&usage) > 0 {
                sample.killed_at_bytes = usage.peak_memory_bytes.or(limits.memory_bytes);
            }
            if usage.processes.is_some() {
                sample.processes = usage.processes;
                sample.refused_forks = Some(usage.refused_forks);
            }
        }
        if let Some(tree) = tree {
            sample.cpu_nanoseconds = sample.cpu_nanoseconds.or_else(|| Some(cpu_nanoseconds(tree)));
            sample.processes = sample.processes.or_else(|| Some(threads(tree)));
        }
        if looks_at.memory
            && let Some(limit) = limits.memory_bytes
        {
            sample.memory_bytes = Some(self.memory.read(proc, &self.tree, limit));
        }
        if let (Some(limit), Some(directory)) = (limits.scratch_bytes, enclosed.scratch()) {
            sample.scratch_bytes = self.scratch.look(directory.directory(), limit, now);
        }
        // Both are of use only together.
        if let Some(soft) = enclosed.soft_bytes().filter(|_| now >= self.next_stall)
            && sample.cpu_nanoseconds.is_some()
        {
            let pid = enclosed.process.pid;
            let near = proc.data_bytes(pid).is_some_and(|data| data + NEAR_BYTES > soft);
            sample.stuck = Some(near && proc.waits_for_itself(pid));
            self.next_stall = now.after(STALL_LOOK);
        }
        sample
    }
}
