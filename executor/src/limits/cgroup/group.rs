//! The groups of one worker: one in each hierarchy that its limits need.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{add, make, processes};
use super::killer::{Killer, Way};
use super::knobs::{Version, limit_processes, processes_counted, refused_forks};
use super::parent::Groups;
use super::place::Place;
use super::removal::remove_soon;
use crate::identifiers::{Pid, WorkerId};
use crate::limits::Limits;

/// One worker's groups: limits, readings, and an end for all that is in them.
/// Dropping it kills what still runs there.
#[derive(Debug)]
pub(in crate::limits) struct Group {
    pub(super) directories: Vec<PathBuf>,
    memory: Option<(Version, PathBuf)>,
    cpus: Option<(Version, PathBuf)>,
    accounting: Option<(Version, PathBuf)>,
    processes: Option<PathBuf>,
    killer: Killer,
}

/// What the kernel counted since the group was made. `None`: it does not count
/// that here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::limits) struct GroupUsage {
    /// Memory now, page cache included, bytes.
    pub(in crate::limits) memory_bytes: Option<u64>,
    /// The most memory there was, bytes.
    pub(in crate::limits) peak_memory_bytes: Option<u64>,
    /// CPU time of all processes, nanoseconds.
    pub(in crate::limits) cpu_nanoseconds: Option<u64>,
    /// Processes and threads now.
    pub(in crate::limits) processes: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub(in crate::limits) oom_kills: u64,
    /// Whether the group's own limit on memory was reached.
    pub(in crate::limits) at_own_limit: bool,
    /// How long its limit on CPUs held it back, nanoseconds.
    pub(in crate::limits) throttled_nanoseconds: u64,
    /// Processes and threads that were refused.
    pub(in crate::limits) refused_forks: u64,
}

/// Groups that are being made: undone when that fails half-way.
struct Making<'a> {
    groups: &'a Groups,
    name: String,
    directories: Vec<PathBuf>,
}

impl Group {
    /// Makes the groups that these limits need; `None`: they need none, or
    /// there can be none here.
    ///
    /// # Errors
    /// When the kernel refuses what it granted at the start.
    pub(in crate::limits) fn create(
        groups: &Groups,
        worker: WorkerId,
        limits: &Limits,
    ) -> io::Result<Option<Self>> {
        let mut making = Making { groups, name: format!("w{}", worker.0), directories: Vec::new() };
        let made = making.make(limits);
        if !matches!(made, Ok(Some(_))) {
            remove_soon(making.directories);
        }
        made
    }

    /// Puts the worker in. What it starts from then on is in there, too.
    ///
    /// # Errors
    /// When it is dead.
    pub(in crate::limits) fn add(&self, pid: Pid) -> io::Result<()> {
        self.directories.iter().try_for_each(|directory| add(directory, pid))
    }

    /// What was used until now. Reads a few small files.
    ///
    /// # Errors
    /// When the group is gone.
    pub(in crate::limits) fn usage(&self) -> io::Result<GroupUsage> {
        let mut usage = GroupUsage::default();
        if let Some((version, group)) = &self.memory {
            let memory = version.memory(group)?;
            usage.memory_bytes = Some(memory.now);
            usage.peak_memory_bytes = memory.peak;
            usage.oom_kills = memory.oom_kills;
            usage.at_own_limit = memory.at_own_limit;
        }
        if let Some((version, group)) = &self.cpus {
            usage.throttled_nanoseconds = version.throttled_nanoseconds(group)?;
        }
        if let Some((version, group)) = &self.accounting {
            usage.cpu_nanoseconds = Some(version.cpu_nanoseconds(group)?);
        }
        if let Some(group) = &self.processes {
            usage.processes = Some(processes_counted(group)?);
            usage.refused_forks = refused_forks(group)?;
        }
        Ok(usage)
    }

    /// Whether the kernel, for want of memory, kills one process of it and lets
    /// the others live.
    pub(in crate::limits) fn dies_in_parts(&self) -> bool {
        self.memory.as_ref().is_some_and(|(version, group)| !version.dies_together(group))
    }

