//! What earlier attempts at a batch left: their stories, and results that need
//! not be computed again.

use std::mem::take;

use bytes::Bytes;

use super::retry::{Tally, Verdict};
use crate::failure::{Failure, Kind};
use crate::pool::{Attempt, BatchOutcome, Saved, Value};

/// Attempts that are told of; of more, the latest.
const MAX_TOLD: usize = 100;

/// `[]`, pickled.
const NO_RESULTS: &[u8] = b"\x80\x05].";

/// The attempts at one batch.
#[derive(Debug, Default)]
pub(super) struct Trials {
    tally: Tally,
    told: Vec<Attempt>,
    saved: Saved,
    /// The task at which an earlier attempt crashed its worker.
    crashed_at: Option<u32>,
    /// Memory was short although nothing else ran.
    pub(super) last: bool,
}

/// What holds for the attempts at a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Number of its tasks.
    pub(super) tasks: u32,
    /// How often its driver lets it be run again.
    pub(super) retries: Option<u32>,
    /// Most bytes of its results, but for their buffers.
    pub(super) max_bytes: u64,
}

impl Trials {
    /// Which attempt is the next or the present one, from 1.
    pub(super) const fn attempt(&self) -> u32 {
        self.tally.failed + 1
    }

    /// Tasks at the beginning that need not run again.
    pub(super) fn first_task(&self) -> u32 {
        u32::try_from(self.saved.task_nanoseconds.len()).unwrap_or(u32::MAX)
    }

    /// Whether it would be run again if it made way now.
    pub(super) fn makes_way(&self, terms: Terms) -> bool {
        self.tally.makes_way(terms.retries)
    }

    /// An attempt ended: gives the outcome of the batch; `None` when it is to be
    /// run again.
    pub(super) fn ended(
        &mut self,
        mut outcome: Box<BatchOutcome>,
        terms: Terms,
    ) -> Option<Box<BatchOutcome>> {
        let saved = take(&mut outcome.saved);
        // A task may have returned although the kernel had killed a process of
        // its own, and nobody knows which of the attempt's tasks that was.
        if !outcome.result.as_ref().is_err_and(|failure| failure.kind == Kind::MemoryLimit) {
            self.saved.pickles.extend(saved.pickles);
            self.saved.task_nanoseconds.extend(saved.task_nanoseconds);
        }
        if let Some(failure) = self.too_large(&outcome, terms) {
            outcome.result = Err(failure);
        } else if outcome.result.is_err() && self.first_task() >= terms.tasks {
            // Its worker died of nothing that matters any more.
            let payload = Bytes::from_static(NO_RESULTS);
            outcome.result = Ok(Value { payload, buffers: None });
        }
        if let Err(failure) = &mut outcome.result {
            match self.tally.verdict(failure.kind, terms.retries) {
                Verdict::Again if !self.last => {
                    self.tally.add(failure.kind);
                    if failure.kind == Kind::WorkerCrashed {
                        self.crashed_at = failure.task_index;
                    }
                    if self.told.len() == MAX_TOLD {
                        self.told.remove(0);
                    }
                    self.told.push(Attempt {
                        kind: failure.kind,
                        message: take(&mut failure.message),
                        pid: outcome.pid,
                        ended_at: outcome.timings.ended_at,
                    });
                    return None;
                }
                Verdict::Again | Verdict::Fail => self.explain(failure),
                Verdict::Poisonous => self.poisonous(failure, terms.tasks),
            }
        }
        Some(self.whole(outcome))
    }

    /// The outcome of the batch, from that of its last attempt.
    pub(super) fn whole(&mut self, mut outcome: Box<BatchOutcome>) -> Box<BatchOutcome> {
        let attempt = self.attempt();
        outcome.earlier = take(&mut self.told);
        let saved = take(&mut self.saved);
        if !saved.task_nanoseconds.is_empty() {
            let mut all = saved.task_nanoseconds.clone();
            all.append(&mut outcome.timings.task_nanoseconds);
            outcome.timings.task_nanoseconds = all;
        }
        match &mut outcome.result {
            Ok(_) => outcome.saved = saved,
            Err(failure) if outcome.pid.is_some() => failure.attempt = attempt,
            Err(_) => {}
        }
        outcome
    }

