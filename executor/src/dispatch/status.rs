//! What goes on, for people.

use crate::identifiers::Pid;
use crate::scheduler::Weight;

/// The agent at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentSnapshot {
    pub(crate) sessions: Vec<SessionSnapshot>,
    pub(crate) workers: Vec<WorkerSnapshot>,
    pub(crate) draining: bool,
}

/// One session.
#[derive(Debug, Clone)]
pub(crate) struct SessionSnapshot {
    pub(crate) name: String,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) attached: bool,
    pub(crate) weight: Weight,
}

/// One worker process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerSnapshot {
    pub(crate) pid: Pid,
    /// Index of its environment.
    pub(crate) environment: usize,
    pub(crate) busy: bool,
    pub(crate) batches: u64,
}
