//! What looks at a busy worker mean. Pure: samples in, at most one verdict out.

use std::time::Duration;

use super::Limits;
use crate::clock::Monotonic;
use crate::failure::Breach;

/// What a worker can have too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Memory, bytes.
    Memory,
    /// CPU time of one task, nanoseconds.
    CpuTime,
    /// Processes and threads.
    Processes,
    /// Size of the scratch directory, bytes.
    Scratch,
}

/// A limit that was passed. The worker goes on until somebody kills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Which one.
    pub(crate) resource: Resource,
    /// In the unit of the resource.
    pub(crate) breach: Breach,
}

/// One look. `None`: not looked at, or not to be told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// When.
    pub(super) at: Monotonic,
    /// Memory, bytes, never too much.
    pub(super) memory_bytes: Option<u64>,
    /// The most memory there was, bytes, when the kernel has killed part of the
    /// worker at its limit.
    pub(super) killed_at_bytes: Option<u64>,
    /// CPU time since the worker began, nanoseconds.
    pub(super) cpu_nanoseconds: Option<u64>,
    /// The running task: its index, and when it was called.
    pub(super) task: Option<(u32, u64)>,
    /// Processes and threads, where the agent counts them.
    pub(super) processes: Option<u64>,
    /// Processes and threads that the kernel refused since the worker began.
    pub(super) refused_forks: Option<u64>,
    /// Size of the scratch directory, bytes, never too much.
    pub(super) scratch_bytes: Option<u64>,
    /// Whether allocations fail by now and all threads wait for one another.
    pub(super) stuck: Option<bool>,
}

/// A batch, as far as it was looked at.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    task_cpu: Option<u64>,
    task: Option<Task>,
    refusals: Refusals,
    stall: Option<Stall>,
    peak_memory: u64,
    told: bool,
}

/// A task that is held to its CPU time.
#[derive(Debug, Clone, Copy)]
struct Task {
    is: (u32, u64),
    /// What had been used when it was first seen.
    before: u64,
}

#[derive(Debug, Clone, Copy)]
enum Refusals {
    /// None while this batch was looked at, or they have ended.
    Quiet { counted: Option<u64> },
    /// The kernel refuses, again and again.
    Growing { counted: u64, since: Monotonic, last: Monotonic },
}

#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Monotonic,
    cpu: u64,
}

/// A task may run into the limit and get along; a fork bomb tries for ever.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Refusals that are further apart are not one matter.
const REFUSALS_APART: Duration = Duration::from_millis(500);
/// So long nothing happens before it is said that nothing will.
pub(super) const STALLED_FOR: Duration = Duration::from_secs(5);

