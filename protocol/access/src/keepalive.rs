//! When a silent peer is given up.

use std::time::Duration;

/// How soon a broken network is noticed, on each side by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which a peer is asked for a sign of life.
    pub interval: Duration,
    /// How long its answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

/// A variable of the environment cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be `{value}`: it is a number of seconds, more than 0")]
pub struct KeepaliveError {
    name: &'static str,
    value: String,
}

impl Keepalive {
    /// What a driver uses: `CLUTCH_KEEPALIVE_SECONDS` and
    /// `CLUTCH_KEEPALIVE_TIMEOUT_SECONDS`, by which an agent's settings go too.
    ///
    /// # Errors
    /// When one of them is no number of seconds.
    pub fn from_environment() -> Result<Self, KeepaliveError> {
        let Self { interval, timeout } = Self::default();
        Ok(Self {
            interval: seconds("CLUTCH_KEEPALIVE_SECONDS", interval)?,
            timeout: seconds("CLUTCH_KEEPALIVE_TIMEOUT_SECONDS", timeout)?,
        })
    }

    /// How long what was sent may stay unacknowledged before the kernel gives the
    /// connection up.
    pub fn unacknowledged(&self) -> Duration {
        self.interval + self.timeout
    }
}

fn seconds(name: &'static str, default: Duration) -> Result<Duration, KeepaliveError> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(value) => parse(&value).ok_or(KeepaliveError { name, value }),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_seconds_will_do() {
        assert_eq!(parse(" 2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(["0", "-1", "nan", "soon", ""].map(parse), [None; 5]);
    }
}
