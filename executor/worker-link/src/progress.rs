//! The progress page: shared memory in which a worker says what it runs.
//!
//! A worker that is killed or crashes says nothing more, so what it was doing
//! must already be known. It writes two numbers into a page that the agent
//! also maps: no system call, no message. The agent takes them as a hint: a
//! task could scribble over them.

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

    /// Says that no task runs.
    pub fn idle(&self) {
        self.task.store(0, Ordering::Release);
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
}
