//! Files that workers made. A worker runs anybody's code, so nothing about
//! them is believed.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, SealFlags};

use super::blob::Blob;
use super::ledger::Place;
use super::store::Store;
use crate::failure::Failure;

/// A file may be longer than its content by what huge pages round up.
const SLACK_BYTES: u64 = 2 << 20;

/// A worker's file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// It is not what workers make.
    #[error("a worker's result is in {0}")]
    Nonsense(String),
    /// The store has no room for it.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl Store {
    /// Takes a file with at least so many bytes. A worker that was told to go
    /// to disk and did not gets no room beyond the budget.
    ///
    /// # Errors
    /// [`AdoptError`] when it is no such file, or there is no room.
    pub(crate) fn adopt(
        &self,
        file: OwnedFd,
        bytes: u64,
        told_to_spill: bool,
    ) -> Result<Blob, AdoptError> {
        let nonsense = |what: String| Err(AdoptError::Nonsense(what));
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(error) => return nonsense(format!("a file that cannot be looked at: {error}")),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return nonsense("something that is no regular file".to_owned());
        }
        let found = u64::try_from(stat.st_size).unwrap_or_default();
        if found < bytes || found - bytes > SLACK_BYTES {
            return nonsense(format!("a file of {found} bytes, and {bytes} were announced"));
        }
        let mode = rustix::fs::fcntl_getfl(&file).map(|flags| flags & OFlags::ACCMODE);
        if !matches!(mode, Ok(mode) if mode != OFlags::WRONLY) {
            return nonsense("a file that cannot be read".to_owned());
        }
        // Only memfds, and files like them, have seals.
        let place = match rustix::fs::fcntl_get_seals(&file) {
            Ok(seals) if seals.contains(SealFlags::SHRINK) => Place::Memory,
            Ok(_) => return nonsense("shared memory that can still shrink".to_owned()),
            Err(_) => Place::Disk,
        };
        self.book(file, found, place, !told_to_spill).map_err(AdoptError::Refused)
    }
}
