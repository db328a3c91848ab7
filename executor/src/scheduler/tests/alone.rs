//! When what made way runs again.

use super::*;

impl World {
    /// One worker for each of three batches, of which the third makes way.
    fn where_one_made_way() -> Self {
        let mut world = Self::with_slots(4);
        world.client(1, None);
        for number in 1..=3 {
            assert_eq!(world.submit(1, number), [spawn(number, 1)]);
            assert_eq!(world.ready(number), [run(number, 1, number)]);
        }
        assert_eq!(world.makes_way(3, 3), []);
        world
    }

    /// The kernel kills a worker with a batch, which is to be run again.
    fn makes_way(&mut self, worker: u64, number: u64) -> Vec<Action> {
        let event = Event::BatchMadeWay { batch: batch(1, number), call: call(1) };
        assert_eq!(self.on(event), []);
        self.exited(worker, [None, None])
    }
}

fn retire(worker: u64) -> Action {
    Action::Retire(WorkerId(worker))
}

#[test]
fn what_made_way_waits_until_one_ends_that_ran_beside_it() {
    let mut world = World::where_one_made_way();
    assert_eq!(world.submit(1, 4), [], "what is behind it is most likely as large");
    world.client(2, None);
    assert_eq!(world.submit(2, 1), [spawn(4, 2)], "others need not wait");
    assert_eq!(world.ready(4), [run(4, 2, 1)]);
    assert_eq!(world.ended(4), [], "it began later");
    assert_eq!(world.ended(1), [run(1, 1, 3), spawn(5, 1)]);
}

#[test]
fn what_made_way_begins_when_nothing_runs() {
    let mut world = World::where_one_made_way();
    world.on(Event::CallClosed(call(1)));
    let mut world = World::with_slots(1);
    world.client(1, None);
    world.submit(1, 1);
    world.ready(1);
    assert_eq!(world.makes_way(1, 1), [spawn(2, 1)]);
    assert_eq!(world.ready(2), [run(2, 1, 1)]);
}

#[test]
fn of_two_that_made_way_at_once_the_second_waits_for_the_first() {
    let mut world = World::with_slots(4);
    world.client(1, None);
    for number in 1..=2 {
        assert_eq!(world.submit(1, number), [spawn(number, 1)]);
        assert_eq!(world.ready(number), [run(number, 1, number)]);
    }
    assert_eq!(world.makes_way(2, 2), []);
    assert_eq!(world.makes_way(1, 1), [spawn(3, 1), spawn(4, 1)]);
    assert_eq!(world.ready(3), [run(3, 1, 1)]);
    assert_eq!(world.ready(4), []);
    assert_eq!(world.ended(3), [run(3, 1, 2)]);
}

#[test]
fn what_made_way_twice_runs_alone_in_a_new_worker() {
    let mut world = World::where_one_made_way();
    assert_eq!(world.ended(1), [run(1, 1, 3)]);
    assert_eq!(world.makes_way(1, 3), []);
    world.client(2, None);
    assert_eq!(world.submit(2, 1), [], "nothing else begins while it waits");
    assert_eq!(world.ended(2), [retire(2)]);
    assert_eq!(world.submit(2, 2), []);
    assert_eq!(world.exited(2, [None, None]), [spawn(4, 1)]);
    assert_eq!(world.submit(2, 3), []);
    assert_eq!(world.ready(4), [run(4, 1, 3)]);
    assert_eq!(world.submit(2, 4), [], "nor while it runs");
    let then = world.ended(4);
    assert_eq!(then, [spawn(5, 2), spawn(6, 2), spawn(7, 2), spawn(8, 2)]);
}

#[test]
fn of_two_that_run_alone_the_first_is_who_made_way_first() {
    let mut world = World::where_one_made_way();
    assert_eq!(world.ended(1), [run(1, 1, 3)]);
    assert_eq!(world.makes_way(1, 3), []);
    // The other one was killed twice, too: the second time just after that.
    let event = Event::BatchMadeWay { batch: batch(1, 2), call: call(1) };
    assert_eq!(world.on(event), []);
    assert_eq!(world.makes_way(2, 2), [spawn(4, 1)]);
    assert_eq!(world.ready(4), [run(4, 1, 3)]);
    assert_eq!(world.ended(4), [retire(4)]);
    assert_eq!(world.exited(4, [None, None]), [spawn(5, 1)]);
    assert_eq!(world.ready(5), [run(5, 1, 2)]);
}

#[test]
fn a_batch_that_is_killed_alone_begins_alone_again() {
    let mut world = World::where_one_made_way();
    assert_eq!(world.ended(1), [run(1, 1, 3)]);
    assert_eq!(world.makes_way(1, 3), []);
    assert_eq!(world.exited(2, [Some(batch(1, 2)), None]), [spawn(4, 1)]);
    assert_eq!(world.ready(4), [run(4, 1, 3)]);
    assert_eq!(world.submit(1, 4), []);
    assert_eq!(world.makes_way(4, 3), [spawn(5, 1)]);
    assert_eq!(world.ready(5), [run(5, 1, 3)]);
    assert_eq!(world.exited(5, [Some(batch(1, 3)), None]), [spawn(6, 1)]);
    assert_eq!(world.ready(6), [run(6, 1, 4)]);
}

#[test]
fn a_call_that_is_closed_has_nobody_wait_for_it() {
    let mut world = World::where_one_made_way();
    assert_eq!(world.ended(1), [run(1, 1, 3)]);
    assert_eq!(world.makes_way(1, 3), []);
    world.client(2, None);
    assert_eq!(world.submit(2, 1), []);
    let cancelled = [Action::Cancel(batch(1, 3)), stop(2, StopReason::Cancelled), spawn(4, 2)];
    assert_eq!(world.on(Event::CallClosed(call(1))), cancelled);
}

#[test]
fn what_is_prefetched_is_taken_back_for_one_that_runs_alone() {
    let mut world = World::that_ran(1, None, SHORT);
    assert_eq!(world.submit(1, 3), [prefetch(1, 1, 3)]);
    let event = Event::BatchMadeWay { batch: batch(1, 2), call: call(1) };
    assert_eq!(world.on(event), []);
    assert_eq!(world.on(event), [withdraw(1, 1, 3)]);
}
