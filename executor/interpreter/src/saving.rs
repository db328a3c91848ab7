//! Sending finished results ahead of their batch's end: when the worker dies,
//! another need not begin from the start.

use clutch_worker_link::{BatchReport, FromWorker, SavedReport};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::clock::now;
use crate::line::TaskLine;
use crate::results;
use crate::toolbox::Toolbox;

/// How long a batch runs before something is saved, and again after each time,
/// in nanoseconds.
const INTERVAL: u64 = 200_000_000;

/// Most bytes of pickled results that are saved at once. Large ones cost the
/// line, the agent's memory and a copy: running them again may cost less.
const SAVED_BYTES: u64 = 1 << 20;

/// Most bytes of pickled results that one attempt at a batch saves. What is
/// saved leaves the memory that the worker is held to, and stays in that of the
/// agent, which serves everybody, until the batch ends.
const BATCH_BYTES: u64 = 64 << 20;

/// Saving may take this part of the time that it saves.
const PART: u64 = 20;

/// What one batch has saved.
pub(crate) struct Saving {
    /// From when on nothing is saved yet; `None`: nothing will be any more.
    since: Option<u64>,
    /// Bytes of pickled results that were saved.
    saved_bytes: u64,
}

impl Saving {
    /// A batch begins, and runs from an instant on.
    pub(crate) fn since(begin: u64) -> Self {
        Self { since: Some(begin), saved_bytes: 0 }
    }

    /// Whether the results by now are worth saving.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.since.is_some_and(|since| now.saturating_sub(since) >= INTERVAL)
    }

    /// Bytes of pickled results that were saved.
    pub(crate) fn saved_bytes(&self) -> u64 {
        self.saved_bytes
    }

    /// Sends results to the agent, unless they are too large, also with what was
    /// saved before, or cannot be pickled: the batch's answer will tell. Returns the results that are left,
    /// and moves the times of those that are gone out of the report. A batch
    /// whose results are dear to save is not asked again.
    pub(crate) fn save<'py>(
        &mut self,
        tools: &Toolbox,
        line: &TaskLine,
        results: Bound<'py, PyList>,
        report: &mut BatchReport,
    ) -> Bound<'py, PyList> {
        let Some(since) = self.since.take() else { return results };
        let (py, begin) = (results.py(), now());
        let most = line.max_payload_bytes().min(BATCH_BYTES);
        let room = most.saturating_sub(self.saved_bytes).min(SAVED_BYTES);
        let Ok(Some(pickle)) = results::dump_inside(tools, &results, room) else { return results };
        let pickle = pickle.as_bytes();
        let task_nanoseconds = std::mem::take(&mut report.task_nanoseconds);
        let message = FromWorker::Saved(SavedReport { batch: report.batch, task_nanoseconds });
        if line.send(py, &message, pickle, None).is_err() {
            // Nobody is there any more, and the answer will find that out.
            return results;
        }
        self.saved_bytes += pickle.len() as u64;
        let end = now();
        if (end - begin).saturating_mul(PART) <= begin.saturating_sub(since) {
            self.since = Some(end);
        }
        PyList::empty(py)
    }
}
