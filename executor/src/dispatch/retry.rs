//! Whether a batch that failed is run again: pure decisions.

use crate::failure::Kind;

/// How often a batch is run again that was lost through no fault of its own, when
/// nobody said how often.
const LOST: u32 = 2;

/// How often a batch makes way for others, likewise. Counted apart: it says
/// nothing about the batch, and goes on until memory is enough.
const MADE_WAY: u32 = 5;

/// Workers that a batch may crash. One more attempt would crash another one.
const CRASHES: u32 = 2;

/// What becomes of a batch that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is run again.
    Again,
    /// It has failed.
    Fail,
    /// It has failed, and nobody should try it again.
    Poisonous,
}

/// Attempts at a batch that failed, by what ended them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// All of them.
    pub(super) failed: u32,
    made_way: u32,
    crashed: u32,
}

impl Tally {
    /// Counts an attempt.
    pub(super) const fn add(&mut self, kind: Kind) {
        self.failed += 1;
        if matches!(kind, Kind::MemoryPressure) {
            self.made_way += 1;
        } else if matches!(kind, Kind::WorkerCrashed) {
            self.crashed += 1;
        }
    }

    /// What becomes of the batch when one more attempt ends like this, and its
    /// driver allowed so many retries.
    pub(super) const fn verdict(&self, kind: Kind, retries: Option<u32>) -> Verdict {
        if never_again(kind) {
            return Verdict::Fail;
        }
        if matches!(kind, Kind::WorkerCrashed) && self.crashed + 1 >= CRASHES {
            return Verdict::Poisonous;
        }
        let again = match retries {
            Some(retries) => self.failed < retries,
            None if matches!(kind, Kind::MemoryPressure) => self.made_way < MADE_WAY,
            None => kind.is_infrastructure() && self.failed - self.made_way < LOST,
        };
        if again { Verdict::Again } else { Verdict::Fail }
    }

    /// Whether the batch would be run again if it made way now.
    pub(super) fn makes_way(&self, retries: Option<u32>) -> bool {
        self.verdict(Kind::MemoryPressure, retries) == Verdict::Again
    }
}

/// Another attempt would end the same way, or nobody wants it.
const fn never_again(kind: Kind) -> bool {
    match kind {
        Kind::Cancelled
        | Kind::EnvironmentMismatch
        | Kind::ProtocolMismatch
        | Kind::AgentDraining
        | Kind::WorkerStartFailed
        | Kind::InitializerFailed
        | Kind::QuotaExceeded
        | Kind::PoisonousBatch => true,
        Kind::TaskRaised
        | Kind::TaskExited
        | Kind::ArgumentUnreadable
        | Kind::ResultUnpicklable
        | Kind::WorkerCrashed
        | Kind::TimeLimit
        | Kind::MemoryLimit
        | Kind::Internal
        | Kind::WorkerKilled
        | Kind::MemoryPressure
        | Kind::CpuTimeLimit
        | Kind::ProcessLimit
        | Kind::ScratchLimit => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a batch that always ends like this is run, and how it fails.
    fn attempts(retries: Option<u32>, ends: impl IntoIterator<Item = Kind>) -> (u32, Verdict) {
        let mut tally = Tally::default();
        for kind in ends {
            let verdict = tally.verdict(kind, retries);
            tally.add(kind);
            if verdict != Verdict::Again {
                return (tally.failed, verdict);
            }
        }
        (tally.failed, Verdict::Again)
    }

    fn always(retries: Option<u32>, kind: Kind) -> (u32, Verdict) {
        attempts(retries, std::iter::repeat_n(kind, 50))
    }

    #[test]
    fn only_what_nobody_is_to_blame_for_is_run_again_by_itself() {
        for kind in Kind::ALL {
            let times = if kind == Kind::MemoryPressure { 6 } else { 3 };
            let times = if kind.is_infrastructure() { times } else { 1 };
            assert_eq!(always(None, kind), (times, Verdict::Fail), "{kind:?}");
        }
        assert!(Kind::WorkerKilled.is_infrastructure() && !Kind::TaskRaised.is_infrastructure());
    }

    #[test]
    fn what_a_driver_allows_holds_for_every_attempt_that_failed() {
        use Kind::{MemoryPressure, TaskRaised, TimeLimit, WorkerKilled};
        for kind in Kind::ALL {
            assert_eq!(always(Some(0), kind), (1, Verdict::Fail), "{kind:?}");
        }
        for kind in [TaskRaised, TimeLimit, WorkerKilled, MemoryPressure] {
            assert_eq!(always(Some(3), kind), (4, Verdict::Fail), "{kind:?}");
        }
        let mixed = [WorkerKilled, TaskRaised, MemoryPressure, TaskRaised];
        assert_eq!(attempts(Some(3), mixed), (4, Verdict::Fail));
        assert_eq!(attempts(Some(4), mixed), (4, Verdict::Again));
        assert_eq!(always(Some(9), Kind::QuotaExceeded), (1, Verdict::Fail));
    }

    #[test]
    fn a_batch_that_crashed_two_workers_is_poisonous_however_often_it_may_run() {
        use Kind::{TaskRaised, WorkerCrashed};
        assert_eq!(always(Some(9), WorkerCrashed), (2, Verdict::Poisonous));
        let between = [WorkerCrashed, TaskRaised, WorkerCrashed];
        assert_eq!(attempts(Some(9), between), (3, Verdict::Poisonous));
        assert_eq!(attempts(None, [Kind::WorkerKilled, WorkerCrashed]), (2, Verdict::Fail));
    }

    #[test]
    fn to_make_way_is_counted_apart() {
        use Kind::{MemoryPressure, WorkerKilled};
        let both = [WorkerKilled, MemoryPressure, MemoryPressure, WorkerKilled, MemoryPressure];
        assert_eq!(attempts(None, both), (5, Verdict::Again));
        let mut tally = Tally::default();
        for _ in 0..MADE_WAY {
            assert!(tally.makes_way(None) && !tally.makes_way(Some(0)));
            tally.add(MemoryPressure);
        }
        assert!(!tally.makes_way(None));
    }
}
