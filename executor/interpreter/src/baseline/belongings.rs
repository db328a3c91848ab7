//! What belongs to a worker and cannot be taken from it: its children, its
//! threads, its open files.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// More files than this are no module's own and no cache: somebody forgets to
/// close them.
const SPARE_FILES: u64 = 64;

/// Descriptors of a blob: its own, and those that Python keeps with maps of it,
/// one to read and one to write.
const FILES_OF_BLOB: u64 = 3;

/// Modules that wait for what has ended when they are asked to. Asking them keeps
/// the exit codes for those who may still ask.
const WAITING: [(&str, &str); 2] =
    [("subprocess", "_cleanup"), ("multiprocessing.process", "active_children")];

/// What the worker had.
pub(super) struct Belongings {
    /// Children of the initializer, by their process ids; `None`: there were none.
    children: Option<HashSet<u32>>,
    threads: u32,
    files: u64,
    /// `sys.modules`.
    modules: Py<PyDict>,
    /// `threading._active`: the threads that run, by their ids.
    active: Option<Py<PyDict>>,
}

impl Belongings {
    pub(super) fn take(py: Python<'_>) -> PyResult<Self> {
        let active = py.import("threading")?.getattr("_active");
        let active = active.ok().and_then(|active| active.cast_into::<PyDict>().ok());
        let mut taken = Self {
            children: has_children().then(children),
            threads: 0,
            files: open_files(),
            modules: py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind(),
            active: active.map(Bound::unbind),
        };
        taken.threads = taken.threads(py);
        Ok(taken)
    }

    /// How many modules there are.
    pub(super) fn modules(&self, py: Python<'_>) -> usize {
        self.modules.bind(py).len()
    }

    /// Whether there are children that were not there before. One that has ended
    /// counts when nobody has waited for it, and nobody in Python can.
    pub(super) fn new_children(&self, py: Python<'_>) -> bool {
        if !has_children() {
            return false;
        }
        for (module, function) in WAITING {
            if let Ok(Some(module)) = self.modules.bind(py).get_item(module) {
                // Somebody else's module by now; then its children stay.
                module.call_method0(function).ok();
            }
        }
        let is_new = || self.children.as_ref().is_none_or(|known| !children().is_subset(known));
        has_children() && is_new()
    }

    /// How many threads of Python's there are that were not there before and
    /// that an exit would wait for.
    pub(super) fn new_threads(&self, py: Python<'_>) -> u32 {
        self.threads(py).saturating_sub(self.threads)
    }

    /// How many files are open that were not open before, when they are too
    /// many; 0 otherwise.
    pub(super) fn new_files(&self, blobs: usize) -> u32 {
        let expected = self.files + blobs as u64 * FILES_OF_BLOB;
        let new = open_files().saturating_sub(expected);
        if new > SPARE_FILES { u32::try_from(new).unwrap_or(u32::MAX) } else { 0 }
    }

    fn threads(&self, py: Python<'_>) -> u32 {
        let Some(active) = &self.active else { return 0 };
        let active = active.bind(py);
        // The main thread alone, nearly always.
        if active.len() <= 1 {
            return u32::try_from(active.len()).unwrap_or_default();
        }
        // A copy: threads come and go while they are asked.
        let waited_for = |thread: &Bound<'_, PyAny>| {
            let daemon = thread.getattr(pyo3::intern!(thread.py(), "daemon"));
            !daemon.is_ok_and(|daemon| daemon.is_truthy().unwrap_or_default())
        };
        let count = active.values().iter().filter(waited_for).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Whether there are any, living or not waited for.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, options).is_ok()
}

/// The children of each thread; none where the kernel does not tell.
fn children() -> HashSet<u32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| {
        let numbers = list.split_ascii_whitespace().filter_map(|number| number.parse().ok());
        numbers.collect::<Vec<u32>>()
    };
    lists.flat_map(numbers).collect()
}

/// How many files are open. Since Linux 6.2 that is the size of the directory.
fn open_files() -> u64 {
    let size = rustix::fs::stat("/proc/self/fd").map_or(0, |status| status.st_size);
    match u64::try_from(size) {
        Ok(count) if count > 0 => count,
        _ => std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
    }
}
