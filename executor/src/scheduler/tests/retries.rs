//! Batches that run again.

use super::*;

impl World {
    /// The batch of a worker failed, and is to be run again.
    pub(super) fn again(&mut self, worker: u64, recycle: bool) -> Vec<Action> {
        let worker = WorkerId(worker);
        self.on(Event::BatchEnded { worker, recycle, ran: SHORT, again: true })
    }
}

#[test]
fn a_batch_that_failed_is_the_next_one_of_its_call_to_run() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.submit(1, 2);
    world.ready(1);
    assert_eq!(world.again(1, false), [run(1, 1, 1)]);
    assert_eq!(world.again(1, true), [Action::Retire(WorkerId(1)), spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 1)]);
    assert_eq!(world.ended(2), [run(2, 1, 2)]);
}

#[test]
fn a_batch_that_failed_is_not_prefetched_and_leaves_what_is_prefetched_alone() {
    let mut world = World::that_ran(1, None, SHORT);
    assert_eq!(world.submit(1, 3), [prefetch(1, 1, 3)]);
    assert_eq!(world.again(1, false), [], "batch 3 runs by now");
    assert_eq!(world.ended_after(1, SHORT), [run(1, 1, 2)]);
}

#[test]
fn a_batch_whose_worker_died_runs_again_unless_it_ended() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    assert_eq!(world.exited(1, [None, None]), [spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 1)]);
    assert_eq!(world.exited(2, [Some(batch(1, 1)), None]), []);
    assert!(world.scheduler.is_quiet());
}

#[test]
fn nothing_runs_again_in_an_agent_that_drains_or_for_a_call_that_is_closed() {
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    world.on(Event::Drain);
    assert_eq!(world.again(1, false), [Action::TurnAway(batch(1, 1))]);

    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    world.on(Event::CallClosed(call(1)));
    assert_eq!(world.exited(1, [None, None]), [Action::Cancel(batch(1, 1))]);
}
