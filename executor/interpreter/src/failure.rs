//! What kept a batch from its results, as the agent is told.

use clutch_worker_link::{ExceptionReport, FailureReport, Phase};
use pyo3::exceptions::{PyImportError, PyMemoryError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::toolbox::Toolbox;
use crate::warm::{package_of, version_here};
use crate::{exception, pickling};

/// The report, and the exception's pickle when it has one.
pub(crate) struct Failure<'py> {
    pub(crate) report: Box<FailureReport>,
    pub(crate) pickle: Option<Bound<'py, PyBytes>>,
    /// It was a `MemoryError`.
    pub(crate) out_of_memory: bool,
}

impl<'py> Failure<'py> {
    /// An exception of any kind; `sys.exit` in a task is told apart.
    pub(crate) fn raised(
        py: Python<'py>,
        tools: &Toolbox,
        phase: Phase,
        task_index: Option<u32>,
        error: &PyErr,
    ) -> Self {
        let exit = phase == Phase::Run && error.is_instance_of::<PySystemExit>(py);
        let exit_code = exit.then(|| exit_code(py, error));
        let phase = if exit { Phase::Exit } else { phase };
        let what = match (phase, task_index) {
            (Phase::Unpickle, Some(index)) => {
                format!("an argument of task {index} cannot be unpickled:")
            }
            (Phase::Unpickle, None) => String::from("the batch cannot be unpickled:"),
            (Phase::Setup, _) => String::from("setting up the worker raised"),
            (Phase::Initializer, _) => String::from("the initializer raised"),
            (Phase::Exit, Some(index)) => format!("task {index} called sys.exit:"),
            (_, Some(index)) => format!("task {index} raised"),
            (_, None) => String::from("the batch raised"),
        };
        Self::described(py, tools, (phase, task_index, exit_code), &what, error)
    }

    /// Results that cannot be pickled: finds out whose. The first is that of a
    /// task with an index.
    pub(crate) fn unpicklable(
        tools: &Toolbox,
        results: &Bound<'py, PyList>,
        first_task: usize,
        error: &PyErr,
    ) -> Self {
        let py = results.py();
        let culprit = (first_task..).zip(results).find_map(|(index, result)| {
            let error = pickling::dumps(tools, &result).err()?;
            Some((index, exception::type_name(&result.get_type()), error))
        });
        let Some((index, kind, error)) = culprit else {
            let about = (Phase::Pickle, None, None);
            return Self::described(py, tools, about, "the results cannot be pickled:", error);
        };
        let about = (Phase::Pickle, u32::try_from(index).ok(), None);
        let what = format!("the result of task {index}, of type {kind}, cannot be pickled:");
        Self::described(py, tools, about, &what, &error)
    }

    /// What this host found by itself.
    pub(crate) fn told(phase: Phase, message: String) -> Self {
        let exception = ExceptionReport::default();
        let report = FailureReport { phase, task_index: None, message, exit_code: None, exception };
        Self { report: Box::new(report), pickle: None, out_of_memory: false }
    }

    fn described(
        py: Python<'py>,
        tools: &Toolbox,
        (phase, task_index, exit_code): (Phase, Option<u32>, Option<i32>),
        what: &str,
        error: &PyErr,
    ) -> Self {
        let mut message = format!("{what} {}", exception::one_line(py, error));
        if error.is_instance_of::<PyImportError>(py) {
            message.push_str(&environment(py, error));
        }
        let (exception, pickle) = exception::report(tools, py, error);
        let report = FailureReport { phase, task_index, message, exit_code, exception };
        let out_of_memory = error.is_instance_of::<PyMemoryError>(py);
        Self { report: Box::new(report), pickle, out_of_memory }
    }
}

/// Where a module is missing, and of which version the package is that lacks it.
fn environment(py: Python<'_>, error: &PyErr) -> String {
    let executable = py.import("sys").and_then(|sys| sys.getattr("executable")?.extract());
    let executable: String = executable.unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: Option<String> = error.value(py).getattr("name").and_then(|it| it.extract()).ok();
    let package = name.as_deref().map(package_of);
    let has = package.and_then(|package| Some((package, version_here(py, package).ok()??)));
    // The shim reads that, see `versions.py`.
    let has = has.map(|(package, version)| format!(", which has {package} {version}"));
    format!(" (in the environment of {executable} on {host}{})", has.unwrap_or_default())
}

/// The code that the process would have ended with.
fn exit_code(py: Python<'_>, error: &PyErr) -> i32 {
    match error.value(py).getattr("code") {
        Ok(code) if code.is_none() => 0,
        Ok(code) => code.extract().unwrap_or(1),
        Err(_) => 1,
    }
}
