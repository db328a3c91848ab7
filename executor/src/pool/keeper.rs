//! The keeper of a zygote: a thread that starts it, lives as long as it does
//! (the parent-death signal follows the thread), asks it to fork, replaces it
//! when it dies, and by one that knows more when there is something to learn.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use clutch_worker_link::{FromZygote, LinkError};
use crossbeam_channel::{Receiver, at, bounded, never, select};
use tokio::sync::watch;

use super::launch::{Launched, NotStarted, Running, launch};
use super::learning::{Learning, Lesson};
use super::reaper::Reaper;
use super::restarts::Restarts;
use super::zygote::{Forked, Request};
use super::{PythonEnvironment, ZygoteOptions, ZygoteState};
use crate::error_chain::chain;
use crate::failure::{Failure, Kind};
use crate::identifiers::{Pid, WorkerId};
use crate::machine;

/// Runs on the zygote's own thread.
pub(super) struct Keeper {
    environment: PythonEnvironment,
    options: ZygoteOptions,
    state: watch::Sender<ZygoteState>,
    reaper: Reaper,
    zygote: Option<Running>,
    restarts: Restarts,
    learning: Learning,
    successor: Successor,
}

/// How long the zygote waits before it forks again when the machine is short of
/// something.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160)];

/// Why there is no worker.
struct Refusal {
    reason: String,
    errno: Option<i32>,
    unsafe_to_fork: bool,
}

impl Refusal {
    fn may_pass(&self) -> bool {
        matches!(self.errno, Some(libc::EAGAIN | libc::ENOMEM))
    }
}

/// The zygote that knows more.
enum Successor {
    None,
    Importing {
        /// What it learns besides the operator's list.
        modules: Vec<String>,
        introduced: Receiver<Result<Running, NotStarted>>,
    },
    Ready {
        modules: Vec<String>,
        zygote: Box<Running>,
    },
}

impl Keeper {
    pub(super) fn new(
        environment: PythonEnvironment,
        options: ZygoteOptions,
        state: watch::Sender<ZygoteState>,
        reaper: Reaper,
    ) -> Self {
        Self {
            environment,
            options,
            state,
            reaper,
            zygote: None,
            restarts: Restarts::default(),
            learning: Learning::new(Instant::now()),
            successor: Successor::None,
        }
    }

    /// Serves until nobody can ask any more.
    pub(super) fn serve(mut self, requests: &Receiver<Request>, imports: &Receiver<Vec<String>>) {
        self.revive();
        loop {
            let look = self.learn(Instant::now()).map_or_else(never, at);
            let introduced = match &self.successor {
                Successor::Importing { introduced, .. } => introduced.clone(),
                Successor::None | Successor::Ready { .. } => never(),
            };
            select! {
                recv(requests) -> request => match request {
                    Ok(request) => self.serve_one(request),
                    Err(_) => return,
                },
                recv(imports) -> modules => match modules {
                    Ok(modules) if self.options.learn => {
                        self.learning.imported(modules, Instant::now());
                    }
                    Ok(_) => {}
                    Err(_) => return,
                },
                recv(introduced) -> zygote => self.introduced(zygote.unwrap_or_else(|_| {
                    Err(std::io::Error::other("nobody waited for it").into())
                })),
                recv(look) -> _ => {}
            }
        }
    }

    fn serve_one(&mut self, request: Request) {
        match request {
            Request::Revive if self.zygote.is_none() => self.revive(),
            Request::Revive => {}
            Request::Fork { worker, descriptors, answer } => {
                let forked = self.fork(worker, &descriptors);
                self.learning.forked(Instant::now());
                // Whoever asked may be gone; then the worker finds its line
                // closed.
                answer.send(forked).ok();
            }
        }
    }

