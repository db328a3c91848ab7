//! Where groups of ours are made: below this process's own, in one hierarchy.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{make, read, write};
use super::knobs::Version;
use crate::limits::Mechanism;

/// The knob by which a group of version 2 has controllers for groups below it.
pub(super) const SUBTREE: &str = "cgroup.subtree_control";

/// This process's own group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) own: PathBuf,
    /// What groups below control: only in version 2, where they are told so.
    pub(super) controllers: Vec<&'static str>,
}

impl Place {
    pub(super) const fn new(version: Version, own: PathBuf) -> Self {
        Self { version, own, controllers: Vec::new() }
    }

    /// What the kernel limits by, there.
    pub(super) const fn mechanism(&self) -> Mechanism {
        match self.version {
            Version::V1 => Mechanism::CgroupV1,
            Version::V2 => Mechanism::CgroupV2,
        }
    }

    /// The group of all workers of an agent.
    pub(super) fn parent(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }

    /// Makes that group, unless it is there.
    pub(super) fn open(&self, name: &str) -> io::Result<PathBuf> {
        let parent = self.parent(name);
        make(&parent)?;
        for controller in &self.controllers {
            // Another agent beside this one may have taken it away.
            pass_on(&self.own, controller)?;
            pass_on(&parent, controller)?;
        }
        Ok(parent)
    }
}

/// Has a group of version 2 control something in groups below it.
pub(super) fn pass_on(group: &Path, controller: &str) -> io::Result<()> {
    if lists(group, SUBTREE, controller)? {
        return Ok(());
    }
    write(group, SUBTREE, &format!("+{controller}"))
}

/// Whether a knob that is a list has this word.
pub(super) fn lists(group: &Path, knob: &str, word: &str) -> io::Result<bool> {
    Ok(read(group, knob)?.split_ascii_whitespace().any(|other| other == word))
}
