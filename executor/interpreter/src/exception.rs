//! Python exceptions as data. An exception is made by a task, so asking it
//! anything may raise, and everything it says is bounded.

use std::ffi::CStr;

use clutch_worker_link::ExceptionReport;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTraceback, PyType};

use crate::pickling;
use crate::toolbox::Toolbox;

/// Most bytes of `str(exception)`.
const TEXT_BYTES: usize = 16 << 10;

/// Most bytes of a traceback: begin and end are kept, recursion repeats itself.
const TRACEBACK_BYTES: usize = 64 << 10;

/// Most bytes of a description in one line.
const LINE_BYTES: usize = 1 << 10;

/// Most bytes of an exception's pickle. One that carries more is told as text.
const PICKLE_BYTES: usize = 16 << 20;

/// The file that our own Python names in tracebacks.
pub(crate) const SOURCE_FILE: &CStr = c"<clutch>";

/// The exception as text and, when it can be pickled, as a pickle. Lets go of
/// the frames, so that what the task held is freed.
pub(crate) fn report<'py>(
    tools: &Toolbox,
    py: Python<'py>,
    error: &PyErr,
) -> (ExceptionReport, Option<Bound<'py, PyBytes>>) {
    let report = ExceptionReport {
        type_name: type_name(&error.get_type(py)),
        text: text(py, error),
        traceback: traceback(tools, py, error).or_else(|_| plain(py, error)).unwrap_or_default(),
    };
    // The frames do not travel.
    error.set_traceback(py, None);
    let pickle = pickling::dumps(tools, error.value(py).as_any()).ok();
    (report, pickle.filter(|pickle| pickle.as_bytes().len() <= PICKLE_BYTES))
}

/// `type: text`, on one line.
pub(crate) fn one_line(py: Python<'_>, error: &PyErr) -> String {
    let name = type_name(&error.get_type(py));
    let text = text(py, error);
    let line = if text.is_empty() { name } else { format!("{name}: {text}") };
    bounded(line.replace('\n', " "), LINE_BYTES)
}

/// The type's qualified name, without module for builtins.
pub(crate) fn type_name(kind: &Bound<'_, PyType>) -> String {
    let part =
        |name: &str| Some(kind.getattr(name).ok()?.str().ok()?.to_string_lossy().into_owned());
    let name = part("__qualname__").unwrap_or_else(|| String::from("unknown"));
    let name = match part("__module__") {
        Some(module) if module != "builtins" => format!("{module}.{name}"),
        _ => name,
    };
    bounded(name, LINE_BYTES)
}

/// `str()` of the exception; empty when that raises.
fn text(py: Python<'_>, error: &PyErr) -> String {
    let text = error.value(py).str();
    text.map_or_else(|_| String::new(), |text| bounded(lossy(&text), TEXT_BYTES))
}

/// The traceback with causes. It begins with the task's own frame.
fn traceback(tools: &Toolbox, py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let format = tools.format_exception.bind(py);
    let frames = without_ours(error.traceback(py))?;
    let lines = format.call1((error.get_type(py), error.value(py), frames))?;
    let mut whole = String::new();
    for line in lines.try_iter()? {
        whole.push_str(&lossy(line?.cast()?));
    }
    Ok(bounded(whole, TRACEBACK_BYTES))
}

/// As [`traceback`], without causes and source lines: for an interpreter that a
/// task has damaged so much that it cannot write its own.
fn plain(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let mut whole = String::from("Traceback (most recent call last):\n");
    let mut rest = without_ours(error.traceback(py))?;
    while let Some(traceback) = rest.filter(|_| whole.len() < TRACEBACK_BYTES) {
        let line = traceback.getattr("tb_lineno")?;
        let code = traceback.getattr("tb_frame")?.getattr("f_code")?;
        let (file, name) = (code.getattr("co_filename")?, code.getattr("co_name")?);
        whole.extend([format!("  File \"{file}\", line {line}, in {name}\n")]);
        rest = Some(traceback.getattr("tb_next")?).filter(|next| !next.is_none());
    }
    Ok(bounded(whole + &one_line(py, error) + "\n", TRACEBACK_BYTES))
}

/// Leaves out the frames of this host at the beginning.
fn without_ours(traceback: Option<Bound<'_, PyTraceback>>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let mut rest = traceback.map(Bound::into_any);
    while let Some(traceback) = &rest {
        let code = traceback.getattr("tb_frame")?.getattr("f_code")?;
        if code.getattr("co_filename")?.ne(SOURCE_FILE.to_string_lossy())? {
            break;
        }
        rest = Some(traceback.getattr("tb_next")?).filter(|next| !next.is_none());
    }
    Ok(rest)
}

/// Text that need not be valid Unicode.
fn lossy(text: &Bound<'_, pyo3::types::PyString>) -> String {
    text.to_string_lossy().into_owned()
}

/// Cuts out the middle of what is longer than `limit` bytes.
fn bounded(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let (head, rest) = text.as_bytes().split_at(limit / 2);
    let (middle, tail) = rest.split_at(rest.len() - limit / 2);
    // A character cut in two becomes a replacement character.
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    format!("{head}\n[{} bytes left out]\n{tail}", middle.len())
}
