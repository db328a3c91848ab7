//! Rows of a report as Python has them.

use clutch_client::{Row, Rows};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::errors::{self, kind_name, note_name};

const NANO: f64 = 1e-9;

/// Kinds of failure with numbers of batches.
pub(crate) type Retried = Vec<(String, u64)>;
/// Kinds of notes with sums of their counts and numbers of batches.
pub(crate) type Noted = Vec<(String, u64, u64)>;

/// Tuples in the order of the fields of `joblib_clutch.report.Row`.
pub(crate) fn to_python<'py>(py: Python<'py>, rows: &Rows) -> PyResult<Bound<'py, PyList>> {
    let tuples = rows.kept().iter().map(|row| tuple(py, row));
    PyList::new(py, tuples.collect::<PyResult<Vec<_>>>()?)
}

fn tuple<'py>(py: Python<'py>, row: &Row) -> PyResult<Bound<'py, PyTuple>> {
    let t = &row.timings;
    let ran = t.task_nanoseconds.iter().map(|ran| seconds(*ran)).collect::<Vec<_>>();
    let transfer = between(t.assigned_at, t.received_at) + between(t.pickled_at, t.ended_at);
    let losses = std::iter::repeat_n(errors::LOST_AGENT.to_owned(), row.losses);
    let retried = losses.chain(row.earlier.iter().map(|kind| kind_name(*kind)));
    let attempts = row.losses + row.earlier.len() + usize::from(row.worker_pid != 0);
    let fields = [
        row.batch_id.into_bound_py_any(py)?,
        row.tasks.into_bound_py_any(py)?,
        row.worker_pid.into_bound_py_any(py)?,
        row.agent.host.as_str().into_bound_py_any(py)?,
        seconds(t.queued_at).into_bound_py_any(py)?,
        between(t.queued_at, t.assigned_at).into_bound_py_any(py)?,
        transfer.into_bound_py_any(py)?,
        between(t.received_at, t.unpickled_at).into_bound_py_any(py)?,
        PyTuple::new(py, ran)?.into_any(),
        between(t.ran_at, t.pickled_at).into_bound_py_any(py)?,
        seconds(row.usage.user_nanoseconds).into_bound_py_any(py)?,
        seconds(row.usage.system_nanoseconds).into_bound_py_any(py)?,
        row.usage.peak_memory_bytes.into_bound_py_any(py)?,
        row.failed.map_or_else(|| "OK".to_owned(), kind_name).into_bound_py_any(py)?,
        attempts.into_bound_py_any(py)?,
        PyTuple::new(py, retried.collect::<Vec<_>>())?.into_any(),
        PyTuple::new(py, row.notes.iter().map(|note| (note_name(note.kind), note.count)))?
            .into_any(),
        row.agent.address.as_str().into_bound_py_any(py)?,
        row.number.into_bound_py_any(py)?,
        row.copy.into_bound_py_any(py)?,
    ];
    PyTuple::new(py, fields)
}

/// After which failures batches were run again, and how many.
pub(crate) fn retried(rows: &Rows) -> Retried {
    rows.retried().iter().map(|(kind, batches)| (kind_name(*kind), *batches)).collect()
}

/// What the notes of all batches add up to.
pub(crate) fn noted(rows: &Rows) -> Noted {
    rows.noted().iter().map(|(kind, n)| (note_name(*kind), n.count, n.batches)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a nanosecond in a century is nothing")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * NANO
}

/// 0 for a phase that was not reached.
fn between(start: u64, end: u64) -> f64 {
    if start == 0 { 0.0 } else { seconds(end.saturating_sub(start)) }
}
