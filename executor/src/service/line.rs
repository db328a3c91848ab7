//! What an agent says in a session that outlives its connections: kept until
//! the driver has acknowledged it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clutch_protocol::delivery::{MAX_UNACKNOWLEDGED_BYTES, Miscount, Sent, Taken};
use clutch_protocol::v1;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

use super::encode;
use super::speak::{ENVELOPE_BYTES, Envelope};

/// How long an acknowledgement waits for something to go with.
const COMPANY: Duration = Duration::from_millis(100);

/// How long a driver gets to acknowledge the last words of a session.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything that was said, over all streams. One stream at a time carries it.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
    /// There is something for the stream to carry.
    changed: Notify,
    /// Something was acknowledged.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    sent: Sent<v1::AgentFrame>,
    taken: Taken,
    /// Number of the stream that carries it.
    stream: u64,
    last_words: LastWords,
}

/// Whether more will be said.
#[derive(Debug, Default)]
enum LastWords {
    #[default]
    NotSaid,
    Said {
        patience: Instant,
    },
    Failed(Status),
}

/// What a stream does next.
enum Next {
    Say(v1::AgentEnvelope),
    Wait {
        /// Something is to be acknowledged when nothing else comes.
        acknowledge: bool,
        patience: Option<Instant>,
    },
    Fail(Status),
    Over,
    Elsewhere,
}

impl Line {
    /// Says frames, once the driver has acknowledged enough of what was said
    /// before.
    pub(super) async fn say(&self, frames: Vec<v1::AgentFrame>) {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                if !state.sent.is_full() {
                    state.push(frames);
                    break;
                }
            }
            room.await;
        }
        self.changed.notify_one();
    }

    /// Says frames that must not wait: whoever waited here would not hear that
    /// there is room.
    ///
    /// # Errors
    /// When the driver asks and asks, and acknowledges nothing.
    pub(super) fn answer(&self, frames: Vec<v1::AgentFrame>) -> Result<(), Status> {
        if frames.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        if state.sent.bytes() > 2 * MAX_UNACKNOWLEDGED_BYTES {
            let why = "too many answers are not acknowledged; acknowledge frames while asking";
            return Err(Status::invalid_argument(why));
        }
        state.push(frames);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Nothing more can be said.
    pub(super) fn fail(&self, status: Status) {
        self.lock().last_words = LastWords::Failed(status);
        self.changed.notify_one();
    }

    /// Everything was said.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if matches!(state.last_words, LastWords::NotSaid) {
            state.last_words = LastWords::Said { patience: Instant::now() + FAREWELL };
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The driver has taken so many frames.
    pub(super) fn acknowledge(&self, taken: u64) -> Result<(), Miscount> {
        if taken > 0 {
            self.lock().sent.acknowledge(taken)?;
            self.room.notify_waiters();
            // The session may wait for that to end.
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Frames of the driver were taken, for good.
    pub(super) fn took(&self, frames: u64, bytes: usize) {
        self.lock().taken.take(frames, bytes);
        self.changed.notify_one();
    }

    /// Goes on over another stream; the one before carries no more. Gives how
    /// many frames of the driver were taken.
    pub(super) fn resume(&self, stream: u64, taken: u64) -> Result<u64, Miscount> {
        let mut state = self.lock();
        state.stream = stream;
        state.sent.resume(taken)?;
        let received = state.taken.resume();
        drop(state);
        self.changed.notify_waiters();
        self.room.notify_waiters();
        Ok(received)
    }

    /// Waits until the driver has acknowledged everything.
    pub(super) async fn settled(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().sent.is_empty() {
                return;
            }
            room.await;
        }
    }

    /// Carries what is said, until all was said and acknowledged: then true; or
    /// nobody listens, or another stream does it.
    pub(super) async fn carry(
        &self,
        stream: u64,
        mut resumed: Option<v1::Resumed>,
        envelopes: &mpsc::Sender<Envelope>,
    ) -> bool {
        let mut alone = false;
        loop {
            match self.next(stream, &mut resumed, std::mem::take(&mut alone)) {
                Next::Say(envelope) => {
                    if envelopes.send(Ok(envelope)).await.is_err() {
                        return false;
                    }
                }
                Next::Wait { acknowledge, patience } => {
                    let patient = async {
                        match patience {
                            Some(patience) => sleep_until(patience).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = sleep(COMPANY), if acknowledge => alone = true,
                        () = patient => return true,
                    }
                }
                Next::Fail(status) => {
                    // A driver that is gone need not be told.
                    envelopes.send(Err(status)).await.ok();
                    return true;
                }
                Next::Over => return true,
                Next::Elsewhere => {
                    // What woke this stream may have been for that one.
                    self.changed.notify_one();
                    return false;
                }
            }
        }
    }

    /// `alone`: an acknowledgement has waited long enough for company.
    fn next(&self, stream: u64, resumed: &mut Option<v1::Resumed>, alone: bool) -> Next {
        let mut state = self.lock();
        if state.stream != stream {
            return Next::Elsewhere;
        }
        if let LastWords::Failed(status) = &state.last_words {
            return Next::Fail(status.clone());
        }
        let frames = state.sent.next(ENVELOPE_BYTES);
        let acknowledge = state.taken.is_pending();
        if !frames.is_empty() || resumed.is_some() || state.taken.is_due() || alone && acknowledge {
            let (resumed, acknowledged) = (resumed.take(), state.taken.tell());
            return Next::Say(v1::AgentEnvelope { frames, resumed, acknowledged });
        }
        let patience = match state.last_words {
            LastWords::Said { .. } if state.sent.is_empty() => return Next::Over,
            LastWords::Said { patience } => Some(patience),
            LastWords::NotSaid | LastWords::Failed(_) => None,
        };
        Next::Wait { acknowledge, patience }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here panics between two writes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, frames: Vec<v1::AgentFrame>) {
        for frame in frames {
            let bytes = encode::size(&frame);
            self.sent.push(frame, bytes);
        }
    }
}
