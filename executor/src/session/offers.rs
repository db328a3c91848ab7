//! What a driver offers by its digest: here, at another agent, or to be sent.

use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::blobs::{SessionBlobs, Slot};
use super::inbox::Violation;
use crate::blobs::{Blob, Digest, Obtained, Store};
use crate::failure::{Failure, Kind};

/// A blob that a driver would send.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) blob: u64,
    pub(crate) bytes: u64,
    /// `None`: its content has no name.
    pub(crate) digest: Option<Digest>,
    pub(crate) writable: bool,
    /// Agents that have it, or are receiving it, the best first.
    pub(crate) sources: Vec<String>,
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    Present,
    Missing,
    Refused(Failure),
}

/// What is said of a blob when it is known, and where that is said.
pub(super) type Answers = mpsc::Sender<(u64, Offered)>;

/// A search, which is given up when this is let go of.
pub(super) type Search = oneshot::Sender<()>;

/// Searches of a session that go on at once. Whoever wants more sends the content.
pub(super) const MAX_SEARCHES: usize = 256;

/// What a search needs to know.
struct Wish {
    blob: u64,
    bytes: u64,
    digest: Digest,
    sources: Vec<String>,
    /// Held as long as it goes on.
    one: OwnedSemaphorePermit,
}

impl SessionBlobs {
    /// Where to say what becomes of offers that take their time.
    pub(crate) fn answer_through(&self, answers: Answers) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }

    /// Takes an offer: by digest if the content is here, else there is room to
    /// send it to. `None`: that is said later, when the content was looked for.
    ///
    /// # Errors
    /// [`Violation`] when the number is in use or not the driver's to choose.
    pub(crate) async fn offer(
        self: &Arc<Self>,
        offer: Offer,
    ) -> Result<Option<Offered>, Violation> {
        let Offer { blob, bytes, digest, writable, sources } = offer;
        if let Err(failure) = self.begin(blob, bytes)? {
            return Ok(Some(Offered::Refused(failure)));
        }
        let Some(digest) = digest else {
            let (slot, offered) = room(&self.store, bytes, None, writable).await;
            self.put(blob, slot);
            return Ok(Some(offered));
        };
        if let Some(found) = self.store.lookup_in_memory(&digest) {
            return Ok(Some(self.settle(blob, whole(found, bytes))));
        }
        let asks = !sources.is_empty() && self.store.has_peers();
        let worth = asks || self.store.lookup(&digest).is_some();
        let one = worth.then(|| Arc::clone(&self.searches).try_acquire_owned().ok()).flatten();
        let Some(one) = one else {
            let (slot, offered) = room(&self.store, bytes, Some(digest), writable).await;
            self.put(blob, slot);
            return Ok(Some(offered));
        };
        // A slow disk, or others, must not hold up what else the driver says.
        let (search, given_up) = oneshot::channel();
        self.put(blob, Slot::Searching(search));
        let wish = Wish { blob, bytes, digest, sources, one };
        tokio::spawn(look_for(wish, self.store.clone(), Arc::downgrade(self), given_up));
        Ok(None)
    }
}

/// Looks for a content, and says what became of that. The session may be gone
/// by then.
async fn look_for(
    wish: Wish,
    store: Store,
    session: Weak<SessionBlobs>,
    given_up: oneshot::Receiver<()>,
) {
    let Wish { blob, bytes, digest, sources, one } = wish;
    let search = async {
        match store.obtain(digest, bytes, sources).await {
            Obtained::Present(found) => Ok(whole(found, bytes)),
            Obtained::Refused(failure) => Ok(Err(failure)),
            Obtained::Missing => Err(room(&store, bytes, Some(digest), false).await),
        }
    };
    let found = tokio::select! {
        found = search => found,
        _ = given_up => return,
    };
    drop(one);
    let Some(session) = session.upgrade() else { return };
    let offered = match found {
        Ok(content) => session.settle(blob, content),
        Err((slot, offered)) => {
            session.put(blob, slot);
            offered
        }
    };
    let answers = session.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    drop(session);
    if let Some(answers) = answers {
        // A driver that is gone need not be told.
        answers.send((blob, offered)).await.ok();
    }
}

/// Room for what the driver will send.
async fn room(
    store: &Store,
    bytes: u64,
    digest: Option<Digest>,
    writable: bool,
) -> (Slot, Offered) {
    match store.allocate(bytes, writable).await {
        Ok(filling) => {
            let filling = match digest {
                Some(digest) => filling.announced(digest),
                None => filling,
            };
            (Slot::Uploading(filling, digest), Offered::Missing)
        }
        Err(failure) => (Slot::Refused(failure.clone()), Offered::Refused(failure)),
    }
}

fn whole(found: Blob, bytes: u64) -> Result<Blob, Failure> {
    if found.bytes() == bytes {
        return Ok(found);
    }
    let message = format!("the content with that digest has not {bytes} bytes");
    Err(Failure::new(Kind::Internal, message))
}
