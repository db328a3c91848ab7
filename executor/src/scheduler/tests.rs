//! Conversations: an event in, the actions out, nothing left over.

use std::time::Duration;

use super::{Action, Event, Options, Scheduler, StopReason};
use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

struct World {
    scheduler: Scheduler,
    now: u64,
}

impl World {
    fn with_slots(slots: usize) -> Self {
        let worker_idle = Duration::from_secs(10);
        let options = Options { slots, max_slots: slots, max_workers: slots * 2, worker_idle };
        Self { scheduler: Scheduler::new(options), now: 0 }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.now += 1;
        self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now))
    }

    /// Opens a session with one call.
    fn client(&mut self, session: u64, max_running: Option<u32>) {
        assert_eq!(self.on(Event::SessionOpened(SessionId(session))), []);
        let open =
            Event::CallOpened { call: call(session), profile: profile(session), max_running };
        assert_eq!(self.on(open), []);
    }

    fn submit(&mut self, session: u64, number: u64) -> Vec<Action> {
        let batch = batch(session, number);
        self.on(Event::BatchSubmitted { batch, call: call(session) })
    }

    fn ended(&mut self, worker: u64) -> Vec<Action> {
        self.on(Event::BatchEnded { worker: WorkerId(worker), recycle: false })
    }

    fn ready(&mut self, worker: u64) -> Vec<Action> {
        self.on(Event::WorkerReady(WorkerId(worker)))
    }
}

fn call(session: u64) -> CallId {
    CallId { session: SessionId(session), call: 1 }
}

fn profile(session: u64) -> ProfileId {
    ProfileId { session: SessionId(session), profile: 1 }
}

fn batch(session: u64, number: u64) -> BatchId {
    BatchId { session: SessionId(session), batch: number }
}

fn spawn(worker: u64, session: u64) -> Action {
    Action::Spawn { worker: WorkerId(worker), profile: profile(session) }
}

fn run(worker: u64, session: u64, number: u64) -> Action {
    Action::Run { worker: WorkerId(worker), batch: batch(session, number) }
}

fn stop(worker: u64, reason: StopReason) -> Action {
    Action::Stop { worker: WorkerId(worker), reason }
}

#[test]
fn the_pool_grows_on_demand_and_no_further_than_the_slots() {
    let mut world = World::with_slots(2);
    world.client(1, None);
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.submit(1, 2), [spawn(2, 1)]);
    assert_eq!(world.submit(1, 3), []);
    assert_eq!(world.ready(2), [run(2, 1, 1)]);
    assert_eq!(world.ready(1), [run(1, 1, 2)]);
    assert_eq!(world.ended(1), [run(1, 1, 3)]);
    assert_eq!(world.ended(1), []);
    assert_eq!(world.ended(2), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn one_waiting_batch_starts_one_worker() {
    let mut world = World::with_slots(4);
    world.client(1, None);
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.on(Event::Tick), []);
}

#[test]
fn a_call_runs_no_more_at_once_than_it_asked_for() {
    let mut world = World::with_slots(4);
    world.client(1, Some(1));
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.submit(1, 2), []);
    assert_eq!(world.ready(1), [run(1, 1, 1)]);
    assert_eq!(world.ended(1), [run(1, 1, 2)]);
}

#[test]
fn a_call_that_asks_for_more_than_the_slots_adds_some_while_it_is_open() {
    let mut world = World::with_slots(1);
    world.scheduler.options.max_slots = 3;
    world.client(1, Some(9));
    world.client(2, None);
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.submit(1, 2), [spawn(2, 1)]);
    assert_eq!(world.submit(2, 1), [spawn(3, 2)]);
    assert_eq!(world.submit(1, 3), []);
    assert_eq!(world.ready(3), [run(3, 2, 1)]);
    assert_eq!(world.submit(2, 2), []);
    world.on(Event::CallClosed(call(1)));
    assert_eq!(world.ready(1), []);
    assert_eq!(world.ready(2), []);
    assert_eq!(world.ended(3), [run(3, 2, 2)]);
}

