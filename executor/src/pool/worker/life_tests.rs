//! A worker that lies: the process is real, its words are ours.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use clutch_worker_link::{BatchReport, FromWorker, Leftovers, SavedReport};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::*;
use crate::blobs::BatchBlobs;
use crate::failure::{Breach, Failure, Kind};
use crate::identifiers::{Pid, SessionId};
use crate::limits::{Enforcer, Limits};
use crate::pool::Zygote;
use crate::pool::reaper::{Ended, Exit, Reaper};
use crate::pool::worker::enclosed::Enclosed;
use crate::pool::worker::message::WorkerSetup;
use crate::pool::worker::output::Outputs;
use crate::pool::worker::reader::Reader;
use crate::settings::{RawSettings, Settings};

const KILLED: Ended = Ended {
    exit: Exit::Signal(libc::SIGKILL),
    user: Duration::ZERO,
    system: Duration::ZERO,
    peak_memory_bytes: 0,
};

const BREACH: Breach = Breach { limit: 10, peak: 11 };

/// More than a socket holds, in bytes.
const MUCH: usize = 8 << 20;

/// A worker's task, and the worker's side of everything.
struct Liar {
    child: Child,
    line: UnixStream,
    progress: Arc<ProgressPage>,
    tell_end: oneshot::Sender<Ended>,
    orders: mpsc::Sender<Order>,
    pass: mpsc::Sender<Passed>,
    events: mpsc::Receiver<WorkerEvent>,
    remains: tokio::task::JoinHandle<Remains>,
    /// Of the batches that it is given.
    task_timeout: Option<Duration>,
    payload_bytes: usize,
}

fn batch(batch: u64) -> BatchId {
    BatchId { session: SessionId(1), batch }
}

impl Liar {
    async fn start() -> Self {
        let raw = RawSettings { python: vec!["/bin/sh".into()], ..RawSettings::default() };
        let settings = Settings::resolve(raw).unwrap();
        let (events_sender, events) = mpsc::channel(9);
        let store = Store::new(settings.blobs);
        let start = WorkerStart {
            id: WorkerId(1),
            zygote: Zygote::unkept(),
            setup: WorkerSetup {
                variables: Vec::new(),
                threads: 1,
                payload: bytes::Bytes::new(),
                limits: Limits::default(),
                code: None,
            },
            options: PoolOptions { max_batch_bytes: 9, ..settings.pool },
            reaper: Reaper::default(),
            events: events_sender.clone(),
            store: store.clone(),
            releases: tokio::sync::watch::channel(()).1,
            output: mpsc::channel(1).0,
            enforcer: Enforcer::probe(&settings.limits),
        };
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid(child.id());
        let raw_pid = rustix::process::Pid::from_raw(pid.0.try_into().unwrap()).unwrap();
        let (ours, line) = UnixStream::pair().unwrap();
        let (stdout, _) = std::io::pipe().unwrap();
        let (stderr, _) = std::io::pipe().unwrap();
        let progress = Arc::new(ProgressPage::new().unwrap().0);
        let (orders, receiver) = mpsc::channel(8);
        let (pass, passed) = mpsc::channel(8);
        let enclosed = Enclosed::new(&start, pid, Arc::clone(&progress)).await.unwrap();
        let (tell_end, ended) = oneshot::channel();
        let process = Process {
            pid,
            line: ours,
            reader: Reader::new(9),
            outputs: Outputs::new(stdout.into(), stderr.into(), start.output.clone(), pid).unwrap(),
            pidfd: Some(pidfd_open(raw_pid, PidfdFlags::empty()).unwrap()),
            ended,
            enclosed: enclosed.told_by(passed),
            progress: Arc::clone(&progress),
            orders: receiver,
            deferred: std::collections::VecDeque::new(),
            releases: None,
            look_at: None,
        };
        let life = Life::new(process, store);
        let remains =
            tokio::spawn(async move { life.live(WorkerId(1), &events_sender, &start).await });
        Self {
            child,
            line,
            progress,
            tell_end,
            orders,
            pass,
            events,
            remains,
            task_timeout: None,
            payload_bytes: 0,
        }
    }

    /// Gives it a batch, and waits until it has it.
    async fn give(&mut self, number: u64, claim: u64) {
        if claim != 0 {
            self.progress.offer(claim);
        }
        self.order(number, claim).await;
        let mut some = [0; 4096];
        assert!(self.line.read(&mut some).await.unwrap() > 0);
    }

    async fn order(&mut self, number: u64, claim: u64) {
        let assignment = Assignment {
            batch: batch(number),
            tasks: 3,
            nesting_level: 0,
            task_timeout: self.task_timeout,
            task_cpu: None,
            attempt: 2,
            first_task: 0,
            queued_at: Monotonic::now(),
            claim,
            payload: vec![vec![0; self.payload_bytes].into()],
            blobs: Arc::new(BatchBlobs::default()),
        };
        self.orders.send(Order::Run(Box::new(assignment))).await.unwrap();
    }

