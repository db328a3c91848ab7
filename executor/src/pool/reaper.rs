//! The one place that waits for child processes.
//!
//! Workers are children of the agent although a zygote forked them (see
//! `interpreter`), and so are the orphans of dead workers, because the agent is
//! a subreaper. One loop collects them all.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::identifiers::Pid;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with a code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// Collects ended children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reaper {
    children: Arc<Mutex<Children>>,
}

#[derive(Debug, Default)]
struct Children {
    awaited: HashMap<Pid, oneshot::Sender<Exit>>,
    /// Ended before anybody asked: a worker can die before its zygote's answer
    /// is read. Bounded; orphans nobody asks for fall out.
    unclaimed: Vec<(Pid, Exit)>,
}

const MAX_UNCLAIMED: usize = 1024;

impl Reaper {
    /// Becomes the parent of orphans and starts to collect.
    ///
    /// # Errors
    /// When the operating system refuses either.
    pub(crate) fn start() -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut child_ended = signal(SignalKind::child())?;
        let reaper = Self::default();
        let collector = reaper.clone();
        tokio::spawn(async move {
            while child_ended.recv().await.is_some() {
                collector.collect();
            }
        });
        Ok(reaper)
    }

    /// Resolves when the child has ended and been collected.
    pub(crate) fn ended(&self, pid: Pid) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = children.unclaimed.iter().position(|(ended, _)| *ended == pid) {
            let (_, exit) = children.unclaimed.swap_remove(at);
            // The receiver is in hand, so this cannot fail.
            sender.send(exit).ok();
        } else {
            children.awaited.insert(pid, sender);
        }
        receiver
    }

    fn collect(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(exit) = exit(status) else { continue };
            // Each worker leads a process group: what it left behind goes too.
            kill_process_group(pid, Signal::KILL).ok();
            let pid = Pid(pid.as_raw_nonzero().get().unsigned_abs());
            tracing::debug!(%pid, ?exit, "child ended");
            let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(awaiting) = children.awaited.remove(&pid) {
                // Whoever asked may have lost interest.
                awaiting.send(exit).ok();
            } else {
                children.unclaimed.push((pid, exit));
                let excess = children.unclaimed.len().saturating_sub(MAX_UNCLAIMED);
                children.unclaimed.drain(..excess);
            }
        }
    }
}

fn exit(status: WaitStatus) -> Option<Exit> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}
