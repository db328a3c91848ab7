//! When to ask the kernel for huge pages, and when not to.
//!
//! Free memory may be in small pieces. Then the kernel moves others' pages out
//! of the way before it gives us a huge one, which takes longer than small
//! pages would. We find out by trying, so we try less and less often.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::HUGE_BYTES;

/// Of processor time for a huge page. Small pages instead cost 0.7 ms when they
/// are written, and half of that again when they are read and given back.
const DEAR: Duration = Duration::from_micros(500);

/// Of time that passes for a huge page: something slow is in the way, as a swap
/// device is.
const LATE: Duration = Duration::from_millis(5);

/// Attempts left out after a bad one, at first and at most.
const FIRST_PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 256;

/// What the last attempts were like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The kernel is worth asking; the next pause if it is not.
    Asks { pause: u32 },
    /// Leaves so many attempts out.
    Waits { left: u32, pause: u32 },
    /// This kernel has no such request.
    Never,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// All pages are huge.
    Huge {
        /// How many bytes.
        bytes: u64,
        /// How long it took.
        passed: Duration,
        /// How long this thread worked for it.
        worked: Duration,
    },
    /// There was no memory in one piece.
    Scarce,
    /// The kernel does not know the request.
    Unknown,
}

impl Patience {
    pub(crate) const FRESH: Self = Self::Asks { pause: FIRST_PAUSE };

    /// Whether to try now.
    pub(crate) fn tries(&mut self) -> bool {
        match *self {
            Self::Asks { .. } => true,
            Self::Never => false,
            Self::Waits { left: 0, pause } => {
                *self = Self::Asks { pause };
                true
            }
            Self::Waits { left, pause } => {
                *self = Self::Waits { left: left - 1, pause };
                false
            }
        }
    }

    /// Learns from an attempt.
    pub(crate) fn learn(&mut self, attempt: Attempt) {
        let pause = match *self {
            Self::Asks { pause } | Self::Waits { pause, .. } => pause,
            Self::Never => return,
        };
        *self = match attempt {
            Attempt::Unknown => Self::Never,
            Attempt::Huge { bytes, passed, worked } if !is_slow(bytes, passed, worked) => {
                Self::FRESH
            }
            Attempt::Huge { .. } | Attempt::Scarce => {
                Self::Waits { left: pause, pause: (2 * pause).min(LONGEST_PAUSE) }
            }
        };
    }
}

fn is_slow(bytes: u64, passed: Duration, worked: Duration) -> bool {
    let pages = u32::try_from(bytes.div_ceil(HUGE_BYTES)).unwrap_or(u32::MAX);
    worked > DEAR.saturating_mul(pages) || passed > LATE.saturating_mul(pages)
}

/// This process's.
static PATIENCE: Mutex<Patience> = Mutex::new(Patience::FRESH);

pub(crate) fn tries() -> bool {
    PATIENCE.lock().unwrap_or_else(PoisonError::into_inner).tries()
}

pub(crate) fn learn(attempt: Attempt) {
    PATIENCE.lock().unwrap_or_else(PoisonError::into_inner).learn(attempt);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Attempt = huge(1);
    const SLOW: Attempt = huge(50);

    const fn huge(milliseconds: u64) -> Attempt {
        let took = Duration::from_millis(milliseconds);
        Attempt::Huge { bytes: 8 * HUGE_BYTES, passed: took, worked: took }
    }

    /// Attempts that are left out before the next one.
    fn left_out(patience: &mut Patience) -> u32 {
        (0..1000).find(|_| patience.tries()).unwrap_or_default()
    }

    #[test]
    fn a_kernel_that_searches_for_long_is_asked_less_and_less_often() {
        let mut patience = Patience::FRESH;
        for pause in [4, 8, 16, 32, 64, 128, 256, 256] {
            patience.learn(SLOW);
            assert_eq!(left_out(&mut patience), pause);
        }
        patience.learn(FAST);
        assert_eq!(patience, Patience::FRESH);
        patience.learn(Attempt::Scarce);
        assert_eq!(left_out(&mut patience), FIRST_PAUSE);
    }

    #[test]
    fn waiting_for_others_is_no_search_unless_it_is_long() {
        let attempt = |passed| Attempt::Huge {
            bytes: HUGE_BYTES,
            passed: Duration::from_millis(passed),
            worked: Duration::ZERO,
        };
        let mut patience = Patience::FRESH;
        patience.learn(attempt(4));
        assert!(patience.tries());
        patience.learn(attempt(6));
        assert!(!patience.tries());
    }

    #[test]
    fn a_kernel_without_the_request_is_asked_once() {
        let mut patience = Patience::FRESH;
        patience.learn(Attempt::Unknown);
        patience.learn(FAST);
        assert!(!patience.tries());
    }
}
