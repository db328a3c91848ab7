//! The one clock: `CLOCK_MONOTONIC` of this machine, which workers share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An instant on `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic {
    nanoseconds: u64,
}

impl Monotonic {
    /// Now.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        // CLOCK_MONOTONIC starts at boot and is never negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        Self { nanoseconds: seconds * 1_000_000_000 + nanoseconds }
    }

    /// The instant that is this many nanoseconds after the clock's zero.
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self { nanoseconds }
    }

    /// Nanoseconds since the clock's zero.
    pub const fn nanoseconds(self) -> u64 {
        self.nanoseconds
    }

    /// The instant that is so much later; the last one there is when it would be
    /// beyond that.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { nanoseconds: self.nanoseconds.saturating_add(nanoseconds) }
    }

    /// Time since an earlier instant; zero when it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}
