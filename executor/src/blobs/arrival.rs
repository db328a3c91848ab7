//! Content that is on its way here, for those who pass it on while it comes.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use super::blob::Pin;
use super::ledger::{Digest, Place};
use super::store::Store;

/// How far a content has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes are there, from the beginning.
    Written(u64),
    /// All of it is there, and it is what its digest names.
    Whole,
}

/// The room into which a content comes. Whoever reads from it keeps it in the
/// books.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) pin: Arc<Pin>,
    pub(super) file: Arc<OwnedFd>,
    pub(super) place: Place,
    pub(super) bytes: u64,
    /// Closed when the writer gives up.
    pub(super) progress: watch::Receiver<Progress>,
}

/// An entry in the store: does not keep what nobody writes to.
#[derive(Debug)]
pub(super) struct Arrival {
    blob: u64,
    room: Weak<Room>,
}

/// The writer's side: others can find the content as long as this is there.
#[derive(Debug)]
pub(super) struct Announcement {
    store: Store,
    digest: Digest,
    room: Arc<Room>,
    progress: watch::Sender<Progress>,
}

impl Announcement {
    pub(super) fn new(
        pin: &Arc<Pin>,
        file: &Arc<OwnedFd>,
        place: Place,
        bytes: u64,
        written: u64,
        digest: Digest,
    ) -> Self {
        let (progress, receiver) = watch::channel(Progress::Written(written));
        let (pin, file) = (Arc::clone(pin), Arc::clone(file));
        let store = pin.store.clone();
        let room = Arc::new(Room { pin, file, place, bytes, progress: receiver });
        store.announce(digest, Arrival { blob: room.pin.blob, room: Arc::downgrade(&room) });
        Self { store, digest, room, progress }
    }

    pub(super) fn tell(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.store.withdraw(&self.digest, self.room.pin.blob);
    }
}

impl Arrival {
    /// Whose it is.
    pub(super) const fn blob(&self) -> u64 {
        self.blob
    }

    /// The room, while somebody writes to it.
    pub(super) fn room(&self) -> Option<Arc<Room>> {
        self.room.upgrade()
    }
}

impl Room {
    /// Bytes that are there.
    pub(super) fn written(&self) -> u64 {
        match *self.progress.borrow() {
            Progress::Written(bytes) => bytes,
            Progress::Whole => self.bytes,
        }
    }
}
