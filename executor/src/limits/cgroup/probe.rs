//! Which control groups this process may use: found out by using them.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{has, make, remove, remove_if_empty, takes_processes, write};
use super::hierarchies::{Controller, Hierarchies};
use super::killer::Way;
use super::knobs::{Version, limit_processes, process_limit};
use super::leaf::Leaf;
use super::parent::Groups;
use super::place::{Place, lists, pass_on};
use super::stale;
use crate::identifiers::Pid;

/// What is set and read back. Any machine has it, and any group above allows it.
const SOME_MEMORY: u64 = 1 << 30;
const SOME_CPUS: f64 = 0.01;
const SOME_PROCESSES: u64 = 64;

/// What was found.
#[derive(Debug)]
pub(in crate::limits) struct Probed {
    pub(in crate::limits) groups: Groups,
    /// What cannot be used, and why; for people.
    pub(in crate::limits) notes: Vec<String>,
}

/// Finds out what may be used below `root`, by the process `pid` whose groups
/// have this name. Removes what dead agents left there.
pub(in crate::limits) fn probe(root: &Path, name: String, pid: Pid) -> Probed {
    let mut probing = Probing { groups: Groups::named(name), pid, notes: Vec::new() };
    match Hierarchies::read(root) {
        Ok(hierarchies) => probing.all(&hierarchies),
        Err(error) => probing.notes.push(format!("control groups: {error}")),
    }
    Probed { groups: probing.groups, notes: probing.notes }
}

struct Probing {
    groups: Groups,
    pid: Pid,
    notes: Vec<String>,
}

impl Probing {
    fn all(&mut self, hierarchies: &Hierarchies) {
        if let Some(own) = &hierarchies.v2 {
            stale::sweep(own);
            if let Err(error) = self.version_2(own.clone()) {
                self.notes.push(format!("control groups of version 2: {error}"));
            }
        }
        for controller in [Controller::Memory, Controller::Cpu, Controller::Pids] {
            if let Some(own) = hierarchies.v1(controller) {
                stale::sweep(own);
                self.version_1(controller, own);
            }
        }
        if let Some(own) = hierarchies.v1(Controller::Freezer) {
            stale::sweep(own);
            if !matches!(self.groups.kill, Some((_, Way::Kill))) {
                self.freezer(own);
            }
        }
        if let Some(own) = hierarchies.v1(Controller::CpuAccounting) {
            self.groups.accounting.push(Place::new(Version::V1, own.to_owned()));
        }
        if hierarchies.v2.is_none() && hierarchies.v1(Controller::Memory).is_none() {
            self.notes.push("control groups: none are mounted here".to_owned());
        }
    }

    fn version_2(&mut self, own: PathBuf) -> io::Result<()> {
        let mut place = Place::new(Version::V2, own);
        // Whoever moves a process needs this in the group above both.
        takes_processes(&place.own)?;
        let way = self.attempt(&place, |group| {
            Ok(if has(group, "cgroup.kill") {
                write(group, "cgroup.kill", "1")?;
                Some(Way::Kill)
            } else {
                has(group, "cgroup.freeze").then_some(Way::FreezeV2)
            })
        })?;
        for controller in ["memory", "cpu", "pids"] {
            if !lists(&place.own, "cgroup.controllers", controller)? {
                let own = place.own.display();
                self.notes
                    .push(format!("control groups of version 2: no `{controller}` in `{own}`"));
                continue;
            }
            match self.take(&place.own, controller) {
                Ok(()) => place.controllers.push(controller),
                Err(error) => self.notes.push(format!("control groups of version 2: {error}")),
            }
        }
        for (name, controller) in
            [("memory", Controller::Memory), ("cpu", Controller::Cpu), ("pids", Controller::Pids)]
        {
            if place.controllers.contains(&name) {
                self.resource(controller, &place);
            }
        }
        if self.groups.memory.is_none()
            && self.groups.cpus.is_none()
            && self.groups.processes.is_none()
            && let Some(leaf) = self.groups.leaf.take()
        {
            leaf.step_up()?;
        }
        self.groups.accounting.push(place.clone());
        self.groups.kill = way.map(|way| (place, way));
        Ok(())
    }

