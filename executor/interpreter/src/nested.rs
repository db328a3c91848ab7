//! joblib calls made inside a task: where they run.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// joblib's means to say it.
pub(crate) struct Nested {
    parallel_config: Py<PyAny>,
    threading: Py<PyAny>,
    sequential: Py<PyAny>,
    /// Where joblib keeps the choice in force, one for each thread.
    place: Py<PyAny>,
    /// What is in force where nobody has chosen.
    default: Py<PyAny>,
    /// The choice of the batch before: making one takes longer than a small
    /// batch runs.
    kept: RefCell<Option<Kept>>,
}

/// A choice that was made before and is as good as new.
struct Kept {
    level: u32,
    backend: Py<PyAny>,
    /// joblib's form of the choice, made of what was in force `before`.
    config: Py<PyAny>,
    before: Py<PyAny>,
}

/// The choice in force; given back by [`Choice::leave`].
pub(crate) struct Choice<'a, 'py> {
    nested: &'a Nested,
    kept: Kept,
    py: Python<'py>,
}

impl Nested {
    /// `None` without joblib, or with one before 1.3.
    pub(crate) fn prepare(py: Python<'_>) -> Option<Self> {
        let parallel = py.import("joblib.parallel").ok()?;
        let backends = py.import("joblib._parallel_backends").ok()?;
        Some(Self {
            parallel_config: parallel.getattr("parallel_config").ok()?.unbind(),
            threading: backends.getattr("ThreadingBackend").ok()?.unbind(),
            sequential: backends.getattr("SequentialBackend").ok()?.unbind(),
            place: parallel.getattr("_backend").ok()?.unbind(),
            default: parallel.getattr("default_parallel_config").ok()?.unbind(),
            kept: RefCell::new(None),
        })
    }

    /// Chooses as joblib's own backends do: threads on the first level, one
    /// after the other below. `n_jobs` stays `None`, so a nested call uses more
    /// than one only when it asks for more.
    pub(crate) fn enter<'py>(&self, py: Python<'py>, level: u32) -> PyResult<Choice<'_, 'py>> {
        let before = self.in_force(py)?;
        let kept = self.kept.take();
        let fits = |kept: &Kept| kept.level == level && kept.before.is(&before);
        let kept = match kept.filter(fits) {
            Some(kept) => {
                self.put_in_force(py, &kept.config)?;
                kept
            }
            None => self.choose(py, level, before)?,
        };
        Ok(Choice { nested: self, kept, py })
    }

    fn choose(&self, py: Python<'_>, level: u32, before: Bound<'_, PyAny>) -> PyResult<Kept> {
        let backend = if level > 1 { &self.sequential } else { &self.threading };
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "nesting_level"), level)?;
        let backend = backend.bind(py).call((), Some(&options))?;
        let options = PyDict::new(py);
        options.set_item(pyo3::intern!(py, "backend"), &backend)?;
        options.set_item(pyo3::intern!(py, "n_jobs"), py.None())?;
        self.parallel_config.bind(py).call((), Some(&options))?;
        let config = self.in_force(py)?.unbind();
        Ok(Kept { level, backend: backend.unbind(), config, before: before.unbind() })
    }

    fn in_force<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let config = self.place.bind(py).getattr_opt(pyo3::intern!(py, "config"))?;
        Ok(config.unwrap_or_else(|| self.default.bind(py).clone()))
    }

    fn put_in_force(&self, py: Python<'_>, config: &Py<PyAny>) -> PyResult<()> {
        self.place.bind(py).setattr(pyo3::intern!(py, "config"), config)
    }
}

impl Choice<'_, '_> {
    /// Restores what was in force before.
    pub(crate) fn leave(self) -> PyResult<()> {
        let Self { nested, kept, py } = self;
        nested.put_in_force(py, &kept.before)?;
        // A backend remembers its caller, so one that was used is not kept.
        if !kept.backend.bind(py).hasattr(pyo3::intern!(py, "parallel"))? {
            nested.kept.replace(Some(kept));
        }
        Ok(())
    }
}
