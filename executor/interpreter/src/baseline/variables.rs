//! The environment's variables, as Python and as C see them.

use std::ffi::c_char;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

/// Libraries leave notes to themselves under such names when they are loaded.
/// They stay loaded, so the notes stay: without them Intel's OpenMP ends the
/// process.
const NOTES: [&str; 2] = ["KMP_", "__KMP_"];

/// How they were.
pub(super) struct Variables {
    os: Py<PyModule>,
    /// `os.environ`, and what it said.
    environ: Py<PyAny>,
    values: Py<PyDict>,
    /// Where the C library's strings are. It makes a new one for each change, also
    /// for those through `os.environ`, so comparing addresses is enough.
    strings: Vec<*const c_char>,
}

impl Variables {
    pub(super) fn take(py: Python<'_>) -> PyResult<Self> {
        let os = py.import("os")?;
        let environ = os.getattr("environ")?;
        let values = environ.call_method0("copy")?.cast_into::<PyDict>()?.unbind();
        let strings = strings().collect();
        Ok(Self { os: os.unbind(), environ: environ.unbind(), values, strings })
    }

    pub(super) fn restore(&mut self, py: Python<'_>) -> PyResult<()> {
        let (os, environ) = (self.os.bind(py), self.environ.bind(py));
        let name = pyo3::intern!(py, "environ");
        if !os.getattr_opt(name)?.is_some_and(|current| current.is(environ)) {
            os.setattr(name, environ)?;
        }
        if strings().eq(self.strings.iter().copied()) {
            return Ok(());
        }
        let values = self.values.bind(py);
        for name in environ.call_method0("copy")?.cast_into::<PyDict>()?.keys() {
            let is_note = |name: String| NOTES.iter().any(|note| name.starts_with(note));
            if !values.contains(&name)? && !is_note(name.extract()?) {
                environ.del_item(name)?;
            }
        }
        // All of them: C code may have changed what Python does not know of.
        for (name, value) in values {
            environ.set_item(name, value)?;
        }
        self.strings = strings().collect();
        Ok(())
    }
}

/// Where the C library has the variables.
#[expect(unsafe_code, reason = "the environment is a variable of the C library")]
fn strings() -> impl Iterator<Item = *const c_char> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the list ends with a null, and so does an empty one. A thread that a
    // task left behind could change it meanwhile, to whoever reads a variable.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: as above; it is read up to the null.
        let string = unsafe { *next };
        if string.is_null() {
            return None;
        }
        // SAFETY: not the null yet, so there is one more.
        next = unsafe { next.add(1) };
        Some(string)
    })
}
