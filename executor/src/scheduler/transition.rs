//! One function for each event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

use super::fairness::Turn;
use super::pressure::Memory;
use super::state::{Busy, Call, Next, Scheduler, Session, Waiting, Worker, WorkerState};
use super::{Action, Event, StopReason};

impl Scheduler {
    /// Takes an event, and says what is to be done about it, in order.
    pub fn apply(&mut self, event: Event, now: Monotonic) -> Vec<Action> {
        let mut actions = Vec::new();
        self.forget_scarcity(now);
        self.count_slots(now);
        match event {
            Event::SessionOpened(session, share) => {
                self.sessions.insert(session, Session { share, ..Session::default() });
            }
            Event::SessionClosed(session) => self.session_closed(session, &mut actions),
            Event::OutcomesPile(session) => self.outcomes_pile(session, true),
            Event::OutcomesTaken(session) => self.outcomes_pile(session, false),
            Event::CallOpened { call, profile, max_running, makes_way } => {
                self.call_opened(call, profile, max_running, makes_way);
            }
            Event::CallClosed(call) => self.call_closed(call, &mut actions),
            Event::BatchSubmitted { batch, call, small } => {
                self.batch_submitted(Waiting { batch, small }, call, &mut actions);
            }
            Event::BatchStays { batch, call } => {
                if let Some(call) = self.call_mut(call) {
                    call.stays.insert(batch);
                }
            }
            Event::BatchReturned { batch, call: id, makes_way } => {
                if let Some(call) = self.call_mut(id).filter(|_| !makes_way) {
                    call.stays.insert(batch);
                }
                self.give_back(id, batch, &mut actions);
            }
            Event::WorkerReady(worker) => self.worker_ready(worker, now, &mut actions),
            Event::BatchEnded { worker, recycle, ran, again } => {
                self.batch_ended(worker, ran, again, now, &mut actions);
                if recycle {
                    self.retire_if_idle(worker, &mut actions);
                }
            }
            Event::BatchWithdrawn { worker, batch, won } => {
                self.batch_withdrawn(worker, batch, won, &mut actions);
            }
            Event::WorkerExited { worker, ended } => {
                self.worker_exited(worker, ended, &mut actions);
                self.somebody_left(now);
            }
            Event::MemoryRanOut => self.memory_ran_out(now),
            Event::BatchMadeWay { batch, call } => {
                self.batch_made_way(batch, call, now, &mut actions);
            }
            Event::PressureSeen { at } => self.pressure_seen(at, &mut actions),
            Event::PressureEased => self.memory = Memory::Tight,
            Event::PressureEnded => self.memory = Memory::Enough,
            Event::Tick => {
                self.withdraw_overdue(now, &mut actions);
                for worker in self.idle_too_long(now) {
                    self.retire(worker, &mut actions);
                }
            }
            Event::Drain => self.drain(&mut actions),
            Event::StopAll => self.stop_all(&mut actions),
        }
        if self.free_slots() > 0 {
            self.withdraw_overdue(now, &mut actions);
        }
        self.fill(now, &mut actions);
        self.use_free_slot(&mut actions);
        self.prefetch(now, &mut actions);
        self.make_way(now, &mut actions);
        actions
    }

    /// Uses every slot that somebody can use.
    fn fill(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        if self.is_quiet() {
            self.hold_nobody_back();
        }
        if let Some(lone) = self.next_alone() {
            self.begin_alone(lone, now, actions);
            return;
        }
        while self.free_slots() > 0 && self.may_begin() {
            let Some(turn) = self.next_turn() else { return };
            self.turn += 1;
            match turn {
                Turn::Run { call, worker } => {
                    let Some(batch) = self.take_batch(call) else { return };
                    self.run(worker, call, batch, now, actions);
                }
                Turn::Spawn { call, profile } => {
                    if self.workers.len() >= self.options.max_workers.max(self.slots()) {
                        let Some(victim) = self.longest_idle() else { return };
                        self.retire(victim, actions);
                    }
                    self.spawn(call, profile, actions);
                }
            }
        }
    }

    pub(super) fn run(
        &mut self,
        worker: WorkerId,
        call: CallId,
        batch: BatchId,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        if self.running().next().is_none() {
            self.hold_others_back(batch);
        }
        let busy = self.begin(call, batch, now);
        self.set_state(worker, WorkerState::Busy(busy));
        self.count_given(worker);
        actions.push(Action::Run { worker, batch });
    }

