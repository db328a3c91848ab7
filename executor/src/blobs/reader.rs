//! Content that goes to another agent, also while it still arrives here.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::arrival::{Progress, Room};
use super::blob::Blob;
use super::filling::QUICK_BYTES;
use super::ledger::{Digest, Place};
use super::space;

/// Follows a content from any place to its end.
#[derive(Debug)]
pub(crate) struct Reader {
    digest: Digest,
    from: Origin,
}

#[derive(Debug)]
enum Origin {
    /// All of it is here. A disk may have changed it, so it is hashed on its way,
    /// as far as it was read from the beginning without a gap.
    Whole { blob: Blob, place: Place, check: Option<Box<Check>> },
    /// Somebody writes it.
    Arriving { room: Arc<Room>, progress: watch::Receiver<Progress> },
}

#[derive(Debug)]
struct Check {
    hasher: blake3::Hasher,
    read: u64,
}

/// There will be no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Whoever sent it here stopped before its end, or sent something else.
    #[error("its content stopped coming before the end")]
    GaveUp,
    /// What is on the disk is not what was written there.
    #[error("its content has changed on the disk")]
    Corrupt,
    /// The disk fails.
    #[error("its content cannot be read: {0}")]
    Failed(#[from] io::Error),
}

impl Reader {
    pub(super) fn whole(digest: Digest, blob: Blob, place: Place) -> Self {
        let check = || Box::new(Check { hasher: blake3::Hasher::new(), read: 0 });
        let check = (place == Place::Disk).then(check);
        Self { digest, from: Origin::Whole { blob, place, check } }
    }

    pub(super) fn arriving(digest: Digest, room: Arc<Room>) -> Self {
        let progress = room.progress.clone();
        Self { digest, from: Origin::Arriving { room, progress } }
    }

    /// Length of the whole content.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.from {
            Origin::Whole { blob, .. } => blob.bytes(),
            Origin::Arriving { room, .. } => room.bytes,
        }
    }

    /// The bytes from a place on, at least one and at most so many, as soon as
    /// there are some; `None` at the end, when all of it is known to be right.
    ///
    /// # Errors
    /// [`ReadError`] when there will be none.
    pub(crate) async fn read(
        &mut self,
        offset: u64,
        most: u64,
    ) -> Result<Option<Bytes>, ReadError> {
        match &mut self.from {
            Origin::Whole { blob, place, check } => {
                let length = most.min(blob.bytes() - offset);
                if length == 0 {
                    return match check {
                        Some(check) if !check.fits(&self.digest, blob.bytes()) => {
                            blob.disown();
                            Err(ReadError::Corrupt)
                        }
                        _ => Ok(None),
                    };
                }
                let data = read(blob.file(), *place, offset, length).await?;
                // What was asked for from its middle is checked by the other side,
                // which has the whole.
                drop(check.take_if(|check| check.read != offset));
                if let Some(check) = check {
                    check.hasher.update(&data);
                    check.read += length;
                }
                Ok(Some(data))
            }
            Origin::Arriving { room, progress } => {
                let bytes = room.bytes;
                let more = progress.wait_for(|progress| match progress {
                    Progress::Written(written) => *written > offset,
                    Progress::Whole => true,
                });
                let there = match *more.await.map_err(|_| ReadError::GaveUp)? {
                    Progress::Written(written) => written,
                    Progress::Whole => bytes,
                };
                let length = most.min(there - offset);
                if length == 0 {
                    return Ok(None);
                }
                Ok(Some(read(Arc::clone(&room.file), room.place, offset, length).await?))
            }
        }
    }
}

impl Check {
    /// Whether what was read is what the digest names, as far as that is known.
    fn fits(&self, digest: &Digest, bytes: u64) -> bool {
        self.read != bytes || self.hasher.finalize() == *digest
    }
}

/// Few bytes of memory are read at once, as they are written.
async fn read(file: Arc<OwnedFd>, place: Place, offset: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let read = move || space::read(&file, length, offset).map(Bytes::from);
    if place == Place::Memory && length <= QUICK_BYTES {
        return read();
    }
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
