//! Knobs and readings of version 1.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::files::{counted, has, number, read, write};
use super::knobs::{Memory, quota};

/// What a limit may differ from its reading: the kernel counts pages, and takes
/// some of them ahead for each CPU.
const NEARLY: u64 = 1 << 20;

/// Sets a limit on memory, swap included where that is counted. It holds for
/// groups below, too.
pub(super) fn limit_memory(group: &Path, bytes: u64) -> io::Result<()> {
    // Old kernels count groups below only when they are told to.
    if has(group, "memory.use_hierarchy") && number(group, "memory.use_hierarchy")? == 0 {
        write(group, "memory.use_hierarchy", "1")?;
    }
    write(group, "memory.limit_in_bytes", &bytes.to_string())?;
    // The second may not be below the first, so it comes after it. It is a
    // little above: the kernel counts only how often the first was reached.
    if counts_swap(group) {
        let with_swap = bytes.saturating_add(NEARLY).to_string();
        write(group, "memory.memsw.limit_in_bytes", &with_swap)?;
    }
    Ok(())
}

/// Whether memory that was swapped out counts, too.
pub(super) fn counts_swap(group: &Path) -> bool {
    has(group, "memory.memsw.limit_in_bytes")
}

pub(super) fn memory_limit(group: &Path) -> io::Result<u64> {
    number(group, "memory.limit_in_bytes")
}

pub(super) fn memory(group: &Path) -> io::Result<Memory> {
    // First: a limit is reached before anybody is killed for it.
    let oom_kills = counted(group, "memory.oom_control", "oom_kill")?;
    let peak = number(group, "memory.max_usage_in_bytes")?;
    let reached = number(group, "memory.failcnt")? > 0;
    Ok(Memory {
        now: number(group, "memory.usage_in_bytes")?,
        peak: Some(peak),
        oom_kills,
        at_own_limit: reached && peak.saturating_add(NEARLY) >= memory_limit(group)?,
    })
}

pub(super) fn memory_in_use(group: &Path) -> io::Result<u64> {
    let now = number(group, "memory.usage_in_bytes")?;
    let file = |name| counted(group, "memory.stat", name);
    let files = file("total_inactive_file")?.saturating_add(file("total_active_file")?);
    Ok(now.saturating_sub(files))
}

/// Sets a limit on CPUs. A group above may have less: then that one holds.
pub(super) fn limit_cpus(group: &Path, cpus: f64) -> io::Result<()> {
    let (quota, period) = quota(cpus);
    write(group, "cpu.cfs_period_us", &period.to_string())?;
    match write(group, "cpu.cfs_quota_us", &quota.to_string()) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            tracing::debug!(%error, "the groups above allow fewer CPUs");
            Ok(())
        }
        other => other,
    }
}

/// Microseconds in a period; `-1`: as many as there are.
pub(super) fn cpu_limit(group: &Path) -> io::Result<String> {
    read(group, "cpu.cfs_quota_us")
}

pub(super) fn throttled_nanoseconds(group: &Path) -> io::Result<u64> {
    counted(group, "cpu.stat", "throttled_time")
}

pub(super) fn cpu_nanoseconds(group: &Path) -> io::Result<u64> {
    number(group, "cpuacct.usage")
}

/// Sets the share of CPUs against groups beside this one; 1: as any other.
pub(super) fn weigh(group: &Path, weight: f64) -> io::Result<()> {
    let shares = (weight * 1024.0).round().clamp(2.0, 262_144.0);
    write(group, "cpu.shares", &shares.to_string())
}
