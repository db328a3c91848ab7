//! What a process is to the kernel: its session, its parent, its descriptors.

use std::error::Error as _;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::process::{
    Pid, Signal, getpid, getppid, set_child_subreaper, set_parent_process_death_signal, setsid,
};

use crate::options::Options;
use crate::progress::ProgressPage;

/// Longest wait for the intermediate's end.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether it has ended.
const ADOPTION_POLL: Duration = Duration::from_micros(50);

/// The kernel's choice under memory pressure: a worker before the agent, whatever
/// score that inherited. It is the most there can be.
const OOM_SCORE_ADJUSTMENT: &str = "1000";

/// Descriptors that a worker keeps for itself begin here: tasks close and open
/// lower ones.
pub(crate) const FIRST_OWN: RawFd = 64;

/// A worker's place: what the agent gave it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its end of the task line.
    pub(crate) line: OwnedFd,
    /// Where it says what it runs.
    pub(crate) progress: ProgressPage,
    /// Standard error, where stacks are written to. Open as long as the worker
    /// lives, unless a task closes it.
    pub(crate) stacks: RawFd,
    /// The worker itself; a fork of it made by a task is somebody else.
    pub(crate) pid: Pid,
}

/// Makes this process the zygote.
pub(crate) fn become_zygote(py: Python<'_>) -> PyResult<()> {
    rustix::thread::set_name(c"clutch-zygote").map_err(Error::from)?;
    // Ctrl-C in the agent's terminal reaches its whole process group; what it
    // means is the agent's to decide.
    let signal = py.import("signal")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, signal.getattr("SIG_IGN")?))?;
    // 3.13 remembers our `-c` program as the source of every "<string>", and
    // would show it in the tracebacks of code that a task evaluates.
    py.import("linecache")?.call_method0("clearcache")?;
    // `-c` puts the working directory first; the agent's is nobody's choice.
    let path = py.import("sys")?.getattr("path")?;
    if path.get_item(0).is_ok_and(|first| first.eq("").unwrap_or(false)) {
        path.del_item(0)?;
    }
    Ok(())
}

/// Makes this just forked process a worker.
pub(crate) fn become_worker(
    py: Python<'_>,
    descriptors: Vec<OwnedFd>,
    options: &Options,
    intermediate: u32,
) -> PyResult<Seat> {
    let [line, stdout, stderr, page] = <[OwnedFd; 4]>::try_from(descriptors)
        .map_err(|_| PyOSError::new_err("a worker needs four descriptors"))?;
    // Errors from here on are read in the worker's own standard error.
    redirect(&stdout, &stderr)?;
    setsid().map_err(Error::from)?;
    die_with(options.agent_pid, intermediate)?;
    // What a task starts stays below its worker, also when what started it ends.
    set_child_subreaper(Some(getpid())).map_err(Error::from)?;
    rustix::thread::set_no_new_privs(true).map_err(Error::from)?;
    rustix::thread::set_name(c"clutch-worker").map_err(Error::from)?;
    rustix::io::ioctl_fionbio(&line, false).map_err(Error::from)?;
    // Refused in some containers; then the kernel chooses by size alone.
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT).ok();
    // Each worker by itself: what a zygote had entered would hold all of its
    // workers, who could reach each other in it.
    options.sandbox.enter().map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        PyOSError::new_err(format!("sandbox `{}`: {error}{cause}", options.sandbox))
    })?;
    let progress = ProgressPage::map(page)?;
    let stacks = become_worker_in_python(py)?;
    Ok(Seat { line, progress, stacks, pid: getpid() })
}

fn redirect(stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Error> {
    rustix::io::ioctl_fionbio(stdout, false)?;
    rustix::io::ioctl_fionbio(stderr, false)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

/// Waits until the agent is the parent, then asks to die with it.
fn die_with(agent_pid: u32, intermediate: u32) -> Result<(), Error> {
    let parent = || getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let begin = Instant::now();
    while parent() == intermediate {
        if begin.elapsed() > ADOPTION_TIMEOUT {
            return Err(ErrorKind::TimedOut.into());
        }
        std::thread::sleep(ADOPTION_POLL);
    }
    // The kernel forgets the request when the parent changes hands before, and
    // sends nothing when the agent died before: hence ask between two looks.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent() == agent_pid {
        return Ok(());
    }
    #[expect(unsafe_code, reason = "ending without exit handlers")]
    // SAFETY: ends the process. Without an agent nobody waits for a worker's
    // exit handlers, and nobody would end one that hangs in them.
    unsafe {
        libc::_exit(0)
    }
}

/// Ends a process that is not the worker: a task forked, and its child came
/// back to us. Two voices on one line would be the end of it.
pub(crate) fn leave_if_forked(py: Python<'_>, worker: Pid) {
    if getpid() != worker {
        crate::output::flush(py);
        #[expect(unsafe_code, reason = "ending without exit handlers")]
        // SAFETY: ends the process. Its exit handlers are the worker's, which
        // still needs what they would remove.
        unsafe {
            libc::_exit(0)
        }
    }
}

/// Says where stacks are written to.
fn become_worker_in_python(py: Python<'_>) -> PyResult<RawFd> {
    let signal = py.import("signal")?;
    let handler = signal.getattr("default_int_handler")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, handler))?;
    py.import("os")?.getattr("environ")?.set_item("CLUTCH_WORKER", "1")?;
    crate::output::line_buffered(py)?;
    let stacks = dump_stacks(py)?;
    reseed(py)?;
    Ok(stacks)
}

/// Stacks on a fatal signal and on SIGUSR1: written by C code, so also when
/// Python itself is stuck.
fn dump_stacks(py: Python<'_>) -> PyResult<RawFd> {
    // A descriptor of its own: a task may redirect standard error.
    let stderr = rustix::io::fcntl_dupfd_cloexec(std::io::stderr().as_fd(), FIRST_OWN);
    let stderr = stderr.map_err(Error::from)?.into_raw_fd();
    let faulthandler = py.import("faulthandler")?;
    faulthandler.call_method1("enable", (stderr, true))?;
    let user_signal = py.import("signal")?.getattr("SIGUSR1")?;
    faulthandler.call_method1("register", (user_signal, stderr, true, false))?;
    Ok(stderr)
}

/// Workers of one zygote must not draw the same numbers. `random` sees to
/// itself when forked; numpy's global generator does not.
fn reseed(py: Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(random) = modules.get_item("numpy.random") {
        random.call_method0("seed")?;
    }
    Ok(())
}
