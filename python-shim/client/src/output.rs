//! What tasks printed, until somebody prints it here.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use clutch_protocol::v1;

/// Bytes that may wait; more are dropped, as the contract allows.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// News of the connection that may wait; later ones are dropped.
const MAX_NEWS: usize = 64;

/// What became of the connection to an agent, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The agent's address.
    pub agent: String,
    /// What became of it.
    pub event: LinkEvent,
}

/// What becomes of a connection whose session outlives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It broke, and is being restored.
    Broke {
        /// Why.
        why: String,
        /// For how long that is tried.
        limit: Duration,
    },
    /// It is restored.
    Restored {
        /// How long it was away.
        after: Duration,
    },
}

/// A queue of pieces of output, and of news.
#[derive(Debug, Default)]
pub struct Outputs {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<(u64, v1::Output)>,
    bytes: usize,
    news: VecDeque<News>,
    /// Somebody took pieces and has not said that they are printed.
    printing: bool,
    closed: bool,
}

impl Outputs {
    /// Waits until there is something to print or tell; false when there never
    /// will be.
    pub fn wait(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |waiting: &mut Waiting| waiting.is_empty() && !waiting.closed;
        let waiting = self.changed.wait_while(waiting, idle);
        !waiting.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes what there is to tell of the connection.
    pub fn take_news(&self) -> VecDeque<News> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut waiting.news)
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

    pub(crate) fn tell(&self, news: News) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.news.len() < MAX_NEWS {
            waiting.news.push_back(news);
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.news.is_empty()
    }
}