impl Watch {
    /// A batch begins, each of whose tasks may use so much CPU time.
    pub(super) fn new(limits: Limits, task_cpu: Option<Duration>) -> Self {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            limits,
            task_cpu: task_cpu.map(nanoseconds),
            task: None,
            refusals: Refusals::Quiet { counted: None },
            stall: None,
            peak_memory: 0,
            told: false,
        }
    }

    /// Takes a look in. Tells of the first limit that was passed, once.
    pub(super) fn take(&mut self, sample: &Sample) -> Option<Passed> {
        self.peak_memory = self.peak_memory.max(sample.memory_bytes.unwrap_or_default());
        // Every one is asked, since every one remembers what it saw.
        let verdicts = [
            self.memory(sample),
            self.cpu(sample),
            self.processes(sample),
            self.scratch(sample),
            self.stall(sample),
        ];
        let passed = verdicts.into_iter().flatten().next().filter(|_| !self.told);
        self.told |= passed.is_some();
        passed
    }

    /// Nobody was told of what was passed last: it was over by then.
    pub(super) const fn not_told(&mut self) {
        self.told = false;
    }

    fn memory(&self, sample: &Sample) -> Option<Passed> {
        let limit = self.limits.memory_bytes?;
        if let Some(peak) = sample.killed_at_bytes {
            return Some(passed(Resource::Memory, limit, peak));
        }
        over(Resource::Memory, limit, sample.memory_bytes?)
    }

    /// A task is seen up to one look after its begin, so what it used until
    /// then is not held against it.
    fn cpu(&mut self, sample: &Sample) -> Option<Passed> {
        let (limit, used) = (self.task_cpu?, sample.cpu_nanoseconds?);
        self.task = sample.task.map(|is| {
            let known = self.task.filter(|known| known.is == is);
            known.unwrap_or(Task { is, before: used })
        });
        over(Resource::CpuTime, limit, used.saturating_sub(self.task?.before))
    }

    fn processes(&mut self, sample: &Sample) -> Option<Passed> {
        let limit = self.limits.processes?;
        if let Some(refused) = sample.refused_forks {
            self.refusals = self.refusals.and_then(refused, sample.at);
        }
        if self.refusals.last_for(REFUSED_FOR) {
            // The kernel let none of them be more than the limit.
            let peak = sample.processes.unwrap_or_default().max(limit);
            return Some(passed(Resource::Processes, limit, peak));
        }
        over(Resource::Processes, limit, sample.processes?)
    }

    fn scratch(&self, sample: &Sample) -> Option<Passed> {
        over(Resource::Scratch, self.limits.scratch_bytes?, sample.scratch_bytes?)
    }

    /// `OpenBLAS`, when it gets no memory, ends the process from a thread while
    /// others hold the locks that the end needs: all wait, for ever.
    fn stall(&mut self, sample: &Sample) -> Option<Passed> {
        let (limit, cpu) = (self.limits.memory_bytes?, sample.cpu_nanoseconds?);
        self.stall = match (sample.stuck?, self.stall) {
            (false, _) => None,
            (true, Some(stall)) if stall.cpu == cpu => Some(stall),
            (true, _) => Some(Stall { since: sample.at, cpu }),
        };
        let over = sample.at.since(self.stall?.since) >= STALLED_FOR;
        over.then(|| passed(Resource::Memory, limit, self.peak_memory))
    }
}

impl Refusals {
    fn and_then(self, refused: u64, now: Monotonic) -> Self {
        let quiet = Self::Quiet { counted: Some(refused) };
        match self {
            Self::Quiet { counted: Some(counted) } if refused > counted => {
                Self::Growing { counted: refused, since: now, last: now }
            }
            Self::Quiet { .. } => quiet,
            Self::Growing { counted, since, .. } if refused > counted => {
                Self::Growing { counted: refused, since, last: now }
            }
            Self::Growing { last, .. } if now.since(last) > REFUSALS_APART => quiet,
            Self::Growing { .. } => self,
        }
    }

    fn last_for(self, time: Duration) -> bool {
        match self {
            Self::Quiet { .. } => false,
            Self::Growing { since, last, .. } => last.since(since) > time,
        }
    }
}

fn over(resource: Resource, limit: u64, seen: u64) -> Option<Passed> {
    (seen > limit).then(|| passed(resource, limit, seen))
}

