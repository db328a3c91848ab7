//! What signals do: handlers, the mask, the timer.

use std::ffi::c_int;
use std::io::Error;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::{from_mut, from_ref, null, null_mut};

use pyo3::prelude::*;

use super::Look;

/// Signals whose handlers Python programs change, those that they change most
/// first.
const SIGNALS: [c_int; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGHUP,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGPIPE,
];

/// So many of them are looked at each time.
const QUICK_SIGNALS: usize = 4;

/// Handlers of a task that may want to run before its own are gone.
const LAST_WORDS: usize = 4;

/// How signals were dealt with.
pub(super) struct Signals {
    handlers: Vec<Handler>,
    mask: u64,
    /// No timer ran that ends in a `SIGALRM`.
    timer_is_off: bool,
    /// `_signal.getsignal` and `_signal.signal`.
    get: Py<PyAny>,
    set: Py<PyAny>,
    stacks: Stacks,
}

struct Handler {
    signal: c_int,
    action: libc::sigaction,
    /// Python's own idea of it; the action is the same for all its handlers.
    python: Py<PyAny>,
    is_pythons: bool,
}

/// How stacks are printed.
struct Stacks {
    descriptor: RawFd,
    /// Functions of `faulthandler`.
    is_enabled: Py<PyAny>,
    enable: Py<PyAny>,
    register: Py<PyAny>,
    were_enabled: bool,
}

impl Signals {
    pub(super) fn take(py: Python<'_>, stacks: RawFd) -> PyResult<Self> {
        let module = py.import("_signal")?;
        let (get, set) = (module.getattr("getsignal")?, module.getattr("signal")?);
        let handler = |signal| {
            let python = get.call1((signal,))?;
            let is_pythons = python.is_callable();
            Ok(Handler { signal, action: action(signal)?, python: python.unbind(), is_pythons })
        };
        Ok(Self {
            handlers: SIGNALS.into_iter().map(handler).collect::<PyResult<_>>()?,
            mask: mask(),
            timer_is_off: timer_is_off(),
            stacks: Stacks::take(py, stacks)?,
            get: get.unbind(),
            set: set.unbind(),
        })
    }

    pub(super) fn restore(&self, py: Python<'_>, look: Look) -> PyResult<()> {
        // Before its handler is gone: else the signal would end the worker.
        if self.timer_is_off {
            stop_timer();
        }
        for _ in 0..LAST_WORDS {
            if py.check_signals().is_ok() {
                break;
            }
        }
        let thorough = look >= Look::Thorough;
        let count = if thorough { SIGNALS.len() } else { QUICK_SIGNALS };
        for handler in self.handlers.iter().take(count) {
            if !self.is_unchanged(py, handler)? {
                self.put_back(py, handler)?;
            }
        }
        if mask() != self.mask {
            drop_held_back();
            set_mask(self.mask);
        }
        if thorough { self.stacks.restore(py) } else { Ok(()) }
    }

    fn is_unchanged(&self, py: Python<'_>, handler: &Handler) -> PyResult<bool> {
        let now = action(handler.signal)?;
        let same = now.sa_sigaction == handler.action.sa_sigaction
            && now.sa_flags == handler.action.sa_flags;
        // Handlers in Python are all one to C.
        let python = || self.get.bind(py).call1((handler.signal,));
        Ok(same && (!handler.is_pythons || python()?.is(&handler.python)))
    }

    fn put_back(&self, py: Python<'_>, handler: &Handler) -> PyResult<()> {
        if handler.signal == libc::SIGUSR1 {
            self.stacks.register(py)?;
        }
        if !handler.python.is_none(py) {
            self.set.bind(py).call1((handler.signal, &handler.python))?;
        }
        // Exactly as it was: Python may not know of a handler in C.
        set_action(handler.signal, &handler.action)?;
        Ok(())
    }
}

impl Stacks {
    fn take(py: Python<'_>, descriptor: RawFd) -> PyResult<Self> {
        let module = py.import("faulthandler")?;
        let function = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.unbind());
        let is_enabled = function("is_enabled")?;
        Ok(Self {
            descriptor,
            were_enabled: is_enabled.bind(py).call0()?.is_truthy()?,
            is_enabled,
            enable: function("enable")?,
            register: function("register")?,
        })
    }

    fn restore(&self, py: Python<'_>) -> PyResult<()> {
        if self.were_enabled && !self.is_enabled.bind(py).call0()?.is_truthy()? {
            self.enable.bind(py).call1((self.descriptor, true))?;
        }
        Ok(())
    }

    fn register(&self, py: Python<'_>) -> PyResult<()> {
        self.register.bind(py).call1((libc::SIGUSR1, self.descriptor, true, false)).map(drop)
    }
}

#[expect(unsafe_code, reason = "sigaction")]
fn action(signal: c_int) -> Result<libc::sigaction, Error> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the kernel fills the structure, of which all zeros are valid too.
    let (done, action) = unsafe {
        let done = libc::sigaction(signal, null(), action.as_mut_ptr());
        (done, action.assume_init())
    };
    if done == 0 { Ok(action) } else { Err(Error::last_os_error()) }
}

#[expect(unsafe_code, reason = "sigaction")]
fn set_action(signal: c_int, action: &libc::sigaction) -> Result<(), Error> {
    // SAFETY: the action has been in force before, and code is never unloaded.
    let done = unsafe { libc::sigaction(signal, from_ref(action), null_mut()) };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// The signals that this thread holds back, as the kernel writes them.
fn mask() -> u64 {
    let mut mask = 0_u64;
    #[expect(unsafe_code, reason = "the C library's own form cannot be compared")]
    // SAFETY: changes nothing, and fills as many bytes as said.
    unsafe {
        let (how, size) = (libc::SIG_SETMASK, size_of::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, how, null::<u64>(), from_mut(&mut mask), size);
    }
    mask
}

fn set_mask(mask: u64) {
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: reads as many bytes as said.
    unsafe {
        let (how, size) = (libc::SIG_SETMASK, size_of::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, how, from_ref(&mask), null_mut::<u64>(), size);
    }
}

/// Forgets the signals that came while a task held them back: its handlers for
/// them are gone, and without one most would end the worker.
#[expect(unsafe_code, reason = "a set of signals in the C library's form")]
fn drop_held_back() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set is made empty first, and the call does not wait. It takes
    // one signal at a time, and each only once.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        for _ in SIGNALS {
            if libc::sigtimedwait(set.as_ptr(), null_mut(), from_ref(&at_once)) < 0 {
                break;
            }
        }
    }
}

#[expect(unsafe_code, reason = "getitimer")]
fn timer_is_off() -> bool {
    let mut timer = MaybeUninit::<libc::itimerval>::zeroed();
    // SAFETY: the kernel fills the structure, of which all zeros are valid too.
    let timer = unsafe {
        libc::getitimer(libc::ITIMER_REAL, timer.as_mut_ptr());
        timer.assume_init()
    };
    timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0
}

#[expect(unsafe_code, reason = "setitimer")]
fn stop_timer() {
    // SAFETY: all zeros are valid, and mean that the timer is off.
    unsafe {
        let off = MaybeUninit::<libc::itimerval>::zeroed().assume_init();
        libc::setitimer(libc::ITIMER_REAL, from_ref(&off), null_mut());
    }
}
