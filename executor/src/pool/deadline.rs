//! When a task has run too long, by the worker's progress page.

use std::time::Duration;

use clutch_worker_link::ProgressReading;

use crate::clock::Monotonic;

/// What a look at the progress page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The running task passed its limit.
    Expired,
    /// Look again after this long.
    Again(Duration),
}

/// Judges a running batch. Between tasks nothing can expire, and the next task
/// has its whole limit before it.
pub(super) fn look(progress: Option<ProgressReading>, limit: Duration, now: Monotonic) -> Look {
    let Some(task) = progress else { return Look::Again(limit) };
    let ran = now.since(Monotonic::from_nanoseconds(task.started_at));
    match limit.checked_sub(ran) {
        Some(left) if !left.is_zero() => Look::Again(left),
        _ => Look::Expired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_nanos(100);

    fn look_at(started_at: u64, now: u64) -> Look {
        let progress = ProgressReading { task_index: 0, started_at };
        look(Some(progress), LIMIT, Monotonic::from_nanoseconds(now))
    }

    #[test]
    fn a_task_expires_at_its_limit_and_not_before() {
        assert_eq!(look_at(50, 149), Look::Again(Duration::from_nanos(1)));
        assert_eq!(look_at(50, 150), Look::Expired);
        assert_eq!(look_at(50, 999), Look::Expired);
    }

    #[test]
    fn each_task_of_a_batch_has_the_whole_limit() {
        assert_eq!(look_at(140, 149), Look::Again(Duration::from_nanos(91)));
        assert_eq!(look(None, LIMIT, Monotonic::from_nanoseconds(999)), Look::Again(LIMIT));
    }
}
