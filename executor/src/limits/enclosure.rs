//! One worker and all that it starts.

use std::time::Duration;

use super::Limits;
use crate::failure::Breach;
use crate::identifiers::Pid;

/// Holds one worker, and all that it starts, to its limits; knows what they
/// use, and kills them. Nothing of it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Enclosure {
    pid: Pid,
    limits: Limits,
}

/// What can be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    CpuTime,
    Processes,
    Scratch,
}

/// A limit that a look found passed. The worker still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) resource: Resource,
    pub(crate) breach: Breach,
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
    /// CPU time of all of them, nanoseconds; `None`: not known.
    pub(crate) cpu_nanoseconds: Option<u64>,
    /// How long its CPU limit held it back, nanoseconds.
    pub(crate) throttled_nanoseconds: u64,
}

impl Enclosure {
    pub(super) const fn new(pid: Pid, limits: Limits) -> Self {
        Self { pid, limits }
    }

    /// The limits in force.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Environment variables that the worker needs.
    pub(crate) const fn variables(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The worker is set up: from now on its allocations fail short of the
    /// limit, if that was asked for.
    pub(crate) fn soften(&self) {
        tracing::trace!(pid = %self.pid, "nothing to soften yet");
    }

    /// A batch begins, each of whose tasks may use so much CPU time.
    pub(crate) fn busy(&self, task_cpu: Option<Duration>) {
        tracing::trace!(pid = %self.pid, ?task_cpu, "nothing to look at yet");
    }

    /// No batch runs.
    pub(crate) fn rest(&self) {
        tracing::trace!(pid = %self.pid, "nothing to look at");
    }

    /// What was counted until now. Reads a few files.
    pub(crate) fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Kills everything that the worker started, and leaves the worker; gives
    /// how many processes there were. Blocks for milliseconds.
    pub(crate) fn kill_children(&self) -> usize {
        tracing::trace!(pid = %self.pid, "nothing to kill yet");
        0
    }

    /// Kills everything that is left of a worker that is dead, and lets go of
    /// what held it; gives how many processes there were. Blocks for
    /// milliseconds.
    pub(crate) fn dissolve(&self) -> usize {
        tracing::trace!(pid = %self.pid, "nothing to dissolve yet");
        0
    }
}
