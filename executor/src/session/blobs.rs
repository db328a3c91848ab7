//! The blobs of one session: what it offered, filled and was given.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clutch_worker_link::{Access, BufferUse, SharedObject};
use tokio::sync::{Semaphore, watch};

use super::inbox::Violation;
use super::offers::{Answers, MAX_SEARCHES, Offered, Search};
use crate::blobs::{BatchBlobs, Blob, Digest, FillError, Filling, Held, Releases, Store};
use crate::failure::{Failure, Kind};

/// Most blobs that a session may have at once.
const MAX_BLOBS: usize = 1 << 16;

/// Blobs of results have numbers from here on, chosen by the agent; a driver's
/// are below.
pub(crate) const FIRST_RESULT: u64 = 1 << 63;

/// What a batch names, as the driver says it.
#[derive(Debug, Default)]
pub(crate) struct BlobUses {
    pub(crate) buffers: Vec<(u64, Access)>,
    /// Pickle and buffers of each shared object.
    pub(crate) shared: Vec<(u64, Vec<(u64, Access)>)>,
}

/// The table. Everything in it goes with the session.
#[derive(Debug)]
pub(crate) struct SessionBlobs {
    pub(super) store: Store,
    /// Where to say what becomes of offers; `None`: nobody listens yet.
    pub(super) answers: Mutex<Option<Answers>>,
    /// Searches that may still begin.
    pub(super) searches: Arc<Semaphore>,
    table: Mutex<Table>,
    released: Arc<watch::Sender<()>>,
    lines: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    blobs: HashMap<u64, Slot>,
    results: HashMap<u64, Blob>,
    last_result: u64,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// The store looks for room, or takes bytes, at this moment.
    Busy,
    /// The driver fills it through its descriptor.
    Filling(Filling),
    /// Its content is looked for.
    Searching(Search),
    /// The driver sends its bytes.
    Uploading(Filling, Option<Digest>),
    /// Batches may use it.
    Present(Held),
    /// The driver was told that there is none.
    Refused(Failure),
}

/// A data line of a session, as long as it is open.
#[derive(Debug)]
pub(crate) struct LineGuard(Arc<SessionBlobs>);

impl SessionBlobs {
    pub(crate) fn new(store: Store) -> Self {
        let (released, lines) = (Arc::new(watch::Sender::new(())), watch::Sender::new(0));
        let (answers, searches) = (Mutex::new(None), Arc::new(Semaphore::new(MAX_SEARCHES)));
        Self { store, answers, searches, table: Mutex::default(), released, lines }
    }

    /// Tells when something was let go of.
    pub(crate) fn releases(&self) -> Releases {
        self.released.subscribe()
    }

    /// A data line begins; `None` when there are as many as may be.
    pub(crate) fn begin_line(self: &Arc<Self>, most: usize) -> Option<LineGuard> {
        let begun = self.lines.send_if_modified(|lines| {
            let room = *lines < most;
            *lines += usize::from(room);
            room
        });
        begun.then(|| LineGuard(Arc::clone(self)))
    }

    /// Whether the driver can be given descriptors.
    pub(crate) fn has_line(&self) -> bool {
        *self.lines.borrow() > 0
    }

    /// Takes the next bytes of an offered blob; says what became of it with
    /// the last ones.
    ///
    /// # Errors
    /// [`Violation`] when it is not one whose bytes are missing.
    pub(crate) async fn part(&self, blob: u64, data: Bytes) -> Result<Option<Offered>, Violation> {
        let (filling, digest) = {
            let mut table = self.table();
            let slot = table.blobs.get_mut(&blob);
            let slot = slot.ok_or(Violation::Unknown { what: "blob", number: blob })?;
            match std::mem::replace(slot, Slot::Busy) {
                Slot::Uploading(filling, digest) => (filling, digest),
                // These bytes were on their way when the driver was told.
                refused @ Slot::Refused(_) => {
                    *slot = refused;
                    return Ok(None);
                }
                other @ (Slot::Busy | Slot::Filling(_) | Slot::Searching(_) | Slot::Present(_)) => {
                    *slot = other;
                    return Err(Violation::Blob { blob, problem: "it expects no bytes" });
                }
            }
        };
        match filling.write(data).await {
            Ok(filling) if filling.is_full() => Ok(Some(self.settle(blob, filling.commit(digest)))),
            Ok(filling) => {
                self.put(blob, Slot::Uploading(filling, digest));
                Ok(None)
            }
            Err(FillError::Refused(failure)) => Ok(Some(self.settle(blob, Err(failure)))),
            Err(FillError::Length) => {
                Err(Violation::Blob { blob, problem: "it is longer than announced" })
            }
        }
    }

