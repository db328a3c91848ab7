//! joblib calls made inside a task: where they run.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// joblib's means to say it.
pub(crate) struct Nested {
    parallel_config: Py<PyAny>,
    threading: Py<PyAny>,
    sequential: Py<PyAny>,
}

/// The choice in force; given back by [`Choice::leave`].
pub(crate) struct Choice<'py>(Bound<'py, PyAny>);

impl Nested {
    /// `None` without joblib, or with one before 1.3.
    pub(crate) fn prepare(py: Python<'_>) -> Option<Self> {
        let parallel = py.import("joblib.parallel").ok()?;
        let backends = py.import("joblib._parallel_backends").ok()?;
        Some(Self {
            parallel_config: parallel.getattr("parallel_config").ok()?.unbind(),
            threading: backends.getattr("ThreadingBackend").ok()?.unbind(),
            sequential: backends.getattr("SequentialBackend").ok()?.unbind(),
        })
    }

    /// Chooses as joblib's own backends do: threads on the first level, one
    /// after the other below. `n_jobs` stays `None`, so a nested call uses more
    /// than one only when it asks for more.
    pub(crate) fn enter<'py>(&self, py: Python<'py>, level: u32) -> PyResult<Choice<'py>> {
        let backend = if level > 1 { &self.sequential } else { &self.threading };
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "nesting_level"), level)?;
        // A backend of its own for each batch: it remembers its last caller.
        let backend = backend.bind(py).call((), Some(&options))?;
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "backend"), backend)?;
        options.set_item(pyo3::intern!(py, "n_jobs"), py.None())?;
        self.parallel_config.bind(py).call((), Some(&options)).map(Choice)
    }
}

impl Choice<'_> {
    /// Restores what was in force before.
    pub(crate) fn leave(self) -> PyResult<()> {
        self.0.call_method0(pyo3::intern!(self.0.py(), "unregister")).map(drop)
    }
}
