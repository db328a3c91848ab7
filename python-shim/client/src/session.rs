//! One lease on one agent. Once lost it stays lost; open another.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use clutch_access::{Access, Address};
use clutch_protocol::v1::{self, client_frame::Body};
use tokio::sync::Notify;

use crate::call::{Batch, Call, Ended, Ending, Leg};
use crate::courier::Couriers;
use crate::data_line::{DataError, DataLine};
use crate::handshake::{self, OpenError, Target};
use crate::link::Link;
use crate::office::Office;
use crate::outbox::{Bounds, Outbox, Outgoing};
use crate::output::Outputs;
use crate::reconnect::Whereabouts;
use crate::row::Agent;
use crate::upload::Named;
use crate::{conversation, upload};

/// How often somebody who waits is asked whether to go on.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The agent is not there any more.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Lost(pub String);

/// Why a blob did not reach the agent.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The agent is gone.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// The agent will not have it.
    #[error("{}", .0.message)]
    Refused(Box<v1::Failure>),
    /// It cannot be written, for example for want of memory.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<DataError> for BlobError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Broken(error) => Self::Lost(Lost(format!("its data line broke: {error}"))),
            DataError::Refused(failure) => Self::Refused(failure),
        }
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// As the agent is told it; its name, `call_id`, is not read.
    pub open: v1::OpenCall,
    /// Whether some thread will await its endings, most of the time.
    pub awaited: bool,
}

/// A driver's session. Safe to use from any thread; nothing but [`Session::open`] and
/// blobs waits for the network.
pub struct Session<T> {
    shared: Arc<Shared<T>>,
    opened: v1::SessionOpened,
}

/// What the threads of a driver and the network share.
pub(crate) struct Shared<T> {
    state: Mutex<State<T>>,
    /// The outbox, an upload or the agent itself changed.
    pub(crate) changed: Condvar,
    pub(crate) outputs: Arc<Outputs>,
    /// Its name where output waits.
    pub(crate) source: u64,
    /// As rows name it.
    pub(crate) agent: Arc<Agent>,
    pub(crate) slots: AtomicU32,
    /// A connection carries the session now, as far as we know.
    pub(crate) attached: AtomicBool,
    /// Set before any batch is submitted; empty where descriptors do not reach us.
    pub(crate) data_line: OnceLock<Arc<DataLine>>,
    /// How long the session outlives a connection that broke.
    pub(crate) silence: Duration,
    /// Says that the agent is lost to whoever tries to reach it again.
    pub(crate) over: Notify,
    /// Held while endings of a lost session are queued.
    losing: Mutex<()>,
    pub(crate) couriers: Arc<Couriers<T>>,
}

pub(crate) struct State<T> {
    pub(crate) outbox: Outbox,
    pub(crate) link: Link,
    /// Wakes the network when there is something to send.
    pub(crate) waker: Option<Waker>,
    pub(crate) open: HashMap<u64, Open<T>>,
    /// Offered blobs whose fate is not known, and what the agent said of them.
    pub(crate) offers: HashMap<u64, Option<v1::blob_state::State>>,
    last_id: u64,
    pub(crate) lost: Option<Lost>,
    /// The driver says no more.
    pub(crate) closed: bool,
}

/// A batch that was submitted and has not ended.
pub(crate) struct Open<T> {
    pub(crate) token: T,
    pub(crate) call: Arc<Call<T>>,
    pub(crate) number: u64,
    pub(crate) copy: bool,
    pub(crate) tasks: u32,
    pub(crate) losses: Vec<String>,
}

