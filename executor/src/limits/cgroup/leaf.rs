//! The agent's way out of its own group: in version 2, a group that controls
//! something in groups below it may have no processes itself.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{add, make, own_processes, remove};
use super::place::{SUBTREE, lists};
use crate::identifiers::Pid;

const NAME: &str = "agent";

/// A group below the agent's own one, into which it moved.
#[derive(Debug)]
pub(super) struct Leaf {
    own: PathBuf,
    pid: Pid,
}

impl Leaf {
    /// Moves this process there, if it is the only one of its group. Others are
    /// not ours to move.
    pub(super) fn step_down(own: &Path, pid: Pid) -> io::Result<Self> {
        let others = own_processes(own)?.into_iter().filter(|other| *other != pid).count();
        if others > 0 {
            let own = own.display();
            let why = format!("the agent is not alone in `{own}`: {others} others are there");
            return Err(io::Error::other(why));
        }
        let leaf = own.join(NAME);
        make(&leaf)?;
        add(&leaf, pid)?;
        Ok(Self { own: own.to_owned(), pid })
    }

    /// Moves it back, so that its group is as it was.
    pub(super) fn step_up(&self) -> io::Result<()> {
        for controller in ["memory", "cpu", "pids"] {
            if lists(&self.own, SUBTREE, controller)? {
                super::files::write(&self.own, SUBTREE, &format!("-{controller}"))?;
            }
        }
        add(&self.own, self.pid)?;
        remove(&self.own.join(NAME))
    }
}
