//! One blob, for as long as somebody holds it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::space;
use super::store::Store;

/// From so many bytes on, closing a file is left to a thread that may block:
/// the kernel gives back page after page.
const SLOW_TO_CLOSE_BYTES: u64 = 16 << 20;

/// Bytes behind a descriptor. A clone is a pin; with the last one the bytes go
/// back to the store.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pin: Arc<Pin>,
    content: Arc<Content>,
}

/// Somebody's share in a blob.
#[derive(Debug)]
pub(super) struct Pin {
    pub(super) blob: u64,
    pub(super) store: Store,
    /// Whether the store counts on it being taken back.
    pub(super) leaving: AtomicBool,
}

/// What a blob is.
#[derive(Debug)]
pub(super) struct Content {
    file: Arc<OwnedFd>,
    bytes: u64,
    writable: bool,
}

impl Blob {
    pub(super) fn new(pin: Arc<Pin>, content: Arc<Content>) -> Self {
        Self { pin, content }
    }

    /// Names it in this agent; never reused.
    pub(crate) fn id(&self) -> u64 {
        self.pin.blob
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.content.bytes
    }

    /// Whether workers may write to it.
    pub(crate) fn is_writable(&self) -> bool {
        self.content.writable
    }

    /// The descriptor to hand on.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.content.file.as_fd()
    }

    /// Its file, to be read in a thread that may block.
    pub(super) fn file(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.content.file)
    }

    /// Takes its name away: its content is not what that says. Nobody finds it any
    /// more.
    pub(super) fn disown(&self) {
        self.pin.store.disown(self.pin.blob);
    }

    /// Says that whoever still has it is about to let go: its room is as good
    /// as free.
    pub(crate) fn leave(&self) {
        let Pin { blob, store, leaving } = &*self.pin;
        if !leaving.swap(true, Ordering::Relaxed) && !store.leaves(*blob) {
            leaving.store(false, Ordering::Relaxed);
        }
    }

    /// Reads a piece of it; blocks.
    ///
    /// # Errors
    /// When the piece is beyond its end, or the disk fails.
    pub(crate) fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<()> {
        space::read_at(&self.content.file, room, offset)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.store.unpin(self.blob);
        if *self.leaving.get_mut() {
            self.store.left();
        }
    }
}

impl Content {
    pub(super) const fn new(file: Arc<OwnedFd>, bytes: u64, writable: bool) -> Self {
        Self { file, bytes, writable }
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if self.bytes < SLOW_TO_CLOSE_BYTES {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Ours goes right after this, before that thread wakes up; if not,
            // nothing is lost but a moment.
            let file = Arc::clone(&self.file);
            runtime.spawn_blocking(move || drop(file));
        }
    }
}
