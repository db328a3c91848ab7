//! One worker and all that it starts.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::affinity::{Taken, fewer};
use super::cgroup::Group;
use super::enclosed::{Enclosed, Parts};
use super::watch_loop::Watcher;
use super::{Limits, rlimits};
use crate::identifiers::Pid;
use crate::machine;
use crate::processes::{Proc, kill_below};

/// Holds one worker, and all that it starts, to its limits; knows what they
/// use, and kills them. Nothing of it is left a second after this is dropped.
#[derive(Debug)]
pub(crate) struct Enclosure {
    enclosed: Arc<Enclosed>,
    watcher: Arc<Watcher>,
    cpus: Mutex<Option<Taken>>,
}

/// What the kernel, or the agent's own looks, counted since the worker began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Highest memory of the worker and all that it started, bytes; `None`: not
    /// known.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Processes of it that the kernel killed for want of memory.
    pub(crate) oom_kills: u64,
    /// Whether that was at its own limit, not at somebody else's.
    pub(crate) at_own_limit: bool,
    /// How many of them were killed at its own limit and are still to be told of.
    pub(crate) kills_at_limit: u64,
    /// CPU time of all of them, nanoseconds; `None`: not known.
    pub(crate) cpu_nanoseconds: Option<u64>,
    /// How long its CPU limit held it back, nanoseconds.
    pub(crate) throttled_nanoseconds: u64,
}

/// How long killed processes may take to be dead.
const END: Duration = Duration::from_secs(1);
/// How long resource trackers may take to end by themselves.
const TRACKERS_END: Duration = Duration::from_secs(1);

impl Enclosure {
    /// Holds a worker from now on.
    ///
    /// # Errors
    /// When nobody can look at it.
    pub(super) fn new(
        watcher: Arc<Watcher>,
        enclosed: Enclosed,
        cpus: Option<Taken>,
    ) -> io::Result<Self> {
        let enclosed = Arc::new(enclosed);
        watcher.add(Arc::clone(&enclosed))?;
        Ok(Self { enclosed, watcher, cpus: Mutex::new(cpus) })
    }

    /// The limits in force.
    pub(crate) fn limits(&self) -> &Limits {
        &self.enclosed.limits
    }

    /// Environment variables that the worker needs.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let scratch = self.enclosed.scratch();
        let path = scratch.and_then(|scratch| scratch.path().to_str().map(str::to_owned));
        path.map(|path| ("TMPDIR".to_owned(), path)).into_iter().collect()
    }

    /// The worker is set up: from now on allocations fail short of its memory
    /// limit, if that was asked for. The limit itself holds all the same.
    pub(crate) fn soften(&self) {
        let limits = self.limits();
        let Some(memory) = limits.memory_bytes.filter(|_| limits.soft_memory) else { return };
        let pid = self.enclosed.process.pid;
        match rlimits::soften(self.watcher.proc(), pid, memory, threads(limits)) {
            Ok(soft) => self.enclosed.softened(soft),
            Err(error) => tracing::warn!(%error, %pid, "allocations will not fail"),
        }
    }

    /// A batch begins, each of whose tasks may use so much CPU time. Costs
    /// nothing without limits.
    pub(crate) fn busy(&self, task_cpu: Option<Duration>) {
        if self.enclosed.begin(task_cpu) {
            self.watcher.begin(self.enclosed.is_limited());
        }
    }

    /// No batch runs.
    pub(crate) fn rest(&self) {
        if self.enclosed.end() {
            self.watcher.end();
        }
    }

    /// What was counted until now. Reads a few files.
    pub(crate) fn counters(&self) -> Counters {
        let usage = self.enclosed.usage().unwrap_or_default();
        Counters {
            peak_memory_bytes: usage.peak_memory_bytes.or_else(|| self.enclosed.peak_memory()),
            oom_kills: usage.oom_kills,
            at_own_limit: usage.at_own_limit,
            kills_at_limit: self.enclosed.kills_at_limit(&usage),
            cpu_nanoseconds: usage.cpu_nanoseconds,
            throttled_nanoseconds: usage.throttled_nanoseconds,
        }
    }

    /// All processes that were killed for want of memory until then have been
    /// told of.
    pub(crate) fn explained(&self, counters: &Counters) {
        self.enclosed.explain_kills(counters.oom_kills);
    }

    /// Kills everything that the worker started, and leaves the worker, and
    /// resource trackers, which end by themselves; gives how many processes
    /// there were. Blocks for milliseconds, against processes that multiply for
    /// five seconds at most. A worker that is dead without a group has nothing
    /// below it any more: its children are the agent's.
    pub(crate) fn kill_children(&self) -> usize {
        let (process, proc) = (self.enclosed.process, self.watcher.proc());
        let group = self.enclosed.group();
        let killed = group.and_then(|group| kill_in(&group, proc, Some(process.pid)));
        killed.unwrap_or_else(|| kill_below(proc, process))
    }

    /// Kills everything that is left in the group of a worker that is dead, and
    /// lets go of what held it; gives how many processes there were. What takes
    /// longer, files and resource trackers, goes on behind.
    pub(crate) fn dissolve(&self) -> usize {
        self.rest();
        self.watcher.remove(&self.enclosed);
        drop(self.cpus.lock().unwrap_or_else(PoisonError::into_inner).take());
        let parts = self.enclosed.take_parts();
        let group = parts.group.as_ref();
        let killed = group.and_then(|group| kill_in(group, self.watcher.proc(), None));
        if parts.scratch.is_some() || parts.group.as_ref().is_some_and(|group| has_any(group)) {
            let finish = move || finish(parts);
            // Without a thread it is done here, by the drop of what it had.
            let thread = std::thread::Builder::new().name("clutch-finish".to_owned());
            if let Err(error) = thread.spawn(finish) {
                tracing::debug!(%error, "no thread to finish a worker");
            }
        }
        killed.unwrap_or_default()
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        self.dissolve();
    }
}

/// Threads that a task may well have, for room that they need.
fn threads(limits: &Limits) -> u64 {
    let cores = machine::cores();
    let held = limits.cpus.and_then(|cpus| fewer(cpus, cores));
    u64::try_from(held.unwrap_or(cores)).unwrap_or(u64::MAX)
}

/// Kills everything in a group but one process and the resource trackers, and
/// returns when it is dead, or takes too long for that; gives how many there
/// were. `None`: the group is of no use for that.
fn kill_in(group: &Group, proc: &Proc, spared: Option<Pid>) -> Option<usize> {
    let unwanted = |pid| Some(pid) != spared && !proc.is_resource_tracker(pid);
    let lives = || group.processes().is_ok_and(|left| left.into_iter().any(unwanted));
    if !lives() {
        return Some(0);
    }
    let killed = group.kill_those(unwanted);
    let killed =
        killed.inspect_err(|error| tracing::debug!(%error, "a group cannot be killed")).ok()?;
    let waits = Instant::now();
    while lives() && waits.elapsed() < END {
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(killed)
}

fn has_any(group: &Group) -> bool {
    group.processes().is_ok_and(|left| !left.is_empty())
}

/// Removes the files of a worker, waits for its trackers, and kills them if
/// that takes too long: the group's end does.
fn finish(parts: Parts) {
    let Parts { group, scratch } = parts;
    drop(scratch);
    let Some(group) = group else { return };
    let waits = Instant::now();
    while has_any(&group) && waits.elapsed() < TRACKERS_END {
        std::thread::sleep(Duration::from_millis(10));
    }
}
