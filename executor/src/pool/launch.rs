//! A zygote's process: started, introduced, asked to fork.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use clutch_worker_link::{
    FromZygote, LinkError, THREAD_VARIABLES, ToZygote, ZygoteHello, receive_with_descriptors,
    send_with_descriptors,
};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

use super::death::KILLED;
use super::exit::ended;
use super::reaper::Ended;
use super::{PythonEnvironment, ZygoteOptions};
use crate::identifiers::{Pid, WorkerId};
use crate::processes::Proc;

/// Options of the allocator in Arrow, which pandas and with it scikit-learn
/// import where it is installed. Left alone it starts a thread when it is
/// loaded, and a zygote with a thread is lost.
const ARROW_ALLOCATOR: &str = "JE_ARROW_MALLOC_CONF";
const NO_THREAD: &str = "background_thread:false";

/// How long a fork may take. One that takes longer never comes: the zygote is
/// stopped, or stuck.
const FORK: Duration = Duration::from_secs(10);

/// How often one looks whether a zygote has ended whose line has, and when.
const LOOKS: u32 = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why a zygote did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    /// Somebody killed it. The next one may get further.
    #[error("it {} while it started", ended(KILLED))]
    Killed,
    /// It did not come up, or not in time.
    #[error(transparent)]
    Failed(#[from] LinkError),
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A zygote that imports.
#[derive(Debug)]
pub(super) struct Launched {
    line: UnixStream,
    pub(super) pid: Pid,
    /// `None`: it is dead already, and its line says so.
    pidfd: Option<OwnedFd>,
    within: Duration,
    /// Tells its end.
    pub(super) ended: Option<oneshot::Receiver<Ended>>,
}

/// A zygote that forks. Ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    line: UnixStream,
    pub(super) pid: Pid,
    pidfd: Option<OwnedFd>,
    pub(super) hello: ZygoteHello,
}

/// Starts a zygote that imports these modules. It dies with the thread that
/// calls this.
pub(super) fn launch(
    environment: &PythonEnvironment,
    options: &ZygoteOptions,
    warm: &[String],
) -> io::Result<Launched> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&options.binary);
    command
        .arg("zygote")
        .arg("--libpython")
        .arg(&environment.libpython)
        .arg("--interpreter-library")
        .arg(&options.interpreter_library)
        .arg("--python")
        .arg(&environment.executable)
        .arg(format!("--warm={}", warm.join(",")))
        .arg(format!("--max-payload-bytes={}", options.max_batch_bytes))
        .arg(format!("--agent-pid={}", std::process::id()))
        .arg(format!("--sandbox={}", options.sandbox))
        // The control line is standard input: nothing to do between fork
        // and exec.
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
        .process_group(0);
    if let Some(user) = &options.user {
        let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
        command
            .arg(format!("--uid={}", user.uid))
            .arg(format!("--gid={}", user.gid))
            .arg(format!("--groups={}", groups.join(",")))
            .envs(user.variables())
            // Ours may be closed to that user.
            .current_dir("/");
    }
    // Imports must start no threads; workers set their own numbers.
    command.envs(THREAD_VARIABLES.iter().map(|name| (name, "1")));
    command.env(ARROW_ALLOCATOR, arrow_allocator(std::env::var(ARROW_ALLOCATOR).ok()));
    let pid = Pid(command.spawn()?.id());
    // Before it has anything in memory, and so before it can fork. When this
    // fails it finds its line closed; of one that is dead, its line tells.
    match options.enforcer.place_zygote(pid) {
        Err(error) if !Proc::default().is_ending(pid) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let pidfd = pid.raw().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    Ok(Launched { line: ours, pid, pidfd, within: options.start, ended: None })
}

/// What the operator wants of Arrow's allocator, but for its thread: of an
/// option that is given twice, the last counts.
fn arrow_allocator(given: Option<String>) -> String {
    given.map_or_else(|| NO_THREAD.to_owned(), |given| format!("{given},{NO_THREAD}"))
}

impl Launched {
    /// Waits until it has imported everything; kills it when that fails.
    pub(super) fn introduced(mut self) -> Result<Running, NotStarted> {
        match self.hello() {
            Ok(hello) => Ok(Running { line: self.line, pid: self.pid, pidfd: self.pidfd, hello }),
            Err(error) => {
                // An import that hangs would not see that its line is closed.
                kill(self.pid, self.pidfd.as_ref());
                Err(error)
            }
        }
    }

    fn hello(&mut self) -> Result<ZygoteHello, NotStarted> {
        self.line.set_read_timeout(Some(self.within))?;
        let (hello, _) = receive_with_descriptors::<FromZygote>(&self.line)
            .map_err(|error| self.not_started(error))?;
        self.line.set_read_timeout(Some(FORK))?;
        match hello {
            FromZygote::Hello(hello) => Ok(hello),
            FromZygote::Spawned { .. } | FromZygote::Refused { .. } => {
                Err(io::Error::other("it answered before it said hello").into())
            }
        }
    }

    /// A read that ran into its deadline says no more than `try again`.
    fn not_started(&mut self, error: LinkError) -> NotStarted {
        match error {
            LinkError::Io(ref io) if io.kind() == io::ErrorKind::WouldBlock => {
                let seconds = self.within.as_secs_f64();
                let why = format!("it was not ready within `start-seconds` = {seconds}");
                io::Error::new(io::ErrorKind::TimedOut, why).into()
            }
            LinkError::Closed => match self.end().map(|end| end.exit) {
                Some(KILLED) => NotStarted::Killed,
                end => {
                    let how = end.map_or_else(|| "ended".to_owned(), ended);
                    io::Error::other(format!("it {how} while it started")).into()
                }
            },
            LinkError::Io(_)
            | LinkError::Header(_)
            | LinkError::TooLong { .. }
            | LinkError::Descriptors { .. } => error.into(),
        }
    }
}

fn kill(pid: Pid, pidfd: Option<&OwnedFd>) {
    if let Some(Err(error)) = pidfd.map(|pidfd| pidfd_send_signal(pidfd, Signal::KILL)) {
        tracing::debug!(%error, %pid, "the zygote is gone already");
    }
}

impl Launched {
    /// Its end, when that comes soon: its line closes before it is gone.
    fn end(&mut self) -> Option<Ended> {
        let ended = self.ended.as_mut()?;
        for _ in 0..LOOKS {
            if let Ok(ended) = ended.try_recv() {
                return Some(ended);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        None
    }
}

impl Running {
    /// Ends it at once.
    pub(super) fn kill(&self) {
        kill(self.pid, self.pidfd.as_ref());
    }

    /// Has it fork; gives its answer.
    pub(super) fn fork(
        &self,
        worker: WorkerId,
        descriptors: &[OwnedFd; 4],
    ) -> Result<FromZygote, LinkError> {
        let message = ToZygote::Spawn { worker: worker.0 };
        send_with_descriptors(&self.line, &message, &descriptors.each_ref().map(AsFd::as_fd))?;
        match receive_with_descriptors(&self.line) {
            Err(LinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                let why = format!("it did not fork within {} s", FORK.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
            }
            answer => Ok(answer?.0),
        }
    }
}
