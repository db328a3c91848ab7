//! What the scheduler promises whatever happens, in whatever order.

mod happenings;
mod shares;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Action, Event, Options, Scheduler, Share, StopReason};

use happenings::{Dice, happen};

const SLOTS: usize = 2;
const MAX_WORKERS: usize = 5;
const WORKER_MAX_BATCHES: u64 = 20;
/// A batch that made way so often runs alone.
const ALONE: u32 = 2;

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
    /// Batches that made way: how often, and what ran beside them then, until one
    /// of those ended.
    pressed: BTreeMap<BatchId, (u32, BTreeSet<BatchId>)>,
    /// Batches whose worker did not start, until the scheduler is told what comes
    /// of them.
    undecided: BTreeSet<BatchId>,
    /// Times that a batch ran alone.
    alone: usize,
    /// Batches that are not run again.
    last: BTreeSet<BatchId>,
    /// Attempts that failed and were followed by another one.
    again: usize,
    /// Open calls, each with its bound and the batches that have not ended.
    calls: BTreeMap<CallId, (u32, BTreeSet<BatchId>)>,
    /// What each session may run at once.
    most: BTreeMap<SessionId, u32>,
    /// Times that a session ran as much as it may.
    full: usize,
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
            pressed: BTreeMap::new(),
            undecided: BTreeSet::new(),
            alone: 0,
            last: BTreeSet::new(),
            again: 0,
            calls: BTreeMap::new(),
            most: BTreeMap::new(),
            full: 0,
            ended: BTreeSet::new(),
            lost_with_their_session: BTreeSet::new(),
            submitted: BTreeSet::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.now += 1;
            if let Event::BatchReturned { batch, .. } = event {
                self.undecided.remove(&batch);
            }
            if self.held() == 0 {
                // There is nothing to wait for.
                self.pressed.values_mut().for_each(|(_, beside)| beside.clear());
            }
            let actions = self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now));
            events.extend(actions.into_iter().filter_map(|action| self.perform(action)));
        }
        self.check();
    }

    /// Where nothing runs, those that made way wait for this one.
    fn begins_first(&mut self, batch: BatchId) {
        let runs = |doing: &Doing| matches!(doing, Doing::Running(_) | Doing::Dying(Some(_)));
        if self.workers.values().any(runs) {
            return;
        }
        for (_, (_, beside)) in self.pressed.iter_mut().filter(|(other, _)| **other != batch) {
            *beside = BTreeSet::from([batch]);
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn { worker, profile } => {
                self.assert_may_begin();
                let alone = self.is_for_one_alone();
                assert!(!alone || self.workers.is_empty(), "{worker} besides one alone");
                assert!(self.profiles.insert(worker, profile).is_none(), "{worker} twice");
                self.workers.insert(worker, Doing::Starting);
            }
            Action::Run { worker, batch } => {
                self.assert_may_begin();
                assert!(!self.last.contains(&batch), "{batch} had its last attempt");
                self.assert_patient(worker, batch);
                self.begins_first(batch);
                let before = self.workers.insert(worker, Doing::Running(batch));
                assert_eq!(before, Some(Doing::Nothing), "{worker} was not idle");
                self.give(worker, batch);
                let (running, most) = (self.running_of(batch.session), self.most[&batch.session]);
                assert!(running <= most as usize, "more than the session may");
                self.full += usize::from(running == most as usize);
            }
            Action::Prefetch { worker, batch } => {
                assert!(!self.is_short(), "{worker} gets more while memory is short");
                assert!(!self.is_for_one_alone(), "{worker} gets more besides one alone");
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
                self.undecided.insert(batch);
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

    /// What made way does not begin too early, nor does anything else instead.
    fn assert_patient(&mut self, worker: WorkerId, batch: BatchId) {
        let (times, beside) = self.pressed.get(&batch).cloned().unwrap_or_default();
        if times >= ALONE {
            assert_eq!(self.workers.len(), 1, "{batch} is not alone");
            assert!(!self.given.contains_key(&worker), "{worker} has memory of others");
            self.alone += 1;
        } else {
            assert!(!self.is_for_one_alone(), "{batch} begins besides one alone");
            assert!(beside.is_empty(), "{batch} begins too early");
        }
    }

    /// A batch waits to run alone, or does.
    fn is_for_one_alone(&self) -> bool {
        let open = self.calls.values().flat_map(|(_, open)| open);
        let mut waiting = open.filter(|batch| !self.undecided.contains(batch));
        waiting.any(|batch| self.pressed.get(batch).is_some_and(|(times, _)| *times >= ALONE))
    }

    /// A batch loses its worker for want of memory, or soon will.
    fn press(&mut self, call: CallId, batch: BatchId) {
        let running = self.workers.values().filter_map(|doing| match doing {
            Doing::Running(batch) | Doing::Dying(Some(batch)) => Some(*batch),
            Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(None) => None,
        });
        let beside = running.filter(|other| *other != batch).collect();
        let times = self.pressed.get(&batch).map_or(0, |(times, _)| *times) + 1;
        self.pressed.insert(batch, (times, beside));
        self.tell(Event::BatchMadeWay { batch, call });
    }

    fn call_of(&self, batch: BatchId) -> Option<CallId> {
        let mut calls = self.calls.iter();
        calls.find_map(|(call, (_, open))| open.contains(&batch).then_some(*call))
    }

    /// It runs no more, whatever comes of it.
    fn release(&mut self, ended: BatchId) {
        for (_, beside) in self.pressed.values_mut() {
            if beside.contains(&ended) {
                beside.clear();
            }
        }
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

    fn open_session(&mut self, session: SessionId, share: Share) {
        self.most.insert(session, share.max_running.unwrap_or(u32::MAX));
        self.tell(Event::SessionOpened(session, share));
    }

    /// Batches of a session that run.
    fn running_of(&self, session: SessionId) -> usize {
        let runs = |doing: &&Doing| match doing {
            Doing::Running(batch) | Doing::Dying(Some(batch)) => batch.session == session,
            Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(None) => false,
        };
        self.workers.values().filter(runs).count()
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
        if let Some(batch) = running {
            self.release(batch);
        }
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
        if self.is_for_one_alone() {
            let leaving = self.workers.values().any(|doing| *doing == Doing::Leaving);
            assert!(held > 0 || leaving, "nobody goes on");
            return;
        }
        let slots = if self.is_short() { 1 } else { SLOTS };
        for (call, (most, open)) in &self.calls {
            let running = self.workers.values().filter(|doing| match doing {
                Doing::Running(batch) | Doing::Dying(Some(batch)) => open.contains(batch),
                Doing::Starting | Doing::Nothing | Doing::Leaving | Doing::Dying(None) => false,
            });
            let running = running.count();
            assert!(running <= *most as usize, "more than the call asked for");
            let held_back = |batch| self.pressed.get(batch).is_some_and(|(_, b)| !b.is_empty());
            let held_back = held > 0 && open.iter().any(held_back);
            let session = call.session;
            let dying = |(worker, doing): (&WorkerId, &Doing)| {
                *doing == Doing::Dying(None) && self.profiles[worker].session == session
            };
            let leaving = self.workers.iter().filter(|it| dying(*it)).count();
            let in_session = self.running_of(session) + leaving;
            let room = in_session < self.most[&session] as usize;
            if held < slots && running < *most as usize && room && !held_back {
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
        self.release(batch);
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

#[test]
fn every_batch_ends_once_in_a_worker_of_its_session_within_the_slots() {
    let (mut prefetched, mut withdrawn) = (0, [0, 0]);
    let (mut again, mut made_way, mut last, mut alone, mut full) = (0, 0, 0, 0, 0);
    for seed in 0..50 {
        let (mut world, mut dice) = (World::new(), Dice(seed));
        for session in 0..3 {
            world.open_session(SessionId(session), dice.share());
        }
        for number in 0..1200 {
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
        alone += world.alone;
        full += world.full;
        assert!(world.profiles.len() > 20 && world.ended.len() > 50, "seed {seed}: too quiet");
    }
    assert!(
        prefetched > 100 && withdrawn.iter().all(|count| *count > 10),
        "{prefetched} {withdrawn:?}"
    );
    assert!(
        again > 100 && made_way > 50 && last > 20 && alone > 20 && full > 100,
        "{again} {made_way} {last} {alone} {full}"
    );
}
