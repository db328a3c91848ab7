//! Results in shared memory, as the driver has them.
#![expect(unsafe_code, reason = "a map of a file")]

use std::fs::File;
use std::os::fd::OwnedFd;

use memmap2::{MmapMut, MmapOptions};
use pyo3::prelude::*;

/// A private, writable map: pages are copied when they are first written.
/// Unmapped when the object goes.
#[pyclass(frozen, module = "joblib_clutch._native")]
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapMut,
}

impl Mapping {
    /// Maps a file that nobody writes any more.
    pub(crate) fn new(file: OwnedFd, bytes: u64) -> std::io::Result<Self> {
        let file = File::from(file);
        if file.metadata()?.len() < bytes {
            // Reading beyond its end would be a SIGBUS.
            return Err(std::io::Error::other("a result's file is shorter than announced"));
        }
        let length = usize::try_from(bytes).map_err(std::io::Error::other)?;
        // SAFETY: the agent checked that nobody can shrink the file, and what
        // others wrote to it would be seen as different numbers, no more.
        let map = unsafe { MmapOptions::new().len(length).populate().map_copy(&file)? };
        Ok(Self { map })
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
