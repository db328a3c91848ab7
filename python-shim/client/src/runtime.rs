//! The one thread of this process that does the network.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use tokio::runtime::{Builder, Handle};

struct Running {
    /// The process that the thread is in: a forked child has none.
    pid: u32,
    handle: Handle,
}

// Never freed, and replaced after a fork: no lock that another thread could
// have held at that moment.
static RUNNING: AtomicPtr<Running> = AtomicPtr::new(ptr::null_mut());

/// The runtime of this process, started when it is first needed.
///
/// # Errors
/// When there can be no more threads or descriptors.
pub(crate) fn handle() -> io::Result<Handle> {
    let current = RUNNING.load(Ordering::Acquire);
    if let Some(handle) = handle_of(current) {
        return Ok(handle);
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let running = Box::into_raw(Box::new(Running { pid: std::process::id(), handle }));
    let published = RUNNING.compare_exchange(current, running, Ordering::AcqRel, Ordering::Acquire);
    match published {
        Ok(_) => {
            std::thread::Builder::new()
                .name("clutch-network".to_owned())
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        }
        Err(_) => drop(runtime), // another thread was faster
    }
    let winner = RUNNING.load(Ordering::Acquire);
    handle_of(winner).ok_or_else(|| io::Error::other("the process forked meanwhile"))
}

#[expect(unsafe_code, reason = "a static that outlives everything")]
fn handle_of(running: *mut Running) -> Option<Handle> {
    // SAFETY: null, or made by `Box::into_raw` above and never freed or written.
    let running = unsafe { running.as_ref() }?;
    (running.pid == std::process::id()).then(|| running.handle.clone())
}
