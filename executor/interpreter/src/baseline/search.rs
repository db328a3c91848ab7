//! Where Python looks for modules, and how deep it may go.

use std::ffi::c_int;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// How it was.
pub(super) struct Search {
    /// The namespace of `sys`.
    sys: Py<PyDict>,
    /// `sys.path`, and its entries.
    path: Py<PyList>,
    entries: Py<PyList>,
    recursion_limit: c_int,
}

impl Search {
    pub(super) fn take(py: Python<'_>) -> PyResult<Self> {
        let sys = py.import("sys")?;
        let path = sys.getattr("path")?.cast_into::<PyList>()?;
        let entries = path.get_slice(0, path.len());
        let (path, entries) = (path.unbind(), entries.unbind());
        Ok(Self { sys: sys.dict().unbind(), path, entries, recursion_limit: recursion_limit(py) })
    }

    pub(super) fn restore(&self, py: Python<'_>) -> PyResult<()> {
        let (sys, path, entries) = (self.sys.bind(py), self.path.bind(py), self.entries.bind(py));
        let name = pyo3::intern!(py, "path");
        if !sys.get_item(name)?.is_some_and(|current| current.is(path)) {
            sys.set_item(name, path)?;
        }
        if !path.eq(entries)? {
            path.set_slice(0, path.len(), entries)?;
        }
        if recursion_limit(py) != self.recursion_limit {
            set_recursion_limit(py, self.recursion_limit);
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "a function of CPython's")]
fn recursion_limit(_py: Python<'_>) -> c_int {
    // SAFETY: attached to the interpreter, as the token shows.
    unsafe { pyo3::ffi::Py_GetRecursionLimit() }
}

#[expect(unsafe_code, reason = "a function of CPython's")]
fn set_recursion_limit(_py: Python<'_>, limit: c_int) {
    // SAFETY: as above, and the limit has been in force before.
    unsafe { pyo3::ffi::Py_SetRecursionLimit(limit) }
}
