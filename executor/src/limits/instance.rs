//! Names for what an agent leaves outside its own memory, so that a later one
//! can tell whose it was and whether that agent still runs.

use std::fmt;
use std::io;
use std::path::Path;

use crate::identifiers::Pid;

/// One run of an agent: a process id, which the kernel gives again, and the
/// instant at which that process began, which it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instance {
    pid: Pid,
    /// In clock ticks since the machine started.
    start: u64,
}

impl Instance {
    /// This process.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub(super) fn this() -> io::Result<Self> {
        let pid = Pid(std::process::id());
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let (_, start) = state_and_start(&stat)
            .ok_or_else(|| io::Error::other("`/proc/self/stat` is not understood"))?;
        Ok(Self { pid, start })
    }

    /// Whose name this is; `None`: nobody's of ours.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (pid, start) = name.strip_prefix("clutch-")?.split_once('-')?;
        let instance = Self { pid: Pid(pid.parse().ok()?), start: start.parse().ok()? };
        // Only what we would have written ourselves: no signs, no zeros ahead.
        (instance.to_string() == name).then_some(instance)
    }

    /// Whether that process still runs. One that has ended and that nobody has
    /// waited for does not.
    pub(super) fn is_alive(self) -> bool {
        let stat = std::fs::read(Path::new("/proc").join(self.pid.to_string()).join("stat"));
        // Names of programs may be any bytes.
        stat.is_ok_and(|stat| {
            state_and_start(&String::from_utf8_lossy(&stat))
                .is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
        })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "clutch-{}-{}", self.pid, self.start)
    }
}

/// The third and the twenty-second word of a `/proc/<pid>/stat`. The second is
/// the program's name in parentheses and may contain anything, these included.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?.chars().next()?;
    Some((state, words.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let instance = Instance { pid: Pid(12), start: 345 };
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
        assert!(!Instance { start: this.start - 1, ..this }.is_alive());
    }

    #[test]
    fn one_that_nobody_waited_for_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let path = format!("/proc/{}/stat", child.id());
        let start = loop {
            let stat = std::fs::read_to_string(&path).unwrap();
            if let Some(('Z', start)) = state_and_start(&stat) {
                break start;
            }
            std::thread::yield_now();
        };
        assert!(!Instance { pid: Pid(child.id()), start }.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn a_program_may_have_any_name() {
        let numbers = (4..=52).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("1 (a) R 3) S {numbers}");
        assert_eq!(state_and_start(&stat), Some(('S', 22)));
        assert_eq!(state_and_start("1 (a"), None);
    }
}
