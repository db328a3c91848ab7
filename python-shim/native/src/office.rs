//! Where endings and output of all sessions wait.

use std::sync::Arc;

use clutch_client::{LinkEvent, News};
use clutch_protocol::v1;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::ending;

/// A call whose endings nobody awaits, the endings, and whether another courier
/// is needed.
type Errand<'py> = (Handling, Bound<'py, PyList>, bool);

/// See `Office` in `joblib_clutch/_native.pyi`.
#[pyclass(frozen, module = "joblib_clutch._native")]
pub(crate) struct Office {
    pub(crate) office: Arc<clutch_client::Office<Py<PyAny>>>,
}

#[pymethods]
impl Office {
    #[new]
    fn new() -> PyResult<Self> {
        let office = clutch_client::Office::open();
        let office = office.map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { office: Arc::new(office) })
    }

    fn next_errand<'py>(&self, py: Python<'py>) -> PyResult<Option<Errand<'py>>> {
        let Some(errand) = py.detach(|| self.office.next_errand()) else { return Ok(None) };
        let endings = ending::to_python(py, errand.endings)?;
        Ok(Some((Handling { call: errand.call }, endings, errand.last_one)))
    }

    fn wait_output(&self, py: Python<'_>) -> bool {
        py.detach(|| self.office.outputs().wait())
    }

    fn take_news(&self) -> Vec<(String, Option<String>, f64)> {
        let tell = |News { agent, event }| match event {
            LinkEvent::Broke { why, limit } => (agent, Some(why), limit.as_secs_f64()),
            LinkEvent::Restored { after } => (agent, None, after.as_secs_f64()),
        };
        self.office.outputs().take_news().into_iter().map(tell).collect()
    }

    #[getter]
    fn output_pending(&self) -> bool {
        self.office.outputs().pending()
    }

    fn take_output<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let is_error = |stream| stream == i32::from(v1::OutputStream::Stderr);
        let pieces = self.office.outputs().take();
        let pieces = pieces.into_iter().map(|(source, piece)| {
            (source, piece.pid, is_error(piece.stream), PyBytes::new(py, &piece.data))
        });
        PyList::new(py, pieces.collect::<Vec<_>>())
    }

    fn output_printed(&self) {
        self.office.outputs().printed();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.office.close());
    }
}

/// See `Handling` in `joblib_clutch/_native.pyi`.
#[pyclass(frozen, module = "joblib_clutch._native")]
pub(crate) struct Handling {
    call: Arc<clutch_client::Call<Py<PyAny>>>,
}

#[pymethods]
impl Handling {
    fn handled(&self) {
        self.call.handled();
    }
}
