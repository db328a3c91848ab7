//! Outcomes and output on their way home.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::blobs::Buffers;
use crate::pool::{BatchOutcome, Output};

/// Pieces of output that may wait for a driver; more are dropped.
const MAX_OUTPUT: usize = 256;

/// Bytes of outcomes that may wait for a driver before nothing more begins for
/// it; from half of that on, it does again.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Where a session's outcomes and output go in.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    outcomes: mpsc::Sender<Box<BatchOutcome>>,
    output: mpsc::Sender<Output>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct OutboxReceiver {
    outcomes: mpsc::Receiver<Box<BatchOutcome>>,
    output: mpsc::Receiver<Output>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Told when few bytes wait again.
    taken: Arc<Notify>,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Sent {
    Outcome(Box<BatchOutcome>),
    Output(Output),
}

/// The driver was told of more outcomes than it may have open batches: it does
/// not read, or does not keep to its bound.
#[derive(Debug)]
pub(crate) struct Overflow;

/// An outbox for a session with at most this many open batches. `taken` is told
/// when [`Outbox::is_piled`] is over.
pub(crate) fn outbox(max_open_batches: usize, taken: Arc<Notify>) -> (Outbox, OutboxReceiver) {
    // Refused batches have outcomes too, hence the room beyond the bound.
    let (outcomes, outcomes_receiver) = mpsc::channel(max_open_batches * 2);
    let (output, output_receiver) = mpsc::channel(MAX_OUTPUT);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let receiver = OutboxReceiver {
        outcomes: outcomes_receiver,
        output: output_receiver,
        waiting_bytes: Arc::clone(&waiting_bytes),
        taken,
    };
    (Outbox { outcomes, output, waiting_bytes }, receiver)
}

impl Outbox {
    /// Sends an outcome; one for a driver that is gone is dropped.
    ///
    /// # Errors
    /// [`Overflow`] when there is no room.
    pub(crate) fn send(&self, outcome: Box<BatchOutcome>) -> Result<(), Overflow> {
        self.waiting_bytes.fetch_add(bytes(&outcome), Ordering::Relaxed);
        match self.outcomes.try_send(outcome) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overflow),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Whether so much waits that nothing more is to begin.
    pub(crate) fn is_piled(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > MAX_WAITING_BYTES
    }

    /// Whether little enough waits that more may begin.
    pub(crate) fn is_taken(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) <= MAX_WAITING_BYTES / 2
    }

    /// Where workers send what they print.
    pub(crate) fn output(&self) -> mpsc::Sender<Output> {
        self.output.clone()
    }
}

impl OutboxReceiver {
    /// The next thing to send; what a task printed comes before its outcome.
    /// `None` when the session is closed.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        tokio::select! {
            biased;
            Some(output) = self.output.recv() => Some(Sent::Output(output)),
            outcome = self.outcomes.recv() => outcome.map(|outcome| self.taken(outcome)),
        }
    }

    /// The next thing to send, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Sent> {
        let output = self.output.try_recv().ok().map(Sent::Output);
        output.or_else(|| self.outcomes.try_recv().ok().map(|outcome| self.taken(outcome)))
    }

    fn taken(&self, outcome: Box<BatchOutcome>) -> Sent {
        let bytes = bytes(&outcome);
        let before = self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let half = MAX_WAITING_BYTES / 2;
        if before > half && before - bytes <= half {
            self.taken.notify_one();
        }
        Sent::Outcome(outcome)
    }
}

/// What an outcome holds, nearly.
fn bytes(outcome: &BatchOutcome) -> usize {
    let saved = outcome.saved.pickles.iter().map(Bytes::len).sum::<usize>();
    let value = outcome.result.as_ref().map_or(0, |value| {
        let buffers = value.buffers.as_ref().map_or(0, Buffers::bytes);
        value.payload.len().saturating_add(usize::try_from(buffers).unwrap_or(usize::MAX))
    });
    saved.saturating_add(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;
    use crate::identifiers::{BatchId, SessionId};
    use crate::pool::Value;

    fn outcome(bytes: usize) -> Box<BatchOutcome> {
        let batch = BatchId { session: SessionId(1), batch: 1 };
        let failure = crate::failure::Failure::new(crate::failure::Kind::Cancelled, "");
        let mut outcome = BatchOutcome::never_ran(batch, Monotonic::default(), failure);
        outcome.result = Ok(Value { payload: Bytes::from(vec![0; bytes]), buffers: None });
        outcome
    }

    #[tokio::test]
    async fn what_piles_up_is_told_and_so_is_when_it_is_taken() {
        let taken = Arc::new(Notify::new());
        let (outbox, mut receiver) = outbox(9, Arc::clone(&taken));
        for piled in [false, false, true] {
            outbox.send(outcome(MAX_WAITING_BYTES / 2)).unwrap();
            assert_eq!(outbox.is_piled(), piled);
        }
        receiver.next().await.unwrap();
        assert!(!outbox.is_piled() && !outbox.is_taken());
        receiver.ready().unwrap();
        taken.notified().await;
        assert!(outbox.is_taken());
    }
}
