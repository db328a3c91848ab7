//! Forking a worker that is the agent's child, not the zygote's.
//!
//! The zygote forks an intermediate, which forks the worker and ends at once:
//! the worker is handed to the nearest subreaper, the agent. So workers outlive
//! their zygote, die with the agent, and the agent learns how they ended.

use std::io::{Error, ErrorKind, PipeReader, PipeWriter, Read, Write};

use pyo3::Python;

/// Where one is after the fork.
pub(crate) enum Forked {
    /// In the zygote.
    Zygote {
        /// The worker.
        pid: u32,
    },
    /// In the worker.
    Worker {
        /// The parent until it has ended; then the agent is.
        intermediate: u32,
    },
}

/// Forks a worker.
#[expect(unsafe_code, reason = "fork")]
pub(crate) fn fork_worker(_py: Python<'_>) -> Result<Forked, Error> {
    let (answer, answering) = std::io::pipe()?;
    // SAFETY: attached to the interpreter, as the token shows. The process has
    // one thread, so the child is as consistent as the parent. Every path
    // below calls the matching after-fork function or ends the process.
    let first = unsafe {
        pyo3::ffi::PyOS_BeforeFork();
        libc::fork()
    };
    if first == 0 {
        return Ok(in_intermediate(answer, answering));
    }
    let failed = Error::last_os_error();
    drop(answering);
    let outcome = if first < 0 { Err(failed) } else { worker_of(first, answer) };
    // SAFETY: still attached; pairs with PyOS_BeforeFork in this process.
    unsafe { pyo3::ffi::PyOS_AfterFork_Parent() };
    outcome
}

/// Runs in the intermediate until it forked; returns only in the worker.
#[expect(unsafe_code, reason = "fork")]
fn in_intermediate(answer: PipeReader, mut answering: PipeWriter) -> Forked {
    let intermediate = std::process::id();
    // SAFETY: the only thread of a just forked process.
    let second = unsafe { libc::fork() };
    if second == 0 {
        drop((answer, answering));
        // SAFETY: attached as the forking thread was; pairs with the
        // PyOS_BeforeFork that ran in the zygote.
        unsafe { pyo3::ffi::PyOS_AfterFork_Child() };
        return Forked::Worker { intermediate };
    }
    // A failure is told as its negated errno.
    let told = if second > 0 {
        second
    } else {
        -Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)
    };
    let written = answering.write_all(&told.to_ne_bytes());
    // SAFETY: ends the process without running any handler of the zygote's.
    unsafe { libc::_exit(i32::from(written.is_err())) }
}

/// Waits for the intermediate and learns the worker's process id from it.
fn worker_of(intermediate: libc::pid_t, mut answer: PipeReader) -> Result<Forked, Error> {
    let mut told = [0; 4];
    let read = answer.read_exact(&mut told);
    reap(intermediate)?;
    read?;
    let told = i32::from_ne_bytes(told);
    match u32::try_from(told) {
        Ok(pid) if pid > 0 => Ok(Forked::Zygote { pid }),
        _ => Err(Error::from_raw_os_error(told.saturating_neg())),
    }
}

#[expect(unsafe_code, reason = "waitpid by number")]
fn reap(child: libc::pid_t) -> Result<(), Error> {
    loop {
        // SAFETY: a null status is allowed.
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == child {
            return Ok(());
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