    fn fork(&mut self, worker: WorkerId, descriptors: &[OwnedFd; 4]) -> Result<Forked, Failure> {
        // A zygote that died, or may not fork, is replaced once for a request.
        for _ in 0..2 {
            if self.zygote.is_none() {
                self.revive();
            }
            let Some(zygote) = self.zygote.as_ref() else { break };
            match self.try_fork(zygote, worker, descriptors) {
                Ok(Ok(forked)) => return Ok(forked),
                Ok(Err(Refusal { reason, unsafe_to_fork: true, .. })) => self.chill(&reason),
                Ok(Err(Refusal { reason, .. })) => {
                    return Err(Failure::new(Kind::WorkerStartFailed, reason));
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the zygote is lost");
                    // One that is stopped would not see that its line is closed.
                    zygote.kill();
                    self.zygote = None;
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

    /// Has the zygote fork, again after a while when the machine is short of
    /// processes or memory: others may end.
    fn try_fork(
        &self,
        zygote: &Running,
        worker: WorkerId,
        descriptors: &[OwnedFd; 4],
    ) -> Result<Result<Forked, Refusal>, LinkError> {
        let mut pauses = PAUSES.iter();
        loop {
            let birth = self.reaper.birth();
            let refusal = match zygote.fork(worker, descriptors)? {
                FromZygote::Spawned { pid, .. } => {
                    let pid = Pid(pid);
                    return Ok(Ok(Forked { pid, ended: birth.of(pid) }));
                }
                FromZygote::Refused { reason, errno, unsafe_to_fork, .. } => {
                    Refusal { reason, errno, unsafe_to_fork }
                }
                FromZygote::Hello(_) => {
                    return Err(std::io::Error::other("it said hello twice").into());
                }
            };
            drop(birth);
            let Some(pause) = pauses.next().filter(|_| refusal.may_pass()) else {
                return Ok(Err(refusal));
            };
            tracing::debug!(refusal.reason, ?pause, "the zygote forks again after a while");
            std::thread::sleep(*pause);
        }
    }

    /// Gives up a zygote that may not fork: what it learned first, and only
    /// then what the operator wants.
    fn chill(&mut self, reason: &str) {
        self.zygote = None;
        if self.learning.learned().is_empty() {
            tracing::warn!(reason, "the zygote may not fork; starting one that is cold");
            self.options.warm.clear();
        } else {
            tracing::warn!(reason, "the zygote may not fork; it forgets what it learned");
            self.unlearn();
        }
    }

    fn unlearn(&mut self) {
        let learned = self.learning.learned().to_vec();
        self.learning.refuse(&learned, Instant::now());
    }

    fn revive(&mut self) {
        if let Err(left) = self.restarts.may_start(Instant::now()) {
            tracing::warn!(?left, "a zygote that failed often is not started yet");
            // The same text: who waits for news gets it.
            self.state.send_modify(|_| ());
            return;
        }
        self.state.send_replace(ZygoteState::Starting);
        let mut started = self.start();
        if let Err(error) = &started
            && !self.learning.learned().is_empty()
        {
            tracing::warn!(error = %chain(error), "the zygote forgets what it learned");
            self.unlearn();
            started = self.start();
        }
        match started {
            Ok(zygote) => {
                self.restarts.succeeded();
                self.use_zygote(zygote);
            }
            Err(error) => {
                // One that was killed is counted already.
                if matches!(error, NotStarted::Failed(_)) {
                    self.restarts.failed(Instant::now());
                }
                let executable = self.environment.executable.display();
                let why = format!("the zygote of `{executable}` did not start: {}", chain(&error));
                tracing::error!(why);
                self.state.send_replace(ZygoteState::Failed(why));
            }
        }
    }

    /// Starts one, and another one when somebody killed it meanwhile.
    fn start(&mut self) -> Result<Running, NotStarted> {
        loop {
            let started = self.launch(self.learning.learned())?.introduced();
            let Err(NotStarted::Killed) = started else { return started };
            let now = Instant::now();
            self.restarts.failed(now);
            if self.restarts.may_start(now).is_err() {
                return started;
            }
            tracing::warn!("the zygote was killed while it started; starting another one");
        }
    }

    fn launch(&self, learned: &[String]) -> std::io::Result<Launched> {
        let warm = [&self.options.warm, learned].concat();
        let birth = self.reaper.birth();
        let mut launched = launch(&self.environment, &self.options, &warm)?;
        launched.ended = Some(birth.of(launched.pid));
        Ok(launched)
    }

    /// The one that was there before ends: it finds its line closed.
    fn use_zygote(&mut self, zygote: Running) {
        let hello = zygote.hello.clone();
        for (module, error) in &hello.failed_modules {
            tracing::info!(module, error, "a warm module is not importable");
        }
        self.state.send_replace(ZygoteState::Ready { pid: zygote.pid, hello });
        self.zygote = Some(zygote);
    }

    /// Takes the next step of a lesson, if it is time; tells when to ask again.
    fn learn(&mut self, now: Instant) -> Option<Instant> {
        match std::mem::replace(&mut self.successor, Successor::None) {
            Successor::None => match self.learning.lesson(now, machine::is_busy) {
                Lesson::Nothing => None,
                Lesson::Later(later) => Some(later),
                Lesson::Now(modules) => {
                    self.begin(modules, now);
                    None
                }
            },
            importing @ Successor::Importing { .. } => {
                self.successor = importing;
                None
            }
            Successor::Ready { modules, zygote } => {
                if let Err(later) = self.learning.quiet(now) {
                    self.successor = Successor::Ready { modules, zygote };
                    return Some(later);
                }
                tracing::info!(modules = modules.len(), "the zygote learned what sessions import");
                self.learning.succeeded(modules);
                self.use_zygote(*zygote);
                None
            }
        }
    }

    /// Starts the successor, on this thread; another one waits for it.
    fn begin(&mut self, modules: Vec<String>, now: Instant) {
        self.learning.began(now);
        let (tell, introduced) = bounded(1);
        let launched = self.launch(&modules).and_then(|launched| {
            std::thread::Builder::new()
                .name("clutch-learning".to_owned())
                // The keeper may have ended; then the zygote has, too.
                .spawn(move || tell.send(launched.introduced()).ok())
        });
        match launched {
            Ok(_) => self.successor = Successor::Importing { modules, introduced },
            Err(error) => tracing::warn!(error = %chain(&error), "no zygote to learn"),
        }
    }

    fn introduced(&mut self, zygote: Result<Running, NotStarted>) {
        let successor = std::mem::replace(&mut self.successor, Successor::None);
        let Successor::Importing { modules, .. } = successor else { return };
        match zygote {
            Ok(zygote) if zygote.hello.threading_modules.is_empty() => {
                self.successor = Successor::Ready { modules, zygote: Box::new(zygote) };
            }
            Ok(zygote) => {
                let threading = &zygote.hello.threading_modules;
                tracing::info!(?threading, "modules that start threads are not learned");
                self.learning.refuse(threading, Instant::now());
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a zygote did not learn");
                let known = self.learning.learned();
                let news: Vec<_> =
                    modules.into_iter().filter(|module| !known.contains(module)).collect();
                self.learning.refuse(&news, Instant::now());
            }
        }
    }
}
