//! What can go wrong, as exceptions that the Python half turns into its own.

use clutch_protocol::v1;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::row::seconds;

create_exception!(
    _native,
    OpenFailedError,
    PyException,
    "The agent cannot be reached; why, in words."
);
create_exception!(
    _native,
    OpenDeniedError,
    OpenFailedError,
    "One side does not accept the other's credentials; why, in words."
);
create_exception!(
    _native,
    OpenRefusedError,
    PyException,
    "The agent opens no session; the refusal."
);
create_exception!(_native, BlobRefusedError, PyException, "The agent has no room; the failure.");

/// The kind of an attempt that went with its agent. No agent tells of it.
pub(crate) const LOST_AGENT: &str = "AGENT_UNAVAILABLE";

/// The refusal as a dictionary.
pub(crate) fn refusal(py: Python<'_>, refusal: &v1::Refusal) -> PyResult<PyErr> {
    let said = PyDict::new(py);
    said.set_item("kind", kind_name(refusal.kind))?;
    said.set_item("fault", fault_name(refusal.fault))?;
    said.set_item("message", &refusal.message)?;
    said.set_item("advice", &refusal.advice)?;
    let environment = |e: &v1::Environment| {
        let implementation =
            if e.implementation.is_empty() { "python" } else { e.implementation.as_str() };
        format!("{implementation} {} at {}", e.python_version, e.executable)
    };
    said.set_item("available", refusal.available.iter().map(environment).collect::<Vec<_>>())?;
    Ok(OpenRefusedError::new_err(said.unbind()))
}

/// The failure as a dictionary; keys as the contract names its fields.
pub(crate) fn failure<'py>(
    py: Python<'py>,
    failure: &v1::Failure,
    worker_pid: u32,
    losses: Vec<String>,
    earlier: &[v1::Attempt],
) -> PyResult<Bound<'py, PyDict>> {
    let said = PyDict::new(py);
    said.set_item("kind", kind_name(failure.kind))?;
    said.set_item("fault", fault_name(failure.fault))?;
    said.set_item("message", &failure.message)?;
    said.set_item("advice", &failure.advice)?;
    said.set_item("task_index", failure.task_index)?;
    said.set_item("signal", failure.signal)?;
    said.set_item("exit_code", failure.exit_code)?;
    said.set_item("stderr_tail", &failure.stderr_tail)?;
    let exception = failure.exception.clone().unwrap_or_default();
    said.set_item("exception_pickle", exception.pickle.as_ref())?;
    said.set_item("exception_type", exception.type_name)?;
    said.set_item("exception_text", exception.text)?;
    said.set_item("traceback", exception.traceback)?;
    said.set_item("pid", worker_pid)?;
    said.set_item("attempt", failure.attempt)?;
    said.set_item("breach", failure.breach.map(|breach| (breach.limit, breach.peak)))?;
    said.set_item("wall_seconds", seconds(failure.wall_nanoseconds))?;
    said.set_item("cpu_seconds", seconds(failure.cpu_nanoseconds))?;
    let attempt = |attempt: &v1::Attempt| {
        let kind = kind_name(attempt.kind);
        (kind, attempt.message.clone(), attempt.worker_pid, seconds(attempt.ended_at))
    };
    let lost = |message| (LOST_AGENT.to_owned(), message, 0, 0.0);
    let attempts = losses.into_iter().map(lost).chain(earlier.iter().map(attempt));
    said.set_item("earlier_attempts", attempts.collect::<Vec<_>>())?;
    Ok(said)
}

/// For example `TIME_LIMIT`; a newer agent may send a kind unknown here.
pub(crate) fn kind_name(kind: i32) -> String {
    match v1::FailureKind::try_from(kind) {
        Ok(kind) => kind.as_str_name().trim_start_matches("FAILURE_KIND_").to_owned(),
        Err(_) => format!("UNKNOWN_{kind}"),
    }
}

/// For example `THREADS_LEFT`; a newer agent may send a kind unknown here.
pub(crate) fn note_name(kind: i32) -> String {
    match v1::NoteKind::try_from(kind) {
        Ok(kind) => kind.as_str_name().trim_start_matches("NOTE_KIND_").to_owned(),
        Err(_) => format!("UNKNOWN_{kind}"),
    }
}

/// For example `TASK`; empty when it is unknown.
fn fault_name(fault: i32) -> &'static str {
    let name = v1::Fault::try_from(fault).map_or("", |fault| fault.as_str_name());
    name.trim_start_matches("FAULT_")
}
