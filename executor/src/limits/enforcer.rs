//! What holds limits on this machine, found once.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::prepare::Encloser;
use super::{Enclosure, Enforcement, LimitOptions, Limits, Mechanism, Passed, Shortage};
use crate::identifiers::{Pid, WorkerId};
use crate::pool::ProgressPage;

/// Encloses workers.
#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    enforcement: Arc<Enforcement>,
    encloser: Arc<Encloser>,
}

impl Enforcer {
    /// Finds out what this machine and this process's rights allow, and removes
    /// what agents left that were killed.
    pub(crate) fn probe(options: &LimitOptions) -> Self {
        let enforcement = Enforcement {
            memory: Mechanism::Sampling,
            cpus: Mechanism::Affinity,
            processes: Mechanism::Sampling,
            kill: Mechanism::Sampling,
            cannot: Vec::new(),
            memory_ceiling_bytes: options.memory_ceiling_bytes,
        };
        let encloser = Encloser::new(options, None);
        Self { enforcement: Arc::new(enforcement), encloser: Arc::new(encloser) }
    }

    /// What holds limits here.
    pub(crate) fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// Encloses a worker that has not run anything of its session yet. Blocks
    /// for milliseconds at most.
    ///
    /// # Errors
    /// When a limit cannot be put in force, which was possible at the start.
    pub(crate) fn enclose(
        &self,
        worker: WorkerId,
        pid: Pid,
        limits: Limits,
        progress: Arc<ProgressPage>,
    ) -> io::Result<(Arc<Enclosure>, mpsc::Receiver<Passed>)> {
        self.encloser.enclose(worker, pid, limits, progress, None, true)
    }

    /// What there is too little of, now; `None`: of nothing.
    pub(crate) fn shortage(&self) -> watch::Receiver<Option<Shortage>> {
        self.encloser.shortage()
    }

    /// Removes what workers left outside their memory. For the agent's end.
    pub(crate) fn close(&self) {
        self.encloser.close();
    }
}
