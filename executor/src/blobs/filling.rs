//! A blob whose content is on its way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;

use super::arrival::{Announcement, Progress};
use super::blob::{Blob, Content, Pin};
use super::ledger::{Digest, Place};
use super::space;
use crate::failure::{Failure, Kind};

/// Most bytes that are copied and hashed on a thread of the runtime.
pub(super) const QUICK_BYTES: usize = 256 << 10;

/// Room for a blob. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Filling {
    pin: Arc<Pin>,
    place: Place,
    file: Arc<OwnedFd>,
    bytes: u64,
    writable: bool,
    /// What was written here, as opposed to by the driver itself.
    written: u64,
    hasher: blake3::Hasher,
    /// Tells those who follow it.
    announced: Option<Announcement>,
}

/// Why a content cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    /// There is more of it than was announced.
    #[error("there is more of it than was announced")]
    Length,
    /// It is not what was announced, or cannot be kept.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl Filling {
    pub(super) fn new(
        pin: Arc<Pin>,
        place: Place,
        file: OwnedFd,
        bytes: u64,
        writable: bool,
    ) -> Self {
        let hasher = blake3::Hasher::new();
        let file = Arc::new(file);
        Self { pin, place, file, bytes, writable, written: 0, hasher, announced: None }
    }

    /// Lets others find it by the digest that it will have, and follow it from
    /// now on. Only for content that comes by [`Filling::write`].
    pub(crate) fn announced(mut self, digest: Digest) -> Self {
        let Self { pin, file, place, bytes, written, .. } = &self;
        self.announced = Some(Announcement::new(pin, file, *place, *bytes, *written, digest));
        self
    }

    /// Bytes that were written here.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// The descriptor that whoever fills it writes to.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// True when every byte was written by [`Filling::write`].
    pub(crate) const fn is_full(&self) -> bool {
        self.written == self.bytes
    }

    /// Takes the next bytes. Few of them go to memory at once: to hand them to
    /// another thread costs more than to copy them. A disk may be slow.
    ///
    /// # Errors
    /// [`FillError`] when they are too many or there is no room for them.
    pub(crate) async fn write(mut self, data: Bytes) -> Result<Self, FillError> {
        let got = self.written.saturating_add(data.len() as u64);
        if got > self.bytes {
            return Err(FillError::Length);
        }
        let quick = self.place == Place::Memory && data.len() <= QUICK_BYTES;
        let write = move || {
            space::write_at(&self.file, &data, self.written)?;
            self.hasher.update(&data);
            self.written = got;
            if let Some(announced) = &self.announced {
                announced.tell(Progress::Written(got));
            }
            io::Result::Ok(self)
        };
        let failed = |error: io::Error| {
            let what = format!("a blob cannot be written: {error}");
            FillError::Refused(Failure::new(space::kind_of(&error), what))
        };
        if quick {
            return write().map_err(failed);
        }
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
    }

    /// The content is complete. With a `digest`, it must be what that names,
    /// and others can find it by that from now on.
    ///
    /// # Errors
    /// When the content is not complete or not what the digest names, or when
    /// somebody can still write to it.
    pub(crate) fn commit(self, digest: Option<Digest>) -> Result<Blob, Failure> {
        let Self { pin, place, file, bytes, writable, announced, .. } = self;
        let refused = |what: String| Err(Failure::new(Kind::Internal, what));
        let found = match rustix::fs::fstat(&file) {
            Ok(stat) => u64::try_from(stat.st_size).unwrap_or_default(),
            Err(error) => return refused(format!("a blob cannot be looked at: {error}")),
        };
        if found != bytes {
            return refused(format!("a blob has {found} bytes and {bytes} were announced"));
        }
        if let Some(digest) = digest {
            let computed = self.hasher.finalize();
            if computed != digest {
                let named = blake3::Hash::from_bytes(digest);
                return refused(format!("a blob's content has digest {computed}, not {named}"));
            }
        }
        let file = match space::seal(file, place, writable) {
            Ok(file) => file,
            Err(error) => return refused(format!("a blob cannot be sealed: {error}")),
        };
        let content = Arc::new(Content::new(file, bytes, writable));
        if let Some(digest) = digest {
            pin.store.name(pin.blob, digest, &content);
        }
        if let Some(announced) = announced {
            announced.tell(Progress::Whole);
        }
        Ok(Blob::new(pin, content))
    }
}
