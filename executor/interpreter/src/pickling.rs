//! Objects to bytes, for a reader in another process.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::toolbox::Toolbox;

/// Highest protocol that every supported Python reads.
const PROTOCOL: u8 = 5;

/// Unpickles without copying the bytes.
pub(crate) fn loads<'py>(
    tools: &Toolbox,
    payload: Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    tools.loads.bind(payload.py()).call1((payload,))
}

/// Pickles for the driver: by the C pickler, which is fast, or by cloudpickle,
/// which also takes what the driver cannot import.
pub(crate) fn dumps<'py>(
    tools: &Toolbox,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let plain = tools.dumps.bind(py).call1((value, PROTOCOL)).and_then(into_bytes);
    let Some(cloud_dumps) = &tools.cloud_dumps else { return plain };
    match plain {
        Ok(bytes) if !names_our_main(tools, &bytes) => Ok(bytes),
        _ => cloud_dumps.bind(py).call1((value, PROTOCOL)).and_then(into_bytes),
    }
}

/// Whether the pickle may refer to something by a name in our `__main__`, which
/// means something else to the driver. Only possible when somebody put names
/// there; so results are not searched for nothing.
pub(crate) fn names_our_main(tools: &Toolbox, pickle: &Bound<'_, PyBytes>) -> bool {
    let py = pickle.py();
    tools.main.bind(py).len() > tools.main_names
        && pickle.contains(PyBytes::new(py, b"__main__")).unwrap_or(true)
}

fn into_bytes(pickled: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    Ok(pickled.cast_into::<PyBytes>()?)
}
