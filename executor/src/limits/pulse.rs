//! Wakes the thread that looks when there may be something to see, at the cost
//! of one number for each batch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Counts busy workers; the looking thread sleeps by it.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    busy: AtomicUsize,
    sleep: AtomicU8,
    ended: AtomicBool,
    thread: OnceLock<Thread>,
}

// How the thread sleeps, in the order of who need wake it.

/// Not at all, or for a moment: nobody.
const AWAKE: u8 = 0;
/// Whoever is in a hurry.
const FOR_A_TIME: u8 = 1;
/// Everybody.
const FOR_GOOD: u8 = 2;

impl Pulse {
    /// A worker is busy. With `hurry` it must be looked at soon: one that sleeps
    /// long is woken, too.
    pub(super) fn begin(&self, hurry: bool) {
        // One order of all these numbers: either the thread sees the worker
        // before it sleeps, or this sees that it sleeps.
        self.busy.fetch_add(1, Ordering::SeqCst);
        let enough = if hurry { FOR_A_TIME } else { FOR_GOOD };
        if self.sleep.load(Ordering::SeqCst) >= enough {
            self.wake();
        }
    }

    /// It is busy no more.
    pub(super) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// The thread is to end.
    pub(super) fn finish(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// This thread is the one that looks.
    pub(super) fn attend(&self) {
        // There is one.
        self.thread.get_or_init(std::thread::current);
    }

    /// Sleeps so long at most; `None`: until a worker is busy. Nobody wakes it
    /// from a sleep that is `soon` over, but for the end.
    pub(super) fn sleep(&self, time: Option<Duration>, soon: Duration) {
        let how = match time {
            None => FOR_GOOD,
            Some(time) if time > soon => FOR_A_TIME,
            Some(_) => AWAKE,
        };
        self.sleep.store(how, Ordering::SeqCst);
        match time {
            Some(time) => std::thread::park_timeout(time),
            // A worker that began just before would not wake us any more.
            None if self.is_busy() || self.is_over() => {}
            None => std::thread::park(),
        }
        self.sleep.store(AWAKE, Ordering::SeqCst);
    }

    fn wake(&self) {
        self.sleep.store(AWAKE, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_begin_is_missed_by_one_that_sleeps_for_good() {
        let pulse = Pulse::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                pulse.attend();
                for _ in 0..2000 {
                    // Ends only because a worker begins.
                    while !pulse.is_busy() {
                        pulse.sleep(None, Duration::ZERO);
                    }
                    pulse.end();
                }
            });
            for _ in 0..2000 {
                pulse.begin(false);
                while pulse.is_busy() {
                    std::thread::yield_now();
                }
            }
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn the_end_wakes_who_sleeps_for_good() {
        let pulse = Pulse::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pulse.attend();
                while !pulse.is_over() {
                    pulse.sleep(None, Duration::ZERO);
                }
            });
            pulse.finish();
        });
        assert!(!pulse.is_busy());
    }

    #[test]
    fn hurry_wakes_who_sleeps_for_a_time() {
        let pulse = Pulse::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pulse.attend();
                while !pulse.is_busy() {
                    pulse.sleep(Some(Duration::from_secs(3600)), Duration::ZERO);
                }
            });
            // Also when that one does not sleep yet.
            while !pulse.is_busy() || pulse.sleep.load(Ordering::SeqCst) != AWAKE {
                pulse.begin(true);
            }
        });
    }
}
