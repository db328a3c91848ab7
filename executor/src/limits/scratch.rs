//! Directories for files that end with their worker.
//!
//! ```text
//! <scratch-directory>/
//!   clutch-<pid>-<start>/        an agent's, locked as long as it runs
//!     w<worker>/                 one worker's, its `TMPDIR`
//!     s<session>/                one session's, for code of its driver
//! ```
//!
//! Where workers are another user's, these names cannot be guessed. Tasks write what they like in there, links to elsewhere included, so nothing
//! here follows a link.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Gid, Mode, Uid, fchmod, fchown, flock, fstat, mkdirat, unlinkat,
};
use rustix::io::Errno;

use super::instance::Instance;
use super::scratch_removal::{open_directory, remove_tree, remove_tree_until};
use crate::identifiers::{SessionId, WorkerId};
use crate::random_name::random_name;

/// How long an agent that ends removes files. Who waits for its end is not
/// served by more, and the next agent removes the rest when it starts.
const REMOVAL: Duration = Duration::from_secs(2);

/// Whom directories belong to whose worker is not the agent's own user's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// An agent's directory. Removed when dropped, as far as two seconds suffice.
#[derive(Debug)]
pub(super) struct ScratchRoot {
    path: PathBuf,
    // Its lock says that this agent runs, also to who counts processes
    // otherwise: in another container with the same directory.
    directory: OwnedFd,
    owner: Option<Owner>,
}

/// A worker's directory, or a session's. Removed when dropped, which takes as long as it has
/// files.
#[derive(Debug)]
pub(super) struct Scratch {
    name: String,
    directory: OwnedFd,
    root: Arc<ScratchRoot>,
}

impl ScratchRoot {
    /// Makes the directory of this agent.
    ///
    /// # Errors
    /// When it cannot be made, or somebody else has one of that name.
    pub(super) fn create(below: &Path, owner: Option<Owner>) -> io::Result<Self> {
        let path = below.join(Instance::this()?.to_string());
        Self::create_at(path, owner)
    }

    fn create_at(path: PathBuf, owner: Option<Owner>) -> io::Result<Self> {
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("scratch directory `{}`: {error}", path.display()))
        };
        let create = || {
            make(CWD, &path)?;
            let directory = open_directory(CWD, &path)?;
            flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
            Ok(directory)
        };
        let directory = create().map_err(told)?;
        // The name can be guessed, and temporary directories are everybody's.
        if fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(told(io::Error::from(io::ErrorKind::PermissionDenied)));
        }
        if owner.is_some() {
            // Workers pass through, and do not see what else there is.
            fchmod(&directory, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
        }
        Ok(Self { path, directory, owner })
    }

    /// Makes the directory of a worker.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn directory(self: &Arc<Self>, worker: WorkerId) -> io::Result<Scratch> {
        self.directory_named(format!("w{}", worker.0))
    }

    /// Makes the directory of a session.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn session_directory(self: &Arc<Self>, session: SessionId) -> io::Result<Scratch> {
        self.directory_named(format!("s{}", session.0))
    }

    fn directory_named(self: &Arc<Self>, mut name: String) -> io::Result<Scratch> {
        if self.owner.is_some() {
            // Workers of other sessions are the same user. They may not list the
            // agent's directory, nor read each other's environment.
            name = format!("{name}-{}", random_name()?);
        }
        let told = |error: Errno| {
            let text = format!("scratch directory `{}`: {error}", self.path.join(&name).display());
            io::Error::new(error.kind(), text)
        };
        mkdirat(&self.directory, &name, Mode::RWXU).map_err(told)?;
        let directory = open_directory(&self.directory, Path::new(&name)).map_err(told)?;
        if let Some(Owner { user, group }) = self.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            fchown(&directory, Some(user), Some(group)).map_err(told)?;
        }
        Ok(Scratch { name, directory, root: Arc::clone(self) })
    }
}

impl Scratch {
    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.root.path.join(&self.name)
    }

    /// The directory itself, wherever a task moved it.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let name = Path::new(&self.name);
        note_removal(remove_tree(self.root.directory.as_fd(), name), &self.path());
    }
}

