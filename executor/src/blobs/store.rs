//! The books, and the contents that they are about.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::blob::{Blob, Content, Pin};
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
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    /// Those that can be found by their digest.
    named: HashMap<u64, Arc<Content>>,
}

impl Store {
    /// An empty store.
    pub(crate) fn new(options: BlobOptions) -> Self {
        let limits = Limits {
            memory_bytes: options.memory_bytes,
            spill_bytes: options.spill_bytes,
            blobs: most_blobs(),
        };
        let state = State { ledger: Ledger::new(limits), named: HashMap::new() };
        let (state, leaving) = (Mutex::new(state), watch::Sender::new(0));
        let patient = AtomicBool::new(true);
        Self { shared: Arc::new(Shared { options, state, leaving, patient }) }
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
        Ok(Blob::new(pin, Arc::new(Content::new(file, bytes, false))))
    }

    /// Makes a blob one that can be found by its content.
    pub(super) fn name(&self, blob: u64, digest: Digest, content: &Arc<Content>) {
        let mut state = self.state();
        if state.ledger.name(blob, digest) {
            state.named.insert(blob, Arc::clone(content));
        }
    }

    pub(super) fn unpin(&self, blob: u64) {
        let mut state = self.state();
        let gone = if state.ledger.unpin(blob) { state.named.remove(&blob) } else { None };
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
