//! The one runtime of this process, and who runs it.
//!
//! It has one thread at a time: a thread that waits for outcomes runs it
//! itself, so that an outcome costs no hand-off; while nobody waits, a thread of
//! its own does. The two pass it on like a baton.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

/// How long the runtime may rest after a waiting thread left: joblib is about
/// to come back. Then the runtime's own thread takes over.
pub(crate) const GRACE: Duration = Duration::from_millis(1);

/// How long a thread waits at most before it is let go, to look after other
/// things, such as signals.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a waiting thread stays before the runtime's own thread sleeps
/// until it is told, rather than looking again and again.
const SETTLED: Duration = Duration::from_millis(20);

/// The runtime with its baton.
pub(crate) struct Network {
    /// The process that it is in: the own thread is not in a forked child.
    pid: u32,
    runtime: Runtime,
    baton: Mutex<Baton>,
    /// Tells the own thread to look again.
    look: Condvar,
    /// Has the own thread let go of the runtime.
    make_way: Notify,
    /// Lets the waiting threads go. One clock for all of them: a timer for each
    /// wait would cost as much as the wait.
    time_is_over: Notify,
    clock: Clock,
}

/// What lets waiting threads go, while there are any.
#[derive(Debug, Default)]
struct Clock {
    /// Somebody waited since it last looked.
    wanted: AtomicBool,
    stopped: AtomicBool,
    start: Notify,
}

/// Who runs the runtime.
#[derive(Debug)]
struct Baton {
    runner: Runner,
    /// The own thread sleeps until it is told.
    asleep: bool,
    /// Tasks to wake when somebody runs it again.
    wakers: Vec<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum Runner {
    /// The own thread.
    Own,
    /// Threads that wait for outcomes: how many, and since when there are any.
    Waiting { threads: usize, since: Instant },
    /// Nobody; the last waiting thread left then.
    Nobody { since: Instant },
}

// Never freed, and replaced after a fork: no lock that another thread could
// have held at that moment.
static NETWORK: AtomicPtr<Network> = AtomicPtr::new(ptr::null_mut());

/// The runtime of this process, started when it is first needed.
///
/// # Errors
/// When there can be no more threads or descriptors.
pub(crate) fn network() -> io::Result<&'static Network> {
    let current = NETWORK.load(Ordering::Acquire);
    if let Some(network) = of_this_process(current) {
        return Ok(network);
    }
    let network = Box::into_raw(Box::new(Network {
        pid: std::process::id(),
        runtime: Builder::new_current_thread().enable_all().build()?,
        baton: Mutex::new(Baton { runner: Runner::Own, asleep: false, wakers: Vec::new() }),
        look: Condvar::new(),
        make_way: Notify::new(),
        time_is_over: Notify::new(),
        clock: Clock::default(),
    }));
    let published = NETWORK.compare_exchange(current, network, Ordering::AcqRel, Ordering::Acquire);
    // When another thread was faster, ours is left unused; it costs little.
    let winner = published.map_or_else(|winner| winner, |_| network);
    let network =
        of_this_process(winner).ok_or_else(|| io::Error::other("the process forked meanwhile"))?;
    if published.is_ok() {
        let own = std::thread::Builder::new().name("clutch-network".to_owned());
        own.spawn(|| network.run()).inspect_err(|_| {
            // Whoever needs it next tries again.
            NETWORK.store(ptr::null_mut(), Ordering::Release);
        })?;
        network.handle().spawn(network.tick());
    }
    Ok(network)
}

#[expect(unsafe_code, reason = "a static that outlives everything")]
fn of_this_process(network: *mut Network) -> Option<&'static Network> {
    // SAFETY: null, or made by `Box::into_raw` above and never freed or written.
    let network = unsafe { network.as_ref() }?;
    (network.pid == std::process::id()).then_some(network)
}

impl Network {
    /// To start tasks with.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Waits for something that the network brings, and runs the network
    /// meanwhile.
    pub(crate) fn wait<F: Future>(&self, something: F) -> F::Output {
        let wakers = self.enter();
        let output = self.runtime.block_on(async {
            // Here, on the thread that runs it, waking costs no system call.
            wakers.into_iter().for_each(Waker::wake);
            something.await
        });
        self.leave();
        output
    }

    /// Like [`Network::wait`], for [`PATIENCE`] at most.
    pub(crate) fn wait_a_while(&self, something: impl Future<Output = ()>) {
        self.clock.wanted.store(true, Ordering::Release);
        if self.clock.stopped.swap(false, Ordering::AcqRel) {
            self.clock.start.notify_one();
        }
        self.wait(async {
            tokio::select! {
                biased;
                () = something => {}
                () = self.time_is_over.notified() => {}
            }
        });
    }

