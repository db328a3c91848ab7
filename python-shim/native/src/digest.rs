//! Names of content.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// See `digest` in `joblib_clutch/_native.pyi`.
#[pyfunction]
pub(crate) fn digest<'py>(py: Python<'py>, data: &Bound<'py, PyBytes>) -> Bound<'py, PyBytes> {
    let content = data.as_bytes();
    PyBytes::new(py, &py.detach(|| clutch_client::digest(content)))
}
