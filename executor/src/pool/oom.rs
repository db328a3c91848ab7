//! Whether the kernel killed processes for want of memory where a worker lives.
//!
//! For a worker with a memory limit of its own this is counted exactly. For the
//! others there is the count of the control group that they share, and else
//! that of the whole machine.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::identifiers::Pid;

/// Where killings are counted of workers without a limit. They all are where
/// their zygotes are, and that does not change.
static SHARED: OnceLock<Shared> = OnceLock::new();

const WHOLE_MACHINE: &str = "/proc/vmstat";

/// One file's count, and how much of it is understood.
#[derive(Debug)]
struct Shared {
    file: PathBuf,
    /// Of those counted there, how many are told of a worker, or were there
    /// before the first one.
    explained: Mutex<u64>,
}

/// Killings that were counted before something; those after it explain a death.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before(u64);

/// Counts the killings where this worker lives, which must not have been moved
/// yet; `None`: nobody counts.
pub(super) fn count_for(worker: Pid) -> Option<Before> {
    SHARED.get_or_init(|| Shared::of(worker)).now().map(Before)
}

/// The same where all workers live.
pub(super) fn count_again() -> Option<Before> {
    SHARED.get()?.now().map(Before)
}

/// Whether there was a killing since then that no other worker was told of. If
/// so, this worker is told of it. One more than are explained must be there, not
/// one more unexplained: somebody else's death may be looked at meanwhile.
pub(super) fn explains(before: Before) -> bool {
    SHARED.get().is_some_and(|shared| shared.now().is_some_and(|now| shared.take(before, now)))
}

/// Some were counted for a worker with a limit: the machine counts them again.
pub(super) fn explain_counted(killings: u64) {
    let Some(shared) = SHARED.get().filter(|shared| shared.file == Path::new(WHOLE_MACHINE)) else {
        return;
    };
    *shared.explained() += killings;
}

impl Shared {
    fn of(worker: Pid) -> Self {
        let groups = std::fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap_or_default();
        let counts =
            |file: &PathBuf| std::fs::read_to_string(file).is_ok_and(|text| count(&text).is_some());
        let file = candidates(&groups).find(counts).unwrap_or_else(|| WHOLE_MACHINE.into());
        let shared = Self { file, explained: Mutex::default() };
        *shared.explained() = shared.now().unwrap_or_default();
        shared
    }

    fn now(&self) -> Option<u64> {
        count(&std::fs::read_to_string(&self.file).ok()?)
    }

    fn take(&self, before: Before, now: u64) -> bool {
        let mut explained = self.explained();
        let some = now > before.0.max(*explained);
        *explained += u64::from(some);
        some
    }

    fn explained(&self) -> MutexGuard<'_, u64> {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        assert!(count_for(Pid(std::process::id())).is_some());
    }

    #[test]
    fn a_killing_explains_one_death_and_only_of_who_was_there() {
        let shared = Shared { file: PathBuf::new(), explained: Mutex::new(5) };
        // Two are killed; a third worker begins before anybody looks at that.
        let third = Before(7);
        assert!(shared.take(Before(5), 7));
        assert!(!shared.take(third, 7), "nobody was killed since it began");
        // It is killed before the second death is looked at.
        assert!(shared.take(third, 8));
        assert!(shared.take(Before(5), 8));
        assert!(!shared.take(Before(5), 8), "all are explained");
    }
}
