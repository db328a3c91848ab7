//! What a worker is like between batches: taken when it has been set up,
//! restored after each batch. So a task finds what the first one found.
//!
//! It is restored when the batch's answer is on its way, and costs a few system
//! calls when nothing has changed. What can be restored is what a process has
//! once. Module globals, caches and random numbers stay: workers are kept
//! because of them. What cannot be restored is reported with the answer, and the
//! agent replaces the worker.

mod belongings;
mod limits;
mod place;
mod search;
mod signals;
mod streams;
mod variables;

use std::os::fd::RawFd;

use clutch_worker_link::Leftovers;
use pyo3::prelude::*;

use belongings::Belongings;
use limits::Limits;
use place::Place;
use search::Search;
use signals::Signals;
use streams::Streams;
use variables::Variables;

/// How the worker was.
pub(crate) struct Baseline {
    place: Place,
    signals: Signals,
    streams: Streams,
    variables: Variables,
    search: Search,
    belongings: Belongings,
    /// The agent may still set them when the worker has been set up.
    limits: Option<Limits>,
    /// What could not be restored.
    lost: Vec<&'static str>,
}

impl Baseline {
    /// Takes down how the worker is now. Stacks are written to a descriptor.
    pub(crate) fn take(py: Python<'_>, stacks: RawFd) -> PyResult<Self> {
        Ok(Self {
            place: Place::take(),
            signals: Signals::take(py, stacks)?,
            streams: Streams::take(py, stacks),
            variables: Variables::take(py)?,
            search: Search::take(py)?,
            // The last: those before it open files.
            belongings: Belongings::take(py)?,
            limits: None,
            lost: Vec::new(),
        })
    }

    /// To be called before each batch.
    pub(crate) fn begin(&mut self) {
        self.limits.get_or_insert_with(Limits::take);
    }

    /// What a batch has left behind, by now. `blobs` says how many the worker
    /// has, `thorough` that it is time for what is dear to look at.
    pub(crate) fn leftovers(&mut self, py: Python<'_>, blobs: usize, thorough: bool) -> Leftovers {
        let belongings = &self.belongings;
        let mut changed = std::mem::take(&mut self.lost);
        if let Some(limits) = &self.limits {
            changed.extend(limits.restore(thorough || belongings.has_imported(py, "resource")));
        }
        Leftovers {
            children: belongings.new_children(py),
            threads: belongings.new_threads(py),
            files: if thorough { belongings.new_files(blobs) } else { 0 },
            changed: changed.into_iter().map(String::from).collect(),
            out_of_memory: false,
        }
    }

    /// Makes the worker what it was, as far as that can be done.
    pub(crate) fn restore(&mut self, py: Python<'_>, thorough: bool) {
        // Signals first: a handler of a task may run at any step of Python's.
        let restored = [
            ("signal handlers", self.signals.restore(py, thorough)),
            ("working directory", self.place.restore()),
            ("standard streams", self.streams.restore(py)),
            ("environment variables", self.variables.restore(py)),
            ("search path", self.search.restore(py)),
        ];
        self.lost
            .extend(restored.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| name));
    }
}
