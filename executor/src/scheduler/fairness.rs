//! Whose turn it is, and what that turn needs.

use crate::clock::Monotonic;
use crate::identifiers::{CallId, ProfileId, SessionId, WorkerId};

use super::pressure::Memory;
use super::state::{Call, Scheduler, Worker, WorkerState};

/// What to do for a call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// An idle worker fits: use it.
    Run { call: CallId, worker: WorkerId },
    /// No idle worker fits: start one.
    Spawn { call: CallId, profile: ProfileId },
}

impl Scheduler {
    pub(super) fn free_slots(&self) -> usize {
        let held = self.workers.values().filter(|worker| worker.state.holds_a_slot()).count();
        self.slots().saturating_sub(held)
    }

    /// Slots now. The extra ones of a call that asks for more are everybody's:
    /// kept for it, they would let it starve the others.
    pub(super) fn slots(&self) -> usize {
        let calls = self.sessions.values().flat_map(|session| {
            session
                .calls
                .values()
                .filter(|call| call.max_running.is_some())
                .map(|call| session.most_of(call))
        });
        let widest = calls.flatten().max().unwrap_or(0);
        (widest as usize).clamp(self.options.slots, self.options.max_slots)
    }

    /// The idle worker with this profile that was idle last: its memory is
    /// the warmest.
    fn idle_worker(&self, profile: ProfileId) -> Option<WorkerId> {
        let fits = self.idle_workers().filter(|(_, _, worker)| worker.profile == profile);
        fits.map(|(since, id, _)| (since, id)).max().map(|(_, id)| id)
    }

    /// The idle worker, of anybody, that was idle first.
    pub(super) fn longest_idle(&self) -> Option<WorkerId> {
        self.idle_workers().map(|(since, id, _)| (since, id)).min().map(|(_, id)| id)
    }

    /// Idle workers that have not been used for too long.
    pub(super) fn idle_too_long(&self, now: Monotonic) -> Vec<WorkerId> {
        let too_long = |since| now.since(since) >= self.options.worker_idle;
        let workers = self.idle_workers().filter(|(since, _, _)| too_long(*since));
        workers.map(|(_, id, _)| id).collect()
    }

    pub(super) fn idle_workers(&self) -> impl Iterator<Item = (Monotonic, WorkerId, &Worker)> {
        self.workers.iter().filter_map(|(id, worker)| {
            if let WorkerState::Idle { since } = worker.state {
                Some((since, *id, worker))
            } else {
                None
            }
        })
    }

    /// Whose turn it is, if anybody can use a slot.
    pub(super) fn next_turn(&self) -> Option<Turn> {
        let mut spawn = None;
        for (id, session) in self.sessions_by_turn() {
            let room = self.room(id, session);
            if !room.to_run {
                continue;
            }
            let mut calls: Vec<_> =
                session.calls.iter().filter(|(_, call)| call.runnable() > 0).collect();
            calls.sort_by_key(|(_, call)| call.served);
            for (call_id, call) in calls {
                if let Some(worker) = self.idle_worker(call.profile) {
                    return Some(Turn::Run { call: *call_id, worker });
                }
                if room.to_start && self.wanted(id, call.profile) > self.starting(call.profile) {
                    spawn.get_or_insert(Turn::Spawn { call: *call_id, profile: call.profile });
                    // While memory is short an idle worker is used or leaves. Two
                    // calls that take turns to start one each would never run.
                    if self.memory == Memory::Enough {
                        return spawn;
                    }
                }
            }
        }
        spawn
    }

    /// The call whose turn it is, of those that a worker fits.
    pub(super) fn next_call_for(&self, worker: WorkerId) -> Option<CallId> {
        let profile = self.workers.get(&worker)?.profile;
        let session = self.sessions.get(&profile.session)?;
        let fits = |call: &Call| call.profile == profile && call.runnable() > 0;
        let calls = session.calls.iter().filter(|(_, call)| fits(call));
        let next = calls.min_by_key(|(_, call)| call.served);
        next.map(|(id, _)| *id).filter(|_| self.room(profile.session, session).to_run)
    }

    fn wanted(&self, session: SessionId, profile: ProfileId) -> usize {
        let calls = self.sessions.get(&session).map(|session| session.calls.values());
        let of_profile = calls.into_iter().flatten().filter(|call| call.profile == profile);
        of_profile.map(Call::runnable).sum()
    }

    fn starting(&self, profile: ProfileId) -> usize {
        let starting = self
            .workers
            .values()
            .filter(|worker| worker.profile == profile && worker.state == WorkerState::Starting);
        starting.count()
    }
}
