//! Names for what an agent leaves outside its own memory, so that a later one
//! can tell whose it was and whether that agent still runs.

use std::fmt;
use std::io;

use crate::identifiers::Pid;
use crate::processes::{Proc, Process};

/// One run of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instance(Process);

impl Instance {
    /// This process.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub(super) fn this() -> io::Result<Self> {
        let pid = Pid(std::process::id());
        let stat = Proc::default().stat(pid);
        let stat = stat.ok_or_else(|| io::Error::other(format!("`/proc/{pid}/stat` says nothing")));
        Ok(Self(stat?.process))
    }

    /// Whose name this is; `None`: nobody's of ours.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (pid, start) = name.strip_prefix("clutch-")?.split_once('-')?;
        let (pid, started_at) = (Pid(pid.parse().ok()?), start.parse().ok()?);
        let instance = Self(Process { pid, started_at });
        // Only what we would have written ourselves: no signs, no zeros ahead.
        (instance.to_string() == name).then_some(instance)
    }

    /// Whether that process still runs. One that has ended and that nobody has
    /// waited for does not.
    pub(super) fn is_alive(self) -> bool {
        let stat = Proc::default().stat(self.0.pid);
        stat.is_some_and(|stat| stat.process == self.0 && !stat.zombie)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clutch-{}-{}", self.0.pid, self.0.started_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let instance = Instance(Process { pid: Pid(12), started_at: 345 });
        assert_eq!(instance.to_string(), "clutch-12-345");
        assert_eq!(Instance::of_name("clutch-12-345"), Some(instance));
        for foreign in ["clutch-12", "clutch-12-", "clutch--12-345", "clutch-+12-345", "w12-345"] {
            assert_eq!(Instance::of_name(foreign), None, "{foreign}");
        }
        assert_eq!(Instance::of_name("clutch-012-345"), None);
        assert_eq!(Instance::of_name("clutch-12-345-6"), None);
    }

    #[test]
    fn this_process_runs_and_another_with_its_number_does_not() {
        let this = Instance::this().unwrap();
        assert!(this.is_alive());
        let other = Process { started_at: this.0.started_at - 1, ..this.0 };
        assert!(!Instance(other).is_alive());
    }

    #[test]
    fn one_that_nobody_waited_for_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let proc = Proc::default();
        let ended = loop {
            let stat = proc.stat(Pid(child.id())).unwrap();
            if stat.zombie {
                break stat.process;
            }
            std::thread::yield_now();
        };
        assert!(!Instance(ended).is_alive());
        child.wait().unwrap();
    }
}
