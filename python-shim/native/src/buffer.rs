//! Python's buffer protocol, which the stable interface of `CPython` 3.10 lacks.
//! The interpreter host is built with this file too.
//!
//! The functions are in every `CPython` since 3.0, and the structure is since
//! 3.3 what 3.11 declared stable (its issue 45459).
#![expect(unsafe_code, reason = "a foreign function and its structure")]

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::prelude::*;

/// `PyBUF_SIMPLE`: contiguous bytes.
const SIMPLE: c_int = 0;

#[repr(C)]
struct PyBuffer {
    data: *mut c_void,
    object: *mut PyObject,
    length: Py_ssize_t,
    item_bytes: Py_ssize_t,
    read_only: c_int,
    dimensions: c_int,
    format: *mut c_char,
    shape: *mut Py_ssize_t,
    strides: *mut Py_ssize_t,
    suboffsets: *mut Py_ssize_t,
    internal: *mut c_void,
}

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut PyBuffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut PyBuffer);
}

/// Contiguous bytes of a Python object, which stay where they are meanwhile.
pub(crate) struct Content {
    view: PyBuffer,
}

// SAFETY: the bytes are read only; the view is released with the interpreter
// attached, as `drop` sees to.
unsafe impl Send for Content {}
// SAFETY: as above.
unsafe impl Sync for Content {}

impl Content {
    /// Asks an object for its bytes.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = MaybeUninit::<PyBuffer>::zeroed();
        // SAFETY: a live object and room for the structure.
        let code = unsafe { PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), SIMPLE) };
        if code != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: it said that it filled the structure.
        Ok(Self { view: unsafe { view.assume_init() } })
    }

    /// The bytes. Another thread may write to them meanwhile, as with every
    /// buffer of Python; then they are copied half old, half new.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.view.data.is_null() || self.view.length <= 0 {
            return &[];
        }
        // SAFETY: the exporter keeps that many bytes there until the release.
        unsafe {
            std::slice::from_raw_parts(
                self.view.data.cast::<u8>().cast_const(),
                self.view.length.unsigned_abs(),
            )
        }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled by `PyObject_GetBuffer` and released once.
            unsafe { PyBuffer_Release(&raw mut self.view) }
        });
    }
}
