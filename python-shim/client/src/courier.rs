//! Calls whose endings nobody awaits, for the threads that take those.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::call::{Call, Ended};
use crate::runtime::Network;

/// The queue of calls for couriers.
pub(crate) struct Couriers<T> {
    network: &'static Network,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// At most one entry for each call.
    ready: VecDeque<Arc<Call<T>>>,
    idle: usize,
    closed: bool,
}

/// What a courier is to do.
#[derive(Debug)]
pub struct Errand<T> {
    /// The call; say [`Call::handled`] in the end.
    pub call: Arc<Call<T>>,
    /// What to handle.
    pub endings: VecDeque<Ended<T>>,
    /// No other courier waits: a call whose endings take long to handle would
    /// hold up the others.
    pub last_one: bool,
}

impl<T: Send + 'static> Couriers<T> {
    pub(crate) fn new(network: &'static Network) -> Self {
        let state = State { ready: VecDeque::new(), idle: 0, closed: false };
        Self { network, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// What brings the endings.
    pub(crate) fn network(&self) -> &'static Network {
        self.network
    }

    /// Has a courier see to the call, after a while.
    pub(crate) fn queue(self: &Arc<Self>, call: Arc<Call<T>>, after: Duration) {
        if after.is_zero() {
            self.queue_now(call);
            return;
        }
        let couriers = Arc::clone(self);
        self.network.handle().spawn(async move {
            tokio::time::sleep(after).await;
            couriers.queue_now(call);
        });
    }

    /// Waits for something to do; `None` when there never will be.
    pub(crate) fn next(&self) -> Option<Errand<T>> {
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.idle += 1;
            let idle = |state: &mut State<T>| state.ready.is_empty() && !state.closed;
            let waited = self.changed.wait_while(state, idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            let call = state.ready.pop_front()?;
            let last_one = state.idle == 0;
            drop(state);
            let endings = call.take_by_courier();
            if !endings.is_empty() {
                return Some(Errand { call, endings, last_one });
            }
        }
    }

    /// Lets the couriers go once nothing is left to do.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    fn queue_now(&self, call: Arc<Call<T>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ready.push_back(call);
        drop(state);
        self.changed.notify_one();
    }
}
