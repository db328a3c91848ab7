//! A worker's first message: it becomes the session's own.

use std::collections::HashMap;

use clutch_worker_link::{DriverCode, Phase};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::arguments::Blobs;
use crate::code::{self, Unpacked};
use crate::failure::Failure;
use crate::toolbox::Toolbox;
use crate::{pickling, threads};

/// What the agent says of a worker.
pub(crate) struct Said {
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) threads: u32,
    pub(crate) code: DriverCode,
}

/// Sets the worker up.
pub(crate) fn set_up<'py>(
    py: Python<'py>,
    tools: &Toolbox,
    Said { variables, threads, code }: Said,
    blobs: &mut Blobs,
    payload: PyResult<Bound<'py, PyBytes>>,
) -> Result<(), Failure<'py>> {
    let variables = threads::variables(variables, threads);
    let prepared = apply(py, tools, &variables, threads).and(payload).and_then(|payload| {
        // The profile's pickle may need the code.
        let unpacked = code::unpack(py, &code, blobs)?;
        let profile = profile(py, tools, &variables, payload)?;
        unpacked.as_ref().map_or(Ok(()), Unpacked::settle)?;
        Ok(profile)
    });
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
    variables: &HashMap<String, String>,
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
        } else if let Some(scratch) = variables.get("TMPDIR") {
            os.call_method1("chdir", (scratch,))?;
        }
    }
    if let Some(path) = given(&profile, "sys_path")? {
        // On another machine it may not have what it has at the driver.
        let elsewhere = given(&profile, "elsewhere")?.is_some();
        replace_path(py, &path, elsewhere)?;
    }
    if let Some(authkey) = given(&profile, "authkey")? {
        let process = py.import("multiprocessing")?.call_method0("current_process")?;
        process.setattr("authkey", authkey)?;
    }
    Ok(profile)
}

/// The driver's search path, then what only this environment has. `existing`:
/// without what is not there.
fn replace_path(py: Python<'_>, given: &Bound<'_, PyAny>, existing: bool) -> PyResult<()> {
    let exists = py.import("os")?.getattr("path")?.getattr("exists")?;
    let sys = py.import("sys")?;
    let path = PyList::empty(py);
    for entry in given.try_iter()? {
        let entry = entry?;
        if !existing || exists.call1((&entry,))?.is_truthy()? {
            path.append(entry)?;
        }
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
