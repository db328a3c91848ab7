//! Ways of a blob's content to the agent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use bytes::Bytes;
use clutch_protocol::BLOB_PART_BYTES;
use clutch_protocol::v1::{self, blob_state::State as Fate, client_frame::Body};
use clutch_shared_memory::{HUGE_BYTES, Piece};

use crate::data_line::DataLine;
use crate::session::{BlobError, Lost, Shared};

/// Parts that may wait for the network.
const MAX_WAITING: usize = 8;

/// Name of a content: its BLAKE3 digest.
pub type Digest = [u8; 32];

/// A content that other agents can have from the one to which it goes.
#[derive(Debug, Clone)]
pub struct Named {
    /// As [`digest`] gives it.
    pub digest: Digest,
    /// Agents that have the content or are receiving it, the best first.
    pub sources: Vec<String>,
}

/// Names a content. Once for all agents that will have it.
pub fn digest(content: &[u8]) -> Digest {
    *blake3::hash(content).as_bytes()
}

/// Content from which on a second thread copies too: new pages cost the kernel
/// as much as the copy.
const SPLIT_BYTES: u64 = 32 << 20;

/// Writes the content into shared memory of the agent; gives its file.
pub(crate) fn fill(
    line: &DataLine,
    blob_id: u64,
    content: &[u8],
    writable: bool,
) -> Result<OwnedFd, BlobError> {
    let bytes = content.len() as u64;
    let file = line.allocate(blob_id, bytes, writable)?;
    let pieces = [Piece { offset: 0, content }];
    let write = |range| clutch_shared_memory::fill(file.as_fd(), &pieces, range);
    if bytes < SPLIT_BYTES {
        write(0..bytes)?;
    } else {
        // Where a page ends, so that none is written by both.
        let middle = (bytes / 2).next_multiple_of(HUGE_BYTES);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| write(middle..bytes));
            write(0..middle)?;
            other.join().unwrap_or_else(|_| Err(io::Error::other("the copying thread failed")))
        })?;
    }
    line.commit(blob_id)?;
    Ok(file)
}

/// Offers the content, and sends it when the agent misses it and gets it nowhere.
/// `None`: workers may write to it, so it has no name, which would not stay true.
pub(crate) fn send<T: Send + 'static>(
    shared: &Shared<T>,
    blob_id: u64,
    content: &[u8],
    named: Option<Named>,
) -> Result<(), BlobError> {
    let mut state = shared.lock();
    state.offers.insert(blob_id, None);
    let (bytes, writable) = (content.len() as u64, named.is_none());
    let (digest, sources) = match named {
        Some(Named { digest, sources }) => (Bytes::copy_from_slice(&digest), sources),
        None => (Bytes::new(), Vec::new()),
    };
    let offer = v1::OfferBlob { blob_id, bytes, digest, writable, sources };
    state.outbox.put_control(Body::OfferBlob(offer));
    shared.wake(state);
    let fate = match fate(shared, blob_id)? {
        Fate::Missing(_) => {
            for part in content.chunks(BLOB_PART_BYTES) {
                send_part(shared, blob_id, part)?;
            }
            fate(shared, blob_id)?
        }
        told @ (Fate::Present(_) | Fate::Refused(_)) => told,
    };
    shared.lock().offers.remove(&blob_id);
    match fate {
        Fate::Present(_) => Ok(()),
        Fate::Refused(failure) => Err(BlobError::Refused(Box::new(failure))),
        Fate::Missing(_) => Err(io::Error::other("the agent asked for a blob twice").into()),
    }
}

/// Waits for the agent's word on a blob.
fn fate<T>(shared: &Shared<T>, blob_id: u64) -> Result<Fate, Lost> {
    let mut state = shared.lock();
    loop {
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        if let Some(fate) = state.offers.get_mut(&blob_id).and_then(Option::take) {
            return Ok(fate);
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn send_part<T: Send + 'static>(shared: &Shared<T>, blob_id: u64, part: &[u8]) -> Result<(), Lost> {
    // The part outlives the caller's buffer: the network sends it later.
    let data = Bytes::copy_from_slice(part);
    let mut state = shared.lock();
    while state.outbox.waiting_parts() >= MAX_WAITING && state.lost.is_none() {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if let Some(lost) = &state.lost {
        return Err(lost.clone());
    }
    state.outbox.put_part(v1::BlobPart { blob_id, data });
    shared.wake(state);
    Ok(())
}
