//! What the scheduler promises whatever happens, in whatever order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Action, Event, Options, Scheduler, StopReason};

const SLOTS: usize = 2;
const MAX_WORKERS: usize = 5;
const WORKER_MAX_BATCHES: u64 = 20;

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
    /// Told to leave while idle.
    Leaving,
    /// Told to die, with what it ran.
    Dying(Option<BatchId>),
}

/// A batch that waits in the socket of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Offered(BatchId),
    /// The worker has begun it; the end of the one before is on its way.
    Claimed(BatchId),
}

/// The world: does what the scheduler says, and holds it to its promises.
struct World {
    scheduler: Scheduler,
    now: u64,
    profiles: BTreeMap<WorkerId, ProfileId>,
    workers: BTreeMap<WorkerId, Doing>,
    nexts: BTreeMap<WorkerId, Next>,
    given: BTreeMap<WorkerId, u64>,
    prefetched: usize,
    withdrawn: [usize; 2],
    /// Memory is short, as the scheduler was told.
    short: bool,
    /// Somebody has to go.
    acute: bool,
    /// There was none left a moment ago.
    scarce_until: u64,
    /// Workers that made way.
    made_way: usize,
    /// Batches that are not run again.
    last: BTreeSet<BatchId>,
    /// Attempts that failed and were followed by another one.
    again: usize,
    /// Open calls, each with its bound and the batches that have not ended.
    calls: BTreeMap<CallId, (u32, BTreeSet<BatchId>)>,
    ended: BTreeSet<BatchId>,
    lost_with_their_session: BTreeSet<BatchId>,
    submitted: BTreeSet<BatchId>,
}

