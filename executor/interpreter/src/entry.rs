//! The C entry: this process becomes `CPython`.

use std::ffi::{CString, c_char, c_int};
use std::panic::catch_unwind;

use crate::clutch_interpreter;
use crate::options::Options;

/// What the interpreter runs. Kept trivial: everything else is compiled.
const PROGRAM: &str = "import clutch_interpreter; clutch_interpreter.serve()";

/// Exit code for arguments that this host does not understand.
const EXIT_USAGE: c_int = 64;

/// Exit code when the host itself failed.
const EXIT_SOFTWARE: c_int = 70;

/// Becomes the interpreter and returns its exit code. The arguments are those
/// of [`Options::parse`].
///
/// # Safety
/// `arguments` points to `count` C strings that outlive the call. Must be
/// called once, on the main thread, with libpython loaded globally.
#[expect(unsafe_code, reason = "the entry is found by name in a loaded library")]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clutch_interpreter_main(
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: as promised by the caller.
    let parsed = unsafe { Options::parse(count, arguments) };
    let Some(options) = parsed else { return EXIT_USAGE };
    // Unwinding must not reach the caller, which is C as far as it knows.
    catch_unwind(|| become_interpreter(options)).unwrap_or(EXIT_SOFTWARE)
}

fn become_interpreter(options: Options) -> c_int {
    let python = options.python.clone();
    if options.publish().is_err() {
        return EXIT_USAGE;
    }
    let Ok(program) = CString::new(PROGRAM) else { return EXIT_SOFTWARE };
    #[expect(unsafe_code, reason = "starting CPython")]
    // SAFETY: the interpreter is not running yet (this entry is called once)
    // and the arguments outlive the call. CPython copies what it keeps and
    // does not write through the pointers.
    unsafe {
        pyo3::append_to_inittab!(clutch_interpreter);
        // Py_BytesMain rather than Py_Initialize: with the environment's own
        // executable as argument 0, sys.prefix, sys.executable and site come
        // out as if that executable had been started.
        let mut arguments =
            [python.as_ptr().cast_mut(), c"-c".as_ptr().cast_mut(), program.as_ptr().cast_mut()];
        pyo3::ffi::Py_BytesMain(3, arguments.as_mut_ptr())
    }
}