impl<T: Send + 'static> Session<T> {
    /// Opens a session; asks `go_on` every 100 ms whether to go on waiting. An agent
    /// on TCP wants to see `access`.
    ///
    /// # Errors
    /// When the agent cannot be reached, refuses, or `go_on` said no.
    pub fn open(
        office: &Office<T>,
        address: &Address,
        access: Option<&Access>,
        request: v1::OpenSessionRequest,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Self, OpenError> {
        let network = office.couriers.network();
        let target = Target::new(address, access);
        let target = target.map_err(|error| OpenError::Unreachable(error.to_string()))?;
        let mut opening = std::pin::pin!(handshake::open(&target, request));
        let (client, opened) = loop {
            let asked = async { tokio::time::timeout(ASK_INTERVAL, &mut opening).await };
            match network.wait(asked) {
                Ok(opened) => break opened?,
                Err(_) if go_on() => {}
                Err(_) => {
                    return Err(OpenError::Unreachable("CANCELLED: interrupted".to_owned()));
                }
            }
        };
        let bounds = Bounds {
            open_batches: opened.max_open_batches as usize,
            open_bytes: opened.max_session_bytes,
        };
        let silence = Duration::try_from_secs_f64(opened.silence_seconds).unwrap_or_default();
        let agent = Agent { address: address.to_string(), host: opened.host.clone() };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outbox: Outbox::new(bounds),
                link: Link::new(!silence.is_zero()),
                waker: None,
                open: HashMap::new(),
                offers: HashMap::new(),
                last_id: 0,
                lost: None,
                closed: false,
            }),
            changed: Condvar::new(),
            outputs: Arc::clone(&office.outputs),
            source: office.source(),
            agent: Arc::new(agent),
            slots: AtomicU32::new(opened.slots),
            attached: AtomicBool::new(true),
            data_line: OnceLock::new(),
            silence,
            over: Notify::new(),
            losing: Mutex::new(()),
            couriers: Arc::clone(&office.couriers),
        });
        let session_id = opened.session_id.clone();
        let whereabouts = Whereabouts { target: target.clone(), session_id };
        network.handle().spawn(conversation::converse(Arc::clone(&shared), client, whereabouts));
        if let Some(line) = DataLine::open(address, &opened.session_id) {
            shared.data_line.get_or_init(|| Arc::new(line));
        }
        Ok(Self { shared, opened })
    }

    /// What the agent said when it opened the session.
    pub fn opened(&self) -> &v1::SessionOpened {
        &self.opened
    }

    /// Batches that the agent runs at once, now.
    pub fn slots(&self) -> u32 {
        self.shared.slots.load(Ordering::Relaxed)
    }

    /// Whether what is submitted goes out now: not while a connection that broke is
    /// restored.
    pub fn is_attached(&self) -> bool {
        self.shared.attached.load(Ordering::Relaxed)
    }

    /// Why the agent is lost, when it is.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.lock().lost.clone()
    }

    /// Whether blobs go through shared memory.
    pub fn has_data_line(&self) -> bool {
        self.shared.data_line.get().is_some()
    }

    /// Describes workers; gives the profile's name, its own field is not read.
    pub fn define_profile(&self, mut profile: v1::DefineProfile) -> u64 {
        let mut state = self.shared.lock();
        let profile_id = state.next_id();
        profile.profile_id = profile_id;
        state.outbox.put_control(Body::DefineProfile(profile));
        self.shared.wake(state);
        profile_id
    }

    /// Opens a call.
    pub fn open_call(&self, options: CallOptions) -> (Arc<Call<T>>, Leg) {
        let call = Arc::new(Call::new(Arc::clone(&self.shared.couriers), options));
        let leg = self.open_leg(options.open);
        (call, leg)
    }

    /// Goes on with a call of another session, with the same options but for the
    /// profile and how many batches may run at once: its endings come to the call as
    /// those of the other session do.
    pub fn join_call(&self, call: &Call<T>, profile_id: u64, max_running: u32) -> Leg {
        self.open_leg(v1::OpenCall { profile_id, max_running, ..call.options.open })
    }

    fn open_leg(&self, open: v1::OpenCall) -> Leg {
        let mut state = self.shared.lock();
        let call_id = state.next_id();
        state.outbox.put_control(Body::OpenCall(v1::OpenCall { call_id, ..open }));
        // Its first batch wakes the network.
        Leg::new(call_id)
    }

    /// Runs a batch of a call; its ending comes to the call. When call or leg were
    /// closed meanwhile, that is its ending. False when the agent is lost: then
    /// there is no ending.
    #[must_use]
    pub fn submit(&self, call: &Arc<Call<T>>, leg: &Leg, token: T, batch: Batch) -> bool {
        let mut state = self.shared.lock();
        if call.closed.load(Ordering::Relaxed) || leg.closed.load(Ordering::Relaxed) {
            drop(state);
            call.push(Ended { token, ending: Ending::Withdrawn });
            return true;
        }
        if state.lost.is_some() {
            return false;
        }
        // Names grow in the order of sending, as the agent demands.
        let batch_id = state.next_id();
        let Batch { number, copy, tasks, payload, buffers, shared, losses } = batch;
        let call_id = leg.id;
        let frame =
            v1::SubmitBatch { batch_id, call_id, tasks, buffers, shared, ..Default::default() };
        state.outbox.put_batch(Outgoing { frame, payload });
        let call = Arc::clone(call);
        state.open.insert(batch_id, Open { token, call, number, copy, tasks, losses });
        self.shared.wake(state);
        true
    }

    /// Ends a call at once; its unfinished batches here are cancelled, and no session
    /// takes any more.
    pub fn close_call(&self, call: &Call<T>, leg: &Leg) {
        call.closed.store(true, Ordering::Relaxed);
        self.close_leg(leg);
    }

    /// Ends a call here; its unfinished batches here are cancelled.
    pub fn close_leg(&self, leg: &Leg) {
        let mut state = self.shared.lock();
        if leg.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let withdrawn = state.outbox.withdraw(leg.id);
        let close = v1::CloseCall { call_id: leg.id };
        state.outbox.put_control(Body::CloseCall(close));
        let unsent: Vec<_> = withdrawn.iter().filter_map(|id| state.open.remove(id)).collect();
        self.shared.wake(state);
        for batch in unsent {
            batch.call.push(Ended { token: batch.token, ending: Ending::Withdrawn });
        }
    }

    /// Copies bytes to the agent, for batches to use; gives the blob's name. Also
    /// gives the file that has them, where there is one and nobody can write to it
    /// any more: it outlives the agent.
    ///
    /// # Errors
    /// When the agent is lost or has no room.
    pub fn put(&self, content: &[u8], writable: bool) -> Result<(u64, Option<OwnedFd>), BlobError> {
        let blob_id = self.shared.lock().next_id();
        let Some(line) = self.shared.data_line.get() else {
            let sources = Vec::new();
            let named = (!writable).then(|| Named { digest: upload::digest(content), sources });
            upload::send(&self.shared, blob_id, content, named)?;
            return Ok((blob_id, None));
        };
        let file = upload::fill(line, blob_id, content, writable)?;
        Ok((blob_id, (!writable).then_some(file)))
    }

    /// Brings a content to the agent that others will have too; gives the blob's name.
    /// It does not leave this process when the agent gets it from another one. As
    /// soon as this has begun, the agent can be named to others as a source.
    ///
    /// # Errors
    /// When the agent is lost or has no room.
    pub fn put_named(&self, content: &[u8], named: Named) -> Result<u64, BlobError> {
        let blob_id = self.shared.lock().next_id();
        upload::send(&self.shared, blob_id, content, Some(named))?;
        Ok(blob_id)
    }

    /// Lets go of blobs.
    pub fn release(&self, blob_ids: Vec<u64>) {
        let mut state = self.shared.lock();
        if state.lost.is_none() {
            state.outbox.put_control(Body::ReleaseBlobs(v1::ReleaseBlobs { blob_ids }));
            self.shared.wake(state);
        }
    }

    /// Whether workers would open the same file by that path; false when that
    /// cannot be known.
    ///
    /// # Errors
    /// When the agent is lost.
    pub fn sees(&self, file: v1::SameFile) -> Result<bool, BlobError> {
        let Some(line) = self.shared.data_line.get() else { return Ok(false) };
        match line.sees(file) {
            Ok(same) => Ok(same),
            Err(DataError::Refused(_)) => Ok(false),
            Err(error @ DataError::Broken(_)) => Err(error.into()),
        }
    }

    /// Ends the session; what runs for it is killed.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        // First: an agent that answers at once is not the one who ended it.
        self.shared.lose("the driver closed the session".to_owned());
        self.shared.wake(self.shared.lock());
    }
}

impl<T> Shared<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing here panics between two writes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Tells the network that there is something to send.
    pub(crate) fn wake(&self, mut state: MutexGuard<'_, State<T>>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            self.couriers.network().wake(waker);
        }
    }

    /// The agent is gone; the first reason counts.
    pub(crate) fn lose(&self, reason: String) {
        // Whoever ends the couriers after this finds all endings queued, also
        // when another thread was first.
        let _losing = self.losing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(Lost(reason));
        self.over.notify_one();
        let orphans = std::mem::take(&mut state.open);
        drop(state);
        self.changed.notify_all();
        for Open { token, call, .. } in orphans.into_values() {
            call.push(Ended { token, ending: Ending::Lost });
        }
    }
}

impl<T> State<T> {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("opened", &self.opened).finish_non_exhaustive()
    }
}
