//! When a batch runs again that made way: first when one of those that ran beside
//! it has ended, after that alone. Otherwise it would begin while the others
//! still have what it lacked, and be killed again until nobody tries any more.

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, WorkerId};

use super::Action;
use super::state::{Call, Scheduler, Waiting, Worker, WorkerState};

/// A batch that made way so often runs alone.
const ALONE: u32 = 2;

/// What is known of a batch that made way, or was killed for want of memory.
#[derive(Debug)]
pub(super) struct MadeWay {
    times: u32,
    /// When it was last.
    at: Monotonic,
    /// What ran beside it then, until one of these has ended.
    beside: Vec<BatchId>,
}

/// A batch that waits to run alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lone {
    call: CallId,
    profile: ProfileId,
    batch: BatchId,
}

impl MadeWay {
    const fn runs_alone(&self) -> bool {
        self.times >= ALONE
    }
}

impl Call {
    /// Whether its first batch waits for another one to end. Those behind it are
    /// most likely as large.
    pub(super) fn is_held_back(&self) -> bool {
        let first = self.waiting.front().and_then(|first| self.made_way.get(&first.batch));
        first.is_some_and(|made_way| !made_way.beside.is_empty())
    }

    /// A batch has ended.
    pub(super) fn forget(&mut self, batch: BatchId) {
        self.stays.remove(&batch);
        self.made_way.remove(&batch);
    }

    fn waits(&self, batch: BatchId) -> bool {
        self.waiting.iter().any(|waiting| waiting.batch == batch)
    }
}

impl Scheduler {
    pub(super) fn batch_made_way(
        &mut self,
        batch: BatchId,
        id: CallId,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        let running = self.running().map(|(_, running)| running);
        let beside: Vec<_> = running.filter(|running| *running != batch).collect();
        let Some(call) = self.call_mut(id) else { return };
        let times = call.made_way.get(&batch).map_or(0, |before| before.times) + 1;
        let made_way = MadeWay { times, at: now, beside };
        let alone = made_way.runs_alone();
        call.made_way.insert(batch, made_way);
        if alone {
            self.withdraw_where(|_| true, actions);
        }
    }

    /// A batch is at its worker no more.
    pub(super) fn one_ended(&mut self, batch: BatchId) {
        self.release_where(|made_way| made_way.beside.contains(&batch));
    }

    /// Nothing runs that could be waited for.
    pub(super) fn hold_nobody_back(&mut self) {
        self.release_where(|_| true);
    }

    /// A batch begins, and nothing else runs: whatever made way before waits for
    /// it, or both would be killed again.
    pub(super) fn hold_others_back(&mut self, first: BatchId) {
        let calls = self.sessions.values_mut().flat_map(|session| session.calls.values_mut());
        let all = calls.flat_map(|call| call.made_way.iter_mut());
        for (_, made_way) in all.filter(|(batch, _)| **batch != first) {
            made_way.beside = vec![first];
        }
    }

    fn release_where(&mut self, chosen: impl Fn(&MadeWay) -> bool) {
        let calls = self.sessions.values_mut().flat_map(|session| session.calls.values_mut());
        let all = calls.flat_map(|call| call.made_way.values_mut());
        all.filter(|made_way| chosen(made_way)).for_each(|made_way| made_way.beside.clear());
    }

    /// Whether everything else waits for one batch.
    pub(super) fn is_for_one_alone(&self) -> bool {
        self.one_runs_alone() || self.next_alone().is_some()
    }

    pub(super) fn one_runs_alone(&self) -> bool {
        let mut calls = self.sessions.values().flat_map(|session| session.calls.values());
        // Mostly nobody did, and nobody need be looked for.
        let anybody = calls.any(|call| !call.made_way.is_empty());
        anybody
            && self.running().any(|(id, batch)| {
                let call =
                    self.sessions.get(&id.session).and_then(|session| session.calls.get(&id));
                let made_way = call.and_then(|call| call.made_way.get(&batch));
                made_way.is_some_and(MadeWay::runs_alone)
            })
    }

    /// What runs, and for which call.
    pub(super) fn running(&self) -> impl Iterator<Item = (CallId, BatchId)> {
        let batches = self.workers.values().filter_map(|worker| worker.state.batches());
        batches.map(|busy| (busy.call, busy.running))
    }

    /// Who runs alone next: who waits longest for it.
    pub(super) fn next_alone(&self) -> Option<Lone> {
        let calls = self.sessions.values().flat_map(|session| &session.calls);
        let alone = calls.flat_map(|(id, call)| {
            let (profile, id) = (call.profile, *id);
            let made_way = call.made_way.iter();
            let lone = made_way.filter(|(batch, it)| it.runs_alone() && call.waits(**batch));
            lone.map(move |(batch, it)| (it.at, Lone { call: id, profile, batch: *batch }))
        });
        alone.min_by_key(|(at, lone)| (*at, lone.batch)).map(|(_, lone)| lone)
    }

    /// Has it begin in a new worker, once nothing else is left that has memory.
    pub(super) fn begin_alone(&mut self, lone: Lone, now: Monotonic, actions: &mut Vec<Action>) {
        if !self.is_quiet() {
            return;
        }
        let Lone { call, profile, batch } = lone;
        let fits = |worker: &Worker| worker.given == 0 && worker.profile == profile;
        let fresh = self.idle_workers().find_map(|(_, id, worker)| fits(worker).then_some(id));
        let others = self.idle_workers().map(|(_, id, _)| id).filter(|id| Some(*id) != fresh);
        for worker in others.collect::<Vec<WorkerId>>() {
            self.retire(worker, actions);
        }
        if self.workers.values().any(|worker| worker.state == WorkerState::Retiring) {
            return;
        }
        self.turn += 1;
        let Some(worker) = fresh else { return self.spawn(call, profile, actions) };
        if let Some(call) = self.call_mut(call) {
            call.waiting.retain(|waiting: &Waiting| waiting.batch != batch);
        }
        self.run(worker, call, batch, now, actions);
    }
}
