//! Which share of the slots a session has: who gets the next one.
//!
//! A session's share is its weight's part of the slots, over all sessions that
//! use or want some. Who holds fewer whole shares comes first. What is less than a
//! slot is shared by time: among those who hold equally many, who had less for its
//! weight comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::identifiers::SessionId;

use super::state::{Call, Scheduler, Session, WorkerState};

/// What a session weighs against others, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u32);

/// A weight that no session can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a number from 0.01 to 100")]
pub struct NoWeight;

impl Weight {
    /// The most there is.
    pub const MOST: Self = Self(100_000);
    const LEAST: Self = Self(10);
    /// What a session weighs that asks for nothing.
    pub const ONE: Self = Self(1000);

    /// A weight as people write it.
    ///
    /// # Errors
    /// [`NoWeight`] when it is no number from 0.01 to 100.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds, which no other value passes"
    )]
    pub fn new(weight: f64) -> Result<Self, NoWeight> {
        let bounds = Self::LEAST.get()..=Self::MOST.get();
        let within = bounds.contains(&weight);
        within.then(|| Self((weight * 1000.0).round() as u32)).ok_or(NoWeight)
    }

    /// As people write it.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

/// What a session may have of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Relative to the other sessions'.
    pub weight: Weight,
    /// Batches that it may run at once, over all its calls; `None`: no bound but
    /// the slots. At least 1.
    pub max_running: Option<u32>,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: Weight::ONE, max_running: None }
    }
}

/// How long a session had slots, each of them counted, for its weight.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Had(u128);

impl Had {
    pub(super) const NOTHING: Self = Self(0);

    fn add(&mut self, time: Duration, weight: Weight) {
        self.0 += time.as_nanos() * u128::from(Weight::MOST.0) / u128::from(weight.0);
    }
}

/// A session's place in the queue for the next slot; the least is first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    whole_shares: u128,
    had: Had,
    served: u64,
}

/// The slots that a session holds.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    /// By workers that run a batch, or die of one.
    running: usize,
    /// By workers that start.
    starting: usize,
}

/// How many more workers of a session may run, and may be started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) to_run: bool,
    pub(super) to_start: bool,
}

impl Session {
    /// Whether nothing of it waits for a slot.
    fn is_satisfied(&self) -> bool {
        self.calls.values().all(|call| call.waiting.is_empty())
    }

    /// Batches of a call that may run at once, as far as calls and sessions say.
    pub(super) fn most_of(&self, call: &Call) -> Option<u32> {
        let both = [call.max_running, self.share.max_running];
        both.into_iter().flatten().min()
    }
}

impl Scheduler {
    /// Counts the slots that each session has had since the last event.
    pub(super) fn count_slots(&mut self, now: Monotonic) {
        let time = now.since(std::mem::replace(&mut self.counted, now));
        // Alone, nobody is compared.
        if self.sessions.len() < 2 {
            return;
        }
        for worker in self.workers.values().filter(|worker| worker.state.holds_a_slot()) {
            if let Some(session) = self.sessions.get_mut(&worker.profile.session) {
                session.had.add(time, session.share.weight);
            }
        }
    }

    /// A session is about to want something. What it could have had while it
    /// wanted nothing is not owed to it.
    pub(super) fn owe_nothing(&mut self, id: SessionId) {
        let least = self.least;
        let satisfied = self.sessions.get_mut(&id).filter(|session| session.is_satisfied());
        if let Some(session) = satisfied {
            session.had = session.had.max(least);
        }
    }

    /// The sessions that can use a slot, whose turn it is first.
    pub(super) fn sessions_by_turn(&self) -> Vec<(SessionId, &Session)> {
        let runnable = |session: &Session| session.calls.values().any(|call| call.runnable() > 0);
        let wanting = self.sessions.iter().filter(|(_, session)| runnable(session));
        let mut sessions: Vec<_> = wanting.map(|(id, session)| (*id, session)).collect();
        if sessions.len() > 1 {
            let held = self.held();
            let slots =
                |id: &SessionId| held.get(id).map_or(0, |held| held.running + held.starting);
            let taking =
                self.sessions.iter().filter(|(id, it)| !it.is_satisfied() || slots(id) > 0);
            let weights: u128 = taking.map(|(_, session)| u128::from(session.share.weight.0)).sum();
            let most = self.slots() as u128;
            sessions.sort_by_cached_key(|(id, session)| {
                let share = u128::from(session.share.weight.0) * most;
                let whole_shares = slots(id) as u128 * weights / share.max(1);
                Place { whole_shares, had: session.had, served: session.served }
            });
        }
        sessions
    }

    /// What a session's own bound leaves it.
    pub(super) fn room(&self, id: SessionId, session: &Session) -> Room {
        let Some(most) = session.share.max_running else {
            return Room { to_run: true, to_start: true };
        };
        let Held { running, starting } = self.held().get(&id).copied().unwrap_or_default();
        let left = (most as usize).saturating_sub(running);
        Room { to_run: left > 0, to_start: left > starting }
    }

    fn held(&self) -> BTreeMap<SessionId, Held> {
        let mut all: BTreeMap<_, Held> = BTreeMap::new();
        for worker in self.workers.values() {
            let held = all.entry(worker.profile.session).or_default();
            match worker.state {
                WorkerState::Busy(_) | WorkerState::Stopping(_) => held.running += 1,
                WorkerState::Starting => held.starting += 1,
                WorkerState::Idle { .. } | WorkerState::Retiring => {}
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_number_between_its_bounds() {
        for weight in [0.01, 0.5, 1.0, 99.5, 100.0] {
            assert_eq!(Weight::new(weight).map(Weight::get), Ok(weight));
        }
        for weight in [0.0, -0.0, -1.0, 0.009, 100.1, 1e300, f64::INFINITY, f64::NAN] {
            assert_eq!(Weight::new(weight), Err(NoWeight), "{weight}");
        }
    }
}
