//! How long, and how often, a driver tries to reach an agent again.

use std::time::Duration;

/// Pauses before the first attempts, in milliseconds; the last one is repeated.
const PAUSES: [u64; 5] = [0, 100, 300, 1000, 3000];

/// Refused for so long, nobody listens there any more.
const REFUSED: Duration = Duration::from_secs(1);

/// Fewer refusals say nothing.
const REFUSALS: u32 = 3;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The agent answered, and will answer the same.
    ForGood(String),
    /// Nobody listens there.
    Refused(String),
    /// It may work the next time.
    ForNow(String),
}

/// Attempts since a connection broke. Times are since then.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    attempts: usize,
    refusals: u32,
    refused_since: Duration,
}

impl Patience {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, attempts: 0, refusals: 0, refused_since: Duration::ZERO }
    }

    /// How long to wait before the next attempt. `dice`: from 0 to 1, so that
    /// drivers do not all come at once.
    ///
    /// # Errors
    /// When it is too late for one.
    pub(crate) fn pause(&mut self, now: Duration, dice: f64) -> Result<Duration, String> {
        let pause = PAUSES.get(self.attempts).or(PAUSES.last()).copied().unwrap_or_default();
        self.attempts += 1;
        let pause = Duration::from_millis(pause).mul_f64(0.75 + dice / 2.0);
        let left = self.limit.checked_sub(now).filter(|left| !left.is_zero());
        left.map(|left| pause.min(left)).ok_or_else(|| self.is_over())
    }

    /// An attempt failed; why no other one is made, if none is.
    pub(crate) fn failed(&mut self, now: Duration, failed: Failed) -> Option<String> {
        match failed {
            Failed::ForGood(why) => return Some(why),
            Failed::ForNow(_) => self.refusals = 0,
            Failed::Refused(why) => {
                if self.refusals == 0 {
                    self.refused_since = now;
                }
                self.refusals += 1;
                let since = now.saturating_sub(self.refused_since);
                if self.refusals >= REFUSALS && since >= REFUSED {
                    return Some(why);
                }
            }
        }
        (now >= self.limit).then(|| self.is_over())
    }

    fn is_over(&self) -> String {
        format!("it did not come back within {} s", self.limit.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn refused() -> Failed {
        Failed::Refused("refused".to_owned())
    }

    fn timeout() -> Failed {
        Failed::ForNow("time-out".to_owned())
    }

    #[test]
    fn attempts_come_fast_at_first_and_end_with_the_limit() {
        let (mut patience, mut now, mut attempts) = (Patience::new(LIMIT), Duration::ZERO, vec![]);
        while let Ok(pause) = patience.pause(now, 0.5) {
            now += pause;
            attempts.push(now.as_millis());
            if patience.failed(now, timeout()).is_some() {
                break;
            }
        }
        assert_eq!(attempts, [0, 100, 400, 1400, 4400, 7400, 10_000]);
    }

    #[test]
    fn the_dice_spread_attempts() {
        let pauses = [0.0, 1.0].map(|dice| {
            let mut patience = Patience::new(LIMIT);
            patience.pause(Duration::ZERO, dice).unwrap();
            patience.pause(Duration::ZERO, dice).unwrap().as_millis()
        });
        assert_eq!(pauses, [75, 125]);
    }

    #[test]
    fn an_agent_that_is_gone_is_known_within_about_a_second() {
        let mut patience = Patience::new(LIMIT);
        let at = Duration::from_millis;
        for now in [0, 100, 400] {
            assert_eq!(patience.failed(at(now), refused()), None);
        }
        // It listens, and does not answer: it is not gone.
        assert_eq!(patience.failed(at(900), timeout()), None);
        for now in [1400, 1500, 1600] {
            assert_eq!(patience.failed(at(now), refused()), None);
        }
        assert_eq!(patience.failed(at(2400), refused()), Some("refused".to_owned()));
    }

    #[test]
    fn an_answer_that_will_not_change_ends_it_at_once() {
        let why = "NOT_FOUND: there is no such session".to_owned();
        let failed = Failed::ForGood(why.clone());
        assert_eq!(Patience::new(LIMIT).failed(Duration::ZERO, failed), Some(why));
    }

    #[test]
    fn the_limit_is_told() {
        let told = Patience::new(LIMIT).failed(LIMIT, timeout());
        assert_eq!(told, Some("it did not come back within 10 s".to_owned()));
    }
}
