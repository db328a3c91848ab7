//! Control groups: none yet.

use std::io;

use crate::identifiers::Pid;

/// One worker's groups.
#[derive(Debug)]
pub(in crate::limits) enum Group {}

/// What the kernel counted since the group was made. `None`: it does not count
/// that here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::limits) struct GroupUsage {
    pub(in crate::limits) memory_bytes: Option<u64>,
    pub(in crate::limits) peak_memory_bytes: Option<u64>,
    pub(in crate::limits) cpu_nanoseconds: Option<u64>,
    pub(in crate::limits) processes: Option<u64>,
    pub(in crate::limits) oom_kills: u64,
    pub(in crate::limits) at_own_limit: bool,
    pub(in crate::limits) throttled_nanoseconds: u64,
    pub(in crate::limits) refused_forks: u64,
}

impl Group {
    pub(in crate::limits) fn usage(&self) -> io::Result<GroupUsage> {
        match *self {}
    }

    pub(in crate::limits) fn processes(&self) -> io::Result<Vec<Pid>> {
        match *self {}
    }

    pub(in crate::limits) fn kill_those(&self, _chosen: impl Fn(Pid) -> bool) -> io::Result<usize> {
        match *self {}
    }
}
