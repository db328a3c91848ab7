//! Shares over time, whatever weights there are and however long batches take.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Action, Event, Options, Scheduler, Share, Weight};

use super::happenings::Dice;

/// Most milliseconds that a batch takes.
const LONGEST: u64 = 100;
const WEIGHTS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 8.0];

/// An agent on which time passes; batches take as long as the dice say.
struct Agent {
    scheduler: Scheduler,
    dice: Dice,
    slots: usize,
    milliseconds: u64,
    /// What runs: of whom, since when and until when.
    running: BTreeMap<WorkerId, (SessionId, u64, u64)>,
    last_batch: u64,
    /// Milliseconds that each session had slots, each of them counted.
    had: BTreeMap<SessionId, u64>,
    /// What nobody gave a reason for.
    unasked: Vec<Action>,
}

impl Agent {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let slots = usize::try_from(dice.roll(6)).unwrap_or(0) + 1;
        let options = Options {
            slots,
            max_slots: slots,
            max_workers: slots * 4,
            worker_max_batches: None,
            worker_idle: Duration::from_secs(1000),
        };
        Self {
            scheduler: Scheduler::new(options),
            dice,
            slots,
            milliseconds: 0,
            running: BTreeMap::new(),
            last_batch: 0,
            had: BTreeMap::new(),
            unasked: Vec::new(),
        }
    }

    /// A session joins, with a call and so many batches.
    fn join(&mut self, session: u64, weight: f64, batches: u64) {
        let session = SessionId(session);
        let share = Share { weight: Weight::new(weight).unwrap_or(Weight::ONE), max_running: None };
        self.tell(Event::SessionOpened(session, share));
        let (call, profile) = (CallId { session, call: 1 }, ProfileId { session, profile: 1 });
        self.tell(Event::CallOpened { call, profile, max_running: None, makes_way: true });
        (0..batches).for_each(|_| self.submit(session));
    }

    fn submit(&mut self, session: SessionId) {
        self.last_batch += 1;
        let batch = BatchId { session, batch: self.last_batch };
        let call = CallId { session, call: 1 };
        self.tell(Event::BatchSubmitted { batch, call, small: false });
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = Monotonic::from_nanoseconds(self.milliseconds * 1_000_000);
            for action in self.scheduler.apply(event, now) {
                match action {
                    Action::Spawn { worker, .. } => events.push_back(Event::WorkerReady(worker)),
                    Action::Run { worker, batch } => {
                        let until = self.milliseconds + 1 + self.dice.roll(LONGEST);
                        let entry = (batch.session, self.milliseconds, until);
                        assert!(self.running.insert(worker, entry).is_none(), "{worker} is busy");
                    }
                    Action::Retire(worker) => {
                        events.push_back(Event::WorkerExited { worker, ended: [None, None] });
                    }
                    Action::Prefetch { .. }
                    | Action::Withdraw { .. }
                    | Action::Stop { .. }
                    | Action::LastAttempt(_)
                    | Action::Cancel(_)
                    | Action::TurnAway(_)
                    | Action::FailStart { .. } => self.unasked.push(action),
                }
            }
        }
        assert_eq!(self.unasked, []);
        assert!(self.running.len() <= self.slots);
    }

    /// Lets the next batch end; gives its session.
    fn next(&mut self) -> Option<SessionId> {
        let ends = self.running.iter().map(|(worker, entry)| (entry.2, *worker, *entry));
        let (_, worker, (session, since, until)) = ends.min()?;
        self.running.remove(&worker);
        self.milliseconds = until;
        *self.had.entry(session).or_default() += until - since;
        let ran = Duration::from_millis(until - since);
        self.tell(Event::BatchEnded { worker, recycle: false, ran, again: false });
        Some(session)
    }

    fn runs(&self, session: SessionId) -> bool {
        self.running.values().any(|(of, ..)| *of == session)
    }
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn those_who_always_want_more_have_slots_by_their_weights() {
    for seed in 0..30 {
        let mut agent = Agent::new(seed);
        let sessions = 2 + agent.dice.roll(3);
        let weights: Vec<_> = (0..sessions).filter_map(|_| agent.dice.pick(WEIGHTS)).collect();
        for (session, weight) in (0..).zip(&weights) {
            agent.join(session, *weight, 4000);
        }
        for _ in 0..3000 {
            agent.next();
            assert_eq!(agent.running.len(), agent.slots, "seed {seed}: a slot idles");
        }
        let total: u64 = agent.had.values().sum();
        let all: f64 = weights.iter().sum();
        for (session, weight) in (0..).map(SessionId).zip(&weights) {
            let got = agent.had[&session] as f64 / total as f64;
            let due = weight / all;
            assert!(
                (got - due).abs() < 0.03 + due * 0.05,
                "seed {seed}: {session} of {weights:?} on {} slots got {got} of {due}",
                agent.slots
            );
        }
    }
}

#[test]
fn a_modest_client_has_the_first_slot_that_is_free_beside_thousands_of_batches() {
    for seed in 0..30 {
        let mut agent = Agent::new(seed);
        let (first, second) = agent.dice.pick([(1.0, 1.0), (2.0, 0.5), (0.5, 2.0)]).unwrap();
        agent.join(1, first, 9000);
        (0..agent.dice.roll(1000)).for_each(|_| _ = agent.next());
        let modest = SessionId(2);
        agent.join(2, second, 0);
        for _ in 0..20 {
            // It thinks for longer than it may have been ahead of its share.
            (0..agent.slots * 40).for_each(|_| _ = agent.next());
            agent.submit(modest);
            agent.next();
            assert!(agent.runs(modest), "seed {seed}: it waits for more than one batch to end");
            while agent.next() != Some(modest) {}
        }
    }
}
