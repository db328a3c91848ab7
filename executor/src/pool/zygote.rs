//! One zygote for each environment: started by a thread that lives as long as
//! it does (the parent-death signal follows the thread), asked to fork, and
//! replaced when it dies.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clutch_worker_link::{
    FromZygote, LinkError, THREAD_VARIABLES, ToZygote, ZygoteHello, receive_with_descriptors,
    send_with_descriptors,
};
use tokio::sync::{oneshot, watch};

use super::PythonEnvironment;
use crate::error_chain::chain;
use crate::failure::{Failure, Kind};
use crate::identifiers::{Pid, WorkerId};

/// How zygotes are started.
#[derive(Debug, Clone)]
pub(crate) struct ZygoteOptions {
    /// This binary.
    pub(crate) binary: PathBuf,
    /// The interpreter host.
    pub(crate) interpreter_library: PathBuf,
    /// Modules to import ahead.
    pub(crate) warm: Vec<String>,
    /// How long a start may take.
    pub(crate) start: Duration,
    /// Most bytes of a batch.
    pub(crate) max_batch_bytes: u64,
    /// Fork requests that may wait at once.
    pub(crate) max_waiting: usize,
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
    state: watch::Receiver<ZygoteState>,
}

enum Request {
    /// Start again, if it is not running.
    Revive,
    /// Fork a worker.
    Fork {
        worker: WorkerId,
        descriptors: [OwnedFd; 4],
        answer: oneshot::Sender<Result<Pid, Failure>>,
    },
}

impl Zygote {
    /// Starts the thread that starts the zygote.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn start(
        environment: PythonEnvironment,
        options: ZygoteOptions,
    ) -> std::io::Result<Self> {
        let (requests, receiver) = crossbeam_channel::bounded(options.max_waiting);
        let (sender, state) = watch::channel(ZygoteState::Starting);
        let keeper = Keeper { environment, options, state: sender, line: None };
        std::thread::Builder::new()
            .name("clutch-zygote".to_owned())
            .spawn(move || keeper.serve(&receiver))?;
        Ok(Self { requests, state })
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

    /// Forks a worker, which becomes a child of this process.
    ///
    /// # Errors
    /// [`Kind::WorkerStartFailed`] with the reason.
    pub(crate) async fn fork(
        &self,
        worker: WorkerId,
        descriptors: [OwnedFd; 4],
    ) -> Result<Pid, Failure> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Fork { worker, descriptors, answer };
        let failed = |why: &str| Failure::new(Kind::WorkerStartFailed, why);
        self.requests.try_send(request).map_err(|_| failed("too many workers start at once"))?;
        answered.await.unwrap_or_else(|_| Err(failed("the zygote's keeper has ended")))
    }
}

/// Runs on the zygote's own thread.
struct Keeper {
    environment: PythonEnvironment,
    options: ZygoteOptions,
    state: watch::Sender<ZygoteState>,
    line: Option<UnixStream>,
}

impl Keeper {
    fn serve(mut self, requests: &crossbeam_channel::Receiver<Request>) {
        self.revive();
        while let Ok(request) = requests.recv() {
            match request {
                Request::Revive if self.line.is_none() => self.revive(),
                Request::Revive => {}
                Request::Fork { worker, descriptors, answer } => {
                    let forked = self.fork(worker, &descriptors);
                    // Whoever asked may be gone; then the worker finds its line
                    // closed.
                    answer.send(forked).ok();
                }
            }
        }
    }

