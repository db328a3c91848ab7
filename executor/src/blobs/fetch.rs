//! Content that comes from other agents.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};

use super::blob::Blob;
use super::filling::{FillError, Filling};
use super::ledger::Digest;
use super::plan::Plan;
use super::store::Store;
use crate::failure::{Failure, Kind};

/// Contents that are fetched at once; others wait.
const MAX_FETCHES: usize = 32;

/// How long a source may take to say that it has the content.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long it may then be silent. Longer than a lost connection takes to be
/// noticed: a source that lives may itself wait for a slow driver.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// What is asked of another agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    /// Length of the whole.
    pub(crate) bytes: u64,
    /// First byte that is wanted.
    pub(crate) offset: u64,
}

/// Why another agent gives nothing, or no more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PeerError(pub(crate) String);

/// A content's bytes, in order.
pub(crate) type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, PeerError>> + Send>>;

/// What becomes of asking another agent.
pub(crate) type Asked = Pin<Box<dyn Future<Output = Result<Parts, PeerError>> + Send>>;

/// The other agents, by their addresses.
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    /// Asks one for a content.
    fn ask(&self, source: String, wanted: Wanted) -> Asked;
}

/// Why a content was not fetched.
#[derive(Debug, Clone)]
pub(super) enum Unfetched {
    /// No source has it.
    Nowhere,
    /// There is no room for it here.
    Refused(Failure),
}

type Outcome = Result<Blob, Unfetched>;

/// Somebody's wish for a content. The fetch goes on as long as there is one.
#[derive(Debug)]
pub(super) struct Interest {
    joint: Arc<Joint>,
}

/// One fetch, for everybody who wants the content.
#[derive(Debug)]
struct Joint {
    plan: Arc<Mutex<Plan>>,
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

/// All fetches of an agent.
#[derive(Debug)]
pub(super) struct Fetches {
    peers: Arc<dyn Peers>,
    room: Arc<Semaphore>,
    running: Mutex<HashMap<(Digest, u64), Weak<Joint>>>,
}

impl Fetches {
    pub(super) fn new(peers: Arc<dyn Peers>) -> Self {
        let room = Arc::new(Semaphore::new(MAX_FETCHES));
        Self { peers, room, running: Mutex::default() }
    }

    /// Begins a fetch, or joins the one that runs.
    pub(super) fn want(
        &self,
        store: &Store,
        digest: Digest,
        bytes: u64,
        sources: Vec<String>,
    ) -> Interest {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joint) = running.get(&(digest, bytes)).and_then(Weak::upgrade)
            && !joint.is_over()
        {
            lock(&joint.plan).add(sources);
            return Interest { joint };
        }
        let plan = Arc::new(Mutex::new(Plan::default()));
        lock(&plan).add(sources);
        let (told, outcome) = watch::channel(None);
        let fetch = Fetch {
            store: store.clone(),
            peers: Arc::clone(&self.peers),
            plan: Arc::clone(&plan),
            digest,
            bytes,
        };
        let room = Arc::clone(&self.room);
        let task = tokio::spawn(async move {
            let Ok(_one) = room.acquire_owned().await else { return };
            told.send_replace(Some(fetch.run().await));
        });
        let joint = Arc::new(Joint { plan, outcome, task: task.abort_handle() });
        running.retain(|_, joint| joint.strong_count() > 0);
        running.insert((digest, bytes), Arc::downgrade(&joint));
        Interest { joint }
    }
}

impl Interest {
    /// Waits for the content.
    pub(super) async fn outcome(self) -> Outcome {
        let mut outcome = self.joint.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Unfetched::Nowhere)),
            // The task is gone without a word.
            Err(_) => Err(Unfetched::Nowhere),
        }
    }
}

impl Joint {
    fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One fetch at work.
struct Fetch {
    store: Store,
    peers: Arc<dyn Peers>,
    plan: Arc<Mutex<Plan>>,
    digest: Digest,
    bytes: u64,
}

/// How a source's turn ended.
enum Turn {
    /// All bytes are there.
    Full(Filling),
    /// It broke off, with the room as far as it is good for the next one.
    Broke(Option<Filling>, PeerError),
}

impl Fetch {
    async fn run(&self) -> Outcome {
        let name = blake3::Hash::from_bytes(self.digest);
        let mut begun = None;
        loop {
            let next = lock(&self.plan).next();
            let Some(source) = next else { return Err(Unfetched::Nowhere) };
            let filling = match begun.take() {
                Some(filling) => filling,
                None => self.room().await?,
            };
            match self.turn(&source, filling).await.map_err(Unfetched::Refused)? {
                Turn::Full(filling) => match self.commit(filling).await {
                    Ok(blob) => return Ok(blob),
                    Err(failure) => {
                        let suspects = lock(&self.plan).mismatched();
                        let why = failure.message;
                        tracing::warn!(?suspects, %why, "other agents sent wrong content");
                    }
                },
                Turn::Broke(filling, why) => {
                    tracing::info!(source, content = %name, %why, "a source was given up");
                    let goes_on = lock(&self.plan).broke_off(filling.is_some());
                    begun = filling.filter(|_| goes_on);
                }
            }
        }
    }

    async fn room(&self) -> Result<Filling, Unfetched> {
        let filling = self.store.allocate(self.bytes, false).await;
        Ok(filling.map_err(Unfetched::Refused)?.announced(self.digest))
    }

    /// Takes what one source has of it.
    async fn turn(&self, source: &str, mut filling: Filling) -> Result<Turn, Failure> {
        let wanted = Wanted { digest: self.digest, bytes: self.bytes, offset: filling.written() };
        let asked = self.peers.ask(source.to_owned(), wanted);
        let mut parts = match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => return Ok(Turn::Broke(Some(filling), error)),
            Err(_) => return Ok(Turn::Broke(Some(filling), silent(ANSWER_WITHIN))),
        };
        let mut gave = false;
        while !filling.is_full() {
            let data = match timeout(PART_WITHIN, parts.next()).await {
                Ok(Some(Ok(data))) => data,
                Ok(Some(Err(error))) => return Ok(Turn::Broke(Some(filling), error)),
                Ok(None) => {
                    let early = PeerError("it ended before the content".to_owned());
                    return Ok(Turn::Broke(Some(filling), early));
                }
                Err(_) => return Ok(Turn::Broke(Some(filling), silent(PART_WITHIN))),
            };
            if !gave {
                gave = true;
                lock(&self.plan).gave(source.to_owned());
            }
            filling = match filling.write(data).await {
                Ok(filling) => filling,
                // It does not know the content, so what it gave is worth nothing.
                Err(error @ FillError::Length) => {
                    return Ok(Turn::Broke(None, PeerError(error.to_string())));
                }
                Err(FillError::Refused(failure)) => return Err(failure),
            };
        }
        Ok(Turn::Full(filling))
    }

    /// Off the runtime's threads: sealing may wait for the kernel.
    async fn commit(&self, filling: Filling) -> Result<Blob, Failure> {
        let digest = Some(self.digest);
        let committed = tokio::task::spawn_blocking(move || filling.commit(digest)).await;
        committed.unwrap_or_else(|error| Err(Failure::new(Kind::Internal, error.to_string())))
    }
}

fn lock(plan: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

fn silent(time: Duration) -> PeerError {
    PeerError(format!("it said nothing for {} seconds", time.as_secs()))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
