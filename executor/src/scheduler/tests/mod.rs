//! Conversations: an event in, the actions out, nothing left over.

mod alone;
mod pressure;
mod retries;
mod shares;

use std::time::Duration;

use super::{Action, Event, Options, Scheduler, Share, StopReason};
use crate::clock::Monotonic;
use crate::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};

struct World {
    scheduler: Scheduler,
    now: u64,
}

impl World {
    fn with_slots(slots: usize) -> Self {
        let worker_idle = Duration::from_secs(10);
        let options = Options {
            slots,
            max_slots: slots,
            max_workers: slots * 2,
            worker_max_batches: None,
            worker_idle,
        };
        Self { scheduler: Scheduler::new(options), now: 0 }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.now += 1;
        self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now))
    }

    /// Opens a session with one call.
    fn client(&mut self, session: u64, max_running: Option<u32>) {
        assert_eq!(self.on(Event::SessionOpened(SessionId(session), Share::default())), []);
        let (call, profile) = (call(session), profile(session));
        let open = Event::CallOpened { call, profile, max_running, makes_way: true };
        assert_eq!(self.on(open), []);
    }

    fn submit(&mut self, session: u64, number: u64) -> Vec<Action> {
        let batch = batch(session, number);
        self.on(Event::BatchSubmitted { batch, call: call(session), small: true })
    }

    fn ended(&mut self, worker: u64) -> Vec<Action> {
        self.ended_after(worker, Duration::from_secs(1))
    }

    fn ended_after(&mut self, worker: u64, ran: Duration) -> Vec<Action> {
        let worker = WorkerId(worker);
        self.on(Event::BatchEnded { worker, recycle: false, ran, again: false })
    }

    fn exited(&mut self, worker: u64, ended: [Option<BatchId>; 2]) -> Vec<Action> {
        self.on(Event::WorkerExited { worker: WorkerId(worker), ended })
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
fn nothing_begins_for_a_driver_that_does_not_take_its_outcomes() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.client(2, None);
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.ready(1), [run(1, 1, 1)]);
    assert_eq!(world.on(Event::OutcomesPile(SessionId(1))), []);
    assert_eq!(world.submit(1, 2), []);
    assert_eq!(world.ended(1), []);
    // Others are not held up, also by calls that it opens meanwhile.
    let (call, profile) = (CallId { session: SessionId(1), call: 2 }, profile(1));
    world.on(Event::CallOpened { call, profile, max_running: None, makes_way: true });
    world.on(Event::BatchSubmitted { batch: batch(1, 3), call, small: true });
    assert_eq!(world.submit(2, 1), [spawn(2, 2)]);
    assert_eq!(world.ready(2), [run(2, 2, 1)]);
    assert_eq!(world.ended(2), []);
    assert_eq!(world.on(Event::OutcomesTaken(SessionId(1))), [run(1, 1, 3)]);
    assert_eq!(world.ended(1), [run(1, 1, 2)]);
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
    assert_eq!(world.exited(1, [Some(batch(1, 1)), None]), []);
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
        world.exited(worker, [None; 2]);
    }
    assert!(world.scheduler.workers.is_empty() && world.scheduler.sessions.is_empty());
}

#[test]
fn a_worker_that_does_not_start_costs_one_batch() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    let actions = world.exited(1, [Some(batch(1, 1)), None]);
    let fail = Action::FailStart { batch: batch(1, 1), worker: WorkerId(1) };
    assert_eq!(actions, [fail, spawn(2, 1)]);
    // Run again, it is the first.
    let (batch, call) = (batch(1, 1), call(1));
    assert_eq!(world.on(Event::BatchReturned { batch, call, makes_way: true }), []);
    assert_eq!(world.ready(2), [run(2, 1, 1)]);
}

#[test]
fn a_worker_that_dies_is_replaced_for_the_next_batch() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    assert_eq!(world.exited(1, [Some(batch(1, 1)), None]), [spawn(2, 1)]);
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
    world.exited(1, [Some(batch(1, 1)), None]);
    world.submit(1, 2);
    world.ready(2);
    let (worker, ran) = (WorkerId(2), Duration::ZERO);
    let ended = Event::BatchEnded { worker, recycle: true, ran, again: false };
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
    assert_eq!(world.exited(1, [Some(batch(1, 1)), None]), []);
    assert_eq!(world.exited(2, [None; 2]), []);
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

