//! What this machine has.

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
}
