//! The process that becomes a zygote: loads libpython and the interpreter
//! host, and gives them the main thread.
//!
//! Nothing here speaks Python. The interpreter is chosen at run time, so it is
//! opened rather than linked.

mod library;
mod parent;
mod signals;
mod user;

use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clutch_sandbox::Sandbox;
pub use library::INTERPRETER_MAIN;

/// What a zygote is started with.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The environment's `libpythonX.Y.so`.
    pub libpython: PathBuf,
    /// The interpreter host, `libclutch_interpreter.so`.
    pub interpreter_library: PathBuf,
    /// The executable as the environment names it, for example
    /// `venv/bin/python`. Never started by the host: it gives the interpreter
    /// its identity.
    pub python: PathBuf,
    /// The zygote's end of its control line.
    pub control_fd: RawFd,
    /// Modules to import before the first fork.
    pub warm: Vec<String>,
    /// Most bytes that a frame to a worker may carry.
    pub max_payload_bytes: u64,
    /// The agent, which must be the parent.
    pub agent_pid: u32,
    /// Whom to become; `None`: nobody else.
    pub user: Option<HostUser>,
    /// What its workers are kept from.
    pub sandbox: Sandbox,
}

/// Another user than the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUser {
    /// The user's number.
    pub uid: u32,
    /// The number of the main group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// Why a process cannot become a zygote.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The agent died before this process could ask to die with it, or
    /// somebody else started it.
    #[error("the agent {expected} is not the parent, {found} is")]
    Orphan {
        /// The agent in the options.
        expected: u32,
        /// The parent, 0 when it is outside our process namespace.
        found: u32,
    },
    /// The kernel refused something that every zygote needs.
    #[error("cannot {what}")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// A shared library cannot be loaded.
    #[error("cannot load {}", path.display())]
    Load {
        /// Which.
        path: PathBuf,
        /// The dynamic linker's words.
        source: libloading::Error,
    },
    /// The interpreter host lacks its entry.
    #[error("{} has no entry {INTERPRETER_MAIN}", path.display())]
    NoEntry {
        /// Which.
        path: PathBuf,
        /// The dynamic linker's words.
        source: libloading::Error,
    },
    /// An option cannot be given to C.
    #[error("{value:?} holds a zero byte")]
    ZeroByte {
        /// Which.
        value: String,
    },
}

/// Runs the zygote, and in the forked children the workers, until their end.
///
/// Must be called on the main thread of a process that has no other thread.
///
/// # Errors
/// What keeps the interpreter from starting. What happens inside it is told on
/// the control line.
pub fn run(options: &HostOptions) -> Result<i32, HostError> {
    // First: the kernel forgets with whom to die when a process becomes another user.
    user::give_up_rights(options.user.as_ref())?;
    parent::die_with(options.agent_pid)?;
    parent::close_inherited(options.control_fd)?;
    signals::restore()?;
    let arguments = arguments(options)?;
    let entry = library::load(&options.libpython, &options.interpreter_library)?;
    Ok(entry.call(&arguments))
}

/// The options as the entry takes them; `executor/interpreter/src/options.rs`
/// reads them back.
fn arguments(options: &HostOptions) -> Result<Vec<CString>, HostError> {
    let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
    [
        path(&options.python),
        options.control_fd.to_string().into_bytes(),
        options.agent_pid.to_string().into_bytes(),
        options.max_payload_bytes.to_string().into_bytes(),
        options.warm.join(",").into_bytes(),
        options.sandbox.name().into(),
    ]
    .into_iter()
    .map(|value| {
        CString::new(value).map_err(|error| HostError::ZeroByte {
            value: String::from_utf8_lossy(&error.into_vec()).into_owned(),
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> HostOptions {
        HostOptions {
            libpython: "/nowhere/libpython3.so".into(),
            interpreter_library: "/nowhere/host.so".into(),
            python: "/venv/bin/python".into(),
            control_fd: 3,
            warm: vec!["numpy".into(), "scipy".into()],
            max_payload_bytes: 9,
            agent_pid: 1,
            user: None,
            sandbox: Sandbox::Processes,
        }
    }

    #[test]
    fn the_entry_is_given_the_options_in_order() {
        let arguments = arguments(&options()).unwrap();
        let texts: Vec<&str> = arguments.iter().map(|text| text.to_str().unwrap()).collect();
        assert_eq!(texts, ["/venv/bin/python", "3", "1", "9", "numpy,scipy", "processes"]);
    }

    #[test]
    fn a_zero_byte_is_named() {
        let options = HostOptions { warm: vec!["nu\0mpy".into()], ..options() };
        let error = arguments(&options).unwrap_err();
        assert_eq!(error.to_string(), "\"nu\\0mpy\" holds a zero byte");
    }

    #[test]
    fn a_process_whose_parent_is_not_the_agent_does_not_start() {
        let agent_pid = std::process::id();
        let error = run(&HostOptions { agent_pid, ..options() }).unwrap_err();
        assert!(matches!(error, HostError::Orphan { expected, .. } if expected == agent_pid));
    }
}