const fn passed(resource: Resource, limit: u64, peak: u64) -> Passed {
    Passed { resource, breach: Breach { limit, peak } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanoseconds(milliseconds * 1_000_000)
    }

    const LIMITS: Limits = Limits {
        memory_bytes: Some(100),
        cpus: None,
        processes: Some(8),
        open_files: None,
        scratch_bytes: Some(50),
        soft_memory: true,
    };

    /// The first verdict of these looks, and the time of it.
    fn first(task_cpu: Option<u64>, samples: &[Sample]) -> Option<(u64, Passed)> {
        let mut watch = Watch::new(LIMITS, task_cpu.map(Duration::from_nanos));
        samples
            .iter()
            .find_map(|sample| Some((sample.at.nanoseconds() / 1_000_000, watch.take(sample)?)))
    }

    #[test]
    fn at_a_limit_is_within_it_and_above_it_is_not() {
        let memory = |bytes| Sample { memory_bytes: Some(bytes), ..Sample::default() };
        let scratch = |bytes| Sample { scratch_bytes: Some(bytes), ..Sample::default() };
        let processes = |count| Sample { processes: Some(count), ..Sample::default() };
        let within = [memory(100), scratch(50), processes(8), Sample::default()];
        assert_eq!(first(None, &within), None);
        for (sample, resource, limit, peak) in [
            (memory(101), Resource::Memory, 100, 101),
            (scratch(51), Resource::Scratch, 50, 51),
            (processes(9), Resource::Processes, 8, 9),
        ] {
            assert_eq!(first(None, &[sample]), Some((0, passed(resource, limit, peak))));
        }
    }

    #[test]
    fn who_lost_a_process_at_its_memory_limit_has_passed_it() {
        let killed = Sample { killed_at_bytes: Some(99), ..Sample::default() };
        let expected = passed(Resource::Memory, 100, 99);
        assert_eq!(first(None, &[Sample::default(), killed]), Some((0, expected)));
    }

    #[test]
    fn a_limit_is_told_once_for_each_batch() {
        let mut watch = Watch::new(LIMITS, None);
        let sample = Sample { memory_bytes: Some(101), ..Sample::default() };
        assert!(watch.take(&sample).is_some());
        assert_eq!(watch.take(&sample), None);
        let other = Sample { scratch_bytes: Some(99), ..sample };
        assert_eq!(watch.take(&other), None);
    }

    #[test]
    fn what_nobody_was_told_of_does_not_silence_the_next() {
        let mut watch = Watch::new(LIMITS, Some(Duration::from_nanos(10)));
        let look = |cpu, task| Sample { cpu_nanoseconds: Some(cpu), task, ..Sample::default() };
        assert_eq!(watch.take(&look(0, Some((0, 1)))), None);
        assert!(watch.take(&look(11, Some((0, 1)))).is_some());
        watch.not_told();
        assert_eq!(watch.take(&look(12, Some((1, 2)))), None);
        let expected = passed(Resource::CpuTime, 10, 13);
        assert_eq!(watch.take(&look(25, Some((1, 2)))), Some(expected));
    }

    #[test]
    fn each_task_has_its_own_cpu_time() {
        let look = |time, cpu, task| Sample {
            at: at(time),
            cpu_nanoseconds: Some(cpu),
            task,
            ..Sample::default()
        };
        // Two tasks with 9 each, none between them, and one that is too long.
        let looks = [
            look(0, 500, Some((0, 1))),
            look(1, 509, Some((0, 1))),
            look(2, 530, None),
            look(3, 540, Some((1, 2))),
            look(4, 549, Some((1, 2))),
            look(5, 560, Some((1, 3))),
            look(6, 571, Some((1, 3))),
        ];
        assert_eq!(first(Some(10), &looks), Some((6, passed(Resource::CpuTime, 10, 11))));
        assert_eq!(first(None, &looks), None);
        assert_eq!(first(Some(10), &looks[..6]), None);
    }

    #[test]
    fn who_is_refused_processes_for_a_second_is_over_the_limit() {
        let look = |time, refused| Sample {
            at: at(time),
            refused_forks: Some(refused),
            ..Sample::default()
        };
        let bomb: Vec<_> = (0..40).map(|i| look(i * 50, i * 3)).collect();
        assert_eq!(first(None, &bomb), Some((1100, passed(Resource::Processes, 8, 8))));
        // One burst, refusals of the batch before, and single ones far apart.
        let burst: Vec<_> = (0..40).map(|i| look(i * 50, i.min(5))).collect();
        let before: Vec<_> = (0..40).map(|i| look(i * 50, 700)).collect();
        let rare: Vec<_> = (0..99).map(|i| look(i * 50, i / 12)).collect();
        for looks in [burst, before, rare] {
            assert_eq!(first(None, &looks), None, "{looks:?}");
        }
    }

    #[test]
    fn who_waits_for_memory_and_uses_no_time_for_five_seconds_is_over_the_limit() {
        let look = |time, stuck, cpu| Sample {
            at: at(time),
            memory_bytes: Some(70),
            cpu_nanoseconds: Some(cpu),
            stuck: Some(stuck),
            ..Sample::default()
        };
        let stuck: Vec<_> = (0..20).map(|i| look(i * 500, i > 2, 9)).collect();
        assert_eq!(first(None, &stuck), Some((6500, passed(Resource::Memory, 100, 70))));
        let slow: Vec<_> = (0..40).map(|i| look(i * 500, true, i / 8)).collect();
        let waits: Vec<_> = (0..40).map(|i| look(i * 500, i % 8 > 0, 9)).collect();
        for looks in [slow, waits] {
            assert_eq!(first(None, &looks), None, "{looks:?}");
        }
    }
}
