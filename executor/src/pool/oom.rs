//! Whether the kernel killed processes for want of memory where a worker lives.
//!
//! For a worker with a memory limit of its own this is counted exactly. For the
//! others there is the count of the control group that they share, and else
//! that of the whole machine.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::identifiers::Pid;

/// Where the file is that counts for workers without a limit. They all are
/// where their zygotes are, and that does not change.
static SHARED: OnceLock<PathBuf> = OnceLock::new();

/// Killings that are counted there and were told of a worker already.
static EXPLAINED: AtomicU64 = AtomicU64::new(0);

const WHOLE_MACHINE: &str = "/proc/vmstat";

/// How many killings nobody was told of yet where this worker lives; `None`: it
/// is not known. That some came to be while a worker ran makes it probable that
/// it was one of them.
pub(super) fn unexplained(worker: Pid) -> Option<u64> {
    let counted = count(&std::fs::read_to_string(shared(worker)).ok()?)?;
    Some(counted.saturating_sub(EXPLAINED.load(Ordering::Acquire)))
}

/// One of them is told of a worker without a limit.
pub(super) fn explain() {
    EXPLAINED.fetch_add(1, Ordering::AcqRel);
}

/// Some were counted for a worker with a limit: the machine counts them again.
pub(super) fn explain_counted(worker: Pid, killings: u64) {
    if killings > 0 && shared(worker) == Path::new(WHOLE_MACHINE) {
        EXPLAINED.fetch_add(killings, Ordering::AcqRel);
    }
}

fn shared(worker: Pid) -> &'static Path {
    SHARED.get_or_init(|| {
        let groups = std::fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap_or_default();
        let counts =
            |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| count(&text).is_some());
        candidates(&groups).find(counts).unwrap_or_else(|| WHOLE_MACHINE.into())
    })
}

/// The files that may count for members of these groups, best first.
fn candidates(groups: &str) -> impl Iterator<Item = PathBuf> {
    groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control").into());
        }
        let unified = || format!("/sys/fs/cgroup{path}/memory.events.local").into();
        controllers.is_empty().then(unified)
    })
}

/// From a file with a line like `oom_kill 3`: 3.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_whoever_keeps_it() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\noom 9\noom_kill 4\noom_group_kill 5\n"), Some(4));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn the_nearest_group_that_counts_is_asked_first() {
        let files = |groups| candidates(groups).collect::<Vec<_>>();
        assert_eq!(
            files("9:name=systemd:/\n4:cpu,memory:/a:b\n0::/c\n"),
            [
                "/sys/fs/cgroup/memory/a:b/memory.oom_control",
                "/sys/fs/cgroup/c/memory.events.local"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(files("").len(), 0);
    }

    #[test]
    fn this_machine_counts_somewhere() {
        assert!(unexplained(Pid(std::process::id())).is_some());
    }
}
