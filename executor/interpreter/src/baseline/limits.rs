//! Soft resource limits, and the nice value.

use std::iter::once;

use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
};

use super::Look;

/// Limits that tasks may lower. Not that of data: it is the agent's to change
/// while the worker runs.
const LIMITS: [Resource; 7] = [
    Resource::Nofile,
    Resource::Fsize,
    Resource::Stack,
    Resource::Core,
    Resource::As,
    Resource::Nproc,
    Resource::Cpu,
];

/// How they were.
pub(super) struct Limits {
    limits: [Rlimit; LIMITS.len()],
    nice: Option<i32>,
}

impl Limits {
    pub(super) fn take() -> Self {
        Self { limits: LIMITS.map(getrlimit), nice: getpriority_process(None).ok() }
    }

    /// Restores what it may, and says what it may not: a hard limit is lowered
    /// for good, and so is, without privileges, a raised nice value.
    pub(super) fn restore(&self, look: Look) -> impl Iterator<Item = &'static str> {
        let limits = look < Look::Thorough || LIMITS.into_iter().zip(&self.limits).all(restored);
        let nice = self.nice.is_none_or(|nice| {
            getpriority_process(None) == Ok(nice) || setpriority_process(None, nice).is_ok()
        });
        let told = once((limits, "resource limits")).chain(once((nice, "nice value")));
        told.filter(|(restored, _)| !restored).map(|(_, name)| name)
    }
}

fn restored((resource, limit): (Resource, &Rlimit)) -> bool {
    getrlimit(resource) == *limit || setrlimit(resource, *limit).is_ok()
}