    /// Gives a descriptor to fill.
    ///
    /// # Errors
    /// A failure when there is no room, or the number cannot be used.
    pub(crate) async fn allocate(
        &self,
        blob: u64,
        bytes: u64,
        writable: bool,
    ) -> Result<OwnedFd, Failure> {
        self.begin(blob, bytes).map_err(|violation| broken(&violation))??;
        let filling = self.store.allocate(bytes, writable).await;
        let filled = filling.and_then(|filling| {
            let descriptor = filling.descriptor().try_clone_to_owned().map_err(|error| {
                Failure::new(Kind::Internal, format!("no descriptor to be had: {error}"))
            })?;
            Ok((filling, descriptor))
        });
        match filled {
            Ok((filling, descriptor)) => {
                self.put(blob, Slot::Filling(filling));
                Ok(descriptor)
            }
            Err(failure) => {
                // The driver is told here and now, so there is nothing to
                // remember.
                self.table().blobs.remove(&blob);
                Err(failure)
            }
        }
    }

    /// What was allocated is filled.
    ///
    /// # Errors
    /// A failure when it is no such blob, or cannot be sealed.
    pub(crate) fn commit(&self, blob: u64) -> Result<(), Failure> {
        let filling = {
            let mut table = self.table();
            match table.blobs.remove(&blob) {
                Some(Slot::Filling(filling)) => filling,
                other => {
                    table.blobs.extend(other.map(|other| (blob, other)));
                    let problem = "it is not being filled";
                    return Err(broken(&Violation::Blob { blob, problem }));
                }
            }
        };
        // May take a while, and the driver waits for the answer before it says
        // anything else of this blob.
        let held = self.hold(filling.commit(None)?);
        self.table().blobs.insert(blob, Slot::Present(held));
        Ok(())
    }

    /// Lets go of blobs; batches that use them keep them.
    ///
    /// # Errors
    /// [`Violation`] when the driver names one that it never had.
    pub(crate) fn release(&self, blobs: &[u64]) -> Result<(), Violation> {
        for blob in blobs {
            let mut table = self.table();
            if *blob >= FIRST_RESULT {
                // It may have been fetched meanwhile.
                let result = table.results.remove(blob);
                drop(table);
                drop(result);
                continue;
            }
            let slot = table.blobs.remove(blob);
            drop(table);
            match slot {
                // Workers have it mapped, and are told to forget it.
                Some(Slot::Present(held)) => held.blob().leave(),
                // Nobody else may want it.
                Some(Slot::Searching(search)) => drop(search),
                Some(_) => {}
                None => return Err(Violation::Unknown { what: "blob", number: *blob }),
            }
        }
        Ok(())
    }

    /// What a batch names; pinned until the batch has ended.
    ///
    /// # Errors
    /// [`Violation`] when one is not there, or may not be used like that; the
    /// inner failure when one was refused.
    pub(crate) fn resolve(
        &self,
        uses: &BlobUses,
    ) -> Result<Result<BatchBlobs, Failure>, Violation> {
        if uses.buffers.is_empty() && uses.shared.is_empty() {
            return Ok(Ok(BatchBlobs::default()));
        }
        let table = self.table();
        let mut held = HashMap::new();
        match table.resolve(uses, &mut held) {
            Ok((buffers, shared)) => {
                Ok(Ok(BatchBlobs { buffers, shared, held: held.into_values().collect() }))
            }
            Err(Unresolved::Broken(violation)) => Err(violation),
            Err(Unresolved::Refused(failure)) => Ok(Err(failure)),
        }
    }

    /// One blob, to read; pinned as long as the caller keeps it.
    ///
    /// # Errors
    /// As of [`Self::resolve`].
    pub(crate) fn pin(&self, blob: u64) -> Result<Result<Held, Failure>, Violation> {
        let mut held = HashMap::new();
        match self.table().pin(blob, Access::Read, &mut held) {
            Ok(used) => {
                let unknown = Violation::Unknown { what: "blob", number: blob };
                held.remove(&used.blob).map(Ok).ok_or(unknown)
            }
            Err(Unresolved::Broken(violation)) => Err(violation),
            Err(Unresolved::Refused(failure)) => Ok(Err(failure)),
        }
    }

    /// Keeps a result until it is fetched; gives its number.
    pub(crate) fn keep_result(&self, blob: Blob) -> u64 {
        let mut table = self.table();
        let number = FIRST_RESULT + table.last_result;
        table.last_result += 1;
        table.results.insert(number, blob);
        number
    }

    /// Whether a result waits to be fetched.
    pub(crate) fn has_results(&self) -> bool {
        !self.table().results.is_empty()
    }

