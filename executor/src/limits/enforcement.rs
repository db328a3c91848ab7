//! What holds limits on this machine, for people and drivers.

/// What enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The kernel, by control groups of version 2.
    CgroupV2,
    /// The kernel, by control groups of version 1.
    CgroupV1,
    /// The agent, which looks several times a second.
    Sampling,
    /// The kernel, by the set of CPUs that a process may use.
    Affinity,
}

/// How limits are enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// Memory.
    pub memory: Mechanism,
    /// CPUs.
    pub cpus: Mechanism,
    /// Processes.
    pub processes: Mechanism,
    /// What finds every process that a task started.
    pub kill: Mechanism,
    /// What is therefore not promised, one sentence each.
    pub cannot: Vec<String>,
    /// Memory of all workers together, in bytes; `None`: the machine's.
    pub memory_ceiling_bytes: Option<u64>,
}

impl Mechanism {
    /// Its name for people, for example `cgroup-v2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup-v2",
            Self::CgroupV1 => "cgroup-v1",
            Self::Sampling => "sampling",
            Self::Affinity => "affinity",
        }
    }
}
