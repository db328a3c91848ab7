//! Blobs that a worker was given, and unpickling what refers to them.

use std::collections::HashMap;
use std::io::Error;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use clutch_worker_link::{Access, BufferUse, MappedBlob, SharedObject};
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::exception::SOURCE_FILE;

/// What `arguments.py` offers.
pub(crate) struct Arguments {
    blob: Py<PyAny>,
    load_batch: Py<PyAny>,
    shared_objects: Py<PyAny>,
}

/// A function, its arguments and its keywords.
pub(crate) type Call<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Objects that each task of a batch gets a fresh copy of.
pub(crate) struct SharedObjects<'py>(Bound<'py, PyAny>);

/// The blobs that batches may use, by number.
#[derive(Default)]
pub(crate) struct Blobs(HashMap<u64, Blob>);

/// The descriptor, and the Python object that makes maps of it.
struct Blob {
    /// Closed when the blob is forgotten; maps outlive it where a task kept one.
    descriptor: OwnedFd,
    bytes: u64,
    usable: Result<Py<PyAny>, String>,
}

impl Arguments {
    pub(crate) fn prepare(py: Python<'_>) -> PyResult<Self> {
        let code = pyo3::ffi::c_str!(include_str!("arguments.py"));
        let module = PyModule::from_code(py, code, SOURCE_FILE, c"clutch_arguments")?;
        let named = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.unbind());
        Ok(Self {
            blob: named("Blob")?,
            load_batch: named("load_batch")?,
            shared_objects: named("SharedObjects")?,
        })
    }

    /// Unpickles a batch that uses blobs.
    pub(crate) fn load<'py>(
        &self,
        payload: Bound<'py, PyBytes>,
        uses: &[BufferUse],
        blobs: &Blobs,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = payload.py();
        let uses = blobs.uses(py, uses)?;
        self.load_batch.bind(py).call1((payload, uses))
    }

    /// The objects that a batch's tasks share; `None` when there are none.
    pub(crate) fn shared<'py>(
        &self,
        py: Python<'py>,
        objects: &[SharedObject],
        blobs: &Blobs,
    ) -> PyResult<Option<SharedObjects<'py>>> {
        if objects.is_empty() {
            return Ok(None);
        }
        let pickles = PyList::empty(py);
        for object in objects {
            let pickle = blobs.get(py, object.pickle)?;
            pickles.append((pickle, blobs.uses(py, &object.buffers)?))?;
        }
        self.shared_objects.bind(py).call1((pickles,)).map(|objects| Some(SharedObjects(objects)))
    }
}

impl<'py> SharedObjects<'py> {
    /// A task with its own objects in the place of what stands for them.
    pub(crate) fn resolve(&self, task: Call<'py>) -> PyResult<Call<'py>> {
        let py = task.0.py();
        self.0.call_method1(pyo3::intern!(py, "resolve"), task)?.extract()
    }
}

impl Blobs {
    /// Takes blobs in; each comes with its descriptor.
    pub(crate) fn add(
        &mut self,
        py: Python<'_>,
        arguments: &Arguments,
        announced: &[MappedBlob],
        descriptors: Vec<OwnedFd>,
    ) -> PyResult<()> {
        for (blob, descriptor) in announced.iter().zip(descriptors) {
            let usable = match shortfall(*blob, &descriptor) {
                Some(reason) => Err(reason),
                None => Ok(arguments.blob.call1(py, (descriptor.as_raw_fd(), blob.bytes))?),
            };
            self.0.insert(blob.blob, Blob { descriptor, bytes: blob.bytes, usable });
        }
        Ok(())
    }

    /// Lets go of blobs.
    pub(crate) fn forget(&mut self, blobs: &[u64]) {
        for blob in blobs {
            self.0.remove(blob);
        }
    }

    /// A blob's descriptor and its length.
    pub(crate) fn file(&self, blob: u64) -> PyResult<(RawFd, u64)> {
        let found = self.0.get(&blob).ok_or_else(|| missing(blob))?;
        found.usable.as_ref().map_err(|reason| unusable(reason))?;
        Ok((found.descriptor.as_raw_fd(), found.bytes))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The uses as Python knows them: a blob, and a mode of `numpy.memmap`.
    fn uses<'py>(&self, py: Python<'py>, uses: &[BufferUse]) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for BufferUse { blob, access } in uses {
            let mode = match access {
                Access::Read => "r",
                Access::Copy => "c",
                Access::Write => "r+",
            };
            list.append((self.get(py, *blob)?, mode))?;
        }
        Ok(list)
    }

    fn get<'py>(&self, py: Python<'py>, blob: u64) -> PyResult<Bound<'py, PyAny>> {
        let found = self.0.get(&blob).ok_or_else(|| missing(blob))?;
        found
            .usable
            .as_ref()
            .map(|usable| usable.bind(py).clone())
            .map_err(|reason| unusable(reason))
    }
}

fn missing(blob: u64) -> PyErr {
    PyLookupError::new_err(format!("this worker was not given blob {blob}"))
}

fn unusable(reason: &str) -> PyErr {
    PyValueError::new_err(reason.to_owned())
}

/// What is wrong with a blob's file. Memory mapped beyond its end would be a
/// fatal signal at the first touch.
fn shortfall(announced: MappedBlob, descriptor: &OwnedFd) -> Option<String> {
    let MappedBlob { blob, bytes } = announced;
    match rustix::fs::fstat(descriptor).map_err(Error::from) {
        Ok(status) if u64::try_from(status.st_size).is_ok_and(|size| size >= bytes) => None,
        Ok(status) => Some(format!("blob {blob} has {} bytes instead of {bytes}", status.st_size)),
        Err(error) => Some(format!("blob {blob} cannot be looked at: {error}")),
    }
}
