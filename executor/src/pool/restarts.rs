//! How often a zygote that does not start is tried again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failed starts within [`WITHIN`] after which there is no other one.
const MOST: usize = 3;

/// How long a failed start counts.
const WITHIN: Duration = Duration::from_secs(30);

/// The failed starts of a zygote.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    failed: VecDeque<Instant>,
}

impl Restarts {
    /// Whether it may be started; else how long it may not.
    pub(super) fn may_start(&mut self, now: Instant) -> Result<(), Duration> {
        self.failed.retain(|at| now.duration_since(*at) < WITHIN);
        match self.failed.front() {
            Some(first) if self.failed.len() >= MOST => {
                Err(WITHIN.saturating_sub(now.duration_since(*first)))
            }
            _ => Ok(()),
        }
    }

    /// It did not start.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed.push_back(now);
    }

    /// It did.
    pub(super) fn succeeded(&mut self) {
        self.failed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_three_times_rests_until_the_first_is_long_ago() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut restarts = Restarts::default();
        for second in [0, 10, 20] {
            assert_eq!(restarts.may_start(at(second)), Ok(()));
            restarts.failed(at(second));
        }
        assert_eq!(restarts.may_start(at(21)), Err(Duration::from_secs(9)));
        assert_eq!(restarts.may_start(at(30)), Ok(()));
        restarts.failed(at(30));
        assert!(restarts.may_start(at(31)).is_err());
        restarts.succeeded();
        assert_eq!(restarts.may_start(at(31)), Ok(()));
    }
}
