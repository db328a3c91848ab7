//! Every frame arrives once and in order, though the connection between breaks.
//!
//! Each side counts the frames that it has sent and taken since the session
//! began. It keeps what it sent until the other acknowledges it; after a break
//! each tells how much it has taken, and the other goes on from there. The same
//! for both sides, whatever a frame is: nothing here knows the wire, or a clock.

use std::collections::VecDeque;

/// Bytes that one side may have sent without an acknowledgement. Whoever has so
/// many says nothing more until the other has acknowledged some.
pub const MAX_UNACKNOWLEDGED_BYTES: usize = 16 << 20;

/// Bytes taken after which they are acknowledged at once.
const ACKNOWLEDGE_BYTES: usize = 1 << 20;

/// Frames taken after which they are acknowledged at once.
const ACKNOWLEDGE_FRAMES: u64 = 256;

/// The other side told a number that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Miscount {
    /// It claims frames that were never sent.
    #[error("{told} frames are said to have been taken, and only {sent} were sent")]
    NeverSent {
        /// What it told.
        told: u64,
        /// What was sent.
        sent: u64,
    },
    /// It lacks frames that it acknowledged before; they are gone.
    #[error("{told} frames are said to have been taken, after {acknowledged} were acknowledged")]
    Forgotten {
        /// What it told.
        told: u64,
        /// What it acknowledged before.
        acknowledged: u64,
    },
}

/// What one side has said and the other has not acknowledged.
#[derive(Debug)]
pub struct Sent<F> {
    /// With their sizes.
    kept: VecDeque<(F, usize)>,
    bytes: usize,
    acknowledged: u64,
    /// How many of those kept have gone over the connection that there is now.
    gone: usize,
}

impl<F> Default for Sent<F> {
    fn default() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, acknowledged: 0, gone: 0 }
    }
}

impl<F: Clone> Sent<F> {
    /// Adds a frame; it goes when its turn comes.
    pub fn push(&mut self, frame: F, bytes: usize) {
        self.kept.push_back((frame, bytes));
        self.bytes += bytes;
    }

    /// Frames that go next, as many as fit, at least one; none when all have
    /// gone.
    pub fn next(&mut self, room: usize) -> Vec<F> {
        let mut frames = Vec::new();
        let mut left = room;
        for (frame, bytes) in self.kept.iter().skip(self.gone) {
            if !frames.is_empty() && *bytes > left {
                break;
            }
            left = left.saturating_sub(*bytes);
            frames.push(frame.clone());
        }
        self.gone += frames.len();
        frames
    }

    /// Forgets what the other side has taken: so many since the session began.
    ///
    /// # Errors
    /// [`Miscount`] for a number that cannot be.
    pub fn acknowledge(&mut self, taken: u64) -> Result<(), Miscount> {
        let acknowledged = self.acknowledged;
        let Some(more) = taken.checked_sub(acknowledged) else {
            return Err(Miscount::Forgotten { told: taken, acknowledged });
        };
        let more = usize::try_from(more).ok().filter(|more| *more <= self.gone);
        let Some(more) = more else {
            let sent = acknowledged + self.gone as u64;
            return Err(Miscount::NeverSent { told: taken, sent });
        };
        self.bytes -= self.kept.drain(..more).map(|(_, bytes)| bytes).sum::<usize>();
        self.gone -= more;
        self.acknowledged = taken;
        Ok(())
    }

    /// Goes on over a new connection with what the other side has not taken.
    ///
    /// # Errors
    /// [`Miscount`] for a number that cannot be.
    pub fn resume(&mut self, taken: u64) -> Result<(), Miscount> {
        self.acknowledge(taken)?;
        self.gone = 0;
        Ok(())
    }

    /// Frames that were acknowledged since the session began.
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Bytes that are kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing more may be said until some of it is acknowledged.
    pub const fn is_full(&self) -> bool {
        self.bytes >= MAX_UNACKNOWLEDGED_BYTES
    }

    /// Whether everything was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether everything has gone over the connection that there is now.
    pub fn is_flushed(&self) -> bool {
        self.gone == self.kept.len()
    }
}

/// What one side has taken from the other.
#[derive(Debug, Default)]
pub struct Taken {
    frames: u64,
    told: u64,
    bytes: usize,
}

impl Taken {
    /// Counts frames whose effect is there to stay.
    pub const fn take(&mut self, frames: u64, bytes: usize) {
        self.frames += frames;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Frames since the session began.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether there is something to acknowledge, which may wait for company.
    pub const fn is_pending(&self) -> bool {
        self.frames > self.told
    }

    /// Whether to acknowledge now, also when there is nothing else to say.
    pub const fn is_due(&self) -> bool {
        self.bytes >= ACKNOWLEDGE_BYTES || self.frames - self.told >= ACKNOWLEDGE_FRAMES
    }

    /// What to acknowledge; 0: nothing that was not told. It counts as told.
    pub const fn tell(&mut self) -> u64 {
        if !self.is_pending() {
            return 0;
        }
        self.bytes = 0;
        self.told = self.frames;
        self.frames
    }

    /// The number with which to go on over a new connection. It counts as told.
    pub const fn resume(&mut self) -> u64 {
        self.bytes = 0;
        self.told = self.frames;
        self.frames
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
