//! What a worker is like between batches: taken when it has been set up,
//! restored after each batch. So a task finds what the first one found.
//!
//! It is restored when the batch's answer is on its way, and costs three
//! microseconds when nothing has changed; so what is dear to look at or seldom
//! changed must wait for a longer batch. What can be restored is what a process has
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

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// What costs a system call or none, and tasks do change.
    Quick,
    /// Also what costs several, or is hardly ever changed.
    Thorough,
    /// Also what is read from /proc.
    Full,
}

/// Nanoseconds of a batch for which a thorough look is cheap.
const LONG: u64 = 100_000;

impl Look {
    /// The look after a batch of so many nanoseconds. `seldom`: so much time has
    /// passed that a full look is cheap.
    pub(crate) fn after(nanoseconds: u64, seldom: bool) -> Self {
        match (seldom, nanoseconds >= LONG) {
            (true, _) => Self::Full,
            (false, true) => Self::Thorough,
            (false, false) => Self::Quick,
        }
    }
}

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
    /// How many modules there were when the batch began.
    modules: usize,
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
            modules: 0,
            lost: Vec::new(),
        })
    }

    /// To be called before each batch.
    pub(crate) fn begin(&mut self, py: Python<'_>) {
        self.limits.get_or_insert_with(Limits::take);
        self.modules = self.belongings.modules(py);
    }

    /// To be called when a batch has been unpickled, before its tasks run. That
    /// imports the modules of their functions, and what these change when they are
    /// imported they change only once: so it is for good.
    pub(crate) fn unpickled(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.belongings.modules(py) != self.modules {
            self.place = Place::take();
            self.variables = Variables::take(py)?;
            self.search = Search::take(py)?;
        }
        Ok(())
    }

    /// What a batch has left behind, by now, in a worker that has so many blobs.
    pub(crate) fn leftovers(&mut self, py: Python<'_>, blobs: usize, look: Look) -> Leftovers {
        let belongings = &self.belongings;
        let mut changed = std::mem::take(&mut self.lost);
        if let Some(limits) = &self.limits {
            changed.extend(limits.restore(look));
        }
        Leftovers {
            children: belongings.new_children(py),
            threads: belongings.new_threads(py),
            files: if look == Look::Full { belongings.new_files(blobs) } else { 0 },
            changed: changed.into_iter().map(String::from).collect(),
            out_of_memory: false,
        }
    }

    /// Makes the worker what it was, as far as that can be done.
    pub(crate) fn restore(&mut self, py: Python<'_>, look: Look) {
        // Signals first: a handler of a task may run at any step of Python's.
        let restored = [
            ("signal handlers", self.signals.restore(py, look)),
            ("working directory", self.place.restore()),
            ("standard streams", self.streams.restore(py)),
            ("environment variables", self.variables.restore(py)),
            ("search path", self.search.restore(py)),
        ];
        self.lost
            .extend(restored.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| name));
    }
}
