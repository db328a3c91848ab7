//! Standard output and standard error, as Python buffers them.

use pyo3::prelude::*;
use pyo3::types::PyDict;

const STREAMS: [(&str, i32); 2] = [("stdout", 1), ("stderr", 2)];

/// Writes out what is buffered. Whatever a task did to the streams (closed
/// them, replaced them) must not lose the batch: a stream that cannot be
/// flushed is made anew.
pub(crate) fn flush(py: Python<'_>) {
    let Ok(sys) = py.import(pyo3::intern!(py, "sys")) else { return };
    for (name, descriptor) in STREAMS {
        let flushed =
            sys.getattr(name).and_then(|stream| stream.call_method0(pyo3::intern!(py, "flush")));
        if flushed.is_err() {
            // Failing again is no worse than before.
            reopen(py, &sys, name, descriptor).ok();
        }
    }
}

/// Makes output appear line by line: the agent forwards it while a task runs.
/// Also where `PYTHONUNBUFFERED` is set, with which each argument of a `print`
/// would be a piece of its own, between those of other workers.
pub(crate) fn line_buffered(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let options = PyDict::new(py);
    options.set_item("line_buffering", true)?;
    options.set_item("write_through", false)?;
    for (name, descriptor) in STREAMS {
        let stream = sys.getattr(name)?;
        if stream.call_method("reconfigure", (), Some(&options)).is_err() {
            reopen(py, &sys, name, descriptor)?;
        }
    }
    Ok(())
}

fn reopen(py: Python<'_>, sys: &Bound<'_, PyModule>, name: &str, fd: i32) -> PyResult<()> {
    let options = PyDict::new(py);
    options.set_item("buffering", 1)?;
    options.set_item("encoding", "utf-8")?;
    options.set_item("errors", "backslashreplace")?;
    options.set_item("closefd", false)?;
    let stream = py.import("io")?.getattr("open")?.call((fd, "w"), Some(&options))?;
    sys.setattr(name, stream)
}
