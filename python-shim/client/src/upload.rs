//! Ways of a blob's content to the agent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use bytes::Bytes;
use clutch_protocol::CHUNK_BYTES;
use clutch_protocol::v1::{self, blob_state::State as Fate, client_frame::Body};
use clutch_shared_memory::{HUGE_BYTES, Piece};

use crate::data_line::DataLine;
use crate::session::{BlobError, Lost, Shared};

/// Parts that may wait for the network.
const MAX_WAITING: usize = 8;

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

/// Offers the content by its digest, and sends it when the agent misses it.
pub(crate) fn send<T: Send + 'static>(
    shared: &Shared<T>,
    blob_id: u64,
    content: &[u8],
    writable: bool,
) -> Result<(), BlobError> {
    // What workers may write to has no name: it would not stay true.
    let digest = if writable {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(blake3::hash(content).as_bytes())
    };
    let mut state = shared.lock();
    state.offers.insert(blob_id, None);
    let bytes = content.len() as u64;
    let offer = v1::OfferBlob { blob_id, bytes, digest, writable, sources: Vec::new() };
    state.outbox.put_control(Body::OfferBlob(offer));
    shared.wake(state);
    let fate = match fate(shared, blob_id)? {
        Fate::Missing(_) => {
            for part in content.chunks(CHUNK_BYTES) {
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
    while state.outbox.waiting_control() >= MAX_WAITING && state.lost.is_none() {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    if let Some(lost) = &state.lost {
        return Err(lost.clone());
    }
    state.outbox.put_control(Body::BlobPart(v1::BlobPart { blob_id, data }));
    shared.wake(state);
    Ok(())
}