    /// Gives a result away.
    pub(crate) fn take_result(&self, number: u64) -> Option<Blob> {
        self.table().results.remove(&number)
    }

    /// Takes a number into use.
    pub(super) fn begin(&self, blob: u64, bytes: u64) -> Result<Result<(), Failure>, Violation> {
        if blob >= FIRST_RESULT {
            let problem = "numbers from 2^63 on are the agent's";
            return Err(Violation::Blob { blob, problem });
        }
        if bytes == 0 {
            return Err(Violation::Blob { blob, problem: "it is empty" });
        }
        let mut table = self.table();
        let full = table.blobs.len() >= MAX_BLOBS;
        let Entry::Vacant(entry) = table.blobs.entry(blob) else {
            return Err(Violation::UsedTwice { what: "blob", number: blob });
        };
        if full {
            let message = format!("this session has {MAX_BLOBS} blobs and may not have more");
            return Ok(Err(Failure::new(Kind::QuotaExceeded, message)));
        }
        entry.insert(Slot::Busy);
        Ok(Ok(()))
    }

    pub(super) fn settle(&self, blob: u64, content: Result<Blob, Failure>) -> Offered {
        let (slot, offered) = match content {
            Ok(content) => (Slot::Present(self.hold(content)), Offered::Present),
            Err(failure) => (Slot::Refused(failure.clone()), Offered::Refused(failure)),
        };
        self.put(blob, slot);
        offered
    }

    /// A number that is busy gets what became of it.
    pub(super) fn put(&self, blob: u64, slot: Slot) {
        // Had it been released meanwhile, there is nobody left to use it.
        let mut table = self.table();
        let before = table.blobs.get_mut(&blob).map(|busy| std::mem::replace(busy, slot));
        drop(table);
        drop(before);
    }

    fn hold(&self, blob: Blob) -> Held {
        Held::new(blob, Arc::clone(&self.released))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a batch does not get what it names.
enum Unresolved {
    Broken(Violation),
    Refused(Failure),
}

type Resolved = (Vec<BufferUse>, Vec<SharedObject>);

impl Table {
    fn resolve(
        &self,
        uses: &BlobUses,
        held: &mut HashMap<u64, Held>,
    ) -> Result<Resolved, Unresolved> {
        let mut buffers = |uses: &[(u64, Access)]| {
            let used = uses.iter().map(|(blob, access)| self.pin(*blob, *access, held));
            used.collect::<Result<Vec<_>, _>>()
        };
        let own = buffers(&uses.buffers)?;
        let mut objects = Vec::with_capacity(uses.shared.len());
        for (pickle, theirs) in &uses.shared {
            let buffers = buffers(theirs)?;
            objects.push((*pickle, buffers));
        }
        let shared = objects.into_iter().map(|(pickle, buffers)| {
            let pickle = self.pin(pickle, Access::Read, held)?.blob;
            Ok(SharedObject { pickle, buffers })
        });
        Ok((own, shared.collect::<Result<_, _>>()?))
    }

    fn pin(
        &self,
        blob: u64,
        access: Access,
        held: &mut HashMap<u64, Held>,
    ) -> Result<BufferUse, Unresolved> {
        let broken = |problem| Err(Unresolved::Broken(Violation::Blob { blob, problem }));
        let found = match self.blobs.get(&blob) {
            Some(Slot::Present(found)) => found,
            Some(Slot::Refused(failure)) => return Err(Unresolved::Refused(failure.clone())),
            Some(Slot::Busy | Slot::Filling(_) | Slot::Searching(_) | Slot::Uploading(..)) => {
                return broken("it is not complete");
            }
            None => {
                return Err(Unresolved::Broken(Violation::Unknown { what: "blob", number: blob }));
            }
        };
        if access == Access::Write && !found.blob().is_writable() {
            return broken("it may not be written to");
        }
        let id = found.blob().id();
        held.entry(id).or_insert_with(|| found.clone());
        Ok(BufferUse { blob: id, access })
    }
}

impl LineGuard {
    /// The session's blobs.
    pub(crate) fn session(&self) -> Arc<SessionBlobs> {
        Arc::clone(&self.0)
    }
}

impl Drop for LineGuard {
    fn drop(&mut self) {
        self.0.lines.send_modify(|lines| *lines -= 1);
    }
}

impl std::ops::Deref for LineGuard {
    type Target = SessionBlobs;

    fn deref(&self) -> &SessionBlobs {
        &self.0
    }
}

/// What a driver does wrong on the data line is answered there.
fn broken(violation: &Violation) -> Failure {
    Failure::new(Kind::Internal, violation.to_string())
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
