//! How much memory a tree of processes has, at little cost.
//!
//! What a process has is read in microseconds, but with all that it shares: the
//! modules that its zygote imported, what a task loaded before it forked, blobs.
//! Its part of that takes milliseconds. So the exact way is taken only when the
//! cheap one may be over the limit, and the difference is remembered.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::processes::{Proc, Process, Stat};

/// What is known of the memory of one tree.
#[derive(Debug)]
pub(super) struct Memory {
    /// By how much the cheap way is too much.
    shared: u64,
    exact: Option<Exact>,
    /// So long the exact way may be put off for its price.
    longest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Exact {
    at: Monotonic,
    cost: Duration,
}

/// What is shared becomes private when it is written to, which the cheap way
/// does not see: so long the difference is believed.
const BELIEVED_FOR: Duration = Duration::from_millis(250);

impl Default for Memory {
    fn default() -> Self {
        Self::within(Duration::MAX)
    }
}

impl Memory {
    /// Measured exactly after so long at the latest, when that is due, whatever
    /// it costs.
    pub(super) const fn within(longest: Duration) -> Self {
        Self { shared: 0, exact: None, longest }
    }

    /// Bytes of this tree now, exact when they are more than `limit`. A tree
    /// that grows is measured exactly without delay, as long as that takes no
    /// more than a fifth of the time.
    pub(super) fn read(&mut self, proc: &Proc, tree: &[Process], limit: u64) -> u64 {
        // Over the limit by a guess is not over the limit.
        self.read_surely(proc, tree, limit).unwrap_or(limit)
    }

    /// The same; `None` when they are more than `limit` by a guess only.
    pub(super) fn read_surely(&mut self, proc: &Proc, tree: &[Process], limit: u64) -> Option<u64> {
        let most = sum(tree, |process| proc.memory_at_most(process.pid));
        let now = Monotonic::now();
        if !self.is_due(most, limit, now) {
            let guess = most.saturating_sub(self.shared);
            return (guess <= limit).then_some(guess);
        }
        let exact = sum(tree, |process| proc.memory_exactly(process.pid)).min(most);
        self.shared = most - exact;
        self.exact = Some(Exact { at: now, cost: Monotonic::now().since(now) });
        Some(exact)
    }

    fn is_due(&self, most: u64, limit: u64, now: Monotonic) -> bool {
        let Some(exact) = self.exact else { return most > limit };
        let passed = now.since(exact.at);
        let grew = most.saturating_sub(self.shared) > limit;
        let old = most > limit && passed >= BELIEVED_FOR.max(exact.cost * 20).min(self.longest);
        old || grew && passed >= (exact.cost * 4).min(self.longest)
    }
}

/// Who they are.
pub(super) fn processes(tree: &[Stat]) -> Vec<Process> {
    tree.iter().filter(|stat| !stat.zombie).map(|stat| stat.process).collect()
}

fn sum(tree: &[Process], bytes: impl Fn(&Process) -> Option<u64>) -> u64 {
    // What has ended meanwhile has no memory.
    tree.iter().filter_map(bytes).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Pid;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_nanoseconds(milliseconds * 1_000_000)
    }

    #[test]
    fn the_exact_way_is_taken_when_it_may_matter() {
        let unknown = Memory::default();
        assert!(!unknown.is_due(100, 100, at(0)) && unknown.is_due(101, 100, at(0)));
        let cost = Duration::from_millis(5);
        let known =
            Memory { shared: 50, exact: Some(Exact { at: at(1000), cost }), ..Memory::default() };
        // (cheap reading, when) and whether it is worth it.
        for (most, when, due) in [
            (100, 9000, false),
            (140, 1100, false),
            (140, 1249, false),
            (140, 1250, true),
            (151, 1019, false),
            (151, 1020, true),
        ] {
            assert_eq!(known.is_due(most, 100, at(when)), due, "{most} at {when}");
        }
        let exact = Some(Exact { at: at(1000), cost: cost * 10 });
        let slow = Memory { shared: 50, exact, ..Memory::default() };
        assert!(!slow.is_due(140, 100, at(1900)) && slow.is_due(140, 100, at(2000)));
        let urgent = Memory { longest: Duration::from_millis(500), ..slow };
        assert!(!urgent.is_due(140, 100, at(1499)) && urgent.is_due(140, 100, at(1500)));
    }

    #[test]
    fn what_may_be_too_much_is_not_reported_as_too_much() {
        let me = Process { pid: Pid(std::process::id()), started_at: 0 };
        let mut memory = Memory::default();
        let now = Monotonic::now();
        memory.exact = Some(Exact { at: now, cost: Duration::from_secs(1000) });
        assert_eq!(memory.read(&Proc::default(), &[me], 4096), 4096);
        memory.exact = None;
        assert!(memory.read(&Proc::default(), &[me], 4096) > 4096);
        assert!(memory.read(&Proc::default(), &[me, me], u64::MAX) > 0);
        assert_eq!(memory.read(&Proc::default(), &[], 0), 0);
    }
}
