//! What the scheduler promises whatever happens, in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Action, Event, Options, Scheduler};

const SLOTS: usize = 2;
const MAX_SLOTS: usize = 3;
const MAX_WORKERS: usize = 5;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let from: Vec<T> = from.into_iter().collect();
        let count = u64::try_from(from.len()).ok()?;
        if count == 0 {
            return None;
        }
        from.get(usize::try_from(self.roll(count)).ok()?).copied()
    }
}

/// What a worker does, as the world outside of the scheduler knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Starting,
    Nothing,
    Running(BatchId),
    Ending,
}

/// The world: does what the scheduler says, and holds it to its promises.
struct World {
    scheduler: Scheduler,
    now: u64,
    profiles: BTreeMap<WorkerId, ProfileId>,
    workers: BTreeMap<WorkerId, Doing>,
    /// Open calls, each with its bound and the batches that have not ended.
    calls: BTreeMap<CallId, (u32, BTreeSet<BatchId>)>,
    ended: BTreeSet<BatchId>,
    lost_with_their_session: BTreeSet<BatchId>,
    submitted: BTreeSet<BatchId>,
}

impl World {
    fn new() -> Self {
        let worker_idle = Duration::from_nanos(40);
        let options =
            Options { slots: SLOTS, max_slots: SLOTS, max_workers: MAX_WORKERS, worker_idle };
        Self {
            scheduler: Scheduler::new(options),
            now: 0,
            profiles: BTreeMap::new(),
            workers: BTreeMap::new(),
            calls: BTreeMap::new(),
            ended: BTreeSet::new(),
            lost_with_their_session: BTreeSet::new(),
            submitted: BTreeSet::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        self.now += 1;
        let actions = self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now));
        for action in actions {
            self.perform(action);
        }
        self.check();
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, profile } => {
                assert!(self.profiles.insert(worker, profile).is_none(), "{worker} twice");
                self.workers.insert(worker, Doing::Starting);
            }
            Action::Run { worker, batch } => {
                let before = self.workers.insert(worker, Doing::Running(batch));
                assert_eq!(before, Some(Doing::Nothing), "{worker} was not idle");
                assert_eq!(self.profiles[&worker].session, batch.session, "somebody else's worker");
            }
            Action::Stop { worker, .. } | Action::Retire(worker) => {
                if let Some(Doing::Running(batch)) = self.workers.insert(worker, Doing::Ending) {
                    self.end(batch);
                }
            }
            Action::Cancel(batch) | Action::TurnAway(batch) | Action::FailStart { batch, .. } => {
                self.end(batch);
            }
        }
    }

    fn end(&mut self, batch: BatchId) {
        if self.lost_with_their_session.contains(&batch) {
            return;
        }
        assert!(self.submitted.contains(&batch), "{batch} was never submitted");
        assert!(self.ended.insert(batch), "{batch} ended twice");
        for (_, open) in self.calls.values_mut() {
            open.remove(&batch);
        }
    }

    fn close_session(&mut self, session: SessionId) {
        let calls = self.calls.iter().filter(|(call, _)| call.session == session);
        let lost: Vec<_> = calls.flat_map(|(_, (_, open))| open.iter().copied()).collect();
        self.lost_with_their_session.extend(lost);
        self.calls.retain(|call, _| call.session != session);
        self.tell(Event::SessionClosed(session));
    }

    fn worker_ends(&mut self, worker: WorkerId) {
        if let Some(Doing::Running(batch)) = self.workers.remove(&worker) {
            self.end(batch);
        }
        self.tell(Event::WorkerExited(worker));
    }

    fn check(&self) {
        let running = |doing: &&Doing| matches!(doing, Doing::Running(_) | Doing::Starting);
        assert!(self.workers.values().filter(running).count() <= MAX_SLOTS, "more than the slots");
        for (call, (most, _)) in &self.calls {
            let of_call = self.workers.values().filter(|doing| match doing {
                Doing::Running(batch) => {
                    self.calls[call].1.contains(batch) && batch.session == call.session
                }
                Doing::Starting | Doing::Nothing | Doing::Ending => false,
            });
            assert!(of_call.count() <= *most as usize, "more than the call asked for");
        }
    }

    /// Lets the workers do what they were told until nothing is left to do.
    fn settle(&mut self) {
        while let Some((worker, doing)) = self
            .workers
            .iter()
            .find_map(|(worker, doing)| (*doing != Doing::Nothing).then_some((*worker, *doing)))
        {
            match doing {
                Doing::Starting => self.ready(worker),
                Doing::Running(batch) => self.finished(worker, batch, false),
                Doing::Nothing | Doing::Ending => self.worker_ends(worker),
            }
        }
    }

    fn ready(&mut self, worker: WorkerId) {
        self.workers.insert(worker, Doing::Nothing);
        self.tell(Event::WorkerReady(worker));
    }

    fn finished(&mut self, worker: WorkerId, batch: BatchId, recycle: bool) {
        self.workers.insert(worker, Doing::Nothing);
        self.end(batch);
        self.tell(Event::BatchEnded { worker, recycle });
    }
}

/// Something happens.
fn happen(world: &mut World, dice: &mut Dice, number: u64) {
    let session = SessionId(dice.roll(3));
    match dice.roll(12) {
        0 => {
            let call = CallId { session, call: number };
            let profile = ProfileId { session, profile: dice.roll(2) };
            let most = u32::try_from(dice.roll(4)).unwrap_or(0) + 1;
            world.calls.insert(call, (most, BTreeSet::new()));
            world.tell(Event::CallOpened { call, profile, max_running: Some(most) });
        }
        1..=5 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            let batch = BatchId { session: call.session, batch: number };
            world.submitted.insert(batch);
            world.calls.entry(call).or_default().1.insert(batch);
            world.tell(Event::BatchSubmitted { batch, call });
        }
        6..=8 => {
            let Some((worker, doing)) = dice.pick(world.workers.iter().map(|(w, d)| (*w, *d)))
            else {
                return;
            };
            match doing {
                Doing::Starting => world.ready(worker),
                Doing::Running(batch) => world.finished(worker, batch, dice.roll(9) == 0),
                Doing::Nothing | Doing::Ending => world.worker_ends(worker),
            }
        }
        9 => {
            let Some(worker) = dice.pick(world.workers.keys().copied()) else { return };
            world.worker_ends(worker);
        }
        10 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            world.tell(Event::CallClosed(call));
            world.calls.remove(&call);
        }
        _ if dice.roll(20) == 0 => {
            world.close_session(session);
            world.tell(Event::SessionOpened(session));
        }
        _ => world.tell(Event::Tick),
    }
}

#[test]
fn every_batch_ends_once_in_a_worker_of_its_session_within_the_slots() {
    for seed in 0..40 {
        let (mut world, mut dice) = (World::new(), Dice(seed));
        for session in 0..3 {
            world.tell(Event::SessionOpened(SessionId(session)));
        }
        for number in 0..500 {
            happen(&mut world, &mut dice, number);
        }
        world.settle();
        let all: BTreeSet<_> = world.ended.union(&world.lost_with_their_session).copied().collect();
        assert_eq!(all, world.submitted, "seed {seed}: a batch that waits for ever");
        assert!(world.scheduler.is_quiet(), "seed {seed}");
        assert!(world.profiles.len() > 20 && world.ended.len() > 50, "seed {seed}: too quiet");
    }
}
