//! Python objects that every batch needs, looked up once in the zygote: a
//! worker starts in milliseconds, and nothing a task does to a module's
//! attributes takes them away.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::Arguments;
use crate::nested::Nested;
use crate::results::Results;

/// The objects.
pub(crate) struct Toolbox {
    /// `pickle.loads`.
    pub(crate) loads: Py<PyAny>,
    /// `pickle.dumps`.
    pub(crate) dumps: Py<PyAny>,
    /// `cloudpickle.dumps`: the environment's own, or joblib's copy of it.
    pub(crate) cloud_dumps: Option<Py<PyAny>>,
    /// `traceback.format_exception`.
    pub(crate) format_exception: Py<PyAny>,
    /// Arguments that travel beside their batch.
    pub(crate) arguments: Arguments,
    /// Results with large buffers.
    pub(crate) results: Results,
    /// The namespace of `__main__`, and how many names it has by itself.
    pub(crate) main: Py<PyDict>,
    /// See `main`.
    pub(crate) main_names: usize,
    /// How joblib is told where nested calls run.
    pub(crate) nested: Option<Nested>,
    /// `threadpoolctl.ThreadpoolController()`: the pools of loaded libraries.
    pub(crate) pools: Option<Py<PyAny>>,
}

impl Toolbox {
    /// Imports what is there. To be called after the warm list: the pools are
    /// those of the libraries loaded by then.
    pub(crate) fn prepare(py: Python<'_>) -> PyResult<Self> {
        let pickle = py.import("pickle")?;
        for name in ["faulthandler", "io", "os", "signal", "gc", "threading"] {
            py.import(name)?;
        }
        let attribute = |module: &str, name: &str| -> Option<Py<PyAny>> {
            Some(py.import(module).ok()?.getattr(name).ok()?.unbind())
        };
        let nested = Nested::prepare(py);
        let cloudpickle =
            py.import("cloudpickle").or_else(|_| py.import("joblib.externals.cloudpickle")).ok();
        let main = py.import("__main__")?.dict();
        Ok(Self {
            loads: pickle.getattr("loads")?.unbind(),
            dumps: pickle.getattr("dumps")?.unbind(),
            format_exception: py.import("traceback")?.getattr("format_exception")?.unbind(),
            cloud_dumps: match &cloudpickle {
                Some(cloudpickle) => Some(cloudpickle.getattr("dumps")?.unbind()),
                None => None,
            },
            arguments: Arguments::prepare(py)?,
            results: Results::prepare(py, cloudpickle.as_ref())?,
            main_names: main.len(),
            main: main.unbind(),
            nested,
            pools: attribute("threadpoolctl", "ThreadpoolController")
                .and_then(|controller| controller.call0(py).ok()),
        })
    }
}