    /// Has the agent's group pass a controller on, for which it may have to be
    /// empty.
    fn take(&mut self, own: &Path, controller: &str) -> io::Result<()> {
        match pass_on(own, controller) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && self.groups.leaf.is_none() =>
            {
                self.groups.leaf = Some(Leaf::step_down(own, self.pid)?);
                pass_on(own, controller)
            }
            done => done,
        }
    }

    fn version_1(&mut self, controller: Controller, own: &Path) {
        let taken = match controller {
            Controller::Memory => self.groups.memory.is_some(),
            Controller::Cpu => self.groups.cpus.is_some(),
            Controller::Pids => self.groups.processes.is_some(),
            Controller::CpuAccounting | Controller::Freezer => true,
        };
        if !taken {
            self.resource(controller, &Place::new(Version::V1, own.to_owned()));
        }
    }

    fn freezer(&mut self, own: &Path) {
        let place = Place::new(Version::V1, own.to_owned());
        let tried = self.attempt(&place, |group| {
            write(group, "freezer.state", "FROZEN")?;
            write(group, "freezer.state", "THAWED")
        });
        match tried {
            // Frozen by version 2, they can be killed without being thawed.
            Ok(()) if self.groups.kill.is_some() => {}
            Ok(()) => self.groups.kill = Some((place, Way::FreezeV1)),
            Err(error) => self.notes.push(format!("control groups of version 1: {error}")),
        }
    }

    /// Uses a place for a resource if a limit on it can be set there.
    fn resource(&mut self, controller: Controller, place: &Place) {
        let version = place.version;
        let tried = self.attempt(place, |group| match controller {
            Controller::Memory => {
                version.limit_memory(group, SOME_MEMORY)?;
                version.die_together(group)?;
                let features = (version.counts_swap(group), version.dies_together(group));
                as_set(group, version.memory_limit(group)? == SOME_MEMORY).map(|()| features)
            }
            Controller::Cpu => {
                version.limit_cpus(group, SOME_CPUS)?;
                let limit = version.cpu_limit(group)?;
                as_set(group, limit.split_whitespace().next() == Some("1000"))
                    .map(|()| (false, false))
            }
            Controller::Pids => {
                limit_processes(group, SOME_PROCESSES)?;
                as_set(group, process_limit(group)? == SOME_PROCESSES).map(|()| (false, false))
            }
            Controller::CpuAccounting | Controller::Freezer => Ok((false, false)),
        });
        let (counts_swap, dies_together) = match tried {
            Ok(features) => features,
            Err(error) => {
                self.notes.push(format!("{}: {error}", place.mechanism().name()));
                return;
            }
        };
        let place = Some(place.clone());
        match controller {
            Controller::Memory => {
                self.groups.memory = place;
                self.groups.counts_swap = counts_swap;
                self.groups.dies_together = dies_together;
            }
            Controller::Cpu => self.groups.cpus = place,
            Controller::Pids => self.groups.processes = place,
            Controller::CpuAccounting | Controller::Freezer => {}
        }
    }

    /// Tries something in a group, of which nothing is left.
    fn attempt<T>(
        &self,
        place: &Place,
        try_it: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        let parent = place.open(&self.groups.name)?;
        let group = parent.join("probe");
        let tried =
            make(&group).and_then(|()| takes_processes(&group)).and_then(|()| try_it(&group));
        remove(&group)?;
        remove_if_empty(&parent);
        tried
    }
}

fn as_set(group: &Path, is_so: bool) -> io::Result<()> {
    let why = || io::Error::other(format!("a limit set in `{}` does not hold", group.display()));
    if is_so { Ok(()) } else { Err(why()) }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
