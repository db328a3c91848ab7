//! One joblib call: what of it has ended and not yet been taken.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use clutch_protocol::v1;

use crate::courier::Couriers;
use crate::data_line::DataLine;
use crate::row::Rows;
use crate::runtime::{GRACE, Network};
use crate::session::{BlobError, CallOptions};

/// A batch to run.
#[derive(Debug, Default)]
pub struct Batch {
    /// The driver's own name of it.
    pub number: u64,
    /// Whether another agent has it already.
    pub copy: bool,
    /// Number of tasks.
    pub tasks: u32,
    /// The pickled tasks.
    pub payload: Bytes,
    /// Blobs that are the pickle's out-of-band buffers.
    pub buffers: Vec<v1::BlobUse>,
    /// Objects that the tasks refer to by their index.
    pub shared: Vec<v1::SharedObject>,
    /// How each agent was lost that had the batch before.
    pub losses: Vec<String>,
}

/// A batch that ended.
#[derive(Debug)]
pub struct Ended<T> {
    /// What the driver gave along.
    pub token: T,
    /// How it ended.
    pub ending: Ending,
}

/// How a batch ended.
#[derive(Debug)]
pub enum Ending {
    /// As the agent says.
    Outcome(Box<Outcome>),
    /// The call ended before the batch was sent.
    Withdrawn,
    /// The agent was lost, or the batch came after that.
    Lost,
    /// As the driver itself knows: it was posted.
    Posted,
}

/// What the agent says of a batch.
#[derive(Debug)]
pub struct Outcome {
    /// The results, or what went wrong.
    pub result: Result<Value, v1::Failure>,
    /// How long its tasks ran, in nanoseconds.
    pub ran_nanoseconds: u64,
    /// The worker; 0 when it never reached one.
    pub worker_pid: u32,
    /// How each agent was lost that had the batch before.
    pub losses: Vec<String>,
    /// Attempts before this one at the same agent, in order.
    pub earlier: Vec<v1::Attempt>,
}

/// The results of a batch.
#[derive(Debug)]
pub struct Value {
    /// The payload, in the pieces in which it came.
    pub pieces: Vec<Bytes>,
    /// Lengths of the pickles at its beginning, in bytes: those that were saved
    /// before the rest of the batch ran, then the last one.
    pub pickle_bytes: Vec<u64>,
    /// The last pickle's out-of-band buffers.
    pub buffers: Buffers,
}

/// Where the out-of-band buffers of a pickle are.
#[derive(Debug)]
pub enum Buffers {
    /// After the pickles, one after the other, with these lengths.
    Inline(Vec<u64>),
    /// In a blob to be fetched, each at the next multiple of 64 bytes.
    Blob {
        /// The blob.
        blob: ResultBlob,
        /// Their lengths.
        lengths: Vec<u64>,
    },
}

/// A result's blob at the agent that made it, whatever becomes of the call.
#[derive(Debug)]
pub struct ResultBlob {
    blob_id: u64,
    line: Option<Arc<DataLine>>,
}

impl ResultBlob {
    pub(crate) const fn new(blob_id: u64, line: Option<Arc<DataLine>>) -> Self {
        Self { blob_id, line }
    }

    /// Takes it over: a file that nobody writes any more.
    ///
    /// # Errors
    /// When the agent is lost, or does not have it.
    pub fn fetch(&self) -> Result<OwnedFd, BlobError> {
        let line = self.line.as_ref();
        let line = line.ok_or_else(|| std::io::Error::other("the session has no data line"))?;
        Ok(line.fetch(self.blob_id)?)
    }
}

/// A call, on one session or several, where it has a [`Leg`] each. Its endings come
/// from all of them, and are taken by whoever awaits them, or else by a courier; by one
/// thread at a time, in order.
pub struct Call<T> {
    /// As it was opened.
    pub(crate) options: CallOptions,
    /// Once it is set, and a session was locked after that, the session takes no more.
    pub(crate) closed: AtomicBool,
    network: &'static Network,
    /// Where it queues when a courier is to take its endings.
    couriers: Arc<Couriers<T>>,
    state: Mutex<State<T>>,
    rows: Mutex<Rows>,
}

