//! The zygote: imports ahead, then forks workers on request. It runs no user
//! code and starts no thread, because only then is forking safe.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use clutch_worker_link::{
    FromZygote, LinkError, ToZygote, receive_with_descriptors, send_with_descriptors,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::fork::{Forked, fork_worker};
use crate::identity;
use crate::imports::Imports;
use crate::options::Options;
use crate::toolbox::Toolbox;
use crate::{output, threads, warm, worker};

/// Descriptors that come with an order to fork.
const SEAT_DESCRIPTORS: usize = 4;

/// Serves until the agent closes the control line. Returns in the zygote and
/// in every worker it forked.
#[pyfunction]
pub(crate) fn serve(py: Python<'_>) -> PyResult<()> {
    let options = Options::published()
        .ok_or_else(|| PyRuntimeError::new_err("not started by the interpreter host"))?;
    identity::become_zygote(py)?;
    let installed = Imports::installed(py)?;
    let control = control_line(options)?;
    let warmed = warm::import_all(py, &options.warm)?;
    let toolbox = Toolbox::prepare(py)?;
    let hello = warm::hello(py, warmed)?;
    let imports = Imports::since_now(py, installed)?;
    warm::settle_memory(py)?;
    say(&control, &FromZygote::Hello(hello))?;

    let (descriptors, intermediate) = loop {
        let order = py.detach(|| receive_with_descriptors::<ToZygote>(&control));
        let (ToZygote::Spawn { worker }, descriptors) = match order {
            Ok(order) => order,
            Err(LinkError::Closed) => return Ok(()),
            Err(error) => return Err(broken(&error)),
        };
        // Anything still buffered here would be written by every child again.
        output::flush(py);
        let answer = match try_fork(py, &descriptors) {
            Ok(Forked::Worker { intermediate }) => break (descriptors, intermediate),
            Ok(Forked::Zygote { pid }) => FromZygote::Spawned { worker, pid },
            Err(Refusal { reason, errno, unsafe_to_fork }) => {
                FromZygote::Refused { worker, reason, errno, unsafe_to_fork }
            }
        };
        say(&control, &answer)?;
    };
    drop(control);
    let seat = identity::become_worker(py, descriptors, options, intermediate)?;
    worker::work(py, seat, &toolbox, imports, options.max_payload_bytes)
}

/// Why no worker was forked.
struct Refusal {
    reason: String,
    errno: Option<i32>,
    unsafe_to_fork: bool,
}

fn try_fork(py: Python<'_>, descriptors: &[OwnedFd]) -> Result<Forked, Refusal> {
    let passing = |reason| Refusal { reason, errno: None, unsafe_to_fork: false };
    if descriptors.len() != SEAT_DESCRIPTORS {
        let got = descriptors.len();
        return Err(passing(format!("expected {SEAT_DESCRIPTORS} descriptors, got {got}")));
    }
    // A lock held by another thread stays locked for ever in the child.
    let threads = threads::count().map_err(|error| passing(format!("no thread count: {error}")))?;
    if threads > 1 {
        let reason = format!("the zygote has {threads} threads, started by an imported module");
        return Err(Refusal { reason, errno: None, unsafe_to_fork: true });
    }
    fork_worker(py).map_err(|error| {
        let errno = error.raw_os_error();
        Refusal { errno, ..passing(format!("cannot fork: {error}")) }
    })
}

fn control_line(options: &Options) -> PyResult<UnixStream> {
    #[expect(unsafe_code, reason = "the descriptor arrives as a number")]
    // SAFETY: the agent left this descriptor to this process for exactly this
    // use, and `serve` runs once.
    let control = unsafe { UnixStream::from_raw_fd(options.control_fd) };
    control.set_nonblocking(false)?;
    Ok(control)
}

fn say(control: &UnixStream, message: &FromZygote) -> PyResult<()> {
    send_with_descriptors(control, message, &[]).map_err(|error| broken(&error))
}

fn broken(error: &LinkError) -> PyErr {
    PyRuntimeError::new_err(format!("control line: {error}: {error:?}"))
}
