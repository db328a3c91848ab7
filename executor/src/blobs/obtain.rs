//! Content by its digest: here, on its way here, or at another agent.

use std::sync::Arc;
use std::time::Duration;

use super::arrival::Room;
use super::blob::Blob;
use super::fetch::{Interest, Unfetched};
use super::ledger::{Digest, Place};
use super::reader::{ReadError, Reader};
use super::store::Store;
use crate::failure::Failure;

/// How much of a file is checked at a time.
const CHECKED_BYTES: u64 = 1 << 20;

/// What became of looking for a content.
#[derive(Debug)]
pub(crate) enum Obtained {
    /// It is here now.
    Present(Blob),
    /// Nobody who was asked has it.
    Missing,
    /// There is no room for it.
    Refused(Failure),
}

impl Store {
    /// Whether other agents can be asked for content.
    pub(crate) fn has_peers(&self) -> bool {
        self.fetches().is_some()
    }

    /// The content, if it is in memory, where it cannot change.
    pub(crate) fn lookup_in_memory(&self, digest: &Digest) -> Option<Blob> {
        self.lookup(digest).filter(|blob| self.is_in_memory(blob))
    }

    /// Finds a content, on the disk too, where it is checked, and fetches it when
    /// it is not here.
    pub(crate) async fn obtain(
        &self,
        digest: Digest,
        bytes: u64,
        sources: Vec<String>,
    ) -> Obtained {
        if let Some(blob) = self.lookup(&digest)
            && self.is_sound(&blob, digest).await
        {
            return Obtained::Present(blob);
        }
        let interest = self.want(digest, bytes, sources);
        let Some(interest) = interest else { return Obtained::Missing };
        match interest.outcome().await {
            Ok(blob) => Obtained::Present(blob),
            Err(Unfetched::Nowhere) => Obtained::Missing,
            Err(Unfetched::Refused(failure)) => Obtained::Refused(failure),
        }
    }

    fn want(&self, digest: Digest, bytes: u64, sources: Vec<String>) -> Option<Interest> {
        let fetches = self.fetches().filter(|_| !sources.is_empty())?;
        Some(fetches.want(self, digest, bytes, sources))
    }

    /// A content that is here or on its way, for another agent. One that is
    /// neither may be about to come: drivers tell agents of each other before they
    /// have heard from all of them.
    pub(crate) async fn reader(&self, digest: &Digest, within: Duration) -> Option<Reader> {
        let mut news = self.news();
        let found = async {
            loop {
                news.mark_unchanged();
                if let Some(reader) = self.reader_now(digest) {
                    return Some(reader);
                }
                news.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, found).await.ok().flatten()
    }

    fn reader_now(&self, digest: &Digest) -> Option<Reader> {
        if let Some(blob) = self.lookup(digest) {
            let place = if self.is_in_memory(&blob) { Place::Memory } else { Place::Disk };
            return Some(Reader::whole(*digest, blob, place));
        }
        // The one that is furthest; the others are let go of when nobody waits for
        // the books.
        let rooms = self.arriving(digest);
        let furthest: Option<&Arc<Room>> = rooms.iter().max_by_key(|room| room.written());
        furthest.map(|room| Reader::arriving(*digest, Arc::clone(room)))
    }

    /// Whether it is still what its digest names. What is not loses its name.
    async fn is_sound(&self, blob: &Blob, digest: Digest) -> bool {
        if self.is_in_memory(blob) {
            return true;
        }
        let mut reader = Reader::whole(digest, blob.clone(), Place::Disk);
        let mut offset = 0;
        loop {
            match reader.read(offset, CHECKED_BYTES).await {
                Ok(Some(data)) => offset += data.len() as u64,
                Ok(None) => return true,
                Err(error @ (ReadError::GaveUp | ReadError::Corrupt | ReadError::Failed(_))) => {
                    let content = blake3::Hash::from_bytes(digest);
                    tracing::error!(%content, %error, "a content is not used any more");
                    blob.disown();
                    return false;
                }
            }
        }
    }
}
