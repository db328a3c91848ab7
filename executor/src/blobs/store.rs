//! The books, and the contents that they are about.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::arrival::{Arrival, Room};
use super::blob::{Blob, Content, Pin};
use super::fetch::{Fetches, Peers};
use super::filling::Filling;
use super::ledger::{Digest, Granted, Ledger, Limits, Place, Usage};
use super::space;
use crate::failure::{Failure, Kind};
use crate::machine;
use crate::settings::BlobOptions;

/// Most blobs where the operating system sets no bound.
const MANY_BLOBS: usize = 1 << 20;

/// How far a request on the data line may be ahead of what its driver said on
/// its stream before.
const OVERTAKEN: Duration = Duration::from_millis(10);

/// How long a blob waits for the room of others that are about to go. An idle
/// worker lets go at once and a killed one within milliseconds; one that is
/// busy may take longer than it would take to write to disk.
const PATIENCE: Duration = Duration::from_millis(100);

/// All blobs of an agent. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: BlobOptions,
    state: Mutex<State>,
    /// Pins in memory that are about to be taken back.
    leaving: watch::Sender<usize>,
    /// Whether waiting for them paid last time.
    patient: AtomicBool,
    /// Tells of contents that are here or on their way.
    news: watch::Sender<()>,
    /// `None`: this agent knows no others.
    fetches: Option<Fetches>,
    begun: Instant,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Those that can be found by their digest.
    named: HashMap<u64, Arc<Content>>,
    /// Those that are on their way, by the digest that they will have.
    arriving: HashMap<Digest, Vec<Arrival>>,
}

