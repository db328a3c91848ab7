//! From a request to a set-up worker.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use clutch_worker_link::{FromWorker, ToWorker, write_frame};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dying::SETTLE;
use super::enclosed::Enclosed;
use super::life::Life;
use super::message::{Order, Remains, WorkerEvent, WorkerHandle, WorkerSetup, WorkerStart};
use super::output::Outputs;
use super::process::{Happening, Process, signal};
use super::reader::Reader;
use super::{code, mapping, outcome};
use crate::failure::{Failure, Kind};
use crate::pool::death::{
    KILLED, MemoryEvidence, SETTING_UP, explain_lost, explain_start, explain_start_limit,
};
use crate::pool::progress::ProgressPage;
use crate::pool::reaper::Ended;
use crate::pool::zygote::Forked;
use crate::processes::Proc;

/// Orders that may wait: two batches, a withdrawal, a stop and a retirement.
const MAX_ORDERS: usize = 8;

/// Starts a worker. It reports `Forked`, `Ready`, and at last `Exited`; or only
/// `Exited`, with the reason.
pub(crate) fn start_worker(start: WorkerStart) -> WorkerHandle {
    let (orders, receiver) = mpsc::channel(MAX_ORDERS);
    tokio::spawn(async move {
        let worker = start.id;
        let events = start.events.clone();
        let (remains, start_failure) = match started(&start, receiver).await {
            Ok(process) => {
                events.send(WorkerEvent::Ready { worker }).await.ok();
                let life = Life::new(process, start.store.clone());
                (life.live(worker, &events, &start).await, None)
            }
            Err(failure) => (Remains::default(), Some(failure)),
        };
        // The dispatcher outlives every worker but at the agent's end.
        events.send(WorkerEvent::Exited { worker, remains, start_failure }).await.ok();
    });
    WorkerHandle { orders }
}

async fn started(start: &WorkerStart, orders: mpsc::Receiver<Order>) -> Result<Process, Failure> {
    let mut process = fork(start, orders).await?;
    // The initializer is its session's, too, and is held to the same.
    process.enclosed.begin(None);
    let failure = set_up(&mut process, start.setup.clone()).await;
    let (pid, enclosed) = (process.pid, &mut process.enclosed);
    let lost = || Some(explain_lost(pid, enclosed.set_up()?, SETTING_UP));
    match failure.or_else(lost) {
        None => {
            process.enclosed.rest();
            process.enclosed.soften();
            Ok(process)
        }
        Some(failure) => {
            // A worker that reported a failure leaves by itself; killing it is
            // as good, and the agent never waits for what it does not trust.
            process.kill();
            if !process.ended.is_terminated() {
                process.end().await;
            }
            tracing::debug!(pid = %process.pid, failure.message, "worker was not set up");
            process.enclosed.dissolve().await;
            start.reaper.sweep_or_go_on().await;
            let stderr_tail = process.outputs.stderr_tail();
            Err(Failure { stderr_tail, ..failure })
        }
    }
}

