//! What is asked for, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

/// What a worker, with all that it starts, may use. `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// CPUs, more than 0.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Size of the scratch directory in bytes; without it there is none.
    pub scratch_bytes: Option<u64>,
    /// Allocations fail short of the memory limit, where that is possible.
    pub soft_memory: bool,
}

/// One limit as an operator sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounded<T> {
    /// For sessions that ask for nothing; `None`: no limit but `most`.
    pub default: Option<T>,
    /// The most that a session may ask for; `None`: anything.
    pub most: Option<T>,
}

/// What an operator sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitOptions {
    /// Memory of a worker, bytes.
    pub memory_bytes: Bounded<u64>,
    /// CPUs of a worker.
    pub cpus: Bounded<f64>,
    /// Processes and threads of a worker.
    pub processes: Bounded<u64>,
    /// Open files of each process.
    pub open_files: Bounded<u64>,
    /// Scratch directory of a worker, bytes.
    pub scratch_bytes: Bounded<u64>,
    /// Wall time of a task.
    pub task_timeout: Bounded<Duration>,
    /// CPU time of a task.
    pub task_cpu: Bounded<Duration>,
    /// Where scratch directories are made.
    pub scratch_directory: PathBuf,
    /// Memory of all workers together, bytes.
    pub memory_ceiling_bytes: Option<u64>,
    /// Weight of all workers together against others on the machine, where 1 is
    /// that of any other program; `None`: nothing is set.
    pub cpu_weight: Option<f64>,
    /// Whether control groups may be used.
    pub cgroups: bool,
    /// Numbers of the user and the group that workers run as; `None`: the agent's.
    pub owner: Option<(u32, u32)>,
}

/// A session asks for more than it may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {asked} is asked for, and this agent allows at most {most} (`{setting}`)")]
pub struct OverCeiling {
    /// What it is, for example `a memory limit`.
    pub what: &'static str,
    /// The value asked for, with its unit.
    pub asked: String,
    /// The most there is, with its unit.
    pub most: String,
    /// The agent's setting.
    pub setting: &'static str,
}

impl<T: Copy + PartialOrd> Bounded<T> {
    /// What holds for one who asks for this.
    ///
    /// # Errors
    /// The most there is, when more is asked for.
    pub fn grant(&self, asked: Option<T>) -> Result<Option<T>, T> {
        match (asked, self.most) {
            (Some(asked), Some(most)) if asked > most => Err(most),
            (Some(asked), _) => Ok(Some(asked)),
            (None, most) => Ok(self.default.or(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_nothing_gets_the_default_and_nobody_more_than_the_most() {
        let bounded = Bounded { default: Some(2), most: Some(4) };
        assert_eq!(
            [None, Some(1), Some(4)].map(|asked| bounded.grant(asked)),
            [Ok(Some(2)), Ok(Some(1)), Ok(Some(4))]
        );
        assert_eq!(bounded.grant(Some(5)), Err(4));
        assert_eq!(Bounded { default: None, most: Some(4) }.grant(None), Ok(Some(4)));
        assert_eq!(Bounded::<u64>::default().grant(None), Ok(None));
    }
}
