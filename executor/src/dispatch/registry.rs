//! Tables of what the scheduler's numbers stand for.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::message::Opening;
use super::presence::Presence;
use super::trials::Trials;
use crate::clock::Monotonic;
use crate::failure::{Failure, Kind};
use crate::identifiers::{BatchId, CallId, Pid, ProfileId, SessionId, WorkerId};
use crate::limits::{SessionFiles, Shortage};
use crate::pool::{ProgressPage, WorkerHandle};
use crate::random_name::random_name;
use crate::session::{Batch, CallSettings, Outbox, Profile, SessionBlobs};

/// Everything that is alive.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) sessions: HashMap<SessionId, SessionEntry>,
    pub(super) profiles: HashMap<ProfileId, Profile>,
    pub(super) calls: HashMap<CallId, CallSettings>,
    /// Those that wait or run.
    pub(super) batches: HashMap<BatchId, BatchEntry>,
    pub(super) workers: HashMap<WorkerId, WorkerEntry>,
    last_session: u64,
}

#[derive(Debug)]
pub(super) struct SessionEntry {
    pub(super) opening: Opening,
    token: String,
    pub(super) presence: Presence,
    pub(super) blobs: Arc<SessionBlobs>,
    /// Its receivers see the session's end when this is gone.
    pub(super) ended: watch::Sender<()>,
    /// What its driver brought along; `None` until a worker needs it.
    pub(super) files: Option<Arc<SessionFiles>>,
    /// `None` until the driver attaches.
    pub(super) outbox: Option<Outbox>,
    /// Nothing begins for it: its driver does not take its outcomes.
    pub(super) piled: bool,
}

impl SessionEntry {
    /// Whether the driver has taken every outcome, as far as we know, and fetched
    /// every result.
    pub(super) fn is_taken(&self) -> bool {
        self.outbox.as_ref().is_none_or(Outbox::is_empty) && !self.blobs.has_results()
    }
}

/// A batch that has not ended. Its payload stays here: it may have to run again.
#[derive(Debug)]
pub(super) struct BatchEntry {
    pub(super) batch: Batch,
    pub(super) trials: Trials,
}

#[derive(Debug)]
pub(super) struct WorkerEntry {
    pub(super) handle: WorkerHandle,
    pub(super) environment: usize,
    /// `None` until it is forked.
    pub(super) process: Option<Forked>,
    pub(super) batches: u64,
    /// Batches that were prefetched, ever: the number of the last one's claim.
    pub(super) claims: u64,
    /// What memory was short of when it was told to make way.
    pub(super) made_way: Option<Shortage>,
}

/// What is known of a worker once it is forked.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) pid: Pid,
    pub(super) progress: Arc<ProgressPage>,
}

impl WorkerEntry {
    /// Offers the worker a batch; gives the number by which it claims it. Zero,
    /// which is no offer, when there is no process yet.
    pub(super) fn offer(&mut self) -> u64 {
        let Some(process) = &self.process else { return 0 };
        self.claims += 1;
        process.progress.offer(self.claims);
        self.claims
    }

    /// Takes the last offer back; false when the worker has begun the batch.
    pub(super) fn withdraw(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.progress.withdraw(self.claims))
    }
}

impl Registry {
    /// Adds a session with an unguessable name.
    pub(super) fn open(
        &mut self,
        opening: Opening,
        blobs: SessionBlobs,
        presence: Presence,
    ) -> Result<String, Failure> {
        let token = random_name().map_err(|error| {
            Failure::new(Kind::Internal, format!("no random numbers to be had: {error}"))
        })?;
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let entry = SessionEntry {
            opening,
            token: token.clone(),
            presence,
            blobs: Arc::new(blobs),
            ended: watch::Sender::new(()),
            files: None,
            outbox: None,
            piled: false,
        };
        self.sessions.insert(session, entry);
        Ok(token)
    }

    pub(super) fn by_token(&mut self, token: &str) -> Option<(SessionId, &mut SessionEntry)> {
        let found = self.sessions.iter_mut().find(|(_, entry)| entry.token == token);
        found.map(|(id, entry)| (*id, entry))
    }

    /// Forgets sessions that were opened and never attached; gives those whose
    /// drivers did not come back.
    pub(super) fn expire(&mut self, now: Monotonic) -> Vec<SessionId> {
        self.sessions
            .retain(|_, entry| !(entry.presence.is_expected() && entry.presence.is_over(now)));
        let over = self.sessions.iter().filter(|(_, entry)| entry.presence.is_over(now));
        over.map(|(session, _)| *session).collect()
    }

    /// Forgets a session and everything that waited for it. What runs is
    /// forgotten when its worker is gone.
    pub(super) fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.profiles.retain(|id, _| id.session != session);
        self.calls.retain(|id, _| id.session != session);
        self.batches.retain(|id, _| id.session != session);
    }
}
