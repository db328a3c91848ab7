//! When to ask the kernel for huge pages, and when not to.
//!
//! Free memory may be in small pieces, and then the kernel moves others' pages out
//! of the way before it gives us a huge one. In a virtual machine, the host may
//! have taken back what was free, in huge pieces first, and gives it again page
//! after page. Either takes several times longer than small pages would. It is
//! worth something all the same: what was brought together stays so for the next
//! content. So we keep an account: what huge pages save is earned, what they cost
//! is spent, and while there is nothing left we do without them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::HUGE_BYTES;

/// What a huge page saves, in microseconds: small ones cost 0.7 ms when they are
/// written, and half of that again when they are read and given back.
const SAVED: i64 = 600;

/// Microseconds that are earned by doing without a huge page: a tenth of what
/// the small ones cost. So searching in vain costs a tenth more, for long.
const RESTED: i64 = 100;

/// Microseconds to begin with, and the most to keep.
const FIRST: i64 = 20_000;
const MOST: i64 = 100_000;

/// What a huge page costs where they are dear. We ask for no more at a time than
/// could be paid for then.
const DEAR: i64 = 5_000;

/// What passes while we only wait counts for less: others may work meanwhile.
const WAITING_IS_CHEAPER: u32 = 4;

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Huge pages that were asked for, in bytes.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) passed: Duration,
    /// How long this thread worked for it.
    pub(crate) worked: Duration,
    /// Whether all pages are huge.
    pub(crate) succeeded: bool,
}

/// What is left, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patience(i64);

impl Patience {
    /// How many bytes to ask for in huge pages, of at most so many; 0: do without.
    fn tries(&mut self, most: u64) -> u64 {
        if self.0 <= 0 {
            self.0 += RESTED.saturating_mul(pages(most));
            return 0;
        }
        let pages = u64::try_from(self.0 / DEAR).unwrap_or(0).max(1);
        most.min(pages.saturating_mul(HUGE_BYTES))
    }

    fn learn(&mut self, attempt: Attempt) {
        let spent = attempt.worked.max(attempt.passed / WAITING_IS_CHEAPER);
        let spent = i64::try_from(spent.as_micros()).unwrap_or(i64::MAX);
        let saved = if attempt.succeeded { SAVED.saturating_mul(pages(attempt.bytes)) } else { 0 };
        self.0 = self.0.saturating_add(saved.saturating_sub(spent)).min(MOST);
    }
}

fn pages(bytes: u64) -> i64 {
    i64::try_from(bytes / HUGE_BYTES).unwrap_or(i64::MAX)
}

/// This process's.
static PATIENCE: Mutex<Patience> = Mutex::new(Patience(FIRST));

/// How many bytes to ask the kernel for in huge pages, of at most so many, which
/// are a multiple of theirs; 0: do without.
pub(crate) fn tries(most: u64) -> u64 {
    PATIENCE.lock().unwrap_or_else(PoisonError::into_inner).tries(most)
}

/// Learns from an attempt.
pub(crate) fn learn(attempt: Attempt) {
    PATIENCE.lock().unwrap_or_else(PoisonError::into_inner).learn(attempt);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 8 * HUGE_BYTES;
    const FAST: u64 = 120;
    const SLOW: u64 = 5_600;

    /// Bytes in huge pages of so many windows, where each page costs that many
    /// microseconds.
    fn asked(patience: &mut Patience, windows: u64, page_costs: u64) -> u64 {
        let mut asked = 0;
        let mut left = windows * WINDOW;
        while left > 0 {
            let bytes = patience.tries(WINDOW);
            if bytes > 0 {
                let took = Duration::from_micros(bytes / HUGE_BYTES * page_costs);
                patience.learn(Attempt { bytes, passed: took, worked: took, succeeded: true });
            }
            asked += bytes;
            left = left.saturating_sub(if bytes > 0 { bytes } else { WINDOW });
        }
        asked
    }

    #[test]
    fn a_kernel_that_gives_at_once_is_always_asked_and_soon_for_much() {
        let mut patience = Patience(FIRST);
        assert_eq!(asked(&mut patience, 100, FAST), 100 * WINDOW);
        assert_eq!(patience, Patience(MOST));
        assert_eq!(patience.tries(WINDOW), WINDOW);
    }

    #[test]
    fn a_long_search_is_soon_given_up_and_now_and_then_tried_again() {
        let mut patience = Patience(FIRST);
        assert_eq!(asked(&mut patience, 2, SLOW), 5 * HUGE_BYTES);
        // 5 ms too much each, against 0.8 ms for a window without.
        let asked_again = asked(&mut patience, 1000, SLOW) / HUGE_BYTES;
        assert!((100..200).contains(&asked_again), "{asked_again}");
        // Once memory is in order it is asked always again.
        assert!(asked(&mut patience, 1000, FAST) > 990 * WINDOW);
    }

    #[test]
    fn one_long_search_among_many_short_ones_changes_nothing() {
        let mut patience = Patience(FIRST);
        asked(&mut patience, 100, FAST);
        for _ in 0..100 {
            assert_eq!(asked(&mut patience, 1, SLOW), WINDOW);
            assert_eq!(asked(&mut patience, 15, FAST), 15 * WINDOW);
        }
    }

    #[test]
    fn a_kernel_that_never_gives_any_is_asked_less_and_less() {
        let in_vain = Attempt {
            bytes: WINDOW,
            passed: Duration::from_millis(1),
            worked: Duration::from_millis(1),
            succeeded: false,
        };
        let mut patience = Patience(FIRST);
        for _ in 0..20 {
            assert!(patience.tries(WINDOW) > 0);
            patience.learn(in_vain);
        }
        assert_eq!(patience.tries(WINDOW), 0);
    }

    #[test]
    fn waiting_counts_for_less_than_working() {
        let mut patience = Patience(FIRST);
        patience.learn(Attempt {
            bytes: WINDOW,
            passed: Duration::from_millis(40),
            worked: Duration::ZERO,
            succeeded: true,
        });
        assert_eq!(patience, Patience(FIRST + 8 * SAVED - 10_000));
    }
}