    fn fork(&mut self, worker: WorkerId, descriptors: &[OwnedFd; 4]) -> Result<Pid, Failure> {
        // A zygote that died, or may not fork, is replaced once for a request.
        for _ in 0..2 {
            if self.line.is_none() {
                self.revive();
            }
            let Some(line) = self.line.as_ref() else { break };
            match exchange(line, worker, descriptors) {
                Ok(FromZygote::Spawned { pid, .. }) => return Ok(Pid(pid)),
                Ok(FromZygote::Refused { reason, unsafe_to_fork: true, .. }) => {
                    tracing::warn!(reason, "the zygote may not fork; starting one that is cold");
                    self.options.warm.clear();
                    self.line = None;
                }
                Ok(FromZygote::Refused { reason, .. }) => {
                    return Err(Failure::new(Kind::WorkerStartFailed, reason));
                }
                Ok(FromZygote::Hello(_)) => self.line = None,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the zygote is lost");
                    self.line = None;
                }
            }
        }
        let why = match &*self.state.borrow() {
            ZygoteState::Failed(why) => why.clone(),
            ZygoteState::Starting | ZygoteState::Ready { .. } => {
                "the zygote ended twice while it forked".to_owned()
            }
        };
        Err(Failure::new(Kind::WorkerStartFailed, why))
    }

    fn revive(&mut self) {
        self.state.send_replace(ZygoteState::Starting);
        let state = match self.spawn() {
            Ok((line, pid, hello)) => {
                for (module, error) in &hello.failed_modules {
                    tracing::info!(module, error, "a warm module is not importable");
                }
                self.line = Some(line);
                ZygoteState::Ready { pid, hello }
            }
            Err(error) => {
                let executable = self.environment.executable.display();
                let why = format!("the zygote of `{executable}` did not start: {}", chain(&error));
                tracing::error!(why);
                ZygoteState::Failed(why)
            }
        };
        self.state.send_replace(state);
    }

    fn spawn(&self) -> Result<(UnixStream, Pid, ZygoteHello), LinkError> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.options.binary);
        command
            .arg("zygote")
            .arg("--libpython")
            .arg(&self.environment.libpython)
            .arg("--interpreter-library")
            .arg(&self.options.interpreter_library)
            .arg("--python")
            .arg(&self.environment.executable)
            .arg(format!("--warm={}", self.options.warm.join(",")))
            .arg(format!("--max-payload-bytes={}", self.options.max_batch_bytes))
            .arg(format!("--agent-pid={}", std::process::id()))
            // The control line is standard input: nothing to do between fork
            // and exec.
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(std::io::stderr().as_fd().try_clone_to_owned()?))
            .process_group(0);
        // Imports must start no threads; workers set their own numbers.
        command.envs(THREAD_VARIABLES.iter().map(|name| (name, "1")));
        let child = command.spawn()?;
        drop(command);
        ours.set_read_timeout(Some(self.options.start))?;
        let (hello, _) =
            receive_with_descriptors::<FromZygote>(&ours).map_err(|error| self.too_late(error))?;
        ours.set_read_timeout(None)?;
        match hello {
            FromZygote::Hello(hello) => Ok((ours, Pid(child.id()), hello)),
            FromZygote::Spawned { .. } | FromZygote::Refused { .. } => {
                Err(std::io::Error::other("it answered before it said hello").into())
            }
        }
    }

    /// A read that ran into its deadline says no more than `try again`.
    fn too_late(&self, error: LinkError) -> LinkError {
        match error {
            LinkError::Io(ref io) if io.kind() == std::io::ErrorKind::WouldBlock => {
                let seconds = self.options.start.as_secs_f64();
                let why = format!("it was not ready within `start-seconds` = {seconds}");
                std::io::Error::new(std::io::ErrorKind::TimedOut, why).into()
            }
            LinkError::Closed => std::io::Error::other("it ended while it started").into(),
            LinkError::Io(_)
            | LinkError::Header(_)
            | LinkError::TooLong { .. }
            | LinkError::Descriptors { .. } => error,
        }
    }
}

fn exchange(
    line: &UnixStream,
    worker: WorkerId,
    descriptors: &[OwnedFd; 4],
) -> Result<FromZygote, LinkError> {
    let message = ToZygote::Spawn { worker: worker.0 };
    send_with_descriptors(line, &message, &descriptors.each_ref().map(AsFd::as_fd))?;
    let (answer, _) = receive_with_descriptors(line)?;
    Ok(answer)
}