const SHORT: Duration = Duration::from_micros(10);
const LONG: Duration = Duration::from_millis(50);

fn prefetch(worker: u64, session: u64, number: u64) -> Action {
    Action::Prefetch { worker: WorkerId(worker), batch: batch(session, number) }
}

fn withdraw(worker: u64, session: u64, number: u64) -> Action {
    Action::Withdraw { worker: WorkerId(worker), batch: batch(session, number) }
}

impl World {
    /// A world where worker 1 runs batch 2 of a call that had a batch before.
    fn that_ran(slots: usize, max_running: Option<u32>, before: Duration) -> Self {
        let mut world = Self::with_slots(slots);
        world.client(1, max_running);
        world.submit(1, 1);
        world.ready(1);
        world.ended_after(1, before);
        assert_eq!(world.submit(1, 2), [run(1, 1, 2)]);
        world
    }

    fn withdrawn(&mut self, worker: u64, number: u64, won: bool) -> Vec<Action> {
        let (worker, batch) = (WorkerId(worker), batch(1, number));
        self.on(Event::BatchWithdrawn { worker, batch, won })
    }
}

#[test]
fn a_busy_worker_gets_one_more_short_batch_and_runs_it_at_once() {
    let mut world = World::that_ran(1, None, SHORT);
    assert_eq!(world.submit(1, 3), [prefetch(1, 1, 3)]);
    assert_eq!(world.submit(1, 4), []);
    let counts = world.scheduler.counts(SessionId(1));
    assert_eq!((counts.waiting, counts.running), (2, 1));
    assert_eq!(world.ended_after(1, SHORT), [prefetch(1, 1, 4)]);
    assert_eq!(world.ended_after(1, SHORT), []);
    assert!(world.scheduler.is_busy(WorkerId(1)));
    assert_eq!(world.ended_after(1, SHORT), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn only_small_batches_of_a_call_that_is_known_to_be_short_are_prefetched() {
    let mut world = World::that_ran(1, None, LONG);
    assert_eq!(world.submit(1, 3), []);

    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    assert_eq!(world.submit(1, 2), [], "nothing is known");

    let mut world = World::that_ran(1, None, SHORT);
    let large = Event::BatchSubmitted { batch: batch(1, 3), call: call(1), small: false };
    assert_eq!(world.on(large), []);
    assert_eq!(world.submit(1, 4), [], "it does not overtake");
}

#[test]
fn a_worker_that_others_wait_for_gets_no_second_batch() {
    let mut world = World::that_ran(1, None, SHORT);
    world.client(2, None);
    assert_eq!(world.submit(2, 1), []);
    assert_eq!(world.submit(1, 3), []);
    // A call at its own bound cannot use the slot, and does not count.
    let mut world = World::that_ran(2, Some(1), SHORT);
    assert_eq!(world.submit(1, 3), [prefetch(1, 1, 3)]);
    assert_eq!(world.submit(1, 4), []);
    world.client(2, Some(1));
    assert_eq!(world.submit(2, 1), [spawn(2, 2)]);
}

#[test]
fn while_a_worker_starts_a_busy_one_may_prefetch_what_it_is_for() {
    let mut world = World::that_ran(2, None, SHORT);
    assert_eq!(world.submit(1, 3), [spawn(2, 1), prefetch(1, 1, 3)]);
    assert_eq!(world.ready(2), [withdraw(1, 1, 3)]);
    assert_eq!(world.withdrawn(1, 3, true), [run(2, 1, 3)]);
}

#[test]
fn a_prefetched_batch_that_was_taken_back_runs_in_the_free_slot_and_once() {
    for won in [true, false] {
        let mut world = two_busy_workers_with_one_more_batch_each();
        assert_eq!(world.ended_after(1, SHORT), []);
        assert_eq!(world.ended_after(1, SHORT), [withdraw(2, 1, 4)]);
        if won {
            assert_eq!(world.withdrawn(2, 4, true), [run(1, 1, 4)]);
            assert_eq!(world.submit(1, 6), [prefetch(1, 1, 6)], "the socket of 2 is not empty");
            assert_eq!(world.ended_after(2, SHORT), [withdraw(1, 1, 6)]);
        } else {
            assert_eq!(world.withdrawn(2, 4, false), []);
            assert_eq!(world.submit(1, 6), [run(1, 1, 6)]);
            assert_eq!(world.ended_after(2, SHORT), []);
            assert!(world.scheduler.is_busy(WorkerId(2)), "it runs batch 4");
        }
    }
}

/// Worker 1 has batch 5 behind another one, worker 2 batch 4.
fn two_busy_workers_with_one_more_batch_each() -> World {
    let mut world = World::that_ran(2, None, SHORT);
    assert_eq!(world.submit(1, 3), [spawn(2, 1), prefetch(1, 1, 3)]);
    assert_eq!(world.ready(2), [withdraw(1, 1, 3)]);
    assert_eq!(world.withdrawn(1, 3, true), [run(2, 1, 3)]);
    world.ended_after(1, SHORT);
    assert_eq!(world.submit(1, 7), [run(1, 1, 7)]);
    assert_eq!(world.submit(1, 4), [prefetch(2, 1, 4)]);
    assert_eq!(world.submit(1, 5), [prefetch(1, 1, 5)]);
    world
}

#[test]
fn a_batch_behind_one_that_turns_out_long_waits_for_any_worker_again() {
    let mut world = World::that_ran(1, None, SHORT);
    world.submit(1, 3);
    assert_eq!(world.on(Event::Tick), []);
    world.now += 20_000_000;
    assert_eq!(world.on(Event::Tick), [withdraw(1, 1, 3)]);
    assert_eq!(world.withdrawn(1, 3, true), []);
    assert_eq!(world.ended_after(1, LONG), [run(1, 1, 3)]);
}

#[test]
fn what_a_dead_worker_had_not_begun_runs_elsewhere() {
    let mut world = World::that_ran(1, None, SHORT);
    world.submit(1, 3);
    assert_eq!(world.exited(1, [Some(batch(1, 2)), None]), [spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 3)]);
    // Its order came too late, so it had begun nothing.
    assert_eq!(world.exited(2, [None, None]), [spawn(3, 1)]);
    assert_eq!(world.ready(3), [run(3, 1, 3)]);
    assert_eq!(world.exited(3, [Some(batch(1, 3)), None]), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn a_prefetched_batch_of_a_closed_call_is_cancelled_unless_it_has_begun() {
    let mut world = World::that_ran(1, None, SHORT);
    world.submit(1, 3);
    let stopped = stop(1, StopReason::Cancelled);
    assert_eq!(world.on(Event::CallClosed(call(1))), [withdraw(1, 1, 3), stopped]);
    assert_eq!(world.withdrawn(1, 3, true), [Action::Cancel(batch(1, 3))]);
    assert_eq!(world.exited(1, [Some(batch(1, 2)), None]), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn a_draining_agent_turns_away_what_is_prefetched() {
    let mut world = World::that_ran(1, None, SHORT);
    world.submit(1, 3);
    assert_eq!(world.on(Event::Drain), [withdraw(1, 1, 3)]);
    assert_eq!(world.withdrawn(1, 3, true), [Action::TurnAway(batch(1, 3))]);
    assert_eq!(world.ended_after(1, SHORT), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn a_worker_gets_no_more_batches_than_it_may_run() {
    let mut world = World::with_slots(1);
    world.scheduler.options.worker_max_batches = Some(2);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    world.ended_after(1, SHORT);
    assert_eq!(world.submit(1, 2), [run(1, 1, 2)]);
    assert_eq!(world.submit(1, 3), [], "batch 2 is its last");
}

#[test]
fn a_worker_that_is_to_be_replaced_first_runs_what_it_has() {
    let mut world = World::that_ran(1, None, SHORT);
    world.submit(1, 3);
    let worker = WorkerId(1);
    let ended = Event::BatchEnded { worker, recycle: true, ran: SHORT, again: false };
    assert_eq!(world.on(ended), []);
    assert_eq!(world.on(ended), [Action::Retire(WorkerId(1))]);
}
