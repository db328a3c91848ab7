//! Outcomes and output on their way home.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::offers::Offered;
use crate::blobs::Buffers;
use crate::pool::{BatchOutcome, Output};

/// Pieces of output that may wait for a driver; more are dropped.
const MAX_OUTPUT: usize = 256;

/// Bytes of outcomes that may wait for a driver before nothing more begins for
/// it; from half of that on, it does again.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Words on offered blobs that may wait for a driver.
const MAX_ANSWERS: usize = 64;

/// Where a session's outcomes and output go in.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    outcomes: mpsc::Sender<Box<BatchOutcome>>,
    output: mpsc::Sender<Output>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Outcomes that went in and are not on their way yet.
    here: Arc<AtomicUsize>,
    answers: mpsc::Sender<(u64, Offered)>,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct OutboxReceiver {
    outcomes: mpsc::Receiver<Box<BatchOutcome>>,
    output: mpsc::Receiver<Output>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Told when few bytes wait again.
    taken: Arc<Notify>,
    slots: watch::Receiver<u32>,
    here: Arc<AtomicUsize>,
    /// Outcomes that came out since the last [`Self::gone`].
    out: usize,
    answers: mpsc::Receiver<(u64, Offered)>,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Sent {
    Outcome(Box<BatchOutcome>),
    Output(Output),
    /// The agent runs so many batches at once from now on.
    Slots(u32),
    /// What became of an offered blob.
    Answer(u64, Offered),
}

/// The driver was told of more outcomes than it may have open batches: it does
/// not read, or does not keep to its bound.
#[derive(Debug)]
pub(crate) struct Overflow;

/// An outbox for a session with at most this many open batches. It tells of
/// each change of the agent's slots. `taken` is told when [`Outbox::is_piled`] is
/// over.
pub(crate) fn outbox(
    max_open_batches: usize,
    slots: watch::Receiver<u32>,
    taken: Arc<Notify>,
) -> (Outbox, OutboxReceiver) {
    // Refused batches have outcomes too, hence the room beyond the bound.
    let (outcomes, outcomes_receiver) = mpsc::channel(max_open_batches * 2);
    let (output, output_receiver) = mpsc::channel(MAX_OUTPUT);
    let (here, waiting_bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (answers, answers_receiver) = mpsc::channel(MAX_ANSWERS);
    let receiver = OutboxReceiver {
        outcomes: outcomes_receiver,
        output: output_receiver,
        answers: answers_receiver,
        waiting_bytes: Arc::clone(&waiting_bytes),
        taken,
        slots,
        here: Arc::clone(&here),
        out: 0,
    };
    (Outbox { outcomes, output, waiting_bytes, here, answers }, receiver)
}

impl Outbox {
    /// Sends an outcome; one for a driver that is gone is dropped.
    ///
    /// # Errors
    /// [`Overflow`] when there is no room.
    pub(crate) fn send(&self, outcome: Box<BatchOutcome>) -> Result<(), Overflow> {
        self.waiting_bytes.fetch_add(bytes(&outcome), Ordering::Relaxed);
        self.here.fetch_add(1, Ordering::Relaxed);
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

    /// Whether every outcome that went in is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.here.load(Ordering::Relaxed) == 0
    }

    /// Where workers send what they print.
    pub(crate) fn output(&self) -> mpsc::Sender<Output> {
        self.output.clone()
    }

    /// Where to say what became of offered blobs.
    pub(crate) fn answers(&self) -> mpsc::Sender<(u64, Offered)> {
        self.answers.clone()
    }
}

impl OutboxReceiver {
    /// The next thing to send; what a task printed comes before its outcome, and
    /// that the agent takes no more before what it turned away.
    /// `None` when the session is closed.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        tokio::select! {
            biased;
            Ok(()) = self.slots.changed() => Some(Sent::Slots(*self.slots.borrow_and_update())),
            Some(output) = self.output.recv() => Some(Sent::Output(output)),
            Some((blob, offered)) = self.answers.recv() => Some(Sent::Answer(blob, offered)),
            outcome = self.outcomes.recv() => outcome.map(|outcome| self.taken(outcome)),
        }
    }

    /// The next thing to send, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Sent> {
        if self.slots.has_changed().is_ok_and(|changed| changed) {
            return Some(Sent::Slots(*self.slots.borrow_and_update()));
        }
        if let Ok(output) = self.output.try_recv() {
            return Some(Sent::Output(output));
        }
        if let Ok((blob, offered)) = self.answers.try_recv() {
            return Some(Sent::Answer(blob, offered));
        }
        self.outcomes.try_recv().ok().map(|outcome| self.taken(outcome))
    }

    /// What came out is on its way.
    pub(crate) fn gone(&mut self) {
        self.here.fetch_sub(std::mem::take(&mut self.out), Ordering::Relaxed);
    }

    fn taken(&mut self, outcome: Box<BatchOutcome>) -> Sent {
        self.out += 1;
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
        let slots = watch::Sender::new(4);
        let (outbox, mut receiver) = outbox(9, slots.subscribe(), Arc::clone(&taken));
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

    fn sent(item: Option<&Sent>) -> Option<u32> {
        match item {
            Some(Sent::Slots(slots)) => Some(*slots),
            Some(Sent::Outcome(_) | Sent::Output(_) | Sent::Answer(..)) | None => None,
        }
    }

    #[tokio::test]
    async fn each_change_of_the_slots_is_told_and_nothing_else_of_them() {
        let slots = watch::Sender::new(4);
        let (outbox, mut receiver) = outbox(1, slots.subscribe(), Arc::default());
        assert_eq!(sent(receiver.ready().as_ref()), None);
        slots.send_replace(0);
        assert_eq!(sent(receiver.next().await.as_ref()), Some(0));
        assert_eq!(sent(receiver.ready().as_ref()), None);
        drop(slots);
        assert_eq!(sent(receiver.ready().as_ref()), None, "the agent is gone");
        drop(outbox);
        assert!(receiver.next().await.is_none());
    }
}
