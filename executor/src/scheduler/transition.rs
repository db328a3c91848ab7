//! One function for each event.

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

use super::fairness::Turn;
use super::state::{Call, Scheduler, Session, Worker, WorkerState};
use super::{Action, Event, StopReason};

impl Scheduler {
    /// Takes an event, and says what is to be done about it, in order.
    pub fn apply(&mut self, event: Event, now: Monotonic) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::SessionOpened(session) => {
                self.sessions.insert(session, Session::default());
            }
            Event::SessionClosed(session) => self.session_closed(session, &mut actions),
            Event::CallOpened { call, profile, max_running } => {
                self.call_opened(call, profile, max_running);
            }
            Event::CallClosed(call) => self.call_closed(call, &mut actions),
            Event::BatchSubmitted { batch, call } => {
                self.batch_submitted(batch, call, &mut actions);
            }
            Event::WorkerReady(worker) => self.worker_ready(worker, now),
            Event::BatchEnded { worker, recycle } => {
                self.batch_ended(worker, recycle, now, &mut actions);
            }
            Event::WorkerExited(worker) => self.worker_exited(worker, &mut actions),
            Event::Tick => {
                for worker in self.idle_too_long(now) {
                    self.retire(worker, &mut actions);
                }
            }
            Event::Drain => self.drain(&mut actions),
            Event::StopAll => self.stop_all(&mut actions),
        }
        self.fill(&mut actions);
        actions
    }

    /// Uses every slot that somebody can use.
    fn fill(&mut self, actions: &mut Vec<Action>) {
        while self.free_slots() > 0 {
            let Some(turn) = self.next_turn() else { return };
            self.turn += 1;
            match turn {
                Turn::Run { call, worker } => {
                    let Some(batch) = self.take_batch(call) else { return };
                    self.set_state(worker, WorkerState::Busy { call });
                    actions.push(Action::Run { worker, batch });
                }
                Turn::Spawn { call, profile } => {
                    if self.workers.len() >= self.options.max_workers.max(self.slots()) {
                        let Some(victim) = self.longest_idle() else { return };
                        self.retire(victim, actions);
                    }
                    self.mark_served(call);
                    let worker = self.add_worker(profile);
                    actions.push(Action::Spawn { worker, profile });
                }
            }
        }
    }

    fn take_batch(&mut self, id: CallId) -> Option<BatchId> {
        self.mark_served(id);
        let call = self.call_mut(id)?;
        call.running += 1;
        call.waiting.pop_front()
    }

    fn mark_served(&mut self, id: CallId) {
        let turn = self.turn;
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.served = turn;
            if let Some(call) = session.calls.get_mut(&id) {
                call.served = turn;
            }
        }
    }

    fn add_worker(&mut self, profile: ProfileId) -> WorkerId {
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        self.workers.insert(id, Worker { profile, state: WorkerState::Starting });
        id
    }

    fn set_state(&mut self, id: WorkerId, state: WorkerState) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = state;
        }
    }

    fn retire(&mut self, worker: WorkerId, actions: &mut Vec<Action>) {
        self.set_state(worker, WorkerState::Retiring);
        actions.push(Action::Retire(worker));
    }

    fn stop(&mut self, worker: WorkerId, reason: StopReason, actions: &mut Vec<Action>) {
        self.set_state(worker, WorkerState::Stopping);
        actions.push(Action::Stop { worker, reason });
    }

    fn session_closed(&mut self, session: SessionId, actions: &mut Vec<Action>) {
        self.sessions.remove(&session);
        let of_session = self.workers.iter().filter(|(_, w)| w.profile.session == session);
        for (id, state) in of_session.map(|(id, w)| (*id, w.state)).collect::<Vec<_>>() {
            match state {
                WorkerState::Starting | WorkerState::Busy { .. } => {
                    self.stop(id, StopReason::SessionClosed, actions);
                }
                WorkerState::Idle { .. } => self.retire(id, actions),
                WorkerState::Stopping | WorkerState::Retiring => {}
            }
        }
    }

    fn call_opened(&mut self, id: CallId, profile: ProfileId, max_running: Option<u32>) {
        if let Some(session) = self.sessions.get_mut(&id.session) {
            let waiting = std::collections::VecDeque::new();
            let call = Call { profile, max_running, waiting, running: 0, served: 0 };
            session.calls.insert(id, call);
        }
    }

    fn call_closed(&mut self, id: CallId, actions: &mut Vec<Action>) {
        let session = self.sessions.get_mut(&id.session);
        let Some(call) = session.and_then(|session| session.calls.remove(&id)) else { return };
        actions.extend(call.waiting.into_iter().map(Action::Cancel));
        let busy = |state| matches!(state, WorkerState::Busy { call } if call == id);
        let workers = self.workers.iter().filter(|(_, worker)| busy(worker.state));
        for worker in workers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop(worker, StopReason::Cancelled, actions);
        }
    }

    fn batch_submitted(&mut self, batch: BatchId, id: CallId, actions: &mut Vec<Action>) {
        if self.draining {
            actions.push(Action::TurnAway(batch));
        } else if let Some(call) = self.call_mut(id) {
            call.waiting.push_back(batch);
        } else {
            actions.push(Action::Cancel(batch));
        }
    }

    fn worker_ready(&mut self, worker: WorkerId, now: Monotonic) {
        // A worker that was told to go meanwhile stays told.
        if self.workers.get(&worker).is_some_and(|w| w.state == WorkerState::Starting) {
            self.set_state(worker, WorkerState::Idle { since: now });
        }
    }

    fn batch_ended(
        &mut self,
        id: WorkerId,
        recycle: bool,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        let Some(WorkerState::Busy { call }) = self.workers.get(&id).map(|w| w.state) else {
            return;
        };
        self.forget_running(call);
        self.set_state(id, WorkerState::Idle { since: now });
        if recycle {
            self.retire(id, actions);
        }
    }

    fn worker_exited(&mut self, id: WorkerId, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        match worker.state {
            WorkerState::Busy { call } => self.forget_running(call),
            // One batch pays for each worker that does not start, so that a
            // broken environment ends every batch and never loops.
            WorkerState::Starting => {
                let sessions = self.sessions.get_mut(&worker.profile.session);
                let calls = sessions.into_iter().flat_map(|session| session.calls.values_mut());
                let mut waiting = calls.filter(|call| call.profile == worker.profile);
                if let Some(batch) = waiting.find_map(|call| call.waiting.pop_front()) {
                    actions.push(Action::FailStart { batch, worker: id });
                }
            }
            WorkerState::Idle { .. } | WorkerState::Stopping | WorkerState::Retiring => {}
        }
    }

    fn forget_running(&mut self, call: CallId) {
        if let Some(call) = self.call_mut(call) {
            call.running = call.running.saturating_sub(1);
        }
    }

    fn stop_all(&mut self, actions: &mut Vec<Action>) {
        let active = |state| matches!(state, WorkerState::Starting | WorkerState::Busy { .. });
        let workers = self.workers.iter().filter(|(_, worker)| active(worker.state));
        for worker in workers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop(worker, StopReason::AgentEnding, actions);
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let calls = self.sessions.values_mut().flat_map(|session| session.calls.values_mut());
        actions.extend(calls.flat_map(|call| call.waiting.drain(..)).map(Action::TurnAway));
    }
}
