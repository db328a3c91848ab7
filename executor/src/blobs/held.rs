//! Blobs in the hands of a session and of its batches.

use std::sync::{Arc, Weak};

use clutch_worker_link::{BufferUse, SharedObject};
use tokio::sync::watch;

use super::blob::Blob;

/// Tells a session's workers that something of it was let go of.
pub(crate) type Releases = watch::Receiver<()>;

/// A blob that a session, or a batch of it, has. With the last clone the
/// session's workers are asked to forget it.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Hold>);

#[derive(Debug)]
struct Hold {
    blob: Blob,
    released: Arc<watch::Sender<()>>,
}

/// A blob as a worker has it mapped.
#[derive(Debug)]
pub(crate) struct Mapped {
    hold: Weak<Hold>,
    /// The memory is in use until the worker lets go.
    _blob: Blob,
}

/// What a batch uses, in the words of the worker's line.
#[derive(Debug, Default)]
pub(crate) struct BatchBlobs {
    /// The pickle's out-of-band buffers.
    pub(crate) buffers: Vec<BufferUse>,
    /// Objects that the tasks share.
    pub(crate) shared: Vec<SharedObject>,
    /// Each blob that these name, once.
    pub(crate) held: Vec<Held>,
}

impl BatchBlobs {
    /// Bytes that naming and mapping them takes on a worker's line, at most.
    pub(crate) fn line_bytes(&self) -> usize {
        const EACH: usize = 64;
        let shared = self.shared.iter().map(|object| 1 + object.buffers.len()).sum::<usize>();
        EACH.saturating_mul(self.buffers.len() + shared + self.held.len())
    }
}

impl Held {
    pub(crate) fn new(blob: Blob, released: Arc<watch::Sender<()>>) -> Self {
        Self(Arc::new(Hold { blob, released }))
    }

    /// The blob.
    pub(crate) fn blob(&self) -> &Blob {
        &self.0.blob
    }

    /// Notes that a worker maps it.
    pub(crate) fn mapped(&self) -> Mapped {
        Mapped { hold: Arc::downgrade(&self.0), _blob: self.0.blob.clone() }
    }
}

impl Mapped {
    /// True while a later batch may use it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.hold.strong_count() > 0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.released.send_replace(());
    }
}
