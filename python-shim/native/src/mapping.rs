//! Content in shared memory, as the driver has it.
#![expect(unsafe_code, reason = "the bytes of a map")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use clutch_shared_memory::Map;
use pyo3::prelude::*;

/// A private map, of a result with pages that are copied when they are first
/// written. Unmapped when the object goes.
#[pyclass(frozen, module = "joblib_clutch._native")]
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Map,
}

impl Mapping {
    /// Maps a file that nobody writes any more, and that the agent found to be
    /// sealed against shrinking.
    pub(crate) fn new(file: OwnedFd, bytes: u64) -> std::io::Result<Self> {
        let file = long_enough(file, bytes)?;
        Ok(Self { map: Map::private(file.as_fd(), bytes)? })
    }

    /// Maps a blob that was put, to put it again. Costs no memory while the agent
    /// has the blob, and keeps its content when the agent is gone.
    pub(crate) fn kept(file: OwnedFd, bytes: u64) -> std::io::Result<Self> {
        let file = long_enough(file, bytes)?;
        Ok(Self { map: Map::read_only(file.as_fd(), bytes)? })
    }

    /// What was put.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as we are; what was put is sealed, or a file that
        // nobody but the agent could cut.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast_const(), self.map.len()) }
    }
}

fn long_enough(file: OwnedFd, bytes: u64) -> std::io::Result<File> {
    let file = File::from(file);
    if file.metadata()?.len() < bytes {
        // Reading beyond its end would be a SIGBUS.
        return Err(std::io::Error::other("a file is shorter than announced"));
    }
    Ok(file)
}

#[pymethods]
impl Mapping {
    /// Where it begins in this process.
    #[getter]
    fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }
}
