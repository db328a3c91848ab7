//! What the host process was started with.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::RawFd;
use std::sync::OnceLock;

use clutch_sandbox::Sandbox;

/// The entry's arguments.
#[derive(Debug)]
pub(crate) struct Options {
    /// The environment's executable.
    pub(crate) python: CString,
    /// The control line, owned by whoever first asks for the options.
    pub(crate) control_fd: RawFd,
    /// The process that must be the parent of zygote and workers.
    pub(crate) agent_pid: u32,
    /// Most bytes of a frame's payload.
    pub(crate) max_payload_bytes: u64,
    /// Modules to import ahead.
    pub(crate) warm: Vec<String>,
    /// What workers are kept from.
    pub(crate) sandbox: Sandbox,
}

// The way from the C entry through CPython to `serve`, which takes no
// arguments: text in a program would need quoting.
static OPTIONS: OnceLock<Options> = OnceLock::new();

impl Options {
    /// Reads python, control descriptor, agent, payload bound, the warm
    /// modules separated by commas, and the sandbox, in this order.
    ///
    /// # Safety
    /// `arguments` points to `count` C strings.
    #[expect(unsafe_code, reason = "the arguments come from C")]
    pub(crate) unsafe fn parse(count: c_int, arguments: *const *const c_char) -> Option<Self> {
        let argument = |index: usize| {
            // SAFETY: the index is below the count, checked by the caller.
            unsafe { CStr::from_ptr(*arguments.add(index)) }
        };
        if count != 6 || arguments.is_null() {
            return None;
        }
        let text = |index| argument(index).to_str().ok();
        Some(Self {
            python: argument(0).to_owned(),
            control_fd: text(1)?.parse().ok()?,
            agent_pid: text(2)?.parse().ok()?,
            max_payload_bytes: text(3)?.parse().ok()?,
            warm: text(4)?.split(',').filter(|name| !name.is_empty()).map(String::from).collect(),
            sandbox: text(5)?.parse().ok()?,
        })
    }

    /// Makes the options known to [`Options::published`].
    pub(crate) fn publish(self) -> Result<(), Self> {
        OPTIONS.set(self)
    }

    /// The options of this process.
    pub(crate) fn published() -> Option<&'static Self> {
        OPTIONS.get()
    }
}