async fn fork(start: &WorkerStart, orders: mpsc::Receiver<Order>) -> Result<Process, Failure> {
    let failed = |error: io::Error| {
        let why = format!("the agent cannot make the lines of a worker: {error}");
        Failure::new(Kind::WorkerStartFailed, why)
    };
    let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    let (stdout, stdout_writer) = io::pipe().map_err(failed)?;
    let (stderr, stderr_writer) = io::pipe().map_err(failed)?;
    let (progress, progress_file) = ProgressPage::new().map_err(failed)?;
    let descriptors: [OwnedFd; 4] =
        [theirs.into(), stdout_writer.into(), stderr_writer.into(), progress_file];
    let Forked { pid, ended } = start.zygote.fork(start.id, descriptors).await?;
    let pidfd = match pid.raw().map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(pidfd)) => Some(pidfd),
        // It is dead already, and its end says so.
        Some(Err(Errno::SRCH)) | None => None,
        // Without a handle it could not be killed; its line closes, and it ends.
        Some(Err(error)) => return Err(failed(error.into())),
    };
    ours.set_nonblocking(true).map_err(failed)?;
    let line = UnixStream::from_std(ours).map_err(failed)?;
    let progress = Arc::new(progress);
    let enclosed = match Enclosed::new(start, pid, Arc::clone(&progress)).await {
        Ok(enclosed) => enclosed,
        // One that is dead cannot be held, and its end says more.
        Err(failure) if Proc::default().is_ending(pid) => {
            let ended = timeout(SETTLE, ended).await;
            let ended = ended.ok().and_then(Result::ok).ok_or(failure)?;
            return Err(explain_start(pid, ended.exit, MemoryEvidence::default()));
        }
        Err(failure) => {
            signal(pidfd.as_ref(), Signal::KILL);
            return Err(failure);
        }
    };
    let outputs = Outputs::new(stdout.into(), stderr.into(), start.output.clone(), pid);
    start
        .events
        .send(WorkerEvent::Forked { worker: start.id, pid, progress: Arc::clone(&progress) })
        .await
        .ok();
    Ok(Process {
        pid,
        line,
        reader: Reader::new(start.options.max_batch_bytes),
        outputs: outputs.map_err(failed)?,
        pidfd,
        ended,
        progress,
        enclosed,
        orders,
        deferred: VecDeque::new(),
        releases: Some(start.releases.clone()),
        look_at: None,
    })
}

/// Sets a worker up; `Some` when that failed.
async fn set_up(process: &mut Process, setup: WorkerSetup) -> Option<Failure> {
    let mut variables = setup.variables;
    variables.extend(process.enclosed.variables());
    let failed = |kind, why: String| Some(Failure::new(kind, why));
    let code = match setup.code.as_ref().map(code::placed).transpose() {
        Ok(code) => code.unwrap_or_default(),
        Err(error) => {
            let why = format!("there is no place for the driver's code: {error}");
            return failed(Kind::WorkerStartFailed, why);
        }
    };
    let message = ToWorker::Setup { variables, threads: setup.threads, code };
    // A write that fails means a dead worker, which the first answer shows.
    let archives = setup.code.iter().flat_map(|code| code.archives.iter());
    let archives: Vec<_> = archives.map(|archive| &archive.held).collect();
    mapping::give(&process.line, &archives).await.ok();
    write_frame(&mut process.line, &message, &[setup.payload]).await.ok();
    let pid = process.pid;
    loop {
        match process.next().await {
            Happening::Answer(Ok(answer)) => {
                let frame = answer.frame;
                return match frame.message {
                    FromWorker::Ready => None,
                    FromWorker::SetupFailed(report) => {
                        Some(outcome::failure(report, frame.payload, String::new()))
                    }
                    FromWorker::Done(..) | FromWorker::Failed(..) | FromWorker::Saved(_) => {
                        failed(Kind::Internal, "a worker reported a batch it never had".to_owned())
                    }
                };
            }
            Happening::Order(Some(Order::Stop(_)) | None) => {
                return failed(Kind::Cancelled, format!("worker {pid} was not needed any more"));
            }
            Happening::Exited(ended) => return Some(died(process, ended)),
            Happening::Answer(Err(error)) => {
                // The line of a dead worker closes before its end is seen.
                let Ok(ended) = timeout(SETTLE, process.end()).await else {
                    let why = format!("worker {pid} lost its line while it was set up: {error}");
                    return failed(Kind::WorkerStartFailed, why);
                };
                return Some(died(process, ended));
            }
            Happening::Passed(_) if process.enclosed.is_hit() => {}
            Happening::Passed(passed) => {
                let memory = process.enclosed.evidence(false);
                return Some(explain_start_limit(pid, passed, memory));
            }
            Happening::Order(Some(Order::Run(_) | Order::Withdrawn(_) | Order::Retire))
            | Happening::TimeToLook
            | Happening::Released => {}
        }
    }
}

fn died(process: &mut Process, ended: Ended) -> Failure {
    let memory = process.enclosed.evidence(ended.exit == KILLED);
    explain_start(process.pid, ended.exit, memory)
}