    /// The processes in it, the worker included.
    ///
    /// # Errors
    /// When the group is gone.
    pub(in crate::limits) fn processes(&self) -> io::Result<Vec<Pid>> {
        processes(self.killer.group())
    }

    /// Kills everything in it. It is dead a moment later.
    ///
    /// # Errors
    /// When processes go on to fork for a second.
    pub(in crate::limits) fn kill_all(&self) -> io::Result<()> {
        self.killer.kill_all()
    }

    /// Kills those that are chosen, and what they fork meanwhile; gives how
    /// many. None of the others runs, or forks, while this goes on.
    ///
    /// # Errors
    /// When processes go on to fork for a second.
    pub(in crate::limits) fn kill_those(&self, chosen: impl Fn(Pid) -> bool) -> io::Result<usize> {
        self.killer.kill_those(chosen)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Mostly they are empty by now, and this says so without a kill.
        if self.processes().is_ok_and(|left| !left.is_empty())
            && let Err(error) = self.kill_all()
        {
            tracing::warn!(%error, "something of a worker is left");
        }
        remove_soon(std::mem::take(&mut self.directories));
    }
}

impl Making<'_> {
    fn make(&mut self, limits: &Limits) -> io::Result<Option<Group>> {
        let groups = self.groups;
        let memory = limits.memory_bytes.and(groups.memory.as_ref());
        let memory = memory.map(|place| self.join(place)).transpose()?;
        if let (Some((version, group)), Some(bytes)) = (&memory, limits.memory_bytes) {
            version.limit_memory(group, bytes)?;
        }
        let cpus = limits.cpus.and(groups.cpus.as_ref());
        let cpus = cpus.map(|place| self.join(place)).transpose()?;
        if let (Some((version, group)), Some(number)) = (&cpus, limits.cpus) {
            version.limit_cpus(group, number)?;
        }
        let processes = limits.processes.and(groups.processes.as_ref());
        let processes = processes.map(|place| self.join(place)).transpose()?;
        if let (Some((_, group)), Some(most)) = (&processes, limits.processes) {
            limit_processes(group, most)?;
        }
        if self.directories.is_empty() {
            return Ok(None);
        }
        let processes = processes.map(|(_, group)| group);
        let Some(killer) = self.killer(processes.as_deref())? else { return Ok(None) };
        // What is counted where it is anyway. Memory may run short without a
        // limit of its own: all workers together may have a ceiling.
        let memory = memory.or_else(|| self.joined(groups.memory.as_ref()?));
        if let Some((version, group)) = &memory {
            version.die_together(group)?;
        }
        let accounting = groups.accounting.iter().find_map(|place| self.joined(place));
        let directories = std::mem::take(&mut self.directories);
        Ok(Some(Group { directories, memory, cpus, accounting, processes, killer }))
    }

    fn group(&self, place: &Place) -> PathBuf {
        place.parent(&self.groups.name).join(&self.name)
    }

    /// The group there, if it was made.
    fn joined(&self, place: &Place) -> Option<(Version, PathBuf)> {
        let group = self.group(place);
        self.directories.contains(&group).then_some((place.version, group))
    }

    /// Makes a group there, unless that is done.
    fn join(&mut self, place: &Place) -> io::Result<(Version, PathBuf)> {
        let group = self.group(place);
        if !self.directories.contains(&group) {
            place.open(&self.groups.name)?;
            make(&group)?;
            self.directories.push(group.clone());
        }
        Ok((place.version, group))
    }

    /// The surest way to kill it all. Where forks can be refused anyway there is
    /// no need to freeze, which takes a group more.
    fn killer(&mut self, processes: Option<&Path>) -> io::Result<Option<Killer>> {
        let groups = self.groups;
        Ok(match (&groups.kill, processes) {
            (Some((_, Way::FreezeV1 | Way::FreezeV2)) | None, Some(group)) => {
                Some(Killer::new(group.to_owned(), Way::RefuseForks))
            }
            (Some((place, way)), _) => {
                let (_, group) = self.join(place)?;
                Some(Killer::new(group, *way))
            }
            (None, None) => {
                self.directories.first().map(|group| Killer::new(group.clone(), Way::Chase))
            }
        })
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