impl Store {
    /// An empty store.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn new(options: BlobOptions) -> Self {
        Self::build(options, None)
    }

    /// An empty store that gets content from other agents.
    pub(crate) fn with_peers(options: BlobOptions, peers: Arc<dyn Peers>) -> Self {
        Self::build(options, Some(Fetches::new(peers)))
    }

    fn build(options: BlobOptions, fetches: Option<Fetches>) -> Self {
        let limits = Limits {
            memory_bytes: options.memory_bytes,
            spill_bytes: options.spill_bytes,
            blobs: most_blobs(),
        };
        let state =
            State { ledger: Ledger::new(limits), named: HashMap::new(), arriving: HashMap::new() };
        let (state, leaving) = (Mutex::new(state), watch::Sender::new(0));
        let patient = AtomicBool::new(true);
        let (news, begun) = (watch::Sender::new(()), Instant::now());
        let shared = Shared { options, state, leaving, patient, news, fetches, begun };
        Self { shared: Arc::new(shared) }
    }

    /// Room for a blob, to be filled.
    ///
    /// # Errors
    /// [`Kind::QuotaExceeded`] when it fits nowhere; [`Kind::Internal`] when
    /// the operating system refuses.
    pub(crate) async fn allocate(&self, bytes: u64, writable: bool) -> Result<Filling, Failure> {
        self.wait_for_room(bytes).await;
        let (pin, place) = self.enter(|ledger| ledger.grant(bytes))?;
        let store = self.clone();
        let create = move || space::create(place, bytes, &store.shared.options.spill_directory);
        let file = match place {
            Place::Memory => create()?,
            // Finding room on a disk may take its time.
            Place::Disk => tokio::task::spawn_blocking(create).await.map_err(|error| {
                Failure::new(Kind::Internal, format!("a file was not made: {error}"))
            })??,
        };
        Ok(Filling::new(pin, place, file, bytes, writable))
    }

    /// Waits while there is no room and others are about to go: what a driver
    /// lets go of at the end of one call is not yet unmapped everywhere when
    /// the next call begins.
    async fn wait_for_room(&self, bytes: u64) {
        let room = || self.state().ledger.has_room(bytes);
        if room() || !self.shared.patient.load(Ordering::Relaxed) {
            return;
        }
        let mut leaving = self.shared.leaving.subscribe();
        let told = leaving.wait_for(|left| *left > 0 || room());
        tokio::time::timeout(OVERTAKEN, told).await.map(drop).ok();
        let gone = leaving.wait_for(|left| *left == 0 || room());
        tokio::time::timeout(PATIENCE, gone).await.map(drop).ok();
        self.shared.patient.store(room(), Ordering::Relaxed);
    }

    /// The blob with that content, if it is here.
    pub(crate) fn lookup(&self, digest: &Digest) -> Option<Blob> {
        let mut state = self.state();
        let blob = state.ledger.find(digest)?;
        let content = state.named.get(&blob).cloned();
        drop(state);
        let pin = self.pin(blob);
        content.map(|content| Blob::new(pin, content))
    }

    /// Where contents are that are on their way with that digest.
    pub(super) fn arriving(&self, digest: &Digest) -> Vec<Arc<Room>> {
        let state = self.state();
        let arrivals = state.arriving.get(digest);
        arrivals.into_iter().flatten().filter_map(Arrival::room).collect()
    }

    /// Tells of contents that are here or on their way since.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.shared.news.subscribe()
    }

    pub(super) fn fetches(&self) -> Option<&Fetches> {
        self.shared.fetches.as_ref()
    }

    pub(super) fn is_in_memory(&self, blob: &Blob) -> bool {
        self.state().ledger.is_in_memory(blob.id())
    }

    /// Where results are to go now; `None`: to memory.
    pub(crate) fn spill_directory(&self) -> Option<&str> {
        let spills = self.state().ledger.spills();
        self.shared.options.spill_directory.to_str().filter(|_| spills)
    }

    /// How much is in use, and the bounds of it.
    pub(crate) fn usage(&self) -> (Usage, &BlobOptions) {
        (self.state().ledger.usage(), &self.shared.options)
    }

    /// Books what a worker made.
    pub(super) fn book(
        &self,
        file: OwnedFd,
        bytes: u64,
        place: Place,
        may_pass: bool,
    ) -> Result<Blob, Failure> {
        let (pin, _) = self.enter(|ledger| ledger.book(bytes, place, may_pass))?;
        Ok(Blob::new(pin, Arc::new(Content::new(Arc::new(file), bytes, false))))
    }

    /// Makes a blob one that can be found by its content.
    pub(super) fn name(&self, blob: u64, digest: Digest, content: &Arc<Content>) {
        let mut state = self.state();
        if state.ledger.name(blob, digest) {
            state.named.insert(blob, Arc::clone(content));
        }
        drop(state);
        self.shared.news.send_replace(());
    }

    /// Content that nobody may find any more.
    pub(super) fn disown(&self, blob: u64) {
        let mut state = self.state();
        state.ledger.disown(blob);
        let content = state.named.remove(&blob);
        drop(state);
        drop(content);
    }

    /// A content is on its way.
    pub(super) fn announce(&self, digest: Digest, arrival: Arrival) {
        self.state().arriving.entry(digest).or_default().push(arrival);
        self.shared.news.send_replace(());
    }

    /// A content is not on its way any more.
    pub(super) fn withdraw(&self, digest: &Digest, blob: u64) {
        let mut state = self.state();
        if let Some(arrivals) = state.arriving.get_mut(digest) {
            arrivals.retain(|arrival| arrival.blob() != blob);
            if arrivals.is_empty() {
                state.arriving.remove(digest);
            }
        }
    }

    /// Lets go of content that nobody has used for so long.
    pub(crate) fn expire(&self, age: Duration) {
        let Some(since) = self.shared.begun.elapsed().checked_sub(age) else { return };
        let mut state = self.state();
        let expired = state.ledger.expire(since);
        let gone: Vec<_> = expired.iter().filter_map(|blob| state.named.remove(blob)).collect();
        drop(state);
        drop(gone);
    }

    pub(super) fn unpin(&self, blob: u64) {
        let mut state = self.state();
        let now = self.shared.begun.elapsed();
        let gone = if state.ledger.unpin(blob, now) { state.named.remove(&blob) } else { None };
        // What is gone is closed when nobody waits for the books.
        drop(state);
        drop(gone);
    }

    /// Takes note that a blob is about to go; false when that makes no room in
    /// memory.
    pub(super) fn leaves(&self, blob: u64) -> bool {
        let counts = self.state().ledger.is_in_memory(blob);
        if counts {
            self.shared.leaving.send_modify(|leaving| *leaving += 1);
        }
        counts
    }

    pub(super) fn left(&self) {
        self.shared.leaving.send_modify(|leaving| {
            *leaving = leaving.saturating_sub(1);
            if *leaving == 0 {
                self.shared.patient.store(true, Ordering::Relaxed);
            }
        });
    }

    fn enter(
        &self,
        decide: impl FnOnce(&mut Ledger) -> Result<Granted, Failure>,
    ) -> Result<(Arc<Pin>, Place), Failure> {
        let mut state = self.state();
        let granted = decide(&mut state.ledger)?;
        let gone: Vec<_> =
            granted.evicted.iter().filter_map(|blob| state.named.remove(blob)).collect();
        drop(state);
        drop(gone);
        Ok((self.pin(granted.blob), granted.place))
    }

    fn pin(&self, blob: u64) -> Arc<Pin> {
        Arc::new(Pin { blob, store: self.clone(), leaving: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half of the descriptors that this process may have: the others are for
/// connections and workers.
fn most_blobs() -> usize {
    let files = machine::raise_open_files();
    files.and_then(|files| usize::try_from(files / 2).ok()).unwrap_or(MANY_BLOBS)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
