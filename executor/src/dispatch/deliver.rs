//! Outcomes go home; what happens where they pile up.

use super::event_loop::Dispatcher;
use crate::pool::BatchOutcome;
use crate::scheduler::Event;
use crate::session::Outbox;

impl Dispatcher {
    /// Sends a batch's one outcome home.
    pub(super) fn deliver(&mut self, outcome: Box<BatchOutcome>) {
        let session = outcome.batch.session;
        self.registry.batches.remove(&outcome.batch);
        let Some(entry) = self.registry.sessions.get_mut(&session) else { return };
        let Some(outbox) = &entry.outbox else { return };
        if outbox.send(outcome).is_err() {
            tracing::warn!(%session, "driver does not take its outcomes; closing its session");
            // Not now: more actions for the session may be on their way.
            self.overflowed.push(session);
        } else if !entry.piled && outbox.is_piled() {
            entry.piled = true;
            self.piled.push(session);
        }
    }

    /// Nothing begins for drivers that do not take their outcomes, until they do.
    pub(super) fn outcomes_piled(&mut self) {
        while let Some(session) = self.piled.pop() {
            tracing::info!(%session, "driver does not take its outcomes; nothing more begins");
            self.apply(Event::OutcomesPile(session));
            // They may have been taken before that was asked for.
            self.taken.notify_one();
        }
    }

    /// A driver has taken most of its outcomes: more may begin for it.
    pub(super) fn outcomes_taken(&mut self) {
        let sessions = self.registry.sessions.iter_mut();
        let taken = sessions.filter(|(_, entry)| {
            entry.piled && entry.outbox.as_ref().is_some_and(Outbox::is_taken)
        });
        let taken = taken.map(|(session, entry)| {
            entry.piled = false;
            *session
        });
        for session in taken.collect::<Vec<_>>() {
            self.apply(Event::OutcomesTaken(session));
        }
    }
}
