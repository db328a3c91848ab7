//! What a decision costs: a batch that is submitted, runs and ends.

use std::hint::black_box;
use std::time::Duration;

use clutch_executor::clock::Monotonic;
use clutch_executor::identifiers::{BatchId, CallId, ProfileId, SessionId, WorkerId};
use clutch_executor::scheduler::{Action, Event, Options, Scheduler, Share};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SLOTS: usize = 16;

/// A scheduler with workers that do at once what they are told.
struct World {
    scheduler: Scheduler,
    now: u64,
    /// What each worker runs and has, in its order.
    given: Vec<(WorkerId, BatchId)>,
}

impl World {
    fn with_sessions(sessions: u64) -> Self {
        let options = Options {
            slots: SLOTS,
            max_slots: SLOTS,
            max_workers: SLOTS * 4,
            worker_max_batches: None,
            worker_idle: Duration::from_secs(300),
        };
        let mut world = Self { scheduler: Scheduler::new(options), now: 0, given: Vec::new() };
        for session in (0..sessions).map(SessionId) {
            let profile = ProfileId { session, profile: 1 };
            world.tell(Event::SessionOpened(session, Share::default()));
            let (call, makes_way) = (call(session), true);
            world.tell(Event::CallOpened { call, profile, max_running: None, makes_way });
        }
        world
    }

    fn tell(&mut self, event: Event) {
        self.now += 1_000;
        for action in self.scheduler.apply(event, Monotonic::from_nanoseconds(self.now)) {
            match action {
                Action::Spawn { worker, .. } => self.tell(Event::WorkerReady(worker)),
                Action::Run { worker, batch } | Action::Prefetch { worker, batch } => {
                    self.given.push((worker, batch));
                }
                Action::Withdraw { worker, batch } => {
                    self.given.retain(|given| *given != (worker, batch));
                    self.tell(Event::BatchWithdrawn { worker, batch, won: true });
                }
                Action::Retire(worker) => {
                    self.tell(Event::WorkerExited { worker, ended: [None, None] });
                }
                Action::Stop { .. }
                | Action::LastAttempt(_)
                | Action::Cancel(_)
                | Action::TurnAway(_)
                | Action::FailStart { .. } => {}
            }
        }
    }

    fn submit(&mut self, session: SessionId, number: u64) {
        let batch = BatchId { session, batch: number };
        self.tell(Event::BatchSubmitted { batch, call: call(session), small: true });
    }

    /// The batch that was given first ends.
    fn end_one(&mut self) {
        if !self.given.is_empty() {
            let (worker, _) = self.given.remove(0);
            let ran = Duration::from_micros(10);
            self.tell(Event::BatchEnded { worker, recycle: false, ran, again: false });
        }
    }
}

const fn call(session: SessionId) -> CallId {
    CallId { session, call: 1 }
}

fn cycles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    for sessions in [1, 64] {
        group.bench_function(BenchmarkId::new("submit_run_end", sessions), |bench| {
            let mut world = World::with_sessions(sessions);
            let mut number = 0;
            // Twice the slots are on their way, as joblib does it.
            while number < SLOTS as u64 * 2 {
                number += 1;
                world.submit(SessionId(number % sessions), number);
            }
            bench.iter(|| {
                number += 1;
                world.submit(SessionId(number % sessions), number);
                world.end_one();
                black_box(world.given.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cycles);
criterion_main!(benches);
