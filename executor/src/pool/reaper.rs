//! The one place that waits for child processes.
//!
//! Workers are children of the agent although a zygote forked them (see
//! `interpreter`), and so are the orphans of dead workers, because the agent is
//! a subreaper. One loop collects them all, and whoever is neither worker nor
//! zygote nor about to be one is an orphan, and is killed.
#![expect(unsafe_code, reason = "only wait4 tells what a child used")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::identifiers::Pid;
use crate::processes::{self, Proc, Process, strangers};

/// How long orphans are waited for, and how long resource trackers may take to
/// clear up. A process that the kernel cannot end is nobody's to wait for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the outcome of a dead worker waits for a sweep: as long as orphans
/// are waited for. A sweep begins only when no zygote forks, and one that is
/// stuck does for many seconds.
const OUTCOME_WAITS: Duration = PATIENCE;

/// Between two looks whether all orphans have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// A process that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// CPU time in user mode, with that of the children it waited for.
    pub(crate) user: Duration,
    /// The same in kernel mode.
    pub(crate) system: Duration,
    /// Highest resident memory ever, bytes.
    pub(crate) peak_memory_bytes: u64,
}

/// Collects ended children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    children: Arc<Mutex<Children>>,
    /// Read while a process is about to be born, written while orphans are told
    /// from the others.
    births: Arc<RwLock<()>>,
    sweeps: Arc<Sweeps>,
    proc: Proc,
}

#[derive(Debug, Default)]
struct Children {
    /// This process, once orphans become its children.
    adopter: Option<Pid>,
    /// Living workers and zygotes, and who wants to know of their end.
    known: HashMap<Pid, oneshot::Sender<Ended>>,
    /// Children from before: somebody made them, and became this agent.
    inherited: HashSet<Pid>,
    /// Resource trackers of dead workers, and when they were seen first.
    trackers: HashMap<Process, Instant>,
    /// Who ended and was not known: an orphan, or a worker that died before its
    /// zygote's answer was read. Bounded; the oldest fall out.
    unknown: VecDeque<(Pid, Ended)>,
}

/// Several requests for a sweep that wait are served by one.
#[derive(Debug, Default)]
struct Sweeps {
    asked: AtomicU64,
    /// How many of those asked for are done; held by the one who does them.
    done: tokio::sync::Mutex<u64>,
}

const MAX_UNKNOWN: usize = 1024;

/// While this lives, a process may come into being that is not known yet.
#[derive(Debug)]
pub(super) struct Birth<'a> {
    reaper: &'a Reaper,
    _guard: RwLockReadGuard<'a, ()>,
}

impl Birth<'_> {
    /// It is this one. The channel tells its end.
    pub(super) fn of(self, pid: Pid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        let mut children = self.reaper.children();
        if let Some(at) = children.unknown.iter().rposition(|(ended, _)| *ended == pid) {
            if let Some((_, ended)) = children.unknown.remove(at) {
                // The receiver is in hand, so this cannot fail.
                sender.send(ended).ok();
            }
        } else {
            children.known.insert(pid, sender);
        }
        receiver
    }
}

