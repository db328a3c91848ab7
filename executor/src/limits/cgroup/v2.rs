//! Knobs and readings of version 2.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::files::{counted, has, number, read, write};
use super::knobs::{Memory, quota};

/// Sets a limit on memory, of which nothing is swapped out.
pub(super) fn limit_memory(group: &Path, bytes: u64) -> io::Result<()> {
    write(group, "memory.max", &bytes.to_string())?;
    if has(group, "memory.swap.max") {
        write(group, "memory.swap.max", "0")?;
    }
    Ok(())
}

/// Whether the kernel can be kept from swapping a group out.
pub(super) fn counts_swap(group: &Path) -> bool {
    has(group, "memory.swap.max")
}

/// Has the kernel kill all processes of the group when it kills one for want of
/// memory.
pub(super) fn die_together(group: &Path) -> io::Result<()> {
    // Kernels before 4.19 do not have it, and kill one.
    if dies_together(group) { write(group, "memory.oom.group", "1") } else { Ok(()) }
}

pub(super) fn dies_together(group: &Path) -> bool {
    has(group, "memory.oom.group")
}

pub(super) fn memory_limit(group: &Path) -> io::Result<u64> {
    number(group, "memory.max")
}

pub(super) fn memory(group: &Path) -> io::Result<Memory> {
    // `local`: of this group, and not of groups that a task made below it.
    let local = has(group, "memory.events.local");
    let events = if local { "memory.events.local" } else { "memory.events" };
    let peak = match number(group, "memory.peak") {
        Ok(peak) => Some(peak),
        // Kernels before 5.19.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // First: a limit is reached before anybody is killed for it.
    let oom_kills = counted(group, events, "oom_kill")?;
    Ok(Memory {
        now: number(group, "memory.current")?,
        peak,
        oom_kills,
        // Counted where the limit is that could not be kept.
        at_own_limit: counted(group, events, "oom")? > 0,
    })
}

pub(super) fn memory_in_use(group: &Path) -> io::Result<u64> {
    let now = number(group, "memory.current")?;
    let file = |name| counted(group, "memory.stat", name);
    let files = file("inactive_file")?.saturating_add(file("active_file")?);
    Ok(now.saturating_sub(files))
}

pub(super) fn limit_cpus(group: &Path, cpus: f64) -> io::Result<()> {
    let (quota, period) = quota(cpus);
    write(group, "cpu.max", &format!("{quota} {period}"))
}

/// Microseconds, and out of how many; the first may be `max`.
pub(super) fn cpu_limit(group: &Path) -> io::Result<String> {
    read(group, "cpu.max")
}

pub(super) fn throttled_nanoseconds(group: &Path) -> io::Result<u64> {
    Ok(counted(group, "cpu.stat", "throttled_usec")?.saturating_mul(1000))
}

/// Needs no controller.
pub(super) fn cpu_nanoseconds(group: &Path) -> io::Result<u64> {
    Ok(counted(group, "cpu.stat", "usage_usec")?.saturating_mul(1000))
}

/// Sets the share of CPUs against groups beside this one; 1: as any other.
pub(super) fn weigh(group: &Path, weight: f64) -> io::Result<()> {
    let weight = (weight * 100.0).round().clamp(1.0, 10_000.0);
    write(group, "cpu.weight", &weight.to_string())
}
