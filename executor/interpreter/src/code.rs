//! Code of the driver: unpacked once for each session, and on the search path
//! ahead of what is installed.

use clutch_worker_link::DriverCode;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::arguments::Blobs;
use crate::exception::SOURCE_FILE;

/// What was unpacked.
pub(crate) struct Unpacked<'py> {
    module: Bound<'py, PyModule>,
    paths: Bound<'py, PyAny>,
    /// `None`: the tasks start wherever the profile says.
    working_directory: Option<String>,
}

/// Unpacks what no worker of the session has unpacked yet, and puts it on the
/// search path; `None` when there is no code. Lets go of the archives.
pub(crate) fn unpack<'py>(
    py: Python<'py>,
    code: &DriverCode,
    blobs: &mut Blobs,
) -> PyResult<Option<Unpacked<'py>>> {
    if code.archives.is_empty() {
        return Ok(None);
    }
    // Made here, not in the zygote: few workers need it.
    let source = pyo3::ffi::c_str!(include_str!("code.py"));
    let module = PyModule::from_code(py, source, SOURCE_FILE, c"clutch_code")?;
    let archives = PyList::empty(py);
    for archive in &code.archives {
        let (descriptor, bytes) = blobs.file(archive.blob)?;
        archives.append((descriptor, bytes, &archive.name))?;
    }
    let paths = module.getattr("unpack")?.call1((&code.directory, archives))?;
    blobs.forget(&code.archives.iter().map(|archive| archive.blob).collect::<Vec<_>>());
    let starts = code.archives.iter().rfind(|archive| archive.working_directory);
    let working_directory = starts.map(|archive| format!("{}/{}", code.directory, archive.name));
    let unpacked = Unpacked { module, paths, working_directory };
    unpacked.put_first()?;
    Ok(Some(unpacked))
}

impl Unpacked<'_> {
    /// Goes to the working directory, and puts the code ahead of what else has
    /// come on the search path meanwhile.
    pub(crate) fn settle(&self) -> PyResult<()> {
        self.put_first()?;
        if let Some(directory) = &self.working_directory {
            self.module.py().import("os")?.call_method1("chdir", (directory,))?;
        }
        Ok(())
    }

    fn put_first(&self) -> PyResult<()> {
        self.module.getattr("put_first")?.call1((&self.paths,)).map(drop)
    }
}
