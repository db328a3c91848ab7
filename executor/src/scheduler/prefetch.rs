//! A second batch for a busy worker, so that it need not wait for the agent
//! between two short ones; and taking it back when that was a bad idea.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, WorkerId};

use super::Action;
use super::pressure::Memory;
use super::state::{Busy, Call, Next, Scheduler, WorkerState};

/// A call whose batches take less than this on average is prefetched. Longer
/// ones gain nothing, and would wait behind one another.
const SHORT: Duration = Duration::from_millis(2);

/// A batch that runs for longer than this is not short, whatever the average.
const OVERDUE: Duration = Duration::from_millis(10);

impl Call {
    /// Takes note of how long a batch took; late ones count most.
    pub(super) fn note_duration(&mut self, ran: Duration) {
        self.average = Some(self.average.map_or(ran, |average| (average * 3 + ran) / 4));
    }

    fn prefetchable(&self) -> bool {
        self.average.is_some_and(|average| average < SHORT)
            && !self.unread
            && self.waiting.front().is_some_and(|waiting| waiting.small)
    }

    fn take_prefetchable(&mut self) -> Option<BatchId> {
        if self.prefetchable() {
            self.waiting.pop_front().map(|waiting| waiting.batch)
        } else {
            None
        }
    }

    fn has_room(&self) -> bool {
        !self.unread && self.max_running.is_none_or(|most| self.running < most)
    }
}

impl Scheduler {
    /// Prefetches for busy workers. Only while one call alone has something to
    /// wait for: the next turn of a worker that others wait for is not given
    /// away.
    pub(super) fn prefetch(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if self.memory != Memory::Enough || self.is_for_one_alone() {
            return;
        }
        let wanting = self.calls().filter(|(_, call)| call.runnable() > 0).count();
        let alone = |call: &Call| wanting == usize::from(call.runnable() > 0);
        let calls = self.calls().filter(|(_, call)| call.prefetchable() && alone(call));
        for id in calls.map(|(id, _)| *id).collect::<Vec<_>>() {
            while let Some(worker) = self.soonest(id, now) {
                let Some(batch) = self.call_mut(id).and_then(Call::take_prefetchable) else {
                    break;
                };
                self.set_next(worker, Next::Prefetched(batch));
                self.count_given(worker);
                actions.push(Action::Prefetch { worker, batch });
            }
        }
    }

    fn calls(&self) -> impl Iterator<Item = (&CallId, &Call)> {
        self.sessions.values().flat_map(|session| &session.calls)
    }

    /// The worker that most likely ends next, of those that run the call and
    /// may have one more batch.
    fn soonest(&self, call: CallId, now: Monotonic) -> Option<WorkerId> {
        let most = self.options.worker_max_batches;
        let fits = self.workers.iter().filter_map(|(id, worker)| {
            let WorkerState::Busy(busy) = worker.state else { return None };
            let fits = busy.call == call
                && busy.next == Next::Room
                && now.since(busy.began) < OVERDUE
                && most.is_none_or(|most| worker.given < most);
            fits.then_some((busy.began, *id))
        });
        fits.min().map(|(_, id)| id)
    }

    /// Has one prefetched batch taken back that could run at once in a free
    /// slot. The answer brings us here again for the next.
    pub(super) fn use_free_slot(&mut self, actions: &mut Vec<Action>) {
        if self.free_slots() == 0 {
            return;
        }
        let movable = self.prefetched().filter(|(_, busy, _)| {
            let session = self.sessions.get(&busy.call.session);
            session.is_some_and(|session| {
                let call = session.calls.get(&busy.call);
                call.is_some_and(Call::has_room) && self.room(busy.call.session, session).to_run
            })
        });
        // Behind the batch that has run longest it would wait longest.
        let first = movable.map(|(worker, busy, batch)| (busy.began, worker, batch)).min();
        if let Some((_, worker, batch)) = first {
            self.withdraw(worker, batch, actions);
        }
    }

    /// Has every batch taken back whose worker is not done soon after all.
    pub(super) fn withdraw_overdue(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        self.withdraw_where(|busy| now.since(busy.began) >= OVERDUE, actions);
    }

    /// Has prefetched batches taken back.
    pub(super) fn withdraw_where(
        &mut self,
        chosen: impl Fn(Busy) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let found = self.prefetched().filter(|(_, busy, _)| chosen(*busy));
        for (worker, _, batch) in found.collect::<Vec<_>>() {
            self.withdraw(worker, batch, actions);
        }
    }

    fn withdraw(&mut self, worker: WorkerId, batch: BatchId, actions: &mut Vec<Action>) {
        self.set_next(worker, Next::Withdrawing(batch));
        actions.push(Action::Withdraw { worker, batch });
    }

    /// The answer to a withdrawal.
    pub(super) fn batch_withdrawn(
        &mut self,
        worker: WorkerId,
        batch: BatchId,
        won: bool,
        actions: &mut Vec<Action>,
    ) {
        let busy = self.workers.get(&worker).and_then(|worker| worker.state.batches());
        let Some(busy) = busy.filter(|busy| busy.next == Next::Withdrawing(batch)) else { return };
        if won {
            self.set_next(worker, Next::Withdrawn);
            self.give_back(busy.call, batch, actions);
        } else {
            self.set_next(worker, Next::Begun(batch));
        }
    }

    fn set_next(&mut self, id: WorkerId, next: Next) {
        let state = self.workers.get_mut(&id).map(|worker| &mut worker.state);
        if let Some(WorkerState::Busy(busy) | WorkerState::Stopping(Some(busy))) = state {
            busy.next = next;
        }
    }

    fn prefetched(&self) -> impl Iterator<Item = (WorkerId, Busy, BatchId)> {
        self.workers.iter().filter_map(|(id, worker)| match worker.state {
            WorkerState::Busy(busy) => match busy.next {
                Next::Prefetched(batch) => Some((*id, busy, batch)),
                Next::Room | Next::Withdrawing(_) | Next::Begun(_) | Next::Withdrawn => None,
            },
            WorkerState::Starting
            | WorkerState::Idle { .. }
            | WorkerState::Stopping(_)
            | WorkerState::Retiring => None,
        })
    }
}
