//! The progress page: shared memory in which a worker says what it runs.
//!
//! A worker that is killed or crashes says nothing more, so what it was doing
//! must already be known. It writes two numbers into a page that the agent
//! also maps: no system call, no message. The agent takes them as a hint: a
//! task could scribble over them.
//!
//! Others settle whose a prefetched batch is: the worker claims it
//! before it begins, the agent withdraws it, and exactly one of them wins.

use std::sync::atomic::{AtomicU64, Ordering};

/// Size of the page in bytes.
pub const PROGRESS_BYTES: usize = 4096;

/// The page itself, laid over shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Progress {
    /// Index of the running task plus one; 0 while no task runs.
    task: AtomicU64,
    /// When its function was called, `CLOCK_MONOTONIC` nanoseconds.
    started_at: AtomicU64,
    /// CPU time that the worker had used when its batch began, nanoseconds.
    cpu_at_start: AtomicU64,
    /// The last prefetched batches: the claim number of each, and what became of
    /// it. Each has a word of its own, since a worker may not have read of one
    /// when the next is offered.
    claims: [AtomicU64; CLAIMS],
}

/// More than can be on their way to a worker at once: one that runs as far as
/// the agent knows, one that waits, and one that was taken back.
const CLAIMS: usize = 8;

/// What becomes of a prefetched batch, in the lowest bits of a claim.
const OFFERED: u64 = 1;
const CLAIMED: u64 = 2;
const WITHDRAWN: u64 = 3;

const fn claim_word(claim: u64, state: u64) -> u64 {
    claim << 2 | state
}

/// What a worker was doing at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressReading {
    /// Index of the running task in its batch.
    pub task_index: u32,
    /// When its function was called, `CLOCK_MONOTONIC` nanoseconds.
    pub started_at: u64,
}

impl Progress {
    /// Says that a task's function is about to be called.
    pub fn task_started(&self, task_index: u32, now: u64) {
        self.task.store(0, Ordering::Release);
        self.started_at.store(now, Ordering::Release);
        self.task.store(u64::from(task_index) + 1, Ordering::Release);
    }

    /// Says that a batch begins, and how much CPU time the worker and the
    /// children that it has waited for had used by then, in nanoseconds.
    pub fn batch_started(&self, cpu_nanoseconds: u64) {
        self.cpu_at_start.store(cpu_nanoseconds, Ordering::Release);
    }

    /// What [`Progress::batch_started`] was told last.
    pub fn cpu_at_start(&self) -> u64 {
        self.cpu_at_start.load(Ordering::Acquire)
    }

    /// Says that no task runs.
    pub fn idle(&self) {
        self.task.store(0, Ordering::Release);
    }

    /// Offers the worker a prefetched batch. Claim numbers are 1, 2, 3 and
    /// so on.
    pub fn offer(&self, claim: u64) {
        self.word(claim).store(claim_word(claim, OFFERED), Ordering::Release);
    }

    /// The worker is about to begin a batch; false when it must not.
    pub fn claim(&self, claim: u64) -> bool {
        self.settle(claim, CLAIMED).is_ok()
    }

    /// Takes an offer back; false when the worker has begun the batch, or the
    /// page is not what it was.
    pub fn withdraw(&self, claim: u64) -> bool {
        self.settle(claim, WITHDRAWN).is_ok() || self.is_withdrawn(claim)
    }

    /// True when the offer was taken back.
    pub fn is_withdrawn(&self, claim: u64) -> bool {
        self.word(claim).load(Ordering::Acquire) == claim_word(claim, WITHDRAWN)
    }

    fn word(&self, claim: u64) -> &AtomicU64 {
        &self.claims[usize::try_from(claim % CLAIMS as u64).unwrap_or_default()]
    }

    fn settle(&self, claim: u64, state: u64) -> Result<u64, u64> {
        let (offered, settled) = (claim_word(claim, OFFERED), claim_word(claim, state));
        self.word(claim).compare_exchange(offered, settled, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The running task, or `None` when none runs.
    pub fn read(&self) -> Option<ProgressReading> {
        let task = self.task.load(Ordering::Acquire).checked_sub(1)?;
        let started_at = self.started_at.load(Ordering::Acquire);
        Some(ProgressReading { task_index: u32::try_from(task).ok()?, started_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_the_running_task_and_nothing_between_tasks() {
        let page = Progress::default();
        assert_eq!(page.read(), None);
        page.task_started(3, 99);
        assert_eq!(page.read(), Some(ProgressReading { task_index: 3, started_at: 99 }));
        page.idle();
        assert_eq!(page.read(), None);
    }

    #[test]
    fn a_batch_is_claimed_or_withdrawn_and_never_both() {
        let page = Progress::default();
        page.offer(1);
        assert!(page.claim(1) && !page.withdraw(1) && !page.is_withdrawn(1));
        page.offer(2);
        assert!(page.withdraw(2) && !page.claim(2) && page.is_withdrawn(2));
        assert!(page.withdraw(2), "withdrawn stays withdrawn");
        assert!(!page.claim(3) && !page.withdraw(3), "it was never offered");
    }

    #[test]
    fn what_is_offered_before_the_last_was_read_is_settled_by_itself() {
        let page = Progress::default();
        page.offer(1);
        page.offer(2);
        page.offer(3);
        assert!(page.withdraw(2));
        assert!(page.claim(1) && !page.claim(2) && page.claim(3));
    }

    #[test]
    fn of_two_threads_that_want_a_batch_one_gets_it() {
        let page = Progress::default();
        for claim in 1..2000 {
            page.offer(claim);
            let (claimed, withdrawn) = std::thread::scope(|scope| {
                let claimed = scope.spawn(|| page.claim(claim));
                let withdrawn = page.withdraw(claim);
                (claimed.join().unwrap(), withdrawn)
            });
            assert!(claimed != withdrawn, "claim {claim}: {claimed} {withdrawn}");
        }
    }
}
