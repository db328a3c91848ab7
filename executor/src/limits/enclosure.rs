//! One worker and all that it starts.

use std::io;

use super::Limits;
use super::cgroup::Group;
use crate::identifiers::{Pid, WorkerId};

/// Holds one worker, and all that it starts, to its limits; knows what they
/// use, and kills them. Nothing of it is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Enclosure {
    pid: Pid,
    limits: Limits,
    /// `None`: the kernel holds none of the limits.
    group: Option<Group>,
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
    pub(super) fn new(
        _worker: WorkerId,
        pid: Pid,
        limits: Limits,
        group: Option<Group>,
    ) -> io::Result<Self> {
        Ok(Self { pid, limits, group })
    }

    /// The limits in force.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What was counted until now. Reads a few files.
    pub(crate) fn counters(&self) -> Counters {
        let usage = self.group.as_ref().and_then(|group| group.usage().ok()).unwrap_or_default();
        Counters {
            peak_memory_bytes: usage.peak_memory_bytes,
            oom_kills: usage.oom_kills,
            at_own_limit: usage.at_own_limit,
            cpu_nanoseconds: usage.cpu_nanoseconds,
            throttled_nanoseconds: usage.throttled_nanoseconds,
        }
    }

    /// Kills everything that the worker started, and leaves the worker; gives
    /// how many processes there were.
    pub(crate) fn kill_children(&self) -> usize {
        let worker = self.pid;
        let killed = self.group.as_ref().map(|group| group.kill_those(|pid| pid != worker));
        killed.and_then(Result::ok).unwrap_or(0)
    }

    /// Kills everything that is left of a worker that is dead, and lets go of
    /// what held it; gives how many processes there were.
    pub(crate) fn dissolve(self) -> usize {
        let left = self.group.as_ref().and_then(|group| group.processes().ok());
        left.map_or(0, |left| left.len())
    }
}
