//! Who gets how many slots when several want them.

use std::collections::{BTreeMap, VecDeque};

use super::super::Weight;
use super::*;

const SECOND: u64 = 1_000_000_000;

/// Sessions that always want more, with batches of one second each.
struct Hungry {
    world: World,
    /// What runs: which worker, of which session, until when.
    running: BTreeMap<WorkerId, (u64, u64)>,
    last_batch: u64,
}

impl Hungry {
    fn new(slots: usize, weights: &[f64]) -> Self {
        let world = World::with_slots(slots);
        let mut hungry = Self { world, running: BTreeMap::new(), last_batch: 0 };
        for (session, weight) in (1..).zip(weights) {
            let weight = Weight::new(*weight).unwrap();
            hungry.join(session, Share { weight, max_running: None }, 10_000);
        }
        hungry
    }

    fn join(&mut self, session: u64, share: Share, batches: u64) {
        self.tell(Event::SessionOpened(SessionId(session), share));
        let (call, profile) = (call(session), profile(session));
        self.tell(Event::CallOpened { call, profile, max_running: None, makes_way: true });
        (0..batches).for_each(|_| self.submit(session));
    }

    fn submit(&mut self, session: u64) {
        self.last_batch += 1;
        let batch = batch(session, self.last_batch);
        self.tell(Event::BatchSubmitted { batch, call: call(session), small: true });
    }

    fn tell(&mut self, event: Event) {
        let mut actions = VecDeque::from(self.world.on(event));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Spawn { worker, .. } => {
                    actions.extend(self.world.on(Event::WorkerReady(worker)));
                }
                Action::Run { worker, batch } => {
                    let until = self.world.now + SECOND;
                    self.running.insert(worker, (batch.session.0, until));
                }
                Action::Retire(worker) => {
                    let gone = Event::WorkerExited { worker, ended: [None, None] };
                    actions.extend(self.world.on(gone));
                }
                Action::Prefetch { .. }
                | Action::Withdraw { .. }
                | Action::Stop { .. }
                | Action::LastAttempt(_)
                | Action::Cancel(_)
                | Action::TurnAway(_)
                | Action::FailStart { .. } => panic!("{action:?}"),
            }
        }
    }

    /// Lets the batch end that ends next; gives its session.
    fn next(&mut self) -> u64 {
        let next =
            self.running.iter().map(|(worker, (session, until))| (*until, *worker, *session));
        let (until, worker, session) = next.min().unwrap();
        self.running.remove(&worker);
        self.world.now = self.world.now.max(until);
        let ran = Duration::from_secs(1);
        self.tell(Event::BatchEnded { worker, recycle: false, ran, again: false });
        session
    }

    fn go_on(&mut self, batches: u64) {
        for _ in 0..batches {
            self.next();
        }
    }

    fn holds(&self, session: u64) -> usize {
        self.running.values().filter(|(of, _)| *of == session).count()
    }
}

#[test]
fn slots_are_held_in_proportion_to_weights() {
    let mut hungry = Hungry::new(8, &[3.0, 1.0]);
    hungry.go_on(40);
    for _ in 0..40 {
        hungry.next();
        assert_eq!([1, 2].map(|session| hungry.holds(session)), [6, 2]);
    }
}

#[test]
fn less_than_a_slot_is_shared_by_time() {
    let mut hungry = Hungry::new(1, &[3.0, 1.0]);
    let turns: Vec<_> = (0..400).map(|_| hungry.next()).collect();
    let first = turns.iter().filter(|session| **session == 1).count();
    assert!(first.abs_diff(300) <= 2, "{first}");
    let mut waits = turns.split(|session| *session == 2).map(<[_]>::len);
    assert!(waits.all(|others| others <= 4), "the one of less weight waits long: {turns:?}");
}

#[test]
fn nobody_takes_all_that_is_left_over() {
    let mut hungry = Hungry::new(2, &[1.0, 1.0, 1.0, 1.0, 1.0]);
    let turns: Vec<_> = (0..500).map(|_| hungry.next()).collect();
    for session in 1..=5 {
        let got = turns.iter().filter(|of| **of == session).count();
        assert!(got.abs_diff(100) <= 3, "{session} got {got}");
    }
}

#[test]
fn a_modest_client_gets_the_next_slot_whatever_was_before() {
    let mut hungry = Hungry::new(2, &[1.0]);
    hungry.go_on(500);
    hungry.join(2, Share::default(), 0);
    for _ in 0..20 {
        hungry.submit(2);
        hungry.next();
        assert_eq!(hungry.holds(2), 1, "it waits for more than one batch to end");
        while hungry.next() != 2 {}
    }
}

#[test]
fn what_a_client_did_not_use_is_not_owed_to_it() {
    let mut hungry = Hungry::new(1, &[1.0]);
    hungry.join(2, Share::default(), 0);
    hungry.go_on(500);
    (0..500).for_each(|_| hungry.submit(2));
    let turns: Vec<_> = (0..100).map(|_| hungry.next()).collect();
    let second = turns.iter().filter(|session| **session == 2).count();
    assert!(second.abs_diff(50) <= 2, "{turns:?}");
}

#[test]
fn a_session_runs_no_more_than_its_most_over_all_calls() {
    let mut world = World::with_slots(4);
    world
        .on(Event::SessionOpened(SessionId(1), Share { max_running: Some(2), ..Share::default() }));
    for number in 1..=2 {
        let call = CallId { session: SessionId(1), call: number };
        let profile = ProfileId { session: SessionId(1), profile: number };
        world.on(Event::CallOpened { call, profile, max_running: None, makes_way: true });
        let ids = [number * 10, number * 10 + 1].map(|number| batch(1, number));
        let submitted =
            ids.map(|batch| world.on(Event::BatchSubmitted { batch, call, small: true }));
        let spawned = submitted.iter().flatten().count();
        assert_eq!(spawned, if number == 1 { 2 } else { 0 }, "{submitted:?}");
    }
    assert_eq!(world.ready(1), [run(1, 1, 10)]);
    assert_eq!(world.ready(2), [run(2, 1, 11)]);
    // Both slots that are left over are somebody else's.
    world.client(2, None);
    assert_eq!(world.submit(2, 1), [spawn(3, 2)]);
    assert_eq!(world.submit(2, 2), [spawn(4, 2)]);
    let third = Action::Spawn {
        worker: WorkerId(5),
        profile: ProfileId { session: SessionId(1), profile: 2 },
    };
    assert_eq!(world.ended(1), [third]);
}

#[test]
fn what_a_bounded_session_has_prefetched_stays_where_it_is() {
    let mut world = World::with_slots(2);
    world
        .on(Event::SessionOpened(SessionId(1), Share { max_running: Some(1), ..Share::default() }));
    let (call, profile) = (call(1), profile(1));
    world.on(Event::CallOpened { call, profile, max_running: None, makes_way: true });
    assert_eq!(world.submit(1, 1), [spawn(1, 1)]);
    assert_eq!(world.ready(1), [run(1, 1, 1)]);
    assert_eq!(world.ended_after(1, Duration::from_micros(1)), []);
    assert_eq!(world.submit(1, 2), [run(1, 1, 2)]);
    let prefetched = Action::Prefetch { worker: WorkerId(1), batch: batch(1, 3) };
    assert_eq!(world.submit(1, 3), [prefetched]);
    assert_eq!(world.on(Event::Tick), []);
}
