//! What holds limits on this machine, for people and drivers.

use super::LimitOptions;
use super::cgroup::Groups;

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

/// What the sentences about it depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Facts {
    memory: Mechanism,
    cpus: Mechanism,
    processes: Mechanism,
    kill: Mechanism,
    /// Whether what was swapped out counts as memory.
    counts_swap: bool,
    /// Whether a worker dies as a whole of its limit on memory.
    dies_together: bool,
    /// The ceiling on memory.
    ceiling: Together,
    /// The weight of CPUs.
    weight: Together,
}

/// What may hold for all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    /// Nobody asks for it.
    NotAsked,
    /// Groups hold it.
    Held,
    /// They cannot.
    NotHeld,
}

const FAST_MEMORY: &str = "a task that allocates fast may pass its memory limit by what it \
    allocates in 50 ms before it is killed";
const ONE_DIES: &str = "at a memory limit the kernel kills one process of the worker, not all of \
    them: a task that lost one goes on for up to 50 ms before it is killed";
const SWAP: &str = "a memory limit does not count what the kernel has swapped out";
const WHOLE_CPUS: &str = "CPUs are limited by affinity, in whole CPUs: a limit of 1.5 is one of \
    2, and others may run on the same ones";
const FAST_FORKS: &str = "a task may have more processes than its limit for 50 ms before it is \
    killed";
const FAST_CHILDREN: &str = "processes of a task are found by walking the tree below its worker: \
    one that forks without end may take a second to kill";
const FAST_CEILING: &str = "workers may pass the memory ceiling together by what they allocate in \
    100 ms before one of them makes way";
const NO_WEIGHT: &str = "the part of the CPUs that `machine-share` says is not kept: workers \
    compete for them as any other program does";

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

impl Enforcement {
    /// What these groups can do, and what an agent with these options therefore
    /// does without them.
    pub(super) fn by(
        groups: &Groups,
        options: &LimitOptions,
        ceiling: Together,
        weight: Together,
    ) -> Self {
        let facts = Facts {
            memory: groups.memory_mechanism().unwrap_or(Mechanism::Sampling),
            cpus: groups.cpu_mechanism().unwrap_or(Mechanism::Affinity),
            processes: groups.process_mechanism().unwrap_or(Mechanism::Sampling),
            kill: groups.kill_mechanism().unwrap_or(Mechanism::Sampling),
            counts_swap: groups.counts_swap(),
            dies_together: groups.dies_together(),
            ceiling,
            weight,
        };
        Self {
            memory: facts.memory,
            cpus: facts.cpus,
            processes: facts.processes,
            kill: facts.kill,
            cannot: cannot(facts),
            memory_ceiling_bytes: options.memory_ceiling_bytes,
        }
    }
}

fn cannot(facts: Facts) -> Vec<String> {
    let by_looks = facts.memory == Mechanism::Sampling;
    let sentences = [
        (by_looks, FAST_MEMORY),
        (!by_looks && !facts.dies_together, ONE_DIES),
        (!by_looks && !facts.counts_swap, SWAP),
        (facts.cpus == Mechanism::Affinity, WHOLE_CPUS),
        (facts.processes == Mechanism::Sampling, FAST_FORKS),
        (facts.kill == Mechanism::Sampling, FAST_CHILDREN),
        (facts.ceiling == Together::NotHeld, FAST_CEILING),
        (facts.weight == Together::NotHeld, NO_WEIGHT),
    ];
    sentences.iter().filter(|(is_so, _)| *is_so).map(|(_, what)| (*what).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEST: Facts = Facts {
        memory: Mechanism::CgroupV2,
        cpus: Mechanism::CgroupV2,
        processes: Mechanism::CgroupV2,
        kill: Mechanism::CgroupV2,
        counts_swap: true,
        dies_together: true,
        ceiling: Together::Held,
        weight: Together::NotAsked,
    };

    #[test]
    fn what_is_not_promised_follows_from_what_holds_limits() {
        let memory = |memory| Facts { memory, ..BEST };
        let cases: [(Facts, &[&str]); 8] = [
            (BEST, &[]),
            (Facts { dies_together: false, ..memory(Mechanism::CgroupV1) }, &[ONE_DIES]),
            (Facts { counts_swap: false, ..BEST }, &[SWAP]),
            // Looks find all of a worker, and count what is swapped out.
            (
                Facts { counts_swap: false, dies_together: false, ..memory(Mechanism::Sampling) },
                &[FAST_MEMORY],
            ),
            (Facts { cpus: Mechanism::Affinity, ..BEST }, &[WHOLE_CPUS]),
            (Facts { processes: Mechanism::Sampling, ..BEST }, &[FAST_FORKS]),
            (Facts { kill: Mechanism::Sampling, ..BEST }, &[FAST_CHILDREN]),
            (
                Facts { ceiling: Together::NotHeld, weight: Together::NotHeld, ..BEST },
                &[FAST_CEILING, NO_WEIGHT],
            ),
        ];
        for (facts, expected) in cases {
            assert_eq!(cannot(facts), expected, "{facts:?}");
        }
    }
}