impl Reaper {
    /// Becomes the parent of orphans and starts to collect.
    ///
    /// # Errors
    /// When the operating system refuses either.
    pub(crate) fn start() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut child_ended = signal(SignalKind::child())?;
        let reaper = Self::default();
        let me = Pid(std::process::id());
        let all = reaper.proc.everybody()?;
        let inherited = all.into_iter().filter(|stat| stat.parent == me);
        {
            let mut children = reaper.children();
            children.inherited = inherited.map(|stat| stat.process.pid).collect();
            children.adopter = Some(me);
        }
        let collector = reaper.clone();
        tokio::spawn(async move {
            while child_ended.recv().await.is_some() {
                if collector.collect() {
                    // What an orphan leaves behind is an orphan.
                    let collector = collector.clone();
                    tokio::spawn(async move { collector.sweep().await });
                }
            }
        });
        Ok(reaper)
    }

    /// Says that a process may be born; blocks while orphans are looked for.
    pub(super) fn birth(&self) -> Birth<'_> {
        let guard = self.births.read().unwrap_or_else(PoisonError::into_inner);
        Birth { reaper: self, _guard: guard }
    }

    /// Sweeps, and waits for that one second at most; the sweep goes on.
    pub(crate) async fn sweep_or_go_on(&self) {
        self.sweep_within(OUTCOME_WAITS).await;
    }

    async fn sweep_within(&self, patience: Duration) {
        let reaper = self.clone();
        let sweep = tokio::spawn(async move { reaper.sweep().await });
        match timeout(patience, sweep).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a sweep for orphans ended"),
            Err(_) => tracing::debug!("orphans are still looked for"),
        }
    }

    /// Kills what dead workers left behind, and waits until it is gone, one
    /// second at most from when no worker is being born. Resource trackers have that second to end by themselves.
    async fn sweep(&self) {
        let mine = self.sweeps.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.sweeps.done.lock().await;
        if *done >= mine {
            return;
        }
        let all = self.sweeps.asked.load(Ordering::Acquire);
        let reaper = self.clone();
        // It reads all of `/proc`.
        match tokio::task::spawn_blocking(move || reaper.sweep_now()).await {
            Ok(false) => {}
            Ok(true) => self.sweep_later(),
            Err(error) => tracing::error!(%error, "nobody looks for orphans"),
        }
        *done = all;
    }

    fn sweep_later(&self) {
        let reaper = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            Box::pin(reaper.sweep()).await;
        });
    }

    /// Kills orphans until there are none; true when trackers are left.
    fn sweep_now(&self) -> bool {
        let begin = Instant::now();
        loop {
            let (killed, trackers) = self.kill_orphans(Instant::now());
            if killed == 0 {
                return trackers;
            }
            if begin.elapsed() > PATIENCE {
                tracing::warn!(killed, "there are orphans that do not end");
                return trackers;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Kills all orphans there are; gives how many, and whether trackers were
    /// spared.
    fn kill_orphans(&self, now: Instant) -> (usize, bool) {
        // Nobody is born meanwhile, so a child that is not known is an orphan.
        let _quiet = self.births.write().unwrap_or_else(PoisonError::into_inner);
        let all = self.proc.everybody().unwrap_or_else(|error| {
            tracing::warn!(%error, "orphans cannot be found");
            Vec::new()
        });
        // Nobody is collected from here on, so no child's number changes hands.
        let mut children = self.children();
        children.unknown.clear();
        let Some(adopter) = children.adopter else { return (0, false) };
        let mut orphans = strangers(all, adopter, |pid| children.is_known(pid));
        let trackers: HashMap<_, _> = orphans
            .extract_if(.., |orphan| self.proc.is_resource_tracker(orphan.pid))
            .map(|tracker| (tracker, *children.trackers.get(&tracker).unwrap_or(&now)))
            .collect();
        let patient = |since: Instant| now.duration_since(since) < PATIENCE;
        let tired = trackers.iter().filter(|(_, since)| !patient(**since));
        orphans.extend(tired.map(|(tracker, _)| *tracker));
        let spared = trackers.values().any(|since| patient(*since));
        children.trackers = trackers;
        for orphan in &orphans {
            let killed = processes::signal(&self.proc, *orphan, Signal::KILL);
            tracing::debug!(pid = %orphan.pid, killed, "an orphan is killed");
        }
        (orphans.len(), spared)
    }

    /// Collects who has ended; true when somebody was not known.
    fn collect(&self) -> bool {
        let mut orphans = false;
        let mut children = self.children();
        while let Some((pid, ended)) = wait_for_any() {
            tracing::debug!(%pid, exit = ?ended.exit, "child ended");
            orphans |= children.ended(pid, ended);
        }
        orphans
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Children {
    fn is_known(&self, pid: Pid) -> bool {
        self.known.contains_key(&pid) || self.inherited.contains(&pid)
    }

    /// Takes note of an end; true when it was not known who that was.
    fn ended(&mut self, pid: Pid, ended: Ended) -> bool {
        if let Some(awaiting) = self.known.remove(&pid) {
            // Whoever asked may have lost interest.
            awaiting.send(ended).ok();
            return false;
        }
        if self.inherited.remove(&pid) {
            return false;
        }
        if self.unknown.len() == MAX_UNKNOWN {
            self.unknown.pop_front();
        }
        self.unknown.push_back((pid, ended));
        true
    }
}

/// Collects one child that has ended, if there is one.
fn wait_for_any() -> Option<(Pid, Ended)> {
    let mut status = 0;
    let mut used = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live memory of the types that the call
    // writes, and a zeroed `rusage` is one.
    let (pid, used) = unsafe {
        let pid = libc::wait4(-1, &raw mut status, libc::WNOHANG, used.as_mut_ptr());
        (pid, used.assume_init())
    };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        // Nobody asked to hear of children that stop or go on.
        Exit::Code(libc::WEXITSTATUS(status))
    };
    let peak_memory_bytes = u64::try_from(used.ru_maxrss).unwrap_or_default() << 10;
    let (user, system) = (duration(used.ru_utime), duration(used.ru_stime));
    Some((Pid(pid), Ended { exit, user, system, peak_memory_bytes }))
}

fn duration(time: libc::timeval) -> Duration {
    let microseconds = u64::try_from(time.tv_usec).unwrap_or_default();
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default())
        + Duration::from_micros(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Ended = Ended {
        exit: Exit::Code(7),
        user: Duration::ZERO,
        system: Duration::ZERO,
        peak_memory_bytes: 0,
    };

    #[test]
    fn a_worker_that_died_before_it_was_known_is_not_lost() {
        let reaper = Reaper::default();
        let birth = reaper.birth();
        assert!(reaper.children().ended(Pid(7), ENDED), "nobody knows it yet");
        assert_eq!(birth.of(Pid(7)).try_recv(), Ok(ENDED));
        assert!(!reaper.children().is_known(Pid(7)));
    }

    #[test]
    fn a_known_end_is_told_and_no_stranger() {
        let reaper = Reaper::default();
        let mut end = reaper.birth().of(Pid(7));
        assert!(end.try_recv().is_err());
        assert!(!reaper.children().ended(Pid(7), ENDED));
        assert_eq!(end.try_recv(), Ok(ENDED));
        assert!(reaper.children().ended(Pid(7), ENDED), "the number may come back");
    }

    #[test]
    fn who_is_about_to_be_born_is_not_taken_for_an_orphan() {
        let reaper = Reaper::default();
        let birth = reaper.birth();
        assert!(reaper.births.try_write().is_err());
        drop(birth.of(Pid(8)));
        assert!(reaper.births.try_write().is_ok() && reaper.children().is_known(Pid(8)));
    }

    #[tokio::test]
    async fn a_sweep_that_must_wait_for_a_birth_holds_nobody_up_and_is_made_later() {
        let reaper = Reaper::default();
        let birth = reaper.birth();
        reaper.sweep_within(Duration::ZERO).await;
        drop(birth);
        while *reaper.sweeps.done.lock().await == 0 {
            tokio::task::yield_now().await;
        }
    }
}
