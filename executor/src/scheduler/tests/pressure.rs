//! What makes way when memory runs short.

use super::*;

const SETTLE: u64 = 250_000_000;
const PATIENCE: u64 = 1_000_000_000;

impl World {
    /// One worker for each batch of a session, which began one after the other.
    fn busy(batches: u64) -> Self {
        let mut world = Self::with_slots(4);
        world.client(1, None);
        for number in 1..=batches {
            assert_eq!(world.submit(1, number), [spawn(number, 1)]);
            assert_eq!(world.ready(number), [run(number, 1, number)]);
        }
        world
    }

    /// A look finds memory short.
    fn short(&mut self) -> Vec<Action> {
        self.still_short(0)
    }

    /// The same, so much later.
    fn still_short(&mut self, nanoseconds: u64) -> Vec<Action> {
        self.now += nanoseconds;
        let at = Monotonic::from_nanoseconds(self.now);
        self.on(Event::PressureSeen { at })
    }

    fn made_way(&mut self, number: u64) -> Vec<Action> {
        self.on(Event::BatchMadeWay { batch: batch(1, number), call: call(1) })
    }

    fn later(&mut self, nanoseconds: u64) -> Vec<Action> {
        self.now += nanoseconds;
        self.on(Event::Tick)
    }
}

fn makes_way(worker: u64) -> Action {
    stop(worker, StopReason::Pressure)
}

fn last_attempt(number: u64) -> Action {
    Action::LastAttempt(batch(1, number))
}

#[test]
fn the_youngest_batch_makes_way_and_the_next_only_if_that_was_not_enough() {
    let mut world = World::busy(3);
    assert_eq!(world.short(), [makes_way(3)]);
    assert_eq!(world.still_short(SETTLE * 9), [], "it is not gone yet");
    assert_eq!(world.exited(3, [None, None]), [], "batch 3 waits");
    assert_eq!(world.still_short(SETTLE / 2), []);
    assert_eq!(world.still_short(SETTLE / 2), [makes_way(2)]);
    assert_eq!(world.exited(2, [None, None]), []);
    assert_eq!(world.on(Event::PressureEnded), [spawn(4, 1), spawn(5, 1)]);
    assert_eq!(world.ready(4), [run(4, 1, 2)]);
    assert_eq!(world.ready(5), [run(5, 1, 3)]);
}

#[test]
fn workers_that_do_nothing_leave_first() {
    let mut world = World::busy(3);
    assert_eq!(world.ended(3), []);
    assert_eq!(world.short(), [Action::Retire(WorkerId(3))]);
    assert_eq!(world.still_short(SETTLE / 2), []);
    assert_eq!(world.still_short(SETTLE / 2), [makes_way(2)]);
    // And nobody keeps a worker for later.
    assert_eq!(world.ended(1), [Action::Retire(WorkerId(1))]);
}

#[test]
fn while_memory_is_short_one_batch_begins_when_nothing_runs() {
    let mut world = World::busy(1);
    assert_eq!(world.short(), []);
    assert_eq!(world.submit(1, 2), []);
    assert_eq!(world.submit(1, 3), []);
    assert_eq!(world.ended_after(1, SHORT), [run(1, 1, 2)], "neither is 3 prefetched");
    assert_eq!(world.exited(1, [Some(batch(1, 2)), None]), [spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 3)], "it is not sent away while it is needed");
    assert_eq!(world.ended(2), [Action::Retire(WorkerId(2))]);
}

#[test]
fn what_is_prefetched_waits_for_better_times() {
    let mut world = World::that_ran(1, None, SHORT);
    assert_eq!(world.submit(1, 3), [prefetch(1, 1, 3)]);
    assert_eq!(world.short(), [withdraw(1, 1, 3)]);
    assert_eq!(world.withdrawn(1, 3, true), []);
    assert_eq!(world.on(Event::PressureEnded), []);
    assert_eq!(world.ended_after(1, SHORT), [run(1, 1, 3)]);
}

