//! The group of all workers: ceiling, weight, and the zygotes that are in it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::files::{add, make};
use super::killer::{Way, chase};
use super::leaf::Leaf;
use super::place::Place;
use super::removal::remove_within;
use crate::identifiers::Pid;
use crate::limits::Mechanism;

/// How long zygotes may take to die at the end.
const LONGEST_END: Duration = Duration::from_secs(1);

/// What may be used on this machine, and the groups of this agent.
#[derive(Debug, Default)]
pub(in crate::limits) struct Groups {
    /// Of the group of all workers, in whichever hierarchy.
    pub(super) name: String,
    pub(super) memory: Option<Place>,
    pub(super) cpus: Option<Place>,
    pub(super) processes: Option<Place>,
    /// Where CPU time is counted, at no cost if a worker is there anyway.
    pub(super) accounting: Vec<Place>,
    /// Where all of a worker can be killed.
    pub(super) kill: Option<(Place, Way)>,
    pub(super) leaf: Option<Leaf>,
    /// Whether swap counts as memory.
    pub(super) counts_swap: bool,
    /// Whether all of a worker dies of its limit.
    pub(super) dies_together: bool,
    /// Where zygotes are put, and with them the workers that they fork.
    pool: Vec<PathBuf>,
    /// Whether the memory of all workers together has one.
    has_ceiling: bool,
}

impl Groups {
    pub(super) fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Sets a limit on the memory of all workers together, bytes.
    ///
    /// # Errors
    /// When there can be none.
    pub(in crate::limits) fn set_ceiling(&mut self, bytes: u64) -> io::Result<()> {
        let place = self.memory.clone().ok_or_else(|| missing("memory"))?;
        let parent = place.open(&self.name)?;
        place.version.limit_memory(&parent, bytes)?;
        self.add_pool(parent.join("pool"))?;
        self.has_ceiling = true;
        Ok(())
    }

    /// Sets what all workers together weigh when CPUs are short; 1: as much as
    /// any other group.
    ///
    /// # Errors
    /// When there can be none.
    pub(in crate::limits) fn set_weight(&mut self, weight: f64) -> io::Result<()> {
        let place = self.cpus.clone().ok_or_else(|| missing("cpu"))?;
        let parent = place.open(&self.name)?;
        place.version.weigh(&parent, weight)?;
        self.add_pool(parent.join("pool"))
    }

    fn add_pool(&mut self, pool: PathBuf) -> io::Result<()> {
        make(&pool)?;
        if !self.pool.contains(&pool) {
            self.pool.push(pool);
        }
        Ok(())
    }

    /// Puts a zygote where ceiling and weight are; its workers are born there.
    ///
    /// # Errors
    /// When it is dead, or may not be put there.
    pub(in crate::limits) fn place_zygote(&self, pid: Pid) -> io::Result<()> {
        self.pool.iter().try_for_each(|pool| add(pool, pid))
    }

    /// Memory of all workers together, zygotes included, bytes, but for file
    /// contents that the kernel keeps only while there is room; `None`: no group
    /// counts it.
    pub(in crate::limits) fn memory_together(&self) -> Option<u64> {
        let place = self.memory.as_ref().filter(|_| self.has_ceiling)?;
        let counted = place.version.memory_in_use(&place.parent(&self.name));
        counted.inspect_err(|error| tracing::debug!(%error, "nothing counts all workers")).ok()
    }

    /// What limits memory.
    pub(in crate::limits) fn memory_mechanism(&self) -> Option<Mechanism> {
        self.memory.as_ref().map(Place::mechanism)
    }

    /// What limits CPUs.
    pub(in crate::limits) fn cpu_mechanism(&self) -> Option<Mechanism> {
        self.cpus.as_ref().map(Place::mechanism)
    }

    /// What limits processes.
    pub(in crate::limits) fn process_mechanism(&self) -> Option<Mechanism> {
        self.processes.as_ref().map(Place::mechanism)
    }

    /// What finds all processes of a worker.
    pub(in crate::limits) fn kill_mechanism(&self) -> Option<Mechanism> {
        let kill = self.kill.as_ref().map(|(place, _)| place);
        kill.or(self.processes.as_ref()).map(Place::mechanism)
    }

    /// Whether what was swapped out counts towards a limit on memory.
    pub(in crate::limits) const fn counts_swap(&self) -> bool {
        self.counts_swap
    }

    /// Whether all processes of a worker die when it reaches its limit on
    /// memory.
    pub(in crate::limits) const fn dies_together(&self) -> bool {
        self.dies_together
    }

    /// Every hierarchy that is used, once.
    pub(super) fn places(&self) -> Vec<&Place> {
        let kill = self.kill.as_ref().map(|(place, _)| place);
        let all = [self.memory.as_ref(), self.cpus.as_ref(), self.processes.as_ref(), kill];
        let mut places: Vec<&Place> = Vec::new();
        for place in all.into_iter().flatten() {
            if !places.iter().any(|other| other.own == place.own) {
                places.push(place);
            }
        }
        places
    }

    /// Kills whatever is left in the groups, and removes them. Waits for a
    /// second at most.
    pub(in crate::limits) fn close(&self) {
        for place in self.places() {
            let parent = place.parent(&self.name);
            if let Err(error) = chase(&parent, |_| true) {
                tracing::warn!(%error, "something is left in a group");
            }
            if !remove_within(&parent, LONGEST_END) {
                tracing::warn!(group = %parent.display(), "the next agent's start removes it");
            }
        }
        if let Some(leaf) = &self.leaf
            && let Err(error) = leaf.step_up()
        {
            tracing::debug!(%error, "the agent's group stays as it is");
        }
    }
}

fn missing(controller: &str) -> io::Error {
    io::Error::other(format!("no group here controls `{controller}`"))
}
