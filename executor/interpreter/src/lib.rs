//! The interpreter host: becomes `CPython`, then a zygote, and in its forked
//! children the workers.
//!
//! ```text
//! clutch_interpreter_main (entry)       C entry; turns the process into CPython
//!   └ python -c "…serve()" (serve)      imports ahead, then waits for orders
//!       ├ fork ── worker                setup, then batches until told to leave
//!       └ fork ── worker
//! ```
//!
//! A worker runs everything on one thread, on purpose: user code that forks
//! sees a process with one thread, and a batch costs no hand-off.

mod arguments;
mod baseline;
mod batch;
// One file for both that speak Python: its structure must never differ.
#[path = "../../../python-shim/native/src/buffer.rs"]
mod buffer;
mod clock;
mod code;
mod entry;
mod exception;
mod failure;
mod fork;
mod identity;
mod imports;
mod intermediate;
mod line;
mod nested;
mod options;
mod output;
mod pickling;
mod progress;
mod results;
mod rights;
mod saving;
mod serve;
mod setup;
mod threads;
mod toolbox;
mod usage;
mod warm;
mod worker;

/// What the `-c` program of the host process imports.
#[pyo3::pymodule]
mod clutch_interpreter {
    #[pymodule_export]
    use crate::serve::serve;
}
