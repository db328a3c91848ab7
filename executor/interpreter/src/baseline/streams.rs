//! Standard streams: the descriptors, and Python's objects.

use std::ffi::{CStr, c_int};
use std::io::Error;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::stdio::{dup2_stderr, dup2_stdout};

use crate::identity::FIRST_OWN;
use crate::output;

/// How they were.
pub(super) struct Streams {
    descriptors: [Descriptor; 2],
    stdin: Option<Py<PyAny>>,
    outputs: Vec<Output>,
}

/// Standard output or standard error.
struct Descriptor {
    number: RawFd,
    /// A duplicate. Not owned: a task may close what it likes, and open something
    /// else in its place.
    duplicate: RawFd,
    /// The file behind both.
    file: Option<File>,
}

/// A file, as the kernel tells two of them apart.
#[derive(Debug, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
}

struct Output {
    name: &'static CStr,
    descriptor: RawFd,
    stream: Py<PyAny>,
}

impl Streams {
    /// Stacks are written to a descriptor that is a duplicate of standard error.
    pub(super) fn take(py: Python<'_>, stacks: RawFd) -> Self {
        let duplicate = rustix::io::fcntl_dupfd_cloexec(std::io::stdout().as_fd(), FIRST_OWN);
        let duplicate = duplicate.map_or(-1, IntoRawFd::into_raw_fd);
        let descriptor = |number, duplicate| {
            // Whatever an initializer has redirected stays so, if it still can be told.
            let file = file(number).filter(|file| Some(file) == self::file(duplicate).as_ref());
            Descriptor { number, duplicate, file }
        };
        let outputs = output::STREAMS.into_iter().filter_map(|(name, descriptor)| {
            Some(Output { name, descriptor, stream: output::get(py, name)?.unbind() })
        });
        Self {
            descriptors: [descriptor(1, duplicate), descriptor(2, stacks)],
            stdin: output::get(py, c"stdin").map(Bound::unbind),
            outputs: outputs.collect(),
        }
    }

    pub(super) fn restore(&mut self, py: Python<'_>) -> PyResult<()> {
        for descriptor in &self.descriptors {
            descriptor.restore()?;
        }
        if let Some(stdin) = &self.stdin
            && !output::get(py, c"stdin").is_some_and(|current| current.is(stdin))
        {
            output::set(py, c"stdin", stdin.bind(py))?;
        }
        for output in &mut self.outputs {
            output.restore(py)?;
        }
        Ok(())
    }
}

impl Descriptor {
    fn restore(&self) -> Result<(), Error> {
        if self.file.is_none() || self.is_same() || file(self.number) == self.file {
            return Ok(());
        }
        if file(self.duplicate) != self.file {
            return Err(Error::other("the duplicate was closed"));
        }
        #[expect(unsafe_code, reason = "a descriptor that is not owned")]
        // SAFETY: it is open, as was seen just now, and used in this function only.
        let duplicate = unsafe { BorrowedFd::borrow_raw(self.duplicate) };
        if self.number == 1 {
            dup2_stdout(duplicate)?;
        } else {
            dup2_stderr(duplicate)?;
        }
        Ok(())
    }

    /// Whether it and the duplicate are one; `false` also when the kernel does not
    /// tell, as those before Linux 6.10. Half the price of looking at the file.
    #[expect(unsafe_code, reason = "libc has no name for it yet")]
    fn is_same(&self) -> bool {
        const F_DUPFD_QUERY: c_int = 1027;
        // SAFETY: changes nothing, whatever the numbers are.
        unsafe { libc::fcntl(self.number, F_DUPFD_QUERY, self.duplicate) == 1 }
    }
}

impl Output {
    fn restore(&mut self, py: Python<'_>) -> PyResult<()> {
        let stream = self.stream.bind(py);
        // A task may have closed it, and left it in its place.
        if output::get(py, self.name).is_some_and(|current| current.is(stream))
            && !is_closed(stream)
        {
            return Ok(());
        }
        // What was printed to it must not appear later. A closed one cannot be
        // flushed, and is of no use any more.
        if stream.call_method0(pyo3::intern!(py, "flush")).is_ok() {
            return output::set(py, self.name, stream);
        }
        self.stream = output::reopen(py, self.name, self.descriptor)?.unbind();
        Ok(())
    }
}

/// Whether nothing can be written to it any more. What does not say so is open,
/// and what has lost its buffer refuses to say.
fn is_closed(stream: &Bound<'_, PyAny>) -> bool {
    let py = stream.py();
    let closed = stream.getattr(pyo3::intern!(py, "closed")).and_then(|closed| closed.is_truthy());
    closed.unwrap_or_else(|error| error.is_instance_of::<PyValueError>(py))
}

/// The file behind a number; `None` when nothing is open there.
fn file(number: RawFd) -> Option<File> {
    if number < 0 {
        return None;
    }
    #[expect(unsafe_code, reason = "a descriptor that is not owned")]
    // SAFETY: the kernel says when it is not open, and that is all that is asked.
    let status = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    Some(File { device: status.st_dev, inode: status.st_ino })
}
