//! Results in shared memory, as the driver has them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use clutch_shared_memory::Map;
use pyo3::prelude::*;

/// A private, writable map: pages are copied when they are first written.
/// Unmapped when the object goes.
#[pyclass(frozen, module = "joblib_clutch._native")]
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Map,
}

impl Mapping {
    /// Maps a file that nobody writes any more, and that the agent found to be
    /// sealed against shrinking.
    pub(crate) fn new(file: OwnedFd, bytes: u64) -> std::io::Result<Self> {
        let file = File::from(file);
        if file.metadata()?.len() < bytes {
            // Reading beyond its end would be a SIGBUS.
            return Err(std::io::Error::other("a result's file is shorter than announced"));
        }
        Ok(Self { map: Map::private(file.as_fd(), bytes)? })
    }
}

#[pymethods]
impl Mapping {
    /// Where it begins in this process.
    #[getter]
    fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }
}
