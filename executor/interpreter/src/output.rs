//! Standard output and standard error, as Python buffers them.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Their names in `sys`, and their descriptors.
pub(crate) const STREAMS: [(&CStr, i32); 2] = [(c"stdout", 1), (c"stderr", 2)];

/// `io.open`. Looked up before any task runs, which may take modules away.
static OPEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Writes out what is buffered. Whatever a task did to the streams (closed
/// them, replaced them) must not lose the batch: a stream that cannot be
/// flushed is made anew.
pub(crate) fn flush(py: Python<'_>) {
    for (name, descriptor) in STREAMS {
        let flushed = get(py, name)
            .is_some_and(|stream| stream.call_method0(pyo3::intern!(py, "flush")).is_ok());
        if !flushed {
            // Failing again is no worse than before.
            reopen(py, name, descriptor).ok();
        }
    }
}

/// Makes output appear line by line: the agent forwards it while a task runs.
/// Also where `PYTHONUNBUFFERED` is set, with which each argument of a `print`
/// would be a piece of its own, between those of other workers.
pub(crate) fn line_buffered(py: Python<'_>) -> PyResult<()> {
    open(py)?;
    let options = PyDict::new(py);
    options.set_item("line_buffering", true)?;
    options.set_item("write_through", false)?;
    for (name, descriptor) in STREAMS {
        let done = get(py, name)
            .is_some_and(|stream| stream.call_method("reconfigure", (), Some(&options)).is_ok());
        if !done {
            reopen(py, name, descriptor)?;
        }
    }
    Ok(())
}

/// Makes a new stream in the place of one; returns it.
pub(crate) fn reopen<'py>(py: Python<'py>, name: &CStr, fd: i32) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(py);
    options.set_item("buffering", 1)?;
    options.set_item("encoding", "utf-8")?;
    options.set_item("errors", "backslashreplace")?;
    options.set_item("closefd", false)?;
    let stream = open(py)?.call((fd, "w"), Some(&options))?;
    set(py, name, &stream)?;
    Ok(stream)
}

fn open(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    OPEN.import(py, "io", "open")
}

/// A name of the module `sys`, whatever became of `sys.modules`.
#[expect(unsafe_code, reason = "a function of CPython's")]
pub(crate) fn get<'py>(py: Python<'py>, name: &CStr) -> Option<Bound<'py, PyAny>> {
    // SAFETY: attached to the interpreter. The answer is borrowed from `sys`, and
    // null without an error when it is not there.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, pyo3::ffi::PySys_GetObject(name.as_ptr())) }
}

/// Sets a name of the module `sys`.
#[expect(unsafe_code, reason = "a function of CPython's")]
pub(crate) fn set(py: Python<'_>, name: &CStr, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached to the interpreter, which takes a reference of its own.
    let failed = unsafe { pyo3::ffi::PySys_SetObject(name.as_ptr(), value.as_ptr()) };
    if failed == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
}
