//! Access files, as a driver reads them.

use std::path::{Path, PathBuf};

use clutch_client::{Access, AccessError, Role, StoredFile};
use pyo3::prelude::*;

use crate::errors::OpenDeniedError;

/// What a driver shows to the agents of this file.
pub(crate) fn of_driver(path: &Path) -> PyResult<Access> {
    let read = StoredFile::at(path).read().and_then(|file| Access::new(&file, Role::Driver));
    read.map_err(|error| denied(&error))
}

/// See `read_access_file` in `joblib_clutch/_native.pyi`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "Python gives it away")]
pub(crate) fn read_access_file(path: PathBuf) -> PyResult<Vec<String>> {
    let file = StoredFile::at(&path).read().map_err(|error| denied(&error))?;
    Access::new(&file, Role::Driver).map_err(|error| denied(&error))?;
    Ok(file.agents)
}

fn denied(error: &AccessError) -> PyErr {
    let mut why = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        why = format!("{why}: {cause}");
    }
    OpenDeniedError::new_err(why)
}
