//! What a driver can send, for `executor/fuzz`.

use std::cell::RefCell;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use clutch_protocol::v1;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::data_line::read_request;
use super::ears::Ears;
use super::line::Line;
use crate::blobs::Store;
use crate::identifiers::SessionId;
use crate::limits::LimitOptions;
use crate::session::{Ceilings, Inbox, Quota, SessionBlobs};
use crate::settings::{BlobOptions, SessionOptions};

const SMALL: u64 = 1 << 20;

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> =
        RefCell::new(Builder::new_current_thread().enable_all().build().ok());
}

/// Runs to the end on a thread's own runtime.
fn block_on(future: impl Future<Output = ()>) {
    RUNTIME.with_borrow(|runtime| runtime.as_ref().map(|runtime| runtime.block_on(future)));
}

/// Takes in an envelope of a session's conversation.
pub fn conversation(data: &[u8]) {
    let Ok(envelope) = v1::ClientEnvelope::decode(data) else { return };
    let store = Store::new(BlobOptions {
        memory_bytes: SMALL,
        spill_directory: std::env::temp_dir(),
        spill_bytes: 0,
    });
    let blobs = Arc::new(SessionBlobs::new(store));
    let quota = Quota::new(SessionOptions {
        max_sessions: 1,
        max_open_batches: 8,
        max_batch_bytes: SMALL,
        max_session_bytes: SMALL,
        max_silence: std::time::Duration::ZERO,
    });
    let ceilings = Ceilings::new(LimitOptions::default());
    let session = SessionId(1);
    let inbox = Inbox::new(session, quota, ceilings, Arc::clone(&blobs));
    let mut ears = Ears { session, inbox, blobs };
    let line = Line::default();
    // A refusal is as good as an understanding.
    line.resume(1, envelope.resume.map_or(0, |resume| resume.received)).ok();
    line.acknowledge(envelope.acknowledged).ok();
    block_on(async { drop(ears.hear(envelope.frames).await) });
}

/// Takes in the bytes of a data line.
pub fn data_line(data: &[u8]) {
    let Ok((there, here)) = StdUnixStream::pair() else { return };
    block_on(async {
        let pair = [there, here]
            .map(|end| end.set_nonblocking(true).and_then(|()| UnixStream::from_std(end)));
        let [Ok(mut there), Ok(mut here)] = pair else { return };
        let said = async {
            // The reader may have had enough before the end.
            tokio::io::AsyncWriteExt::write_all(&mut there, data).await.ok();
            drop(there);
        };
        let heard = async {
            while let Ok(Some(_)) = read_request(&mut here).await {}
            drop(here);
        };
        tokio::join!(said, heard);
    });
}