    async fn passes(&mut self, resource: Resource) {
        let passed = Passed { resource, breach: BREACH };
        self.pass.send(passed).await.unwrap();
    }

    async fn say(&mut self, message: &FromWorker, payload: &[u8]) {
        // To a task that has ended it is moot.
        write_frame(&mut self.line, message, &[payload]).await.ok();
    }

    async fn done(&mut self, number: u64, leftovers: Leftovers) {
        let report = BatchReport { batch: number, leftovers, ..BatchReport::default() };
        self.say(&FromWorker::Done(report, Vec::new()), b"result").await;
    }

    async fn saved(&mut self, number: u64, tasks: usize) {
        let report = SavedReport { batch: number, task_nanoseconds: vec![1; tasks] };
        self.say(&FromWorker::Saved(report), b"one").await;
    }

    /// Waits until the agent has killed the process.
    async fn killed(&mut self) {
        self.signalled(libc::SIGKILL).await;
    }

    /// Waits until the agent has ended the process with that signal.
    async fn signalled(&mut self, signal: i32) {
        let mut child = std::mem::replace(&mut self.child, Command::new("true").spawn().unwrap());
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(status.signal(), Some(signal));
    }

    /// The next batch that ended while the worker lived.
    async fn outcome(&mut self) -> (Box<BatchOutcome>, bool) {
        let event = self.events.recv().await.unwrap();
        let WorkerEvent::Ended { outcome, recycle, .. } = event else { panic!("{event:?}") };
        (outcome, recycle)
    }

    /// What is left after its end.
    async fn remains(mut self, ended: Ended) -> (Remains, mpsc::Receiver<WorkerEvent>) {
        drop(self.line);
        self.tell_end.send(ended).unwrap();
        let remains = self.remains.await.unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (remains, self.events)
    }
}

fn only_failure(remains: Remains) -> Failure {
    let [Some(outcome), None] = remains.ended else { panic!("{remains:?}") };
    outcome.result.unwrap_err()
}

#[tokio::test]
async fn once_the_agent_has_decided_to_kill_a_worker_its_answers_do_not_count() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.orders.send(Order::Stop(StopReason::Cancelled)).await.unwrap();
    liar.killed().await;
    liar.saved(1, 1).await;
    liar.done(1, Leftovers::default()).await;
    let (remains, mut events) = liar.remains(KILLED).await;
    assert!(remains.ended[0].as_ref().unwrap().saved.pickles.is_empty());
    assert_eq!(only_failure(remains).kind, Kind::Cancelled);
    assert!(events.try_recv().is_err(), "no batch ended well");
}

#[tokio::test]
async fn an_answer_that_was_sent_before_a_death_counts() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.saved(1, 2).await;
    liar.done(1, Leftovers::default()).await;
    let (remains, mut events) = liar.remains(KILLED).await;
    let told = match events.try_recv() {
        Ok(WorkerEvent::Ended { outcome, .. }) => outcome,
        _ => remains.ended.into_iter().flatten().next().unwrap(),
    };
    assert_eq!(told.saved.task_nanoseconds, [1, 1]);
    assert_eq!(told.result.unwrap().payload, b"result".as_slice());
}

#[tokio::test]
async fn what_was_saved_outlives_a_death_and_the_failure_tells_the_attempt() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.saved(1, 1).await;
    liar.saved(1, 1).await;
    let (remains, _) = liar.remains(KILLED).await;
    assert_eq!(remains.ended[0].as_ref().unwrap().saved.pickles, [b"one".as_slice(); 2]);
    let failure = only_failure(remains);
    assert_eq!((failure.kind, failure.attempt), (Kind::WorkerKilled, 2));
}

#[tokio::test]
async fn a_worker_that_saves_what_is_not_its_own_is_killed() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.saved(1, 4).await;
    liar.killed().await;
    let (remains, _) = liar.remains(KILLED).await;
    assert_eq!(only_failure(remains).kind, Kind::WorkerCrashed);
}

#[tokio::test]
async fn a_worker_with_leftovers_is_replaced_and_begins_nothing_else() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.give(2, 1).await;
    let leftovers = Leftovers { threads: 1, ..Leftovers::default() };
    liar.done(1, leftovers).await;
    let (outcome, recycle) = liar.outcome().await;
    assert_eq!((outcome.notes.as_slice(), recycle), ([Note::ThreadsLeft(1)].as_slice(), true));
    let mut told_to_leave = [0; 4096];
    assert!(liar.line.read(&mut told_to_leave).await.unwrap() > 0);
    assert!(liar.progress.is_withdrawn(1), "the second batch was taken back");
    // It stays, which keeps that batch waiting.
    liar.killed().await;
    let (remains, _) = liar.remains(Ended { exit: Exit::Code(0), ..KILLED }).await;
    assert!(remains.ended.iter().all(Option::is_none), "it runs elsewhere: {remains:?}");
}

