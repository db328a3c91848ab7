//! What holds limits on this machine, found once.

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Enclosure, Enforcement, LimitOptions, Limits, Mechanism, Passed, Shortage};
use crate::identifiers::{Pid, WorkerId};
use crate::pool::ProgressPage;

/// Encloses workers.
#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    enforcement: Arc<Enforcement>,
    shortage: Arc<watch::Sender<Option<Shortage>>>,
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
        Self { enforcement: Arc::new(enforcement), shortage: Arc::new(watch::Sender::new(None)) }
    }

    /// What memory is short of now, and every time that this changes; `None`:
    /// there is enough.
    pub(crate) fn shortage(&self) -> watch::Receiver<Option<Shortage>> {
        self.shortage.subscribe()
    }

    /// What holds limits here.
    pub(crate) fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// Encloses a worker that has not run anything of its session yet. Blocks
    /// for milliseconds at most; without limits it costs nothing. What is passed
    /// later comes by the channel, which may close at any time.
    ///
    /// # Errors
    /// When a limit cannot be put in force, which was possible at the start.
    #[expect(clippy::unnecessary_wraps, reason = "nothing is put in force yet")]
    pub(crate) fn enclose(
        &self,
        worker: WorkerId,
        pid: Pid,
        limits: Limits,
        _progress: Arc<ProgressPage>,
    ) -> io::Result<(Arc<Enclosure>, mpsc::Receiver<Passed>)> {
        tracing::trace!(%worker, %pid, ?limits, "nothing to enclose yet");
        Ok((Arc::new(Enclosure::new(pid, limits)), mpsc::channel(1).1))
    }
}