/// A call as one session knows it.
#[derive(Debug)]
pub struct Leg {
    /// Its name there.
    pub(crate) id: u64,
    /// The session was told that it is over. Changes only while that is locked.
    pub(crate) closed: AtomicBool,
}

impl Leg {
    pub(crate) const fn new(id: u64) -> Self {
        Self { id, closed: AtomicBool::new(false) }
    }
}

struct State<T> {
    arrived: VecDeque<Ended<T>>,
    /// Some thread handles endings that it took.
    taken: bool,
    /// Counts how often handling was over, for those who wait for that.
    handled: u64,
    /// Threads that await endings, and how to wake them.
    awaiting: u32,
    wakers: Vec<Waker>,
    /// When the last of them left.
    left_at: Option<Instant>,
    /// A courier will look soon, or looks.
    queued: bool,
}

impl<T: Send + 'static> Call<T> {
    pub(crate) fn new(couriers: Arc<Couriers<T>>, options: CallOptions) -> Self {
        let network = couriers.network();
        let state = State {
            arrived: VecDeque::new(),
            taken: false,
            handled: 0,
            awaiting: 0,
            wakers: Vec::new(),
            // joblib first submits, then awaits.
            left_at: options.awaited.then(Instant::now),
            queued: false,
        };
        Self {
            options,
            closed: AtomicBool::new(false),
            network,
            couriers,
            state: Mutex::new(state),
            rows: Mutex::default(),
        }
    }

    /// Waits for endings, running the network meanwhile, and takes them all; the
    /// caller handles them and then says [`Call::handled`]. Comes back with none
    /// after 100 ms, or when another thread has handled some meanwhile.
    pub fn take(&self) -> VecDeque<Ended<T>> {
        let mut state = self.lock();
        let handled = state.handled;
        state.awaiting += 1;
        drop(state);
        let changed = std::future::poll_fn(|context| self.poll_changed(context, handled));
        self.network.wait_a_while(changed);
        let mut state = self.lock();
        state.awaiting -= 1;
        state.left_at = Some(Instant::now());
        if state.taken {
            return VecDeque::new();
        }
        state.take()
    }

    /// The endings taken last are handled.
    pub fn handled(self: &Arc<Self>) {
        let mut state = self.lock();
        state.taken = false;
        state.handled += 1;
        state.left_at = state.left_at.map(|_| Instant::now());
        self.see_to(state);
    }

    /// Where the time of its batches went, so far.
    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ending of the driver's own making.
    pub fn post(self: &Arc<Self>, token: T) {
        self.push(Ended { token, ending: Ending::Posted });
    }

    pub(crate) fn push(self: &Arc<Self>, ended: Ended<T>) {
        let mut state = self.lock();
        state.arrived.push_back(ended);
        self.see_to(state);
    }

    /// What a courier takes when its turn comes.
    pub(crate) fn take_by_courier(&self) -> VecDeque<Ended<T>> {
        let mut state = self.lock();
        state.queued = false;
        if state.taken || state.awaiting > 0 {
            // They see to it, and `handled` does when they are done.
            return VecDeque::new();
        }
        state.take()
    }

    fn poll_changed(&self, context: &mut Context<'_>, handled: u64) -> Poll<()> {
        let mut state = self.lock();
        if !state.taken && !state.arrived.is_empty() || state.handled != handled {
            return Poll::Ready(());
        }
        let waker = context.waker();
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Poll::Pending
    }

    /// Makes sure that somebody takes what arrived.
    fn see_to(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        if state.awaiting > 0 {
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        } else if !state.taken && !state.queued && !state.arrived.is_empty() {
            state.queued = true;
            let since = state.left_at.map_or(GRACE, |at| at.elapsed());
            drop(state);
            self.couriers.queue(Arc::clone(self), GRACE.saturating_sub(since));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing here panics between two writes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> VecDeque<Ended<T>> {
        self.taken = !self.arrived.is_empty();
        std::mem::take(&mut self.arrived)
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Call").finish_non_exhaustive()
    }
}
