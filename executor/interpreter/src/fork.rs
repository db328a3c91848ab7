//! Forking a worker that is the agent's child, not the zygote's.
//!
//! The zygote makes an intermediate, which forks the worker and ends at once:
//! the worker is handed to the nearest subreaper, the agent. So workers outlive
//! their zygote, die with the agent, and the agent learns how they ended.

use std::io::Error;

use pyo3::Python;

pub(crate) use crate::intermediate::Forked;
use crate::intermediate::fork_through;

/// Forks a worker.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork_worker(_py: Python<'_>) -> Result<Forked, Error> {
    // SAFETY: attached to the interpreter, as the token shows. The process has
    // one thread, so the worker is as consistent as the zygote. Each process
    // calls the after-fork function that matches.
    unsafe {
        pyo3::ffi::PyOS_BeforeFork();
        let forked = fork_through();
        match forked {
            Ok(Forked::Worker { .. }) => pyo3::ffi::PyOS_AfterFork_Child(),
            Ok(Forked::Zygote { .. }) | Err(_) => pyo3::ffi::PyOS_AfterFork_Parent(),
        }
        forked
    }
}