#[tokio::test]
async fn what_was_left_makes_a_worker_old_for_good() {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.done(1, Leftovers { out_of_memory: true, ..Leftovers::default() }).await;
    assert!(liar.outcome().await.1);
    liar.give(2, 0).await;
    liar.done(2, Leftovers::default()).await;
    assert!(liar.outcome().await.1);
    liar.remains(KILLED).await;
}

#[tokio::test]
async fn a_worker_that_passes_a_limit_is_killed_and_says_which() {
    let limits = [
        (Resource::Memory, Kind::MemoryLimit),
        (Resource::Processes, Kind::ProcessLimit),
        (Resource::Scratch, Kind::ScratchLimit),
    ];
    for (resource, kind) in limits {
        let mut liar = Liar::start().await;
        liar.give(1, 0).await;
        liar.passes(resource).await;
        liar.killed().await;
        let failure = only_failure(liar.remains(KILLED).await.0);
        assert_eq!((failure.kind, failure.breach), (kind, Some(BREACH)));
    }
}

#[tokio::test]
async fn the_task_that_ran_too_long_is_blamed_and_not_the_one_after_it() {
    for kind in [Kind::TimeLimit, Kind::CpuTimeLimit] {
        let mut liar = Liar::start().await;
        let began = Monotonic::now();
        liar.progress.task_started(1, began);
        liar.task_timeout = (kind == Kind::TimeLimit).then_some(Duration::from_millis(1));
        liar.give(1, 0).await;
        if kind == Kind::CpuTimeLimit {
            liar.passes(Resource::CpuTime).await;
        }
        // Asked for its stacks: it was found guilty before.
        liar.signalled(libc::SIGUSR1).await;
        let found = Monotonic::now();
        liar.progress.task_started(2, found);
        let failure = only_failure(liar.remains(KILLED).await.0);
        assert_eq!((failure.kind, failure.task_index), (kind, Some(1)));
        assert!(failure.wall.unwrap() <= found.since(began), "{failure:?}");
    }
}

#[tokio::test]
async fn what_is_given_to_an_idle_worker_over_a_limit_runs_elsewhere() {
    let mut liar = Liar::start().await;
    liar.passes(Resource::Memory).await;
    liar.order(1, 0).await;
    liar.killed().await;
    let (remains, _) = liar.remains(KILLED).await;
    assert!(remains.ended.iter().all(Option::is_none), "{remains:?}");
}

/// One that is given a second batch, which its socket has no room for.
async fn written_to() -> Liar {
    let mut liar = Liar::start().await;
    liar.give(1, 0).await;
    liar.payload_bytes = MUCH;
    liar.give(2, 1).await;
    liar
}

#[tokio::test]
async fn who_is_killed_while_it_is_written_to_does_not_take_the_next_batch_with_it() {
    for kind in [Kind::Cancelled, Kind::ScratchLimit] {
        let mut liar = written_to().await;
        if kind == Kind::Cancelled {
            liar.orders.send(Order::Stop(StopReason::Cancelled)).await.unwrap();
        } else {
            liar.passes(Resource::Scratch).await;
        }
        liar.killed().await;
        assert!(liar.progress.is_withdrawn(1));
        assert_eq!(only_failure(liar.remains(KILLED).await.0).kind, kind);
    }
}

#[tokio::test]
async fn the_cpu_time_of_a_task_that_ended_while_its_worker_was_written_to_is_no_news() {
    let mut liar = written_to().await;
    liar.passes(Resource::CpuTime).await;
    while liar.pass.capacity() < liar.pass.max_capacity() {
        tokio::task::yield_now().await;
    }
    liar.done(1, Leftovers::default()).await;
    let mut left = MUCH;
    while left > 4096 {
        left -= liar.line.read(&mut [0; 4096]).await.unwrap();
    }
    liar.done(2, Leftovers::default()).await;
    for _ in 0..2 {
        assert!(liar.outcome().await.0.result.is_ok());
    }
    liar.remains(KILLED).await;
}

#[tokio::test]
async fn news_of_an_earlier_batchs_cpu_time_is_no_news() {
    let mut liar = Liar::start().await;
    liar.passes(Resource::CpuTime).await;
    liar.give(1, 0).await;
    liar.done(1, Leftovers::default()).await;
    assert!(liar.outcome().await.0.result.is_ok());
    liar.remains(KILLED).await;
}
