//! A worker process as the agent holds it: its line, pipes, progress page and
//! end, and the orders that wait for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use clutch_worker_link::LinkError;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::enclosed::Enclosed;
use super::message::Order;
use super::output::Outputs;
use super::reader::{Answer, Reader};
use crate::blobs::Releases;
use crate::identifiers::Pid;
use crate::limits::Passed;
use crate::pool::progress::ProgressPage;
use crate::pool::reaper::{Ended, Exit};

/// Everything the agent holds of a worker.
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) line: UnixStream,
    pub(super) reader: Reader,
    pub(super) outputs: Outputs,
    /// `None`: it was gone before it could be opened.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) ended: oneshot::Receiver<Ended>,
    pub(super) progress: Arc<ProgressPage>,
    pub(super) enclosed: Enclosed,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Orders that came while another one was carried out; no more than the
    /// channel holds.
    pub(super) deferred: VecDeque<Order>,
    /// Says when something of its session was let go of; `None` when the
    /// session is gone.
    pub(super) releases: Option<Releases>,
    /// When to look at it next.
    pub(super) look_at: Option<Instant>,
}

/// What can happen to a worker.
pub(super) enum Happening {
    Answer(Result<Box<Answer>, LinkError>),
    /// `None`: the dispatcher is gone.
    Order(Option<Order>),
    Exited(Ended),
    /// It passed a limit.
    Passed(Passed),
    TimeToLook,
    /// Its session let go of a blob.
    Released,
}

impl Process {
    /// Waits for the next thing to happen; forwards what is printed meanwhile.
    pub(super) async fn next(&mut self) -> Happening {
        tokio::select! {
            biased;
            answer = self.reader.next(&self.line) => Happening::Answer(answer.map(Box::new)),
            order = next_order(&mut self.deferred, &mut self.orders) => Happening::Order(order),
            ended = &mut self.ended => Happening::Exited(known(ended)),
            passed = self.enclosed.passed() => Happening::Passed(passed),
            () = look_time(self.look_at) => Happening::TimeToLook,
            () = released(&mut self.releases) => Happening::Released,
            never = self.outputs.forward() => match never {},
        }
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Result<Answer, LinkError> {
        self.reader.next(&self.line).await
    }

    /// Waits for the end; forwards what is printed meanwhile.
    pub(super) async fn end(&mut self) -> Ended {
        let ended: Result<Ended, _> = tokio::select! {
            ended = &mut self.ended => ended,
            never = self.outputs.forward() => never_ends(never),
        };
        self.outputs.drain();
        known(ended)
    }

    /// Kills it; its exit shows that it worked.
    pub(super) fn kill(&self) {
        signal(self.pidfd.as_ref(), Signal::KILL);
    }

    /// Has the interpreter print the stacks of all threads on standard error,
    /// which works while C code holds the interpreter.
    pub(super) fn ask_for_stacks(&self) {
        signal(self.pidfd.as_ref(), Signal::USR1);
    }
}

/// Signals a worker, if there is one left.
pub(super) fn signal(pidfd: Option<&OwnedFd>, signal: Signal) {
    if let Some(pidfd) = pidfd
        && let Err(error) = pidfd_send_signal(pidfd, signal)
    {
        tracing::debug!(%error, "signal to a worker that is gone");
    }
}

/// The next order; `None` when the dispatcher is gone.
///
/// # Cancel safety
/// Cancel safe.
async fn next_order(
    deferred: &mut VecDeque<Order>,
    orders: &mut mpsc::Receiver<Order>,
) -> Option<Order> {
    if let Some(order) = deferred.pop_front() { Some(order) } else { orders.recv().await }
}

const fn never_ends<T>(never: Infallible) -> T {
    match never {}
}

/// The reaper keeps every sender until the exit is known, so a lost one means
/// that the agent itself ends.
fn known(ended: Result<Ended, oneshot::error::RecvError>) -> Ended {
    ended.unwrap_or(Ended {
        exit: Exit::Signal(libc::SIGKILL),
        user: Duration::ZERO,
        system: Duration::ZERO,
        peak_memory_bytes: 0,
    })
}

async fn look_time(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// # Cancel safety
/// Cancel safe.
async fn released(releases: &mut Option<Releases>) {
    if let Some(open) = releases {
        if open.changed().await.is_ok() {
            return;
        }
        *releases = None;
    }
    std::future::pending::<()>().await;
}
