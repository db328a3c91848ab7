//! Outcomes and output on their way home.

use tokio::sync::mpsc;

use super::offers::Offered;
use crate::pool::{BatchOutcome, Output};

/// Pieces of output that may wait for a driver; more are dropped.
const MAX_OUTPUT: usize = 256;

/// Words on offered blobs that may wait for a driver.
const MAX_ANSWERS: usize = 64;

/// Where a session's outcomes and output go in.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    outcomes: mpsc::Sender<Box<BatchOutcome>>,
    output: mpsc::Sender<Output>,
    answers: mpsc::Sender<(u64, Offered)>,
}

/// Where they come out.
#[derive(Debug)]
pub(crate) struct OutboxReceiver {
    outcomes: mpsc::Receiver<Box<BatchOutcome>>,
    output: mpsc::Receiver<Output>,
    answers: mpsc::Receiver<(u64, Offered)>,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Sent {
    Outcome(Box<BatchOutcome>),
    Output(Output),
    /// What became of an offered blob.
    Answer(u64, Offered),
}

/// The driver was told of more outcomes than it may have open batches: it does
/// not read, or does not keep to its bound.
#[derive(Debug)]
pub(crate) struct Overflow;

/// An outbox for a session with at most this many open batches.
pub(crate) fn outbox(max_open_batches: usize) -> (Outbox, OutboxReceiver) {
    // Refused batches have outcomes too, hence the room beyond the bound.
    let (outcomes, outcomes_receiver) = mpsc::channel(max_open_batches * 2);
    let (output, output_receiver) = mpsc::channel(MAX_OUTPUT);
    let (answers, answers_receiver) = mpsc::channel(MAX_ANSWERS);
    (
        Outbox { outcomes, output, answers },
        OutboxReceiver {
            outcomes: outcomes_receiver,
            output: output_receiver,
            answers: answers_receiver,
        },
    )
}

impl Outbox {
    /// Sends an outcome; one for a driver that is gone is dropped.
    ///
    /// # Errors
    /// [`Overflow`] when there is no room.
    pub(crate) fn send(&self, outcome: Box<BatchOutcome>) -> Result<(), Overflow> {
        match self.outcomes.try_send(outcome) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overflow),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
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
    /// The next thing to send; what a task printed comes before its outcome.
    /// `None` when the session is closed.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        tokio::select! {
            biased;
            Some(output) = self.output.recv() => Some(Sent::Output(output)),
            Some((blob, offered)) = self.answers.recv() => Some(Sent::Answer(blob, offered)),
            outcome = self.outcomes.recv() => outcome.map(Sent::Outcome),
        }
    }

    /// The next thing to send, if it is there already.
    pub(crate) fn ready(&mut self) -> Option<Sent> {
        let output = self.output.try_recv().ok().map(Sent::Output);
        let answer = || {
            let (blob, offered) = self.answers.try_recv().ok()?;
            Some(Sent::Answer(blob, offered))
        };
        output.or_else(answer).or_else(|| self.outcomes.try_recv().ok().map(Sent::Outcome))
    }
}
