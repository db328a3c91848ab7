//! Killing whatever is in a group, faster than it can fork.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::files::{counted, processes, read, write};
use super::knobs::{limit_processes, process_limit};
use crate::identifiers::Pid;

/// How long processes may go on to appear, and a group may take to freeze.
const LONGEST: Duration = Duration::from_secs(1);
/// Between two looks at a group that freezes.
const LOOK: Duration = Duration::from_millis(1);

/// How the processes of a group are kept from getting away meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Version 2 since Linux 5.14: the kernel kills all of a group in one go.
    /// To kill some of them it is frozen.
    Kill,
    /// Version 2 since Linux 5.2: it is frozen.
    FreezeV2,
    /// The `freezer` of version 1: frozen, and thawed for them to die.
    FreezeV1,
    /// The `pids` of either: none of them may fork any more.
    RefuseForks,
    /// They are killed until none is left.
    Chase,
}

/// Kills the processes of one group.
#[derive(Debug)]
pub(super) struct Killer {
    group: PathBuf,
    way: Way,
}

impl Killer {
    pub(super) const fn new(group: PathBuf, way: Way) -> Self {
        Self { group, way }
    }

    pub(super) fn group(&self) -> &Path {
        &self.group
    }

    /// Kills all of them. They are dead a moment later.
    pub(super) fn kill_all(&self) -> io::Result<()> {
        match self.way {
            Way::Kill => write(&self.group, "cgroup.kill", "1"),
            Way::FreezeV2 | Way::FreezeV1 | Way::RefuseForks | Way::Chase => {
                self.kill_those(|_| true).map(drop)
            }
        }
    }

    /// Kills those of them that are chosen, among them the ones that they fork
    /// meanwhile; gives how many. They are dead a moment later.
    pub(super) fn kill_those(&self, chosen: impl Fn(Pid) -> bool) -> io::Result<usize> {
        let limit = self.hold()?;
        self.wait_until_held();
        let killed = chase(&self.group, chosen);
        // Let go of them in any case: the worker may be among them.
        self.release(limit).and(killed)
    }

    /// Keeps them from running, or from forking; gives what limits them.
    fn hold(&self) -> io::Result<u64> {
        match self.way {
            Way::Kill | Way::FreezeV2 => write(&self.group, "cgroup.freeze", "1")?,
            Way::FreezeV1 => write(&self.group, "freezer.state", "FROZEN")?,
            Way::RefuseForks => {
                let limit = process_limit(&self.group)?;
                limit_processes(&self.group, 0)?;
                return Ok(limit);
            }
            Way::Chase => {}
        }
        Ok(0)
    }

    fn release(&self, limit: u64) -> io::Result<()> {
        match self.way {
            Way::Kill | Way::FreezeV2 => write(&self.group, "cgroup.freeze", "0"),
            Way::FreezeV1 => write(&self.group, "freezer.state", "THAWED"),
            Way::RefuseForks => limit_processes(&self.group, limit),
            Way::Chase => Ok(()),
        }
    }

    /// A process in the kernel may take its time to freeze. One that takes too
    /// long is killed as it is.
    fn wait_until_held(&self) {
        let end = Instant::now() + LONGEST / 4;
        while !self.is_held() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
    }

    fn is_held(&self) -> bool {
        match self.way {
            Way::Kill | Way::FreezeV2 => {
                counted(&self.group, "cgroup.events", "frozen").is_ok_and(|frozen| frozen == 1)
            }
            Way::FreezeV1 => {
                read(&self.group, "freezer.state").is_ok_and(|state| state.trim() == "FROZEN")
            }
            Way::RefuseForks | Way::Chase => true,
        }
    }
}

/// Kills until no more are found.
pub(super) fn chase(group: &Path, chosen: impl Fn(Pid) -> bool) -> io::Result<usize> {
    let mut killed = HashSet::new();
    let end = Instant::now() + LONGEST;
    loop {
        let found = match processes(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let before = killed.len();
        for pid in found.into_iter().filter(|pid| chosen(*pid)) {
            // 0 is somebody whom this process cannot see.
            if let Some(raw) = pid.raw()
                && killed.insert(pid)
            {
                // It may have died by itself.
                kill_process(raw, Signal::KILL).ok();
            }
        }
        if killed.len() == before {
            return Ok(before);
        }
        if Instant::now() > end {
            let why = format!("processes of `{}` go on to fork", group.display());
            return Err(io::Error::new(ErrorKind::TimedOut, why));
        }
    }
}
