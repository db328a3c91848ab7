//! A joblib call.

use std::sync::Arc;

use bytes::Bytes;
use clutch_client::{Batch, Leg};
use clutch_protocol::v1;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::session::Conversation;
use crate::{ending, row};

/// Payloads from here on are sent from where Python has them.
const COPY_BYTES: usize = 64 << 10;

/// Blobs with what workers may do with them.
type Uses = Vec<(u64, i32)>;

/// See `Call` in `joblib_clutch/_native.pyi`.
#[pyclass(frozen, module = "joblib_clutch._native")]
pub(crate) struct Call {
    pub(crate) session: Arc<Conversation>,
    pub(crate) of_all: Arc<clutch_client::Call<Py<PyAny>>>,
    pub(crate) leg: Leg,
}

#[pymethods]
impl Call {
    #[pyo3(signature = (batch, number, tasks, data, buffers, shared, losses, copy=false))]
    #[expect(clippy::too_many_arguments, reason = "what a batch is")]
    fn submit(
        &self,
        batch: Py<PyAny>,
        number: u64,
        tasks: u32,
        data: &Bound<'_, PyBytes>,
        buffers: Uses,
        shared: Vec<(u64, Uses)>,
        losses: Vec<String>,
        copy: bool,
    ) -> bool {
        let payload = if data.as_bytes().len() < COPY_BYTES {
            Bytes::copy_from_slice(data.as_bytes())
        } else {
            Bytes::from_owner(PyBackedBytes::from(data.clone()))
        };
        let shared = shared.into_iter().map(|(pickle_blob_id, buffers)| v1::SharedObject {
            pickle_blob_id,
            buffers: uses(buffers),
        });
        let shared = shared.collect();
        let buffers = uses(buffers);
        let tasks = Batch { number, copy, tasks, payload, buffers, shared, losses };
        self.session.submit(&self.of_all, &self.leg, batch, tasks)
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let endings = py.detach(|| self.of_all.take());
        if endings.is_empty() {
            py.check_signals()?;
            return Ok(PyList::empty(py));
        }
        ending::to_python(py, endings)
    }

    fn handled(&self) {
        self.of_all.handled();
    }

    fn post(&self, batch: Py<PyAny>) {
        self.of_all.post(batch);
    }

    fn close(&self) {
        self.session.close_call(&self.of_all, &self.leg);
    }

    fn leave(&self) {
        self.session.close_leg(&self.leg);
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, usize)> {
        let rows = self.of_all.rows();
        Ok((row::to_python(py, &rows)?, rows.dropped()))
    }

    fn remarks(&self) -> (row::Retried, row::Noted) {
        let rows = self.of_all.rows();
        (row::retried(&rows), row::noted(&rows))
    }
}

fn uses(uses: Uses) -> Vec<v1::BlobUse> {
    uses.into_iter().map(|(blob_id, access)| v1::BlobUse { blob_id, access }).collect()
}
