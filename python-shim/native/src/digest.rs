//! Names of contents.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Content;
use crate::mapping::Mapping;

/// See `digest` in `joblib_clutch/_native.pyi`.
#[pyfunction]
pub(crate) fn digest<'py>(content: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = content.py();
    let digest = if let Ok(kept) = content.cast::<Mapping>() {
        let kept = kept.get();
        py.detach(|| clutch_client::digest(kept.bytes()))
    } else {
        let content = Content::of(content)?;
        py.detach(|| clutch_client::digest(content.bytes()))
    };
    Ok(PyBytes::new(py, &digest))
}
