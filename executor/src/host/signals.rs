//! Signal handlers that this process must not pass on to Python.

use libc::{SIG_DFL, SIG_ERR, SIGBUS, SIGSEGV, c_int};

use super::HostError;

/// Undoes what the Rust runtime did to find stack overflows. Its handlers
/// return from the first SIGSEGV that somebody sent with `kill`, so that
/// faulthandler, which hands on to them, would let a crashed worker live.
pub(super) fn restore() -> Result<(), HostError> {
    for signal in [SIGSEGV, SIGBUS] {
        restore_one(signal)
            .map_err(|source| HostError::Kernel { what: "restore a signal's default", source })?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "no safe wrapper sets a signal's default")]
fn restore_one(signal: c_int) -> Result<(), std::io::Error> {
    // SAFETY: the default is no function that could be unsafe to run, and no
    // other thread runs yet.
    let before = unsafe { libc::signal(signal, SIG_DFL) };
    if before == SIG_ERR { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
