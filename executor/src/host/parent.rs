//! The bond with the agent: a zygote without one is of no use to anybody.

use std::os::fd::RawFd;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::HostError;

/// Asks the kernel to kill this process when the agent dies.
pub(super) fn die_with(agent_pid: u32) -> Result<(), HostError> {
    be_child_of(agent_pid)?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| HostError::Kernel {
        what: "ask to be killed when the agent dies",
        source: error.into(),
    })?;
    // The agent may have died before the request; then nothing will come.
    be_child_of(agent_pid)
}

fn be_child_of(agent_pid: u32) -> Result<(), HostError> {
    let found = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if found == agent_pid { Ok(()) } else { Err(HostError::Orphan { expected: agent_pid, found }) }
}

/// Closes what was inherited by accident, before Python or a module of it can
/// own a descriptor. Every worker inherits what is open here.
pub(super) fn close_inherited(control_fd: RawFd) -> Result<(), HostError> {
    let control = control_fd.unsigned_abs();
    let ranges = [(3, control.saturating_sub(1)), (control + 1, u32::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        close_range(first, last)
            .map_err(|source| HostError::Kernel { what: "close inherited descriptors", source })?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "rustix does not offer close_range")]
fn close_range(first: u32, last: u32) -> Result<(), std::io::Error> {
    // SAFETY: the process has just started and owns no descriptor in the range:
    // its caller opens nothing before, and the control line is left out.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
