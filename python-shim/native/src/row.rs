//! Rows of a report as Python has them.

use clutch_client::{Row, Rows};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

const NANO: f64 = 1e-9;

/// Tuples in the order of the fields of `joblib_clutch.report.Row`, without the
/// host, which is the same for all.
pub(crate) fn to_python<'py>(py: Python<'py>, rows: &Rows) -> PyResult<Bound<'py, PyList>> {
    let tuples = rows.kept().iter().map(|row| tuple(py, row));
    PyList::new(py, tuples.collect::<PyResult<Vec<_>>>()?)
}

fn tuple<'py>(py: Python<'py>, row: &Row) -> PyResult<Bound<'py, PyTuple>> {
    let t = &row.timings;
    let ran = t.task_nanoseconds.iter().map(|ran| seconds(*ran)).collect::<Vec<_>>();
    let transfer = between(t.assigned_at, t.received_at) + between(t.pickled_at, t.ended_at);
    let fields = [
        row.batch_id.into_bound_py_any(py)?,
        row.tasks.into_bound_py_any(py)?,
        row.worker_pid.into_bound_py_any(py)?,
        seconds(t.queued_at).into_bound_py_any(py)?,
        between(t.queued_at, t.assigned_at).into_bound_py_any(py)?,
        transfer.into_bound_py_any(py)?,
        between(t.received_at, t.unpickled_at).into_bound_py_any(py)?,
        PyTuple::new(py, ran)?.into_any(),
        between(t.ran_at, t.pickled_at).into_bound_py_any(py)?,
        seconds(row.usage.user_nanoseconds).into_bound_py_any(py)?,
        seconds(row.usage.system_nanoseconds).into_bound_py_any(py)?,
        row.usage.peak_memory_bytes.into_bound_py_any(py)?,
        row.failed
            .map_or_else(|| "OK".to_owned(), crate::errors::kind_name)
            .into_bound_py_any(py)?,
    ];
    PyTuple::new(py, fields)
}

#[expect(clippy::cast_precision_loss, reason = "a nanosecond in a century is nothing")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * NANO
}

/// 0 for a phase that was not reached.
fn between(start: u64, end: u64) -> f64 {
    if start == 0 { 0.0 } else { seconds(end.saturating_sub(start)) }
}
