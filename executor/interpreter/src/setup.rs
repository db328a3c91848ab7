//! A worker's first message: it becomes the session's own.

use std::collections::HashMap;

use clutch_worker_link::Phase;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::failure::Failure;
use crate::toolbox::Toolbox;
use crate::{pickling, threads};

/// Sets the worker up.
pub(crate) fn set_up<'py>(
    py: Python<'py>,
    tools: &Toolbox,
    variables: Vec<(String, String)>,
    threads: u32,
    payload: PyResult<Bound<'py, PyBytes>>,
) -> Result<(), Failure<'py>> {
    let variables = threads::variables(variables, threads);
    let prepared = apply(py, tools, &variables, threads)
        .and(payload)
        .and_then(|payload| profile(py, tools, payload));
    let profile =
        prepared.map_err(|error| Failure::raised(py, tools, Phase::Setup, None, &error))?;
    initialize(&profile)
        .map_err(|error| Failure::raised(py, tools, Phase::Initializer, None, &error))
}

fn apply(
    py: Python<'_>,
    tools: &Toolbox,
    variables: &HashMap<String, String>,
    threads: u32,
) -> PyResult<()> {
    // Through os.environ, so that both Python and C libraries see them.
    let environ = py.import("os")?.getattr("environ")?;
    for (name, value) in variables {
        environ.set_item(name, value)?;
    }
    if variables.contains_key("TMPDIR")
        && let Ok(tempfile) = py.import("sys")?.getattr("modules")?.get_item("tempfile")
    {
        // It remembers the directory that it found in the zygote.
        tempfile.setattr("tempdir", py.None())?;
    }
    threads::limit_pools(py, tools, variables, threads)
}

/// Applies what the profile says of this process; returns it.
fn profile<'py>(
    py: Python<'py>,
    tools: &Toolbox,
    payload: Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyDict>> {
    if payload.as_bytes().is_empty() {
        return Ok(PyDict::new(py));
    }
    let profile = pickling::loads(tools, payload)?.cast_into::<PyDict>()?;
    if let Some(directory) = given(&profile, "cwd")? {
        let os = py.import("os")?;
        // The driver's directory need not exist here.
        if os.getattr("path")?.call_method1("isdir", (&directory,))?.is_truthy()? {
            os.call_method1("chdir", (directory,))?;
        }
    }
    if let Some(path) = given(&profile, "sys_path")? {
        replace_path(py, &path)?;
    }
    if let Some(authkey) = given(&profile, "authkey")? {
        let process = py.import("multiprocessing")?.call_method0("current_process")?;
        process.setattr("authkey", authkey)?;
    }
    Ok(profile)
}

/// The driver's search path, then what only this environment has.
fn replace_path(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let path = PyList::empty(py);
    for entry in given.try_iter()? {
        path.append(entry?)?;
    }
    for entry in sys.getattr("path")?.try_iter()? {
        let entry = entry?;
        if !path.contains(&entry)? {
            path.append(entry)?;
        }
    }
    sys.setattr("path", path)
}

fn initialize(profile: &Bound<'_, PyDict>) -> PyResult<()> {
    let Some(initializer) = given(profile, "initializer")? else { return Ok(()) };
    let arguments = match given(profile, "initargs")? {
        Some(arguments) => profile.py().get_type::<PyTuple>().call1((arguments,))?,
        None => PyTuple::empty(profile.py()).into_any(),
    };
    initializer.call(arguments.cast_into::<PyTuple>()?, None).map(drop)
}

/// A key's value, unless it is missing or `None`.
fn given<'py>(profile: &Bound<'py, PyDict>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(profile.get_item(key)?.filter(|value| !value.is_none()))
}
