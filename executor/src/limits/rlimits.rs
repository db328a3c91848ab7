//! Limits that a process has by itself, set from outside.

use std::io;

use rustix::process::{Resource, Rlimit, prlimit};

use super::Limits;
use crate::identifiers::Pid;
use crate::processes::Proc;

/// Between soft and hard limit on memory there must be room for what allocates
/// without asking for private memory: page tables, pages that a fork shared,
/// the report of the failure.
const LEAST_HEAD_ROOM_BYTES: u64 = 64 << 20;
/// What `OpenBLAS` keeps for each thread, and some.
const HEAD_ROOM_FOR_EACH_THREAD_BYTES: u64 = 40 << 20;

/// Puts into force what a process, and all that it starts, is held to by
/// itself. A worker that is killed with gigabytes in its memory leaves no file
/// of that size behind either.
///
/// # Errors
/// When the kernel refuses, or the process is dead.
pub(super) fn hold(pid: Pid, limits: &Limits) -> io::Result<()> {
    if *limits == Limits::default() {
        return Ok(());
    }
    match set(pid, Resource::Core, |before| Rlimit { current: Some(0), ..before }) {
        // Of another user, and we may not: such a worker is closed to others, and
        // what is closed leaves no file.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        set => set?,
    }
    let Some(files) = limits.open_files else { return Ok(()) };
    set(pid, Resource::Nofile, |before| {
        let most = Some(before.maximum.map_or(files, |maximum| maximum.min(files)));
        Rlimit { current: most, maximum: most }
    })
}

/// Has allocations of a process fail before it reaches `memory_bytes`, counted
/// from what it has now. Gives what it may have asked for then, bytes.
///
/// # Errors
/// When the kernel refuses, or the process is dead.
pub(super) fn soften(proc: &Proc, pid: Pid, memory_bytes: u64, threads: u64) -> io::Result<u64> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let asked_for = proc.data_bytes(pid).ok_or_else(gone)?;
    let most = asked_for.saturating_add(budget(memory_bytes, threads));
    set(pid, Resource::Data, |before| {
        let most = before.maximum.map_or(most, |maximum| maximum.min(most));
        Rlimit { current: Some(most), ..before }
    })?;
    Ok(most)
}

/// What may be allocated within a limit before allocations fail: at least three
/// quarters of it.
fn budget(memory_bytes: u64, threads: u64) -> u64 {
    let wanted = threads.saturating_mul(HEAD_ROOM_FOR_EACH_THREAD_BYTES);
    let head_room = wanted.max(LEAST_HEAD_ROOM_BYTES).min(memory_bytes / 4);
    memory_bytes - head_room
}

fn set(pid: Pid, resource: Resource, change: impl Fn(Rlimit) -> Rlimit) -> io::Result<()> {
    // Without a number this would be our own.
    let number = Some(pid.raw().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?);
    // Nothing changes limits on the way from the agent to a worker that was not
    // set up yet, and hard limits are never raised here.
    let before = rustix::process::getrlimit(resource);
    prlimit(number, resource, change(before))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid(child.id());
        (child, pid)
    }

    /// Soft and hard, from a line of `/proc/<pid>/limits`.
    fn limit(pid: Pid, name: &str) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn who_has_no_limits_keeps_what_he_has() {
        let (child, pid) = sleeper();
        let before = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        hold(pid, &Limits::default()).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap(), before);
        end(child);
    }

    #[test]
    fn open_files_are_bounded_for_good() {
        let (child, pid) = sleeper();
        hold(pid, &Limits { open_files: Some(32), ..Limits::default() }).unwrap();
        assert_eq!(limit(pid, "Max open files"), ("32".to_owned(), "32".to_owned()));
        assert_eq!(limit(pid, "Max core file size").0, "0");
        end(child);
    }

    #[test]
    fn allocations_fail_from_what_there_is_and_can_be_allowed_again() {
        let (child, pid) = sleeper();
        let has = Proc::default().data_bytes(pid).unwrap();
        let most = soften(&Proc::default(), pid, 1 << 30, 2).unwrap();
        assert!(most >= has + (1 << 30) - (80 << 20) && most < has + (1 << 30));
        let (soft, hard) = limit(pid, "Max data size");
        assert_eq!(soft.parse(), Ok(most / 4096 * 4096));
        assert_ne!(hard, soft);
        end(child);
        assert!(soften(&Proc::default(), pid, 1 << 30, 2).is_err());
    }

    #[test]
    fn most_of_a_small_limit_can_be_used() {
        for (memory, threads, left) in [
            (100, 1, 75),
            (4 << 30, 1, (4 << 30) - (64 << 20)),
            (4 << 30, 4, (4 << 30) - (160 << 20)),
            (512 << 20, 1000, 384 << 20),
        ] {
            assert_eq!(budget(memory, threads), left, "{memory} {threads}");
        }
    }
}