impl ScratchRoot {
    /// Removes all of it now, whoever still has a part, as far as two seconds
    /// suffice.
    pub(super) fn remove(&self) {
        let end = Instant::now() + REMOVAL;
        note_removal(remove_tree_until(CWD, &self.path, end), &self.path);
    }
}

/// Says what stays. Nothing is as good as removed.
fn note_removal(removed: rustix::io::Result<()>, path: &Path) {
    if let Err(error) = removed
        && error != Errno::NOENT
    {
        tracing::warn!(%error, path = %path.display(), "a scratch directory stays");
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the directories of agents that ended without doing that. Takes as
/// long as they have files.
pub(super) fn remove_stale(below: &Path) {
    for entry in std::fs::read_dir(below).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(Instance::of_name);
        if of.is_none_or(Instance::is_alive) {
            continue;
        }
        match remove_if_nobodys(&entry.path()) {
            Ok(true) => {
                tracing::info!(path = %entry.path().display(), "removed what an agent left");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, path = %entry.path().display(), "a directory stays");
            }
        }
    }
}

/// Removes a directory of this user that no agent has locked.
fn remove_if_nobodys(path: &Path) -> rustix::io::Result<bool> {
    let directory = open_directory(CWD, path)?;
    if fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(error) => return Err(error),
    }
    remove_tree(CWD, path)?;
    Ok(true)
}

/// Makes a directory that only this user may enter; an empty one that is there
/// is as good.
fn make(parent: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    match mkdirat(&parent, path, Mode::RWXU) {
        Err(Errno::EXIST) => {
            unlinkat(&parent, path, AtFlags::REMOVEDIR)?;
            mkdirat(&parent, path, Mode::RWXU)
        }
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_workers_files_end_with_it_and_its_links_lead_nowhere() {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let root = Arc::new(ScratchRoot::create(base.path(), None).unwrap());
        let scratch = root.directory(WorkerId(7)).unwrap();
        let path = scratch.path();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        symlink(&outside, path.join("directory")).unwrap();
        symlink(outside.join("kept"), path.join("file")).unwrap();
        fs::create_dir_all(path.join("a/b")).unwrap();
        symlink("..", path.join("a/b/up")).unwrap();
        fs::write(path.join("a/b/c"), "x").unwrap();
        drop(scratch);
        let late = root.directory(WorkerId(8)).unwrap();
        assert!(!path.exists() && outside.join("kept").exists());
        let parent = path.parent().unwrap().to_owned();
        root.remove();
        assert!(!late.path().exists());
        drop((late, root));
        assert!(!parent.exists() && base.path().exists());
    }

    #[test]
    fn a_directory_that_was_replaced_by_a_link_stays() {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let root = Arc::new(ScratchRoot::create(base.path(), None).unwrap());
        let scratch = root.directory(WorkerId(7)).unwrap();
        let path = scratch.path();
        fs::rename(&path, base.path().join("moved")).unwrap();
        symlink(&outside, &path).unwrap();
        drop(scratch);
        assert!(outside.join("kept").exists());
        drop(root);
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn only_what_dead_agents_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let below = base.path();
        let root = ScratchRoot::create(below, None).unwrap();
        // A number that no process can have.
        let dead = "clutch-4294967295-1";
        for name in [dead, "clutch-4294967295-2", "clutch-x", "other"] {
            fs::create_dir_all(below.join(name).join("w1")).unwrap();
        }
        fs::write(below.join(dead).join("w1/x"), "x").unwrap();
        let elsewhere = open_directory(CWD, &below.join("clutch-4294967295-2")).unwrap();
        flock(&elsewhere, FlockOperation::LockExclusive).unwrap();
        symlink(below.join("other"), below.join("clutch-4294967295-3")).unwrap();
        remove_stale(below);
        let mut left: Vec<_> =
            fs::read_dir(below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let own = root.path.file_name().unwrap().to_owned();
        let mut expected = ["clutch-4294967295-2", "clutch-4294967295-3", "clutch-x", "other"]
            .map(std::ffi::OsString::from)
            .to_vec();
        expected.push(own);
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("taken");
        fs::write(&path, "x").unwrap();
        let error = ScratchRoot::create_at(path.clone(), None).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(ScratchRoot::create(&base.path().join("nowhere"), None).is_err());
    }
}
