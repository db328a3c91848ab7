//! Where a process is: its directory, its umask, its locale.

use std::ffi::{CStr, CString, c_char};
use std::io::Error;
use std::os::fd::OwnedFd;
use std::ptr::null;

use pyo3::prelude::*;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{fchdir, umask};

use crate::identity::FIRST_OWN;

/// Longest path that the kernel tells.
const PATH_BYTES: usize = 4096;

/// The place.
pub(super) struct Place {
    /// The working directory, also when it has been moved or removed since;
    /// `None`: it could not be opened.
    directory: Option<OwnedFd>,
    /// Its path; empty when it had none.
    path: CString,
    mask: Mode,
    locale: CString,
}

impl Place {
    pub(super) fn take() -> Self {
        // It can only be read by setting it; a thread may make a file meanwhile.
        let mask = umask(Mode::RWXG | Mode::RWXO);
        umask(mask);
        let path = with_current_path(|path| CString::from(path));
        Self { directory: current_directory().ok(), path, mask, locale: locale().into() }
    }

    pub(super) fn restore(&self) -> PyResult<()> {
        // Setting costs what reading would.
        umask(self.mask);
        if locale() != self.locale.as_c_str() {
            set_locale(&self.locale);
        }
        if !with_current_path(|path| path == self.path.as_c_str()) {
            let missing = || Error::other("the first directory could not be opened");
            fchdir(self.directory.as_ref().ok_or_else(missing)?).map_err(Error::from)?;
        }
        Ok(())
    }
}

fn current_directory() -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, c".", flags, Mode::empty())?;
    Ok(rustix::io::fcntl_dupfd_cloexec(&directory, FIRST_OWN)?)
}

/// The working directory's path, without a trip to the heap; empty when it has
/// none.
fn with_current_path<T>(told: impl FnOnce(&CStr) -> T) -> T {
    let mut buffer = std::mem::MaybeUninit::<[c_char; PATH_BYTES]>::uninit();
    #[expect(unsafe_code, reason = "getcwd")]
    // SAFETY: the buffer is as long as said. The call either fills it up to a
    // zero and returns where, or returns null.
    let path = unsafe {
        let path = libc::getcwd(buffer.as_mut_ptr().cast(), PATH_BYTES);
        if path.is_null() { c"" } else { CStr::from_ptr(path) }
    };
    told(path)
}

/// The locale of every category, as the C library writes it.
fn locale() -> &'static CStr {
    #[expect(unsafe_code, reason = "setlocale")]
    // SAFETY: nothing is changed. The answer is null or a string that lives until
    // the next change; both users are done with it by then.
    unsafe {
        let name = libc::setlocale(libc::LC_ALL, null());
        if name.is_null() { c"C" } else { CStr::from_ptr(name) }
    }
}

fn set_locale(name: &CStr) {
    #[expect(unsafe_code, reason = "setlocale")]
    // SAFETY: the name is a C string. Threads that a task left behind could read
    // the locale meanwhile, as when the task itself had restored it.
    unsafe {
        libc::setlocale(libc::LC_ALL, name.as_ptr());
    }
}
