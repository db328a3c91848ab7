//! What both versions can do, in one's words or the other's.

use std::io;
use std::path::Path;

use super::files::{counted, number, write};
use super::{v1, v2};

/// Which of the kernel's two interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// What a group was counted to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes, page cache included.
    pub(super) now: u64,
    /// The most there was; `None`: this kernel does not say.
    pub(super) peak: Option<u64>,
    /// Processes of the group that the kernel killed for want of memory, at
    /// whosever limit.
    pub(super) oom_kills: u64,
    /// Whether its own limit was reached.
    pub(super) at_own_limit: bool,
}

/// How often CPU time is dealt out, microseconds.
const PERIOD: f64 = 100_000.0;
/// The least that the kernel deals out, microseconds.
const LEAST_QUOTA: f64 = 1000.0;
/// The longest period that the kernel takes, microseconds.
const LONGEST_PERIOD: f64 = 1_000_000.0;

/// Microseconds of CPU time, in how many microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "kept within what the kernel takes, which fits"
)]
pub(super) fn quota(cpus: f64) -> (u64, u64) {
    let period = if cpus * PERIOD < LEAST_QUOTA { LONGEST_PERIOD } else { PERIOD };
    // No machine has more.
    let quota = (cpus.min(1e6) * period).round().max(LEAST_QUOTA);
    (quota as u64, period as u64)
}

impl Version {
    pub(super) fn limit_memory(self, group: &Path, bytes: u64) -> io::Result<()> {
        match self {
            Self::V1 => v1::limit_memory(group, bytes),
            Self::V2 => v2::limit_memory(group, bytes),
        }
    }

    pub(super) fn memory_limit(self, group: &Path) -> io::Result<u64> {
        match self {
            Self::V1 => v1::memory_limit(group),
            Self::V2 => v2::memory_limit(group),
        }
    }

    pub(super) fn counts_swap(self, group: &Path) -> bool {
        match self {
            Self::V1 => v1::counts_swap(group),
            Self::V2 => v2::counts_swap(group),
        }
    }

    /// Has all processes of the group die when the kernel kills one of them;
    /// nothing where it cannot.
    pub(super) fn die_together(self, group: &Path) -> io::Result<()> {
        match self {
            Self::V1 => Ok(()),
            Self::V2 => v2::die_together(group),
        }
    }

    pub(super) fn dies_together(self, group: &Path) -> bool {
        match self {
            Self::V1 => false,
            Self::V2 => v2::dies_together(group),
        }
    }

    pub(super) fn memory(self, group: &Path) -> io::Result<Memory> {
        match self {
            Self::V1 => v1::memory(group),
            Self::V2 => v2::memory(group),
        }
    }

    /// Bytes that the kernel cannot take back without harm.
    pub(super) fn memory_in_use(self, group: &Path) -> io::Result<u64> {
        match self {
            Self::V1 => v1::memory_in_use(group),
            Self::V2 => v2::memory_in_use(group),
        }
    }

    pub(super) fn limit_cpus(self, group: &Path, cpus: f64) -> io::Result<()> {
        match self {
            Self::V1 => v1::limit_cpus(group, cpus),
            Self::V2 => v2::limit_cpus(group, cpus),
        }
    }

    pub(super) fn cpu_limit(self, group: &Path) -> io::Result<String> {
        match self {
            Self::V1 => v1::cpu_limit(group),
            Self::V2 => v2::cpu_limit(group),
        }
    }

    pub(super) fn throttled_nanoseconds(self, group: &Path) -> io::Result<u64> {
        match self {
            Self::V1 => v1::throttled_nanoseconds(group),
            Self::V2 => v2::throttled_nanoseconds(group),
        }
    }

    pub(super) fn cpu_nanoseconds(self, group: &Path) -> io::Result<u64> {
        match self {
            Self::V1 => v1::cpu_nanoseconds(group),
            Self::V2 => v2::cpu_nanoseconds(group),
        }
    }

    pub(super) fn weigh(self, group: &Path, weight: f64) -> io::Result<()> {
        match self {
            Self::V1 => v1::weigh(group, weight),
            Self::V2 => v2::weigh(group, weight),
        }
    }
}

// Processes are counted by the same knobs in both.

/// Sets a limit on processes and threads.
pub(super) fn limit_processes(group: &Path, most: u64) -> io::Result<()> {
    // The kernel takes nothing above its own largest number of processes.
    let most = if most > 4_194_304 { "max".to_owned() } else { most.to_string() };
    write(group, "pids.max", &most)
}

pub(super) fn process_limit(group: &Path) -> io::Result<u64> {
    number(group, "pids.max")
}

/// Processes and threads there are.
pub(super) fn processes_counted(group: &Path) -> io::Result<u64> {
    number(group, "pids.current")
}

/// How often one more was refused.
pub(super) fn refused_forks(group: &Path) -> io::Result<u64> {
    counted(group, "pids.events", "max")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_a_quota_of_a_period_within_what_the_kernel_takes() {
        assert_eq!(
            [1.0, 0.5, 1.5, 64.0, 0.01, 0.005, 0.0001, 1e300].map(quota),
            [
                (100_000, 100_000),
                (50_000, 100_000),
                (150_000, 100_000),
                (6_400_000, 100_000),
                (1000, 100_000),
                (5000, 1_000_000),
                (1000, 1_000_000),
                (100_000_000_000, 100_000)
            ]
        );
    }
}
