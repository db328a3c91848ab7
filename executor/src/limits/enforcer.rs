//! What holds limits on this machine, found once.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{mpsc, watch};

use super::cgroup::{Group, Groups, probe};
use super::enforcement::Together;
use super::instance::Instance;
use super::prepare::Encloser;
use super::pressure::Usage;
use super::scratch::Scratch;
use super::session_files::SessionFiles;
use super::{Enclosure, Enforcement, LimitOptions, Limits, Mechanism, Passed, Shortage};
use crate::identifiers::{Pid, SessionId, WorkerId};
use crate::pool::ProgressPage;

/// Encloses workers.
#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    enforcement: Arc<Enforcement>,
    groups: Arc<Groups>,
    encloser: Arc<Encloser>,
    notes: Arc<[String]>,
    /// True once it is closed. Held while a group is made or joined.
    closed: Arc<RwLock<bool>>,
}

impl Enforcer {
    /// Finds out what this machine and this process's rights allow, and removes
    /// what agents left that were killed.
    pub(crate) fn probe(options: &LimitOptions) -> Self {
        let (mut groups, mut notes) = found(options);
        let mut held = |what, set: Option<io::Result<()>>| match set {
            None => Together::NotAsked,
            Some(Ok(())) => Together::Held,
            Some(Err(error)) => {
                notes.push(format!("{what}: {error}"));
                Together::NotHeld
            }
        };
        let ceiling = options.memory_ceiling_bytes.map(|bytes| groups.set_ceiling(bytes));
        let ceiling = held("memory ceiling", ceiling);
        let weight = options.cpu_weight.map(|weight| groups.set_weight(weight));
        let weight = held("weight of CPUs", weight);
        let enforcement = Enforcement::by(&groups, options, ceiling, weight);
        tracing::info!(
            memory = enforcement.memory.name(),
            cpus = enforcement.cpus.name(),
            processes = enforcement.processes.name(),
            kill = enforcement.kill.name(),
            ?notes,
            "what holds limits"
        );
        let groups = Arc::new(groups);
        // Who counts all workers at the start does so later.
        let counted = groups.memory_together().is_some().then(|| Arc::clone(&groups));
        let usage = counted.map(|groups| -> Usage { Box::new(move || groups.memory_together()) });
        let pins = enforcement.cpus == Mechanism::Affinity;
        let encloser = Arc::new(Encloser::new(options, pins, usage));
        let (enforcement, closed) = (Arc::new(enforcement), Arc::default());
        Self { enforcement, groups, encloser, notes: notes.into(), closed }
    }

    /// What holds limits here.
    pub(crate) fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// What could not be used, and why; one sentence each, for people.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Puts a zygote, and with it the workers that it will fork, under what
    /// holds for all workers together. Nothing, where nothing does.
    ///
    /// # Errors
    /// When it is dead already, or the agent ends.
    pub(crate) fn place_zygote(&self, pid: Pid) -> io::Result<()> {
        let _open = self.open()?;
        self.groups.place_zygote(pid)
    }

    /// Encloses a worker that has not run anything of its session yet. Blocks
    /// for milliseconds at most.
    ///
    /// # Errors
    /// When a limit cannot be put in force, which was possible at the start.
    pub(crate) fn enclose(
        &self,
        worker: WorkerId,
        pid: Pid,
        limits: Limits,
        progress: Arc<ProgressPage>,
    ) -> io::Result<(Arc<Enclosure>, mpsc::Receiver<Passed>)> {
        let _open = self.open()?;
        let group = Group::create(&self.groups, worker, &limits)?;
        if let Some(group) = &group {
            group.add(pid)?;
        }
        self.encloser.enclose(worker, pid, limits, progress, group)
    }

    /// Kills what is left of all workers, zygotes included, and removes all
    /// groups. Blocks for seconds at most. For the agent's end.
    pub(crate) fn close(&self) {
        // A zygote that dies of this is started again by its keeper, which must
        // not make the groups anew.
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.groups.close();
        self.encloser.close();
    }

    /// A directory for what a session brings along; made when it is asked for.
    pub(crate) fn session_files(&self, session: SessionId) -> SessionFiles {
        SessionFiles::new(self.clone(), session)
    }

    /// Makes that directory.
    ///
    /// # Errors
    /// When it cannot be made, or the agent ends.
    pub(super) fn session_directory(&self, session: SessionId) -> io::Result<Scratch> {
        let _open = self.open()?;
        self.encloser.session_directory(session)
    }

    fn open(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(io::Error::other("the agent ends")) } else { Ok(closed) }
    }

    /// What there is too little of, now; `None`: of nothing.
    pub(crate) fn shortage(&self) -> watch::Receiver<Option<Shortage>> {
        self.encloser.shortage()
    }
}

fn found(options: &LimitOptions) -> (Groups, Vec<String>) {
    if !options.cgroups {
        return (Groups::default(), vec!["control groups: not used, by `cgroups`".to_owned()]);
    }
    match Instance::this() {
        Ok(this) => {
            let pid = Pid(std::process::id());
            let probed = probe(Path::new("/"), this.to_string(), pid);
            (probed.groups, probed.notes)
        }
        Err(error) => (Groups::default(), vec![format!("control groups: {error}")]),
    }
}