impl World {
    fn new() -> Self {
        let worker_idle = Duration::from_nanos(40);
        let options = Options {
            slots: SLOTS,
            max_slots: SLOTS,
            max_workers: MAX_WORKERS,
            worker_max_batches: Some(WORKER_MAX_BATCHES),
            worker_idle,
        };
        Self {
            scheduler: Scheduler::new(options),
            now: 0,
            profiles: BTreeMap::new(),
            workers: BTreeMap::new(),
            nexts: BTreeMap::new(),
            given: BTreeMap::new(),
            prefetched: 0,
            withdrawn: [0, 0],
            short: false,
            acute: false,
            scarce_until: 0,
            made_way: 0,
            last: BTreeSet::new(),
            again: 0,
            calls: BTreeMap::new(),
            ended: BTreeSet::new(),
            lost_with_their_session: BTreeSet::new(),
            submitted: BTreeSet::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.now += 1;
            let actions = self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now));
            events.extend(actions.into_iter().filter_map(|action| self.perform(action)));
        }
        self.check();
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn { worker, profile } => {
                self.assert_may_begin();
                assert!(self.profiles.insert(worker, profile).is_none(), "{worker} twice");
                self.workers.insert(worker, Doing::Starting);
            }
            Action::Run { worker, batch } => {
                self.assert_may_begin();
                assert!(!self.last.contains(&batch), "{batch} had its last attempt");
                let before = self.workers.insert(worker, Doing::Running(batch));
                assert_eq!(before, Some(Doing::Nothing), "{worker} was not idle");
                self.give(worker, batch);
            }
            Action::Prefetch { worker, batch } => {
                assert!(!self.is_short(), "{worker} gets more while memory is short");
                assert!(matches!(self.workers[&worker], Doing::Running(_)), "{worker} is idle");
                let before = self.nexts.insert(worker, Next::Offered(batch));
                assert_eq!(before, None, "{worker} has one");
                self.prefetched += 1;
                self.give(worker, batch);
            }
            Action::Withdraw { worker, batch } => {
                let won = self.nexts.get(&worker) == Some(&Next::Offered(batch));
                if won {
                    self.nexts.remove(&worker);
                } else {
                    assert_eq!(self.nexts.get(&worker), Some(&Next::Claimed(batch)));
                }
                self.withdrawn[usize::from(won)] += 1;
                return Some(Event::BatchWithdrawn { worker, batch, won });
            }
            Action::LastAttempt(batch) => {
                let running = |doing: &&Doing| matches!(doing, Doing::Running(_));
                assert_eq!(self.workers.values().filter(running).count(), 1, "not alone");
                self.last.insert(batch);
            }
            Action::Stop { worker, reason } => {
                if reason == StopReason::Pressure {
                    let dying = |doing: &Doing| matches!(doing, Doing::Dying(_));
                    assert!(self.acute, "{worker} makes way for nothing");
                    assert!(!self.workers.values().any(dying), "more than one makes way");
                    self.made_way += 1;
                }
                let before = self.workers.insert(worker, Doing::Dying(None));
                if let Some(Doing::Running(batch)) = before {
                    self.workers.insert(worker, Doing::Dying(Some(batch)));
                }
            }
            Action::Retire(worker) => {
                let before = self.workers.insert(worker, Doing::Leaving);
                assert_eq!(before, Some(Doing::Nothing), "{worker} was not idle");
            }
            Action::FailStart { batch, worker } if worker.0 % 3 > 0 => {
                let mut calls = self.calls.iter();
                let call =
                    calls.find_map(|(call, (_, open))| open.contains(&batch).then_some(*call));
                self.again += usize::from(call.is_some());
                return call.map(|call| {
                    let makes_way = worker.0.is_multiple_of(2);
                    Event::BatchReturned { batch, call, makes_way }
                });
            }
            Action::Cancel(batch) | Action::TurnAway(batch) | Action::FailStart { batch, .. } => {
                self.end(batch);
            }
        }
        None
    }

    fn is_short(&self) -> bool {
        self.short || self.now < self.scarce_until
    }

    fn held(&self) -> usize {
        let holds = |doing: &&Doing| !matches!(doing, Doing::Nothing | Doing::Leaving);
        self.workers.values().filter(holds).count()
    }

    fn assert_may_begin(&self) {
        assert!(!self.is_short() || self.held() == 0, "more begins while memory is short");
    }

    fn give(&mut self, worker: WorkerId, batch: BatchId) {
        assert_eq!(self.profiles[&worker].session, batch.session, "somebody else's worker");
        let given = self.given.entry(worker).or_default();
        *given += 1;
        assert!(*given <= WORKER_MAX_BATCHES, "{worker} got too many");
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

    /// A worker is gone; perhaps before it heard of its batch.
    fn worker_ends(&mut self, worker: WorkerId, heard: bool) {
        let running = match self.workers.remove(&worker) {
            Some(Doing::Running(batch) | Doing::Dying(Some(batch))) => Some(batch),
            _ => None,
        };
        let heard = heard || running.is_some_and(|batch| self.last.contains(&batch));
        let ended = match self.nexts.remove(&worker) {
            Some(Next::Claimed(next)) => [running, Some(next)],
            Some(Next::Offered(_)) | None => [running.filter(|_| heard), None],
        };
        ended.into_iter().flatten().for_each(|batch| self.end(batch));
        self.tell(Event::WorkerExited { worker, ended });
    }

    fn check(&self) {
        let held = self.held();
        assert!(held <= SLOTS, "more than the slots");
        let slots = if self.is_short() { 1 } else { SLOTS };
        for (call, (most, open)) in &self.calls {
            let running = self.workers.values().filter(|doing| match doing {
                Doing::Running(batch) | Doing::Dying(Some(batch)) => open.contains(batch),
                Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(None) => false,
            });
            let running = running.count();
            assert!(running <= *most as usize, "more than the call asked for");
            if held < slots && running < *most as usize {
                let idle_away = |next: &Next| matches!(next, Next::Offered(b) if open.contains(b));
                assert!(!self.nexts.values().any(idle_away), "{call:?} could run what waits");
                let room = self.workers.len() < MAX_WORKERS;
                let starting = self.workers.values().any(|doing| *doing == Doing::Starting);
                let nobody = open.iter().all(|batch| self.is_given(*batch));
                assert!(nobody || starting || !room, "{call:?} waits for nothing");
            }
        }
    }

    fn is_given(&self, batch: BatchId) -> bool {
        let has = [Doing::Running(batch), Doing::Dying(Some(batch))];
        self.workers.values().any(|doing| has.contains(doing))
            || self.nexts.values().any(|n| [Next::Offered(batch), Next::Claimed(batch)].contains(n))
    }

    /// A worker goes on to its next batch, before anyone knows.
    fn claim(&mut self, worker: WorkerId) {
        if let Some(Next::Offered(batch)) = self.nexts.get(&worker).copied() {
            self.nexts.insert(worker, Next::Claimed(batch));
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
                Doing::Running(batch) => self.finished(worker, batch, false, 1, false),
                Doing::Nothing | Doing::Leaving | Doing::Dying(_) => self.worker_ends(worker, true),
            }
        }
    }

    fn ready(&mut self, worker: WorkerId) {
        self.workers.insert(worker, Doing::Nothing);
        self.tell(Event::WorkerReady(worker));
    }

    fn finished(&mut self, worker: WorkerId, batch: BatchId, recycle: bool, ran: u64, again: bool) {
        let next = self.nexts.remove(&worker).map(|next| match next {
            Next::Offered(batch) | Next::Claimed(batch) => batch,
        });
        let dying = matches!(self.workers[&worker], Doing::Dying(_));
        let doing = next.map_or(Doing::Nothing, Doing::Running);
        self.workers.insert(worker, if dying { Doing::Dying(next) } else { doing });
        let again = again && !self.last.contains(&batch);
        if again {
            self.again += 1;
        } else {
            self.end(batch);
        }
        let recycle = recycle || self.given[&worker] >= WORKER_MAX_BATCHES;
        let ran = Duration::from_millis(ran);
        self.tell(Event::BatchEnded { worker, recycle, ran, again });
    }
}