#[test]
fn a_batch_that_is_alone_and_still_too_much_runs_no_more() {
    let mut world = World::busy(2);
    assert_eq!(world.short(), [makes_way(2)]);
    assert_eq!(world.exited(2, [Some(batch(1, 2)), None]), []);
    assert_eq!(world.still_short(SETTLE), [], "it fails if it is stopped, so not at once");
    assert_eq!(world.later(PATIENCE * 9), [], "nobody looked meanwhile: it may be over");
    world.now -= PATIENCE * 9;
    assert_eq!(world.still_short(PATIENCE - 9), []);
    assert_eq!(world.still_short(9), [last_attempt(1), makes_way(1)]);
    assert_eq!(world.exited(1, [Some(batch(1, 1)), None]), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn a_batch_that_begins_alone_has_its_time() {
    let mut world = World::busy(1);
    world.short();
    world.submit(1, 2);
    world.now += PATIENCE - 9;
    assert_eq!(world.ended(1), [run(1, 1, 2)]);
    assert_eq!(world.still_short(PATIENCE), [], "the first look since it began");
    assert_eq!(world.still_short(PATIENCE), [last_attempt(2), makes_way(1)]);
}

#[test]
fn what_was_seen_before_somebody_left_is_no_news() {
    let mut world = World::busy(2);
    assert_eq!(world.short(), [makes_way(2)]);
    let before = Monotonic::from_nanoseconds(world.now);
    assert_eq!(world.exited(2, [Some(batch(1, 2)), None]), []);
    world.now += PATIENCE * 9;
    assert_eq!(world.on(Event::PressureSeen { at: before }), []);
    assert_eq!(world.short(), [], "one look is not enough");
}

#[test]
fn a_batch_that_made_way_often_enough_stays_while_another_one_can_go() {
    let mut world = World::busy(3);
    world.on(Event::BatchStays { batch: batch(1, 3), call: call(1) });
    assert_eq!(world.short(), [makes_way(2)]);
    assert_eq!(world.exited(2, [None, None]), []);
    assert_eq!(world.still_short(SETTLE), [makes_way(1)]);
    assert_eq!(world.exited(1, [None, None]), []);
    assert_eq!(world.still_short(SETTLE), []);
    assert_eq!(world.still_short(PATIENCE), [last_attempt(3), makes_way(3)]);
}

#[test]
fn batches_that_may_not_run_again_make_way_last_and_not_at_once() {
    let mut world = World::busy(1);
    world.on(Event::SessionOpened(SessionId(2), Share::default()));
    let (call, profile) = (call(2), profile(2));
    world.on(Event::CallOpened { call, profile, max_running: None, makes_way: false });
    for number in 2..=3 {
        assert_eq!(world.submit(2, number), [spawn(number, 2)]);
        assert_eq!(world.ready(number), [run(number, 2, number)]);
    }
    assert_eq!(world.short(), [makes_way(1)]);
    assert_eq!(world.exited(1, [None, None]), []);
    assert_eq!(world.still_short(SETTLE), []);
    assert_eq!(world.still_short(PATIENCE), [makes_way(3)]);
}

#[test]
fn a_batch_that_ended_is_forgotten() {
    let mut world = World::busy(2);
    for number in 1..=2 {
        world.on(Event::BatchStays { batch: batch(1, number), call: call(1) });
        world.made_way(number);
    }
    world.ended(1);
    world.exited(2, [Some(batch(1, 2)), None]);
    let call = world.scheduler.call_mut(call(1)).unwrap();
    assert!(call.stays.is_empty() && call.made_way.is_empty());
}

#[test]
fn after_memory_ran_out_nothing_begins_for_a_moment_unless_nothing_runs() {
    let mut world = World::busy(2);
    assert_eq!(world.on(Event::MemoryRanOut), []);
    assert_eq!(world.exited(2, [None, None]), []);
    assert_eq!(world.later(PATIENCE / 2), [], "and nobody makes way");
    assert_eq!(world.later(PATIENCE / 2), [spawn(3, 1)]);
    assert_eq!(world.ready(3), [run(3, 1, 2)]);
    world.on(Event::MemoryRanOut);
    assert_eq!(world.exited(3, [None, None]), []);
    assert_eq!(world.exited(1, [None, None]), [spawn(4, 1)]);
}

#[test]
fn a_worker_that_is_ready_is_used_although_it_is_the_turn_of_somebody_else() {
    let mut world = World::busy(1);
    world.short();
    world.client(2, None);
    assert_eq!(world.submit(1, 2), []);
    assert_eq!(world.submit(2, 1), []);
    assert_eq!(world.exited(1, [Some(batch(1, 1)), None]), [spawn(2, 2)]);
    world.client(3, None);
    assert_eq!(world.submit(3, 1), []);
    assert_eq!(world.ready(2), [run(2, 2, 1)], "or two sessions start workers in turn for ever");
}

#[test]
fn while_what_runs_fits_nobody_makes_way_and_nothing_begins() {
    let mut world = World::busy(3);
    assert_eq!(world.short(), [makes_way(3)]);
    assert_eq!(world.exited(3, [None, None]), []);
    assert_eq!(world.on(Event::PressureEased), []);
    assert_eq!(world.later(PATIENCE), []);
    assert_eq!(world.ended(2), [Action::Retire(WorkerId(2))]);
    assert_eq!(world.later(PATIENCE), [], "the last one may run to its end");
    assert_eq!(world.short(), []);
    assert_eq!(world.still_short(PATIENCE), [last_attempt(1), makes_way(1)]);
}
