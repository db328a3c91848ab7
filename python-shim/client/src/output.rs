//! What tasks printed, until somebody prints it here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use clutch_protocol::v1;

/// Bytes that may wait; more are dropped, as the contract allows.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// A queue of pieces of output.
#[derive(Debug, Default)]
pub struct Outputs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<(u64, v1::Output)>,
    bytes: usize,
    /// Somebody took pieces and has not said that they are printed.
    printing: bool,
    closed: bool,
}

impl Outputs {
    /// Waits until there is something to print; false when there never will be.
    pub fn wait(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |waiting: &mut Waiting| waiting.pieces.is_empty() && !waiting.closed;
        let waiting = self.changed.wait_while(waiting, idle);
        !waiting.unwrap_or_else(PoisonError::into_inner).pieces.is_empty()
    }

    /// True while something arrived that is not known to be printed.
    pub fn pending(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.printing || !waiting.pieces.is_empty()
    }

    /// Takes what waits, each with the session that brought it; say [`Outputs::printed`] when it is printed.
    pub fn take(&self) -> VecDeque<(u64, v1::Output)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.printing = true;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.pieces)
    }

    /// What was taken last is printed.
    pub fn printed(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).printing = false;
    }

    pub(crate) fn push(&self, source: u64, output: v1::Output) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + output.data.len() <= MAX_WAITING_BYTES {
            waiting.bytes += output.data.len();
            waiting.pieces.push_back((source, output));
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}