    pub(super) fn spawn(&mut self, call: CallId, profile: ProfileId, actions: &mut Vec<Action>) {
        self.mark_served(call);
        let worker = self.add_worker(profile);
        actions.push(Action::Spawn { worker, profile });
    }

    fn take_batch(&mut self, id: CallId) -> Option<BatchId> {
        self.call_mut(id)?.waiting.pop_front().map(|waiting| waiting.batch)
    }

    /// A worker runs this batch from now on.
    fn begin(&mut self, call: CallId, running: BatchId, began: Monotonic) -> Busy {
        self.mark_served(call);
        self.somebody_began(began);
        if let Some(call) = self.call_mut(call) {
            call.running += 1;
        }
        Busy { call, running, began, next: Next::Room }
    }

    pub(super) fn count_given(&mut self, worker: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.given += 1;
        }
    }

    fn mark_served(&mut self, id: CallId) {
        let turn = self.turn;
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.served = turn;
            self.least = self.least.max(session.had);
            if let Some(call) = session.calls.get_mut(&id) {
                call.served = turn;
            }
        }
    }

    fn add_worker(&mut self, profile: ProfileId) -> WorkerId {
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        self.workers.insert(id, Worker { profile, state: WorkerState::Starting, given: 0 });
        id
    }

    fn set_state(&mut self, id: WorkerId, state: WorkerState) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = state;
        }
    }

    pub(super) fn retire(&mut self, worker: WorkerId, actions: &mut Vec<Action>) {
        self.set_state(worker, WorkerState::Retiring);
        actions.push(Action::Retire(worker));
    }

    fn retire_if_idle(&mut self, id: WorkerId, actions: &mut Vec<Action>) {
        let state = self.workers.get(&id).map(|worker| worker.state);
        if matches!(state, Some(WorkerState::Idle { .. })) {
            self.retire(id, actions);
        }
    }

    pub(super) fn stop(&mut self, worker: WorkerId, reason: StopReason, actions: &mut Vec<Action>) {
        let batches = self.workers.get(&worker).and_then(|worker| worker.state.batches());
        self.set_state(worker, WorkerState::Stopping(batches));
        actions.push(Action::Stop { worker, reason });
    }

    fn session_closed(&mut self, session: SessionId, actions: &mut Vec<Action>) {
        self.sessions.remove(&session);
        let of_session = self.workers.iter().filter(|(_, w)| w.profile.session == session);
        for (id, state) in of_session.map(|(id, w)| (*id, w.state)).collect::<Vec<_>>() {
            match state {
                WorkerState::Starting | WorkerState::Busy(_) => {
                    self.stop(id, StopReason::SessionClosed, actions);
                }
                WorkerState::Idle { .. } => self.retire(id, actions),
                WorkerState::Stopping(_) | WorkerState::Retiring => {}
            }
        }
    }

    fn outcomes_pile(&mut self, session: SessionId, unread: bool) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.unread = unread;
            session.calls.values_mut().for_each(|call| call.unread = unread);
        }
    }

    fn call_opened(
        &mut self,
        id: CallId,
        profile: ProfileId,
        max_running: Option<u32>,
        makes_way: bool,
    ) {
        if let Some(session) = self.sessions.get_mut(&id.session) {
            let call = Call {
                profile,
                max_running,
                waiting: VecDeque::new(),
                running: 0,
                served: 0,
                average: None,
                makes_way,
                stays: BTreeSet::new(),
                made_way: BTreeMap::new(),
                unread: session.unread,
            };
            session.calls.insert(id, call);
        }
    }

    fn call_closed(&mut self, id: CallId, actions: &mut Vec<Action>) {
        let session = self.sessions.get_mut(&id.session);
        let Some(call) = session.and_then(|session| session.calls.remove(&id)) else { return };
        actions.extend(call.waiting.into_iter().map(|waiting| Action::Cancel(waiting.batch)));
        self.withdraw_where(|busy| busy.call == id, actions);
        let busy = |state| matches!(state, WorkerState::Busy(busy) if busy.call == id);
        let workers = self.workers.iter().filter(|(_, worker)| busy(worker.state));
        for worker in workers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop(worker, StopReason::Cancelled, actions);
        }
    }

    fn batch_submitted(&mut self, waiting: Waiting, id: CallId, actions: &mut Vec<Action>) {
        self.owe_nothing(id.session);
        if self.draining {
            actions.push(Action::TurnAway(waiting.batch));
        } else if let Some(call) = self.call_mut(id) {
            call.waiting.push_back(waiting);
        } else {
            actions.push(Action::Cancel(waiting.batch));
        }
    }

    fn worker_ready(&mut self, worker: WorkerId, now: Monotonic, actions: &mut Vec<Action>) {
        // A worker that was told to go meanwhile stays told.
        if self.workers.get(&worker).is_some_and(|w| w.state == WorkerState::Starting) {
            self.set_state(worker, WorkerState::Idle { since: now });
            self.use_started(worker, now, actions);
        }
    }

    /// A worker that was started keeps its slot. Were it somebody else's turn by
    /// now, with more sessions than workers each might start one that the next
    /// sends away, for ever.
    fn use_started(&mut self, worker: WorkerId, now: Monotonic, actions: &mut Vec<Action>) {
        if self.memory == Memory::Enough
            && !self.is_for_one_alone()
            && let Some(call) = self.next_call_for(worker)
            && let Some(batch) = self.take_batch(call)
        {
            self.turn += 1;
            self.run(worker, call, batch, now, actions);
        }
    }

    fn batch_ended(
        &mut self,
        id: WorkerId,
        ran: Duration,
        again: bool,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.workers.get(&id).map(|worker| worker.state) else { return };
        let Some(Busy { call, running, next, .. }) = state.batches() else { return };
        self.forget_running(call);
        self.one_ended(running);
        if again {
            self.give_back(call, running, actions);
        } else if let Some(call) = self.call_mut(call) {
            call.note_duration(ran);
            call.forget(running);
        }
        let stopping = matches!(state, WorkerState::Stopping(_));
        if let Some(batch) = next.batch() {
            // The worker is at it already, and is replaced after it.
            self.turn += 1;
            let busy = self.begin(call, batch, now);
            let then =
                if stopping { WorkerState::Stopping(Some(busy)) } else { WorkerState::Busy(busy) };
            self.set_state(id, then);
        } else if stopping {
            self.set_state(id, WorkerState::Stopping(None));
        } else {
            self.set_state(id, WorkerState::Idle { since: now });
        }
    }

    /// A batch is ours again, and the first to run: it has not begun, or it
    /// failed through no fault of its own.
    pub(super) fn give_back(&mut self, id: CallId, batch: BatchId, actions: &mut Vec<Action>) {
        let draining = self.draining;
        match self.call_mut(id) {
            None => actions.push(Action::Cancel(batch)),
            Some(_) if draining => actions.push(Action::TurnAway(batch)),
            // It may be large. It was prefetched once, and that was enough.
            Some(call) => call.waiting.push_front(Waiting { batch, small: false }),
        }
    }

    fn worker_exited(
        &mut self,
        id: WorkerId,
        ended: [Option<BatchId>; 2],
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if let Some(busy) = worker.state.batches() {
            self.forget_running(busy.call);
            self.one_ended(busy.running);
            for batch in [busy.next.batch(), Some(busy.running)].into_iter().flatten() {
                if !ended.contains(&Some(batch)) {
                    self.give_back(busy.call, batch, actions);
                } else if let Some(call) = self.call_mut(busy.call) {
                    call.forget(batch);
                }
            }
            return;
        }
        match worker.state {
            // One batch pays for each worker that does not start, so that a
            // broken environment ends every batch and never loops.
            WorkerState::Starting => {
                let sessions = self.sessions.get_mut(&worker.profile.session);
                let calls = sessions.into_iter().flat_map(|session| session.calls.values_mut());
                let mut waiting = calls.filter(|call| call.profile == worker.profile);
                if let Some(waiting) = waiting.find_map(|call| call.waiting.pop_front()) {
                    let batch = waiting.batch;
                    actions.push(Action::FailStart { batch, worker: id });
                }
            }
            WorkerState::Idle { .. }
            | WorkerState::Busy(_)
            | WorkerState::Stopping(_)
            | WorkerState::Retiring => {}
        }
    }

    fn forget_running(&mut self, call: CallId) {
        if let Some(call) = self.call_mut(call) {
            call.running = call.running.saturating_sub(1);
        }
    }

    fn stop_all(&mut self, actions: &mut Vec<Action>) {
        self.withdraw_where(|_| true, actions);
        let active = |state| matches!(state, WorkerState::Starting | WorkerState::Busy(_));
        let workers = self.workers.iter().filter(|(_, worker)| active(worker.state));
        for worker in workers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop(worker, StopReason::AgentEnding, actions);
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let calls = self.sessions.values_mut().flat_map(|session| session.calls.values_mut());
        let waiting = calls.flat_map(|call| call.waiting.drain(..));
        actions.extend(waiting.map(|waiting| Action::TurnAway(waiting.batch)));
        self.withdraw_where(|_| true, actions);
    }
}