    /// Lets waiting threads go from time to time; rests while there are none.
    async fn tick(&self) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            self.time_is_over.notify_waiters();
            if !self.clock.wanted.swap(false, Ordering::AcqRel) {
                self.clock.stopped.store(true, Ordering::Release);
                // One that came just now found it running.
                if !self.clock.wanted.load(Ordering::Acquire) {
                    self.clock.start.notified().await;
                }
                self.clock.stopped.store(false, Ordering::Release);
            }
        }
    }

    /// Has a task run: soon when somebody runs the runtime, else when somebody
    /// does, which is a moment away. So what a thread says between two waits
    /// is sent together.
    pub(crate) fn wake(&self, waker: Waker) {
        let mut baton = self.lock();
        if matches!(baton.runner, Runner::Nobody { .. }) {
            baton.wakers.push(waker);
        } else {
            drop(baton);
            waker.wake();
        }
    }

    /// The own thread's life.
    fn run(&self) {
        loop {
            self.runtime.block_on(self.make_way.notified());
            let wakers = self.rest();
            let _inside = self.runtime.enter();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until nobody has run it for a while.
    fn rest(&self) -> Vec<Waker> {
        let mut baton = self.lock();
        loop {
            let patience = match baton.runner {
                Runner::Own => Duration::ZERO,
                Runner::Nobody { since } => GRACE.saturating_sub(since.elapsed()),
                Runner::Waiting { since, .. } if since.elapsed() < SETTLED => GRACE,
                Runner::Waiting { .. } => Duration::MAX,
            };
            if patience.is_zero() {
                baton.runner = Runner::Own;
                return std::mem::take(&mut baton.wakers);
            }
            baton.asleep = patience == Duration::MAX;
            baton = match self.look.wait_timeout(baton, patience) {
                Ok((baton, _)) => baton,
                Err(poisoned) => poisoned.into_inner().0,
            };
            baton.asleep = false;
        }
    }

    fn enter(&self) -> Vec<Waker> {
        let mut baton = self.lock();
        let now = Instant::now();
        baton.runner = match baton.runner {
            Runner::Own => {
                self.make_way.notify_one();
                Runner::Waiting { threads: 1, since: now }
            }
            Runner::Nobody { .. } => Runner::Waiting { threads: 1, since: now },
            Runner::Waiting { threads, since } => Runner::Waiting { threads: threads + 1, since },
        };
        std::mem::take(&mut baton.wakers)
    }

    fn leave(&self) {
        let mut baton = self.lock();
        if let Runner::Waiting { threads, since } = baton.runner {
            baton.runner = if threads > 1 {
                Runner::Waiting { threads: threads - 1, since }
            } else {
                Runner::Nobody { since: Instant::now() }
            };
        }
        if baton.asleep {
            self.look.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Baton> {
        // Nothing here panics between two writes.
        self.baton.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A task that waits to be woken, and its waker.
    fn sleeper(network: &Network) -> (Waker, mpsc::Receiver<()>) {
        let (wakers, waker) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let mut polled = false;
        network.handle().spawn(async move {
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut polled, true) {
                    return Poll::Ready(());
                }
                wakers.send(context.waker().clone()).unwrap();
                Poll::Pending
            })
            .await;
            done.send(()).unwrap();
        });
        (waker.recv_timeout(PATIENCE).unwrap(), is_done)
    }

    #[test]
    fn the_own_thread_runs_what_nobody_waits_for() {
        let network = network().unwrap();
        let (waker, is_done) = sleeper(network);
        network.wait(std::future::ready(()));
        // Nobody runs it now, and nobody comes back.
        network.wake(waker);
        is_done.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn what_was_woken_between_two_waits_runs_in_the_second() {
        let network = network().unwrap();
        let (waker, is_done) = sleeper(network);
        network.wait(std::future::ready(()));
        network.wake(waker);
        network.wait(async {
            while is_done.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn many_threads_wait_at_once_and_take_turns() {
        let network = network().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for milliseconds in 0..20 {
                        let pause = Duration::from_millis(milliseconds % 3);
                        network.wait(async { tokio::time::sleep(pause).await });
                    }
                });
            }
        });
        let (waker, is_done) = sleeper(network);
        network.wake(waker);
        is_done.recv_timeout(PATIENCE).unwrap();
    }
}