    fn too_large(&self, outcome: &BatchOutcome, terms: Terms) -> Option<Failure> {
        if self.saved.pickles.is_empty() {
            return None;
        }
        let rest = outcome.result.as_ref().map_or(0, |value| value.payload.len());
        let bytes = self.saved.pickles.iter().map(Bytes::len).sum::<usize>() + rest;
        (bytes as u64 > terms.max_bytes).then(|| {
            let most = terms.max_bytes;
            let message = format!(
                "bytes of this batch's results would be {bytes}; `max-batch-bytes` allows {most}"
            );
            Failure::new(Kind::QuotaExceeded, message)
        })
    }

    fn explain(&self, failure: &mut Failure) {
        if self.last && failure.kind == Kind::MemoryPressure {
            let why = "no other batch ran, so that another attempt would get no further";
            failure.message = format!("{}; {why}", failure.message);
        } else if self.tally.failed > 0 {
            failure.message =
                format!("{}; it was attempt {} at the batch", failure.message, self.attempt());
        }
    }

    fn poisonous(&self, failure: &mut Failure, tasks: u32) {
        let at = match (self.crashed_at, failure.task_index) {
            (Some(before), Some(now)) if before == now => {
                format!(", each while it ran task {now} of {tasks}")
            }
            _ => String::new(),
        };
        failure.message = format!("2 workers died of this batch{at}: {}", failure.message);
        failure.kind = Kind::PoisonousBatch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;
    use crate::identifiers::{BatchId, Pid, SessionId};
    use crate::pool::{Timings, Usage};

    const TERMS: Terms = Terms { tasks: 4, retries: None, max_bytes: 20 };

    fn outcome(result: Result<Value, Failure>, saved: &[&'static str]) -> Box<BatchOutcome> {
        let pickles: Vec<_> =
            saved.iter().map(|pickle| Bytes::from_static(pickle.as_bytes())).collect();
        Box::new(BatchOutcome {
            batch: BatchId { session: SessionId(1), batch: 7 },
            result,
            timings: Timings { ended_at: Monotonic::from_nanoseconds(9), ..Timings::default() },
            usage: Usage::default(),
            pid: Some(Pid(5)),
            saved: Saved { task_nanoseconds: vec![3; pickles.len()], pickles },
            notes: Vec::new(),
            earlier: Vec::new(),
        })
    }

    fn failed(kind: Kind, task_index: u32, saved: &[&'static str]) -> Box<BatchOutcome> {
        let failure = Failure { task_index: Some(task_index), ..Failure::new(kind, "it ended") };
        outcome(Err(failure), saved)
    }

    fn done(payload: &'static str, saved: &[&'static str]) -> Box<BatchOutcome> {
        let payload = Bytes::from_static(payload.as_bytes());
        outcome(Ok(Value { payload, buffers: None }), saved)
    }

    #[test]
    fn another_attempt_goes_on_after_what_was_saved_and_tells_of_the_earlier_ones() {
        let mut trials = Trials::default();
        assert!(trials.ended(failed(Kind::WorkerKilled, 1, &["a"]), TERMS).is_none());
        assert_eq!((trials.attempt(), trials.first_task()), (2, 1));
        let mut last = done("rest", &["b"]);
        last.timings.task_nanoseconds = vec![1, 2];
        let whole = trials.ended(last, TERMS).unwrap();
        assert_eq!(whole.result.unwrap().payload, "rest");
        assert_eq!(whole.saved.pickles, ["a", "b"]);
        assert_eq!(whole.timings.task_nanoseconds, [3, 3, 1, 2]);
        let [earlier] = &whole.earlier[..] else { panic!("{:?}", whole.earlier) };
        assert_eq!((earlier.kind, earlier.pid), (Kind::WorkerKilled, Some(Pid(5))));
        assert_eq!(earlier.message, "it ended");
    }

    #[test]
    fn a_worker_that_dies_when_everything_is_saved_costs_nothing() {
        let mut trials = Trials::default();
        let dead = failed(Kind::WorkerCrashed, 3, &["a", "b", "c", "d"]);
        let whole = trials.ended(dead, TERMS).unwrap();
        assert_eq!(whole.result.unwrap().payload, NO_RESULTS);
        assert_eq!((whole.saved.pickles.len(), whole.timings.task_nanoseconds.len()), (4, 4));
    }

    #[test]
    fn what_was_saved_by_an_attempt_that_passed_its_memory_limit_is_not_kept() {
        let (mut trials, terms) = (Trials::default(), Terms { retries: Some(2), ..TERMS });
        assert!(trials.ended(failed(Kind::WorkerKilled, 1, &["a"]), terms).is_none());
        let all_the_rest = failed(Kind::MemoryLimit, 3, &["b", "c", "d"]);
        assert!(trials.ended(all_the_rest, terms).is_none());
        assert_eq!((trials.attempt(), trials.first_task()), (3, 1));
        let whole = trials.ended(done("rest", &["B"]), terms).unwrap();
        assert_eq!(whole.saved.pickles, ["a", "B"]);
        assert_eq!(whole.timings.task_nanoseconds, [3, 3]);
    }

    #[test]
    fn a_failure_says_which_attempt_it_was() {
        let mut trials = Trials::default();
        for _ in 0..2 {
            assert!(trials.ended(failed(Kind::WorkerKilled, 1, &[]), TERMS).is_none());
        }
        let failure = trials.ended(failed(Kind::WorkerKilled, 1, &[]), TERMS).unwrap();
        let failure = failure.result.unwrap_err();
        assert_eq!((failure.kind, failure.attempt), (Kind::WorkerKilled, 3));
        assert_eq!(failure.message, "it ended; it was attempt 3 at the batch");
    }

    #[test]
    fn a_poisonous_batch_names_the_task_when_it_was_the_same() {
        for (first, expected) in [
            (2, "2 workers died of this batch, each while it ran task 2 of 4: it ended"),
            (1, "2 workers died of this batch: it ended"),
        ] {
            let (mut trials, terms) = (Trials::default(), Terms { retries: Some(9), ..TERMS });
            assert!(trials.ended(failed(Kind::WorkerCrashed, first, &[]), terms).is_none());
            let outcome = trials.ended(failed(Kind::WorkerCrashed, 2, &[]), terms).unwrap();
            let failure = outcome.result.unwrap_err();
            assert_eq!((failure.kind, failure.task_index), (Kind::PoisonousBatch, Some(2)));
            assert_eq!(failure.message, expected);
        }
    }

    #[test]
    fn a_batch_for_which_memory_is_short_although_it_is_alone_is_not_run_again() {
        let mut trials = Trials { last: true, ..Trials::default() };
        let failure = trials.ended(failed(Kind::MemoryPressure, 0, &[]), TERMS).unwrap();
        let failure = failure.result.unwrap_err();
        assert_eq!(failure.kind, Kind::MemoryPressure);
        assert!(failure.message.contains("no other batch ran"), "{}", failure.message);
    }

    #[test]
    fn results_of_all_attempts_together_are_bounded() {
        let ten = "0123456789";
        for (rest, fits) in [("0123456789", true), ("0123456789x", false)] {
            let mut trials = Trials::default();
            assert!(trials.ended(failed(Kind::WorkerKilled, 1, &[ten]), TERMS).is_none());
            let whole = trials.ended(done(rest, &[]), TERMS).unwrap();
            assert_eq!(whole.result.map_err(|failure| failure.kind).is_ok(), fits, "{rest}");
        }
        let mut trials = Trials::default();
        let much = failed(Kind::WorkerKilled, 1, &[ten, ten, "x"]);
        let failure = trials.ended(much, TERMS).unwrap().result.unwrap_err();
        assert_eq!(failure.kind, Kind::QuotaExceeded);
        assert_eq!(
            failure.message,
            "bytes of this batch's results would be 21; `max-batch-bytes` allows 20"
        );
    }
}