/// Something happens.
fn happen(world: &mut World, dice: &mut Dice, number: u64) {
    let session = SessionId(dice.roll(3));
    match dice.roll(17) {
        0 => {
            let call = CallId { session, call: number };
            let profile = ProfileId { session, profile: dice.roll(2) };
            let most = u32::try_from(dice.roll(4)).unwrap_or(0) + 1;
            world.calls.insert(call, (most, BTreeSet::new()));
            let makes_way = dice.roll(3) > 0;
            world.tell(Event::CallOpened { call, profile, max_running: Some(most), makes_way });
        }
        1..=5 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            let batch = BatchId { session: call.session, batch: number };
            world.submitted.insert(batch);
            world.calls.entry(call).or_default().1.insert(batch);
            let small = dice.roll(9) > 0;
            world.tell(Event::BatchSubmitted { batch, call, small });
        }
        6..=8 => {
            let Some((worker, doing)) = dice.pick(world.workers.iter().map(|(w, d)| (*w, *d)))
            else {
                return;
            };
            match doing {
                Doing::Starting => world.ready(worker),
                // Its answer was on its way before it died, or it was not.
                Doing::Dying(Some(batch)) if dice.roll(3) == 0 => {
                    world.finished(worker, batch, false, 1, false);
                }
                Doing::Running(batch) => {
                    let (recycle, again) = (dice.roll(9) == 0, dice.roll(6) == 0);
                    world.finished(worker, batch, recycle, dice.roll(3), again);
                }
                Doing::Nothing | Doing::Leaving | Doing::Dying(_) => {
                    world.worker_ends(worker, true);
                }
            }
        }
        9 => {
            let Some(worker) = dice.pick(world.workers.keys().copied()) else { return };
            let heard = dice.roll(2) == 0;
            world.worker_ends(worker, heard);
        }
        10 => {
            let Some(call) = dice.pick(world.calls.keys().copied()) else { return };
            world.calls.remove(&call);
            world.tell(Event::CallClosed(call));
        }
        11..=12 => {
            let Some(worker) = dice.pick(world.nexts.keys().copied()) else { return };
            world.claim(worker);
        }
        13 => pressure(world, dice),
        14 if world.short => {
            world.now += dice.roll(3) * 600_000_000;
            world.tell(Event::Tick);
        }
        _ if dice.roll(20) == 0 => {
            world.close_session(session);
            world.tell(Event::SessionOpened(session));
        }
        _ => {
            world.now += dice.roll(2) * 20_000_000;
            world.tell(Event::Tick);
        }
    }
}

/// Memory comes and goes.
fn pressure(world: &mut World, dice: &mut Dice) {
    match dice.roll(7) {
        0 | 1 => {
            (world.short, world.acute) = (true, true);
            world.tell(Event::PressureBegan);
        }
        2 | 3 => {
            // As far as that is known, there is enough.
            (world.short, world.acute, world.scarce_until) = (false, false, 0);
            world.tell(Event::PressureEnded);
        }
        4 => {
            if !world.short {
                world.scarce_until = world.now + 1 + 1_000_000_000;
            }
            world.tell(Event::MemoryRanOut);
        }
        5 => {
            (world.short, world.acute) = (true, false);
            world.tell(Event::PressureEased);
        }
        _ => {
            let running = world.workers.values().filter_map(|doing| match doing {
                Doing::Running(batch) => Some(*batch),
                Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(_) => None,
            });
            let Some(batch) = dice.pick(running) else { return };
            let mut calls = world.calls.iter();
            let call = calls.find_map(|(call, (_, open))| open.contains(&batch).then_some(*call));
            let Some(call) = call else { return };
            world.tell(Event::BatchStays { batch, call });
        }
    }
}

#[test]
fn every_batch_ends_once_in_a_worker_of_its_session_within_the_slots() {
    let (mut prefetched, mut withdrawn) = (0, [0, 0]);
    let (mut again, mut made_way, mut last) = (0, 0, 0);
    for seed in 0..40 {
        let (mut world, mut dice) = (World::new(), Dice(seed));
        for session in 0..3 {
            world.tell(Event::SessionOpened(SessionId(session)));
        }
        for number in 0..800 {
            happen(&mut world, &mut dice, number);
        }
        world.settle();
        let all: BTreeSet<_> = world.ended.union(&world.lost_with_their_session).copied().collect();
        assert_eq!(all, world.submitted, "seed {seed}: a batch that waits for ever");
        assert!(world.scheduler.is_quiet(), "seed {seed}");
        let [lost, won] = world.withdrawn;
        prefetched += world.prefetched;
        withdrawn = [withdrawn[0] + lost, withdrawn[1] + won];
        again += world.again;
        made_way += world.made_way;
        last += world.last.len();
        assert!(world.profiles.len() > 20 && world.ended.len() > 50, "seed {seed}: too quiet");
    }
    assert!(
        prefetched > 100 && withdrawn.iter().all(|count| *count > 10),
        "{prefetched} {withdrawn:?}"
    );
    assert!(again > 100 && made_way > 50 && last > 20, "{again} {made_way} {last}");
}
