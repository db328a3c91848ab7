//! What this machine has.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// CPUs that this process may use: its affinity and its container's quota
/// count. At least 1.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that this process may use, in bytes: the machine's, or its
/// container's when that is less. `None` when it cannot be told.
pub(crate) fn memory_bytes() -> Option<u64> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory).ok()?;
    let container = system.cgroup_limits().map(|limits| limits.total_memory);
    let whole = system.total_memory();
    Some(container.map_or(whole, |limit| limit.min(whole)))
}

/// Lets this process, and those that it starts, open as many files as it may:
/// each blob is one. Gives that number; `None`: there is no bound.
pub(crate) fn raise_open_files() -> Option<u64> {
    let allowed = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: allowed.maximum, ..allowed };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => allowed.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays as it is");
            allowed.current
        }
    }
}

/// Whether there are as many running or runnable threads as CPUs, this one
/// not counted. A glance: it says nothing about the moment after.
pub(crate) fn is_busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    runnable(&load).is_some_and(|threads| threads > cores())
}

/// From `0.20 0.18 0.12 3/411 1234`: 3.
fn runnable(load: &str) -> Option<usize> {
    load.split(' ').nth(3)?.split('/').next()?.parse().ok()
}

/// Name of this machine in its network.
pub(crate) fn host_name() -> String {
    System::host_name().unwrap_or_else(|_| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_cores_memory_and_a_name() {
        assert!(cores() >= 1);
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20), "{:?}", memory_bytes());
        assert!(!host_name().is_empty());
    }

    #[test]
    fn as_many_files_may_be_open_as_the_machine_allows() {
        let allowed = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, allowed);
    }

    #[test]
    fn the_runnable_threads_are_read_from_the_load() {
        assert_eq!(runnable("0.20 0.18 0.12 3/411 1234\n"), Some(3));
        assert_eq!(runnable(""), None);
    }
}
