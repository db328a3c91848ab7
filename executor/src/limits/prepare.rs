//! From a worker and its limits to an enclosure.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::affinity::Seats;
use super::cgroup::Group;
use super::enclosed::{Enclosed, Parts};
use super::pressure::{Shortage, Usage};
use super::scratch::{Owner, Scratch, ScratchRoot, remove_stale};
use super::watch::Passed;
use super::watch_loop::Watcher;
use super::{Enclosure, LimitOptions, Limits, rlimits};
use crate::identifiers::{Pid, SessionId, WorkerId};
use crate::pool::ProgressPage;
use crate::processes::Process;

/// One limit that was passed, and one more that nobody reads before the end.
const PASSED: usize = 2;

/// As a worker that may says it of itself.
const OOM_SCORE_ADJUSTMENT: &str = "1000";

/// Everything but control groups that holds workers to limits.
#[derive(Debug)]
pub(super) struct Encloser {
    watcher: Arc<Watcher>,
    /// `None`: workers are held to their CPUs by groups.
    seats: Option<Seats>,
    below: PathBuf,
    scratch: Mutex<Option<Arc<ScratchRoot>>>,
    /// Whose processes workers are, if not the agent's own user's.
    owner: Option<Owner>,
}

impl Encloser {
    /// With nobody in it. `pins`: workers keep to whole CPUs. `usage`: the
    /// kernel's count of what all workers use together, where there is one.
    pub(super) fn new(options: &LimitOptions, pins: bool, usage: Option<Usage>) -> Self {
        let below = options.scratch_directory.clone();
        let sweep = move || remove_stale(&below);
        let thread = std::thread::Builder::new().name("clutch-sweep".to_owned());
        if let Err(error) = thread.spawn(sweep) {
            tracing::warn!(%error, "what earlier agents left stays");
        }
        Self {
            watcher: Arc::new(Watcher::new(options, usage)),
            seats: pins.then(Seats::of_this_process),
            below: options.scratch_directory.clone(),
            scratch: Mutex::default(),
            owner: options.owner.map(|(user, group)| Owner { user, group }),
        }
    }

    /// What there is too little of, now; `None`: of nothing.
    pub(super) fn shortage(&self) -> watch::Receiver<Option<Shortage>> {
        self.watcher.shortage()
    }

    /// Encloses a worker that has not run anything of its session. It is in its
    /// group already, if it has one.
    ///
    /// # Errors
    /// When a limit cannot be put in force, or the worker is dead.
    pub(super) fn enclose(
        &self,
        worker: WorkerId,
        pid: Pid,
        limits: Limits,
        progress: Arc<ProgressPage>,
        group: Option<Group>,
    ) -> io::Result<(Arc<Enclosure>, mpsc::Receiver<Passed>)> {
        rlimits::hold(pid, &limits)?;
        let cpus = limits.cpus.zip(self.seats.as_ref());
        let cpus = cpus.map(|(cpus, seats)| seats.pin(pid, cpus)).transpose()?.flatten();
        if self.owner.is_some() {
            // Such a worker may not do so itself. Refused in some containers; then
            // the kernel chooses by size alone.
            std::fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE_ADJUSTMENT).ok();
        }
        // Temporary files of a user who is shared are nobody else's to see.
        let private = self.owner.is_some() || limits.scratch_bytes.is_some();
        let scratch = private.then(|| self.scratch(worker)).transpose()?;
        let parts = Parts { group: group.map(Arc::new), scratch: scratch.map(Arc::new) };
        // One that is dead already has no start, and nothing below it.
        let stat = self.watcher.proc().stat(pid);
        let process = stat.map_or(Process { pid, started_at: 0 }, |stat| stat.process);
        let (passed, told) = mpsc::channel(PASSED);
        let enclosed = Enclosed::new(process, limits, progress, parts, passed);
        let enclosure = Enclosure::new(Arc::clone(&self.watcher), enclosed, cpus)?;
        Ok((Arc::new(enclosure), told))
    }

    /// Removes the directories of all workers, as far as two seconds suffice.
    /// For the agent's end.
    pub(super) fn close(&self) {
        let root = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).take();
        match root.map(Arc::try_unwrap) {
            // It removes itself, and need not do so twice.
            Some(Ok(root)) => drop(root),
            Some(Err(shared)) => shared.remove(),
            None => {}
        }
    }

    /// The directory of a worker, in the agent's, which is made for the first
    /// of them.
    fn scratch(&self, worker: WorkerId) -> io::Result<Scratch> {
        self.root()?.directory(worker)
    }

    /// The directory of a session, likewise.
    pub(super) fn session_directory(&self, session: SessionId) -> io::Result<Scratch> {
        self.root()?.session_directory(session)
    }

    fn root(&self) -> io::Result<Arc<ScratchRoot>> {
        let mut root = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match root.take() {
            Some(made) => made,
            None => Arc::new(ScratchRoot::create(&self.below, self.owner)?),
        };
        Ok(Arc::clone(root.insert(made)))
    }
}
