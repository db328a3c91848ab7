//! Opening the two libraries.

use std::ffi::{CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use super::HostError;

/// Name of the interpreter host's entry.
pub const INTERPRETER_MAIN: &str = "clutch_interpreter_main";

type Main = unsafe extern "C" fn(c_int, *const *const c_char) -> c_int;

/// The interpreter host's entry.
pub(super) struct Entry(Main);

impl Entry {
    /// Runs the interpreter; returns its exit code.
    #[expect(unsafe_code, reason = "a call into the interpreter host")]
    pub(super) fn call(&self, arguments: &[CString]) -> i32 {
        let pointers: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
        let Ok(count) = c_int::try_from(pointers.len()) else { return 64 };
        // SAFETY: the entry takes as many C strings as it is told, and reads
        // them only during the call; its library is never unloaded.
        unsafe { (self.0)(count, pointers.as_ptr()) }
    }
}

/// Opens libpython, then the host, and finds the host's entry.
pub(super) fn load(libpython: &Path, host: &Path) -> Result<Entry, HostError> {
    // Extension modules and the host find the interpreter's symbols globally.
    open(libpython, RTLD_NOW | RTLD_GLOBAL)?;
    let library = open(host, RTLD_NOW | RTLD_LOCAL)?;
    #[expect(unsafe_code, reason = "the symbol's type is a promise of the host")]
    // SAFETY: the host is built from this repository and exports this type.
    let main = unsafe { library.get::<Main>(INTERPRETER_MAIN.as_bytes()) }
        .map_err(|source| HostError::NoEntry { path: host.to_owned(), source })?;
    Ok(Entry(*main))
}

/// Opens a library for the rest of the process's life: `CPython` cannot be
/// unloaded, and its exit handlers run after our last return.
fn open(path: &Path, flags: c_int) -> Result<ManuallyDrop<Library>, HostError> {
    #[expect(unsafe_code, reason = "loading a library runs its initializers")]
    // SAFETY: the operator names the libraries; their initializers expect
    // nothing of us, and no other thread runs yet.
    let library = unsafe { Library::open(Some(path), flags) }
        .map_err(|source| HostError::Load { path: path.to_owned(), source })?;
    Ok(ManuallyDrop::new(library))
}