#[test]
fn a_modest_session_gets_the_next_slot_before_a_hungry_one() {
    let mut world = World::with_slots(2);
    world.client(1, None);
    for number in 1..=4 {
        world.submit(1, number);
    }
    assert_eq!(world.ready(1), [run(1, 1, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 2)]);
    world.client(2, None);
    assert_eq!(world.submit(2, 1), []);
    assert_eq!(world.ended(1), [spawn(3, 2)]);
    assert_eq!(world.ready(3), [run(3, 2, 1)]);
    assert_eq!(world.ended(3), [run(1, 1, 3)]);
}

#[test]
fn a_closed_call_cancels_what_waits_and_kills_what_runs() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    let actions = world.on(Event::CallClosed(call(1)));
    assert_eq!(actions, [Action::Cancel(batch(1, 2)), stop(1, StopReason::Cancelled)]);
    assert!(!world.scheduler.is_quiet(), "the slot is held until the worker is gone");
    assert_eq!(world.on(Event::WorkerExited(WorkerId(1))), []);
    assert!(world.scheduler.is_quiet());
    assert_eq!(world.submit(1, 3), [Action::Cancel(batch(1, 3))]);
}

#[test]
fn a_closed_session_leaves_no_worker() {
    let mut world = World::with_slots(3);
    world.client(1, None);
    for number in 1..=3 {
        world.submit(1, number);
    }
    world.ready(1);
    world.ready(2);
    world.ended(2);
    let actions = world.on(Event::SessionClosed(SessionId(1)));
    let closed = StopReason::SessionClosed;
    assert_eq!(actions.len(), 3, "{actions:?}");
    assert!(actions.contains(&stop(1, closed)));
    for worker in 1..=3 {
        world.on(Event::WorkerExited(WorkerId(worker)));
    }
    assert!(world.scheduler.workers.is_empty() && world.scheduler.sessions.is_empty());
}

#[test]
fn a_worker_that_does_not_start_costs_one_batch() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    let actions = world.on(Event::WorkerExited(WorkerId(1)));
    let fail = Action::FailStart { batch: batch(1, 1), worker: WorkerId(1) };
    assert_eq!(actions, [fail, spawn(2, 1)]);
}

#[test]
fn a_worker_that_dies_is_replaced_for_the_next_batch() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    assert_eq!(world.on(Event::WorkerExited(WorkerId(1))), [spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 2)]);
}

#[test]
fn idle_workers_leave_after_their_time_and_grown_ones_at_once() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    world.ended(1);
    assert_eq!(world.on(Event::Tick), []);
    world.now += 10_000_000_000;
    assert_eq!(world.on(Event::Tick), [Action::Retire(WorkerId(1))]);
    world.on(Event::WorkerExited(WorkerId(1)));
    world.submit(1, 2);
    world.ready(2);
    let ended = Event::BatchEnded { worker: WorkerId(2), recycle: true };
    assert_eq!(world.on(ended), [Action::Retire(WorkerId(2))]);
}

#[test]
fn an_idle_worker_of_another_session_makes_room_when_there_are_too_many() {
    let mut world = World::with_slots(1);
    for session in 1..=2 {
        world.client(session, None);
        assert_eq!(world.submit(session, 1), [spawn(session, session)]);
        world.ready(session);
        world.ended(session);
    }
    world.client(3, None);
    assert_eq!(world.submit(3, 1), [Action::Retire(WorkerId(1)), spawn(3, 3)]);
}

#[test]
fn an_agent_out_of_patience_kills_what_runs() {
    let mut world = World::with_slots(2);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    world.on(Event::Drain);
    let ending = StopReason::AgentEnding;
    assert_eq!(world.on(Event::StopAll), [stop(1, ending), stop(2, ending)]);
    assert_eq!(world.on(Event::WorkerExited(WorkerId(1))), []);
    assert_eq!(world.on(Event::WorkerExited(WorkerId(2))), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn a_draining_agent_finishes_what_runs_and_turns_away_the_rest() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    assert_eq!(world.on(Event::Drain), [Action::TurnAway(batch(1, 2))]);
    assert_eq!(world.submit(1, 3), [Action::TurnAway(batch(1, 3))]);
    assert!(!world.scheduler.is_quiet());
    world.ended(1);
    assert!(world.scheduler.is_quiet());
}
