//! What makes way when memory runs short: workers that do nothing, then the
//! youngest batch that may be run again, one at a time. What has run longest
//! would lose most, and runs on.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::WorkerId;

use super::state::{Busy, Scheduler, WorkerState};
use super::{Action, StopReason};

/// How long it may take until it shows that somebody left.
const SETTLE: Duration = Duration::from_millis(250);

/// How long memory must be seen to be short, with nobody else to make way, before
/// a batch fails of it. Failing costs more than waiting: what other programs took
/// may come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing begins after memory ran out before anybody saw it coming:
/// what was killed for it would be killed again.
const PAUSE: Duration = Duration::from_secs(1);

/// What there is of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Enough,
    /// There was none left a moment ago.
    Scarce {
        until: Monotonic,
    },
    /// What runs fits, and nothing more does.
    Tight,
    /// Somebody has to go.
    Short {
        /// What was seen before this shows nothing any more: somebody was about
        /// to leave, or had just begun.
        fresh: Monotonic,
        /// The first and the last look since then.
        seen: Option<(Monotonic, Monotonic)>,
    },
}

impl Scheduler {
    /// While memory is short only one batch begins, when nothing runs: it is the
    /// only way to go on.
    pub(super) fn may_begin(&self) -> bool {
        (self.memory == Memory::Enough || self.is_quiet()) && !self.one_runs_alone()
    }

    /// A look at memory, at this time, found it short.
    pub(super) fn pressure_seen(&mut self, at: Monotonic, actions: &mut Vec<Action>) {
        if let Memory::Short { fresh, seen } = &mut self.memory {
            if at >= *fresh {
                let (first, _) = seen.unwrap_or((at, at));
                *seen = Some((first, at));
            }
        } else {
            self.memory = Memory::Short { fresh: at, seen: Some((at, at)) };
            self.withdraw_where(|_| true, actions);
        }
    }

    pub(super) fn memory_ran_out(&mut self, now: Monotonic) {
        if matches!(self.memory, Memory::Enough | Memory::Scarce { .. }) {
            self.memory = Memory::Scarce { until: now.after(PAUSE) };
        }
    }

    pub(super) fn forget_scarcity(&mut self, now: Monotonic) {
        if matches!(self.memory, Memory::Scarce { until } if until <= now) {
            self.memory = Memory::Enough;
        }
    }

    pub(super) fn somebody_left(&mut self, now: Monotonic) {
        self.look_anew(now.after(SETTLE));
    }

    /// A batch begins: it has done nothing yet.
    pub(super) fn somebody_began(&mut self, now: Monotonic) {
        self.look_anew(now);
    }

    fn look_anew(&mut self, from: Monotonic) {
        if let Memory::Short { fresh, seen } = &mut self.memory {
            (*fresh, *seen) = ((*fresh).max(from), None);
        }
    }

    /// Has one make way, if it must be now.
    pub(super) fn make_way(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if matches!(self.memory, Memory::Enough | Memory::Scarce { .. }) {
            return;
        }
        let idle: Vec<_> = self.idle_workers().map(|(_, worker, _)| worker).collect();
        for worker in idle {
            self.retire(worker, actions);
            self.somebody_left(now);
        }
        let stopping = |state| matches!(state, WorkerState::Stopping(_));
        if self.workers.values().any(|worker| stopping(worker.state)) {
            return;
        }
        let Some((worker, busy)) = self.next_to_leave() else { return };
        if self.busy_workers().nth(1).is_none() {
            actions.push(Action::LastAttempt(busy.running));
        }
        self.stop(worker, StopReason::Pressure, actions);
    }

    fn next_to_leave(&self) -> Option<(WorkerId, Busy)> {
        let Memory::Short { seen: Some((first, last)), .. } = self.memory else { return None };
        let age = |(worker, busy): &(WorkerId, Busy)| (busy.began, *worker);
        let youngest = self.busy_workers().max_by_key(age)?;
        if self.busy_workers().nth(1).is_some() {
            let willing = self.busy_workers().filter(|(_, busy)| self.makes_way(*busy));
            if let Some(willing) = willing.max_by_key(age) {
                return Some(willing);
            }
        }
        (last.since(first) >= PATIENCE).then_some(youngest)
    }

    fn busy_workers(&self) -> impl Iterator<Item = (WorkerId, Busy)> {
        self.workers.iter().filter_map(|(id, worker)| match worker.state {
            WorkerState::Busy(busy) => Some((*id, busy)),
            WorkerState::Starting
            | WorkerState::Idle { .. }
            | WorkerState::Stopping(_)
            | WorkerState::Retiring => None,
        })
    }

    fn makes_way(&self, busy: Busy) -> bool {
        let session = self.sessions.get(&busy.call.session);
        let call = session.and_then(|session| session.calls.get(&busy.call));
        call.is_some_and(|call| call.makes_way && !call.stays.contains(&busy.running))
    }
}
