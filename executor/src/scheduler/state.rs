//! The tables, and states that carry their data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

use super::alone::MadeWay;
use super::pressure::Memory;
use super::share::{Had, Share};

/// What an operator may choose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Batches that run at once. At least 1.
    pub slots: usize,
    /// The same, while a call asks for more than `slots`. At least `slots`.
    pub max_slots: usize,
    /// Worker processes alive at once, idle ones included. More than `slots`.
    pub max_workers: usize,
    /// Batches after which a worker is replaced; `None`: never.
    pub worker_max_batches: Option<u64>,
    /// How long an idle worker is kept.
    pub worker_idle: Duration,
}

/// Decides who runs next.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) options: Options,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) last_worker: u64,
    /// Counts turns, so that ties go to whoever waited longest.
    pub(super) turn: u64,
    pub(super) draining: bool,
    pub(super) memory: Memory,
    /// Until when the slots that sessions had are counted.
    pub(super) counted: Monotonic,
    /// What a session had that was served, at most: none that begins to want
    /// something is behind it.
    pub(super) least: Had,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) calls: BTreeMap<CallId, Call>,
    /// Turn at which it last got a slot.
    pub(super) served: u64,
    /// Its driver does not take its outcomes.
    pub(super) unread: bool,
    pub(super) share: Share,
    pub(super) had: Had,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) profile: ProfileId,
    pub(super) max_running: Option<u32>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) running: u32,
    pub(super) served: u64,
    /// How long its late batches took; `None`: none has ended yet.
    pub(super) average: Option<Duration>,
    /// Its batches may be run again after they made way for others.
    pub(super) makes_way: bool,
    /// All but these, which did so as often as they must.
    pub(super) stays: BTreeSet<BatchId>,
    /// Batches that made way, or were killed for want of memory.
    pub(super) made_way: BTreeMap<BatchId, MadeWay>,
    /// As its session.
    pub(super) unread: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) batch: BatchId,
    /// It may be prefetched.
    pub(super) small: bool,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) profile: ProfileId,
    pub(super) state: WorkerState,
    /// Batches that it was given, ever.
    pub(super) given: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerState {
    /// Asked for; holds a slot for the batch it will run.
    Starting,
    /// Set up and waiting.
    Idle { since: Monotonic },
    /// Running a batch.
    Busy(Busy),
    /// Told to go while it held a slot, with what it ran then; holds the slot
    /// until it is gone.
    Stopping(Option<Busy>),
    /// Told to go while idle.
    Retiring,
}

/// What a busy worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) call: CallId,
    pub(super) running: BatchId,
    /// Since when, as far as the agent knows.
    pub(super) began: Monotonic,
    pub(super) next: Next,
}

/// What waits in the socket of a busy worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Room,
    /// A batch.
    Prefetched(BatchId),
    /// A batch that is being taken back.
    Withdrawing(BatchId),
    /// Nothing any more: the worker has begun it. The end of the batch before
    /// is on its way to us.
    Begun(BatchId),
    /// The remains of a batch that was taken back.
    Withdrawn,
}

impl Next {
    /// The batch that this worker runs next, as things are.
    pub(super) const fn batch(self) -> Option<BatchId> {
        match self {
            Self::Prefetched(batch) | Self::Withdrawing(batch) | Self::Begun(batch) => Some(batch),
            Self::Room | Self::Withdrawn => None,
        }
    }
}

/// How much of a session waits and runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCounts {
    /// Batches that wait, also those that wait in the socket of a worker.
    pub waiting: usize,
    /// Batches that run.
    pub running: usize,
}

impl WorkerState {
    pub(super) const fn holds_a_slot(self) -> bool {
        match self {
            Self::Starting | Self::Busy(_) | Self::Stopping(_) => true,
            Self::Idle { .. } | Self::Retiring => false,
        }
    }

    /// The batches that a worker in this state has.
    pub(super) const fn batches(self) -> Option<Busy> {
        match self {
            Self::Busy(busy) => Some(busy),
            Self::Stopping(batches) => batches,
            Self::Starting | Self::Idle { .. } | Self::Retiring => None,
        }
    }
}

impl Call {
    /// Batches of it that could start now, were there workers.
    pub(super) fn runnable(&self) -> usize {
        if self.is_held_back() || self.unread {
            return 0;
        }
        let room = match self.max_running {
            Some(most) => most.saturating_sub(self.running) as usize,
            None => usize::MAX,
        };
        self.waiting.len().min(room)
    }
}

impl Scheduler {
    /// A scheduler with no sessions and no workers.
    pub const fn new(options: Options) -> Self {
        Self {
            options,
            sessions: BTreeMap::new(),
            workers: BTreeMap::new(),
            last_worker: 0,
            turn: 0,
            draining: false,
            memory: Memory::Enough,
            counted: Monotonic::from_nanoseconds(0),
            least: Had::NOTHING,
        }
    }

    /// How much of a session waits and runs.
    pub fn counts(&self, session: SessionId) -> SessionCounts {
        let calls = self.sessions.get(&session).map(|session| session.calls.values());
        let (waiting, running) = calls
            .into_iter()
            .flatten()
            .fold((0, 0), |(w, r), call| (w + call.waiting.len(), r + call.running as usize));
        let workers = self.workers.values().filter(|w| w.profile.session == session);
        let batches = workers.filter_map(|worker| worker.state.batches());
        let prefetched = batches.filter(|busy| busy.next.batch().is_some()).count();
        SessionCounts { waiting: waiting + prefetched, running }
    }

    /// True while the worker has a batch.
    pub fn is_busy(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.state.batches().is_some())
    }

    /// True when no batch runs and no worker that ran one is still ending.
    pub fn is_quiet(&self) -> bool {
        !self.workers.values().any(|worker| worker.state.holds_a_slot())
    }

    pub(super) fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.sessions.get_mut(&id.session)?.calls.get_mut(&id)
    }
}
