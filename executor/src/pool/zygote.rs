//! One zygote for each environment, as others see it: asked to fork, and told
//! what its workers import. Its keeper does the rest.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use clutch_sandbox::Sandbox;
use clutch_worker_link::ZygoteHello;
use tokio::sync::{oneshot, watch};

use super::PythonEnvironment;
use super::keeper::Keeper;
use super::reaper::{Ended, Reaper};
use crate::failure::{Failure, Kind};
use crate::identifiers::{Pid, WorkerId};
use crate::limits::Enforcer;
use crate::worker_user::WorkerUser;

/// How zygotes are started.
#[derive(Debug, Clone)]
pub(crate) struct ZygoteOptions {
    /// This binary.
    pub(crate) binary: PathBuf,
    /// The interpreter host.
    pub(crate) interpreter_library: PathBuf,
    /// Whom it and its workers run as; `None`: as the agent.
    pub(crate) user: Option<WorkerUser>,
    /// What tasks are kept from.
    pub(crate) sandbox: Sandbox,
    /// Modules to import ahead.
    pub(crate) warm: Vec<String>,
    /// Whether it learns what its workers import.
    pub(crate) learn: bool,
    /// How long a start may take.
    pub(crate) start: Duration,
    /// Most bytes of a batch.
    pub(crate) max_batch_bytes: u64,
    /// Fork requests that may wait at once.
    pub(crate) max_waiting: usize,
    /// What holds for all workers together.
    pub(crate) enforcer: Enforcer,
}

/// What is known of a zygote.
#[derive(Debug, Clone)]
pub(crate) enum ZygoteState {
    /// It imports its warm modules.
    Starting,
    /// It forks on request.
    Ready {
        /// Its process.
        pid: Pid,
        /// What it said of itself.
        hello: ZygoteHello,
    },
    /// It did not start; whoever needs it next tries again.
    Failed(String),
}

/// A handle to ask for forks.
#[derive(Debug, Clone)]
pub(crate) struct Zygote {
    requests: crossbeam_channel::Sender<Request>,
    imports: crossbeam_channel::Sender<Vec<String>>,
    state: watch::Receiver<ZygoteState>,
}

/// Reports of imports that may wait. More are dropped: they would say the same.
const MAX_IMPORTS: usize = 64;

/// What a keeper is asked for.
pub(super) enum Request {
    /// Start again, if it is not running.
    Revive,
    /// Fork a worker.
    Fork {
        worker: WorkerId,
        descriptors: [OwnedFd; 4],
        answer: oneshot::Sender<Result<Forked, Failure>>,
    },
}

/// A worker, as its zygote made it.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) pid: Pid,
    /// Tells its end.
    pub(super) ended: oneshot::Receiver<Ended>,
}

impl Zygote {
    /// Starts the thread that starts the zygote.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn start(
        environment: PythonEnvironment,
        options: ZygoteOptions,
        reaper: Reaper,
    ) -> std::io::Result<Self> {
        let (requests, receiver) = crossbeam_channel::bounded(options.max_waiting);
        let (sender, state) = watch::channel(ZygoteState::Starting);
        let (imports, imported) = crossbeam_channel::bounded(MAX_IMPORTS);
        let keeper = Keeper::new(environment, options, sender, reaper);
        std::thread::Builder::new()
            .name("clutch-zygote".to_owned())
            .spawn(move || keeper.serve(&receiver, &imported))?;
        Ok(Self { requests, imports, state })
    }

    /// One without a keeper.
    #[cfg(test)]
    pub(super) fn unkept() -> Self {
        let (_, state) = watch::channel(ZygoteState::Starting);
        let (requests, imports) =
            (crossbeam_channel::bounded(0).0, crossbeam_channel::bounded(0).0);
        Self { requests, imports, state }
    }

    /// What is known of it now.
    pub(crate) fn state(&self) -> ZygoteState {
        self.state.borrow().clone()
    }

    /// Resolves when it has started, one way or the other. One that failed
    /// before is tried again first.
    pub(crate) async fn started(&self) -> ZygoteState {
        let mut state = self.state.clone();
        if matches!(*state.borrow_and_update(), ZygoteState::Failed(_)) {
            // When requests wait already, they revive it.
            self.requests.try_send(Request::Revive).ok();
            // Seen again only when it starts: the keeper says so first.
            state.changed().await.ok();
        }
        let started = state.wait_for(|state| !matches!(state, ZygoteState::Starting)).await;
        started.map_or_else(
            |_| ZygoteState::Failed("its keeper has ended".to_owned()),
            |state| state.clone(),
        )
    }

    /// Tells that a worker imported modules which its zygote did not have.
    pub(crate) fn imported(&self, modules: Vec<String>) {
        if let Err(error) = self.imports.try_send(modules) {
            tracing::debug!(%error, "imports that nobody learns");
        }
    }

    /// Forks a worker, which becomes a child of this process.
    ///
    /// # Errors
    /// [`Kind::WorkerStartFailed`] with the reason.
    pub(super) async fn fork(
        &self,
        worker: WorkerId,
        descriptors: [OwnedFd; 4],
    ) -> Result<Forked, Failure> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Fork { worker, descriptors, answer };
        let failed = |why: &str| Failure::new(Kind::WorkerStartFailed, why);
        self.requests.try_send(request).map_err(|_| failed("too many workers start at once"))?;
        answered.await.unwrap_or_else(|_| Err(failed("the zygote's keeper has ended")))
    }
}
