//! From the scheduler's actions to deeds; the only place that acts.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event_loop::{Dispatcher, Next};
use super::registry::{BatchEntry, WorkerEntry};
use crate::clock::Monotonic;
use crate::failure::{Failure, Kind};
use crate::identifiers::{BatchId, ProfileId, WorkerId};
use crate::pool::{
    Assignment, BatchOutcome, Order, Saved, Timings, Usage, WorkerCode, WorkerSetup, WorkerStart,
    start_worker,
};
use crate::scheduler::{Action, Event, StopReason};
use crate::session::Batch;

impl BatchOutcome {
    /// The outcome of a batch that reached no worker.
    pub(crate) fn never_ran(batch: BatchId, queued_at: Monotonic, failure: Failure) -> Box<Self> {
        let timings = Timings { queued_at, ended_at: Monotonic::now(), ..Timings::default() };
        Box::new(Self {
            batch,
            result: Err(failure),
            timings,
            usage: Usage::default(),
            pid: None,
            saved: Saved::default(),
            notes: Vec::new(),
            earlier: Vec::new(),
        })
    }
}

impl Dispatcher {
    /// Tells the scheduler, and does what it says.
    pub(super) fn apply(&mut self, event: Event) {
        self.apply_exit(event, None);
    }

    /// The same when a worker is gone: a batch that it would have run fails
    /// with the reason why it did not start.
    pub(super) fn apply_exit(&mut self, event: Event, start_failure: Option<&Failure>) {
        let mut answers = VecDeque::new();
        let mut next = Some(event);
        while let Some(event) = next {
            for action in self.scheduler.apply(event, Monotonic::now()) {
                answers.extend(self.perform(action, start_failure));
            }
            next = answers.pop_front();
        }
    }

    /// Acts; gives what the scheduler is to be told about it at once.
    fn perform(&mut self, action: Action, start_failure: Option<&Failure>) -> Option<Event> {
        tracing::trace!(?action, "perform");
        match action {
            Action::Spawn { worker, profile } => self.spawn(worker, profile),
            Action::Run { worker, batch } => self.give(worker, batch, false),
            Action::Prefetch { worker, batch } => self.give(worker, batch, true),
            Action::Withdraw { worker, batch } => return Some(self.withdraw(worker, batch)),
            Action::Stop { worker, reason } => self.stop(worker, reason),
            Action::LastAttempt(batch) => {
                if let Some(entry) = self.registry.batches.get_mut(&batch) {
                    entry.trials.last = true;
                }
            }
            Action::Retire(worker) => self.order(worker, Order::Retire),
            Action::Cancel(batch) => {
                self.fail(batch, Failure::new(Kind::Cancelled, "the call was closed"));
            }
            Action::TurnAway(batch) => {
                self.fail(batch, Failure::new(Kind::AgentDraining, "the agent was asked to stop"));
            }
            Action::FailStart { batch, worker } => {
                let unknown =
                    || Failure::new(Kind::WorkerStartFailed, format!("{worker} did not start"));
                let failure = start_failure.cloned().unwrap_or_else(unknown);
                return self.fail_start(batch, failure);
            }
        }
        None
    }

    fn spawn(&mut self, worker: WorkerId, profile_id: ProfileId) {
        let session = self.registry.sessions.get_mut(&profile_id.session);
        let profile = self.registry.profiles.get(&profile_id);
        let (Some(session), Some(profile)) = (session, profile) else {
            // The inbox lets no call refer to a profile that is not there.
            tracing::error!(%worker, "a worker of a session that is gone");
            return;
        };
        let (Some(outbox), Some(zygote)) =
            (&session.outbox, self.options.zygotes.get(session.opening.environment))
        else {
            tracing::error!(%worker, "a worker of a session that is not attached");
            return;
        };
        let pool = &self.options.pool;
        let [slots, max_slots] =
            [pool.slots, pool.max_slots].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let at_once = profile.workers.map_or(slots, |workers| workers.min(max_slots));
        let at_once =
            session.opening.share.max_running.map_or(at_once, |most| most.min(at_once)).max(1);
        let cores = u32::try_from(pool.cores).unwrap_or(u32::MAX);
        let enforcer = &self.options.enforcer;
        let code = (!profile.code.is_empty()).then(|| {
            let made = || Arc::new(enforcer.session_files(profile_id.session));
            let files = Arc::clone(session.files.get_or_insert_with(made));
            WorkerCode { files, archives: Arc::clone(&profile.code) }
        });
        let handle = start_worker(WorkerStart {
            id: worker,
            zygote: zygote.clone(),
            setup: WorkerSetup {
                variables: profile.variables.clone(),
                threads: (cores / at_once).max(1),
                payload: profile.setup.clone(),
                limits: profile.limits,
                code,
            },
            enforcer: enforcer.clone(),
            options: pool.clone(),
            reaper: self.options.reaper.clone(),
            events: self.events.clone(),
            output: outbox.output(),
            store: self.options.blobs.clone(),
            releases: session.blobs.releases(),
        });
        let environment = session.opening.environment;
        let entry = WorkerEntry {
            handle,
            environment,
            process: None,
            batches: 0,
            claims: 0,
            made_way: None,
        };
        self.registry.workers.insert(worker, entry);
    }

    fn give(&mut self, worker: WorkerId, id: BatchId, prefetched: bool) {
        let registry = &mut self.registry;
        let (Some(BatchEntry { batch, trials }), Some(entry)) =
            (registry.batches.get(&id), registry.workers.get_mut(&worker))
        else {
            tracing::error!(batch = %id, %worker, "a batch or worker that is not there");
            return;
        };
        let Some(call) = registry.calls.get(&batch.call) else {
            tracing::error!(batch = %id, "a batch of a call that is not there");
            return;
        };
        let order = Order::Run(Box::new(Assignment {
            batch: id,
            tasks: batch.tasks,
            nesting_level: call.nesting_level,
            task_timeout: call.task_timeout,
            task_cpu: call.task_cpu,
            attempt: trials.attempt(),
            first_task: trials.first_task(),
            queued_at: batch.queued_at,
            claim: if prefetched { entry.offer() } else { 0 },
            payload: batch.payload.clone(),
            blobs: Arc::clone(&batch.blobs),
        }));
        // When the worker is gone, its exit, already on the way, gives the batch
        // to another one.
        entry.handle.order(order).ok();
    }

    fn stop(&mut self, worker: WorkerId, reason: StopReason) {
        if reason == StopReason::Pressure
            && let Some(entry) = self.registry.workers.get_mut(&worker)
        {
            entry.made_way = self.shortage;
        }
        self.order(worker, Order::Stop(reason));
    }

    fn withdraw(&mut self, worker: WorkerId, batch: BatchId) -> Event {
        let entry = self.registry.workers.get(&worker);
        let won = entry.is_some_and(WorkerEntry::withdraw);
        if won {
            self.order(worker, Order::Withdrawn(batch));
        }
        Event::BatchWithdrawn { worker, batch, won }
    }

    fn order(&self, worker: WorkerId, order: Order) {
        if let Some(entry) = self.registry.workers.get(&worker) {
            // To a worker that is gone it is moot: its exit is on the way.
            entry.handle.order(order).ok();
        }
    }

    /// A worker did not start, and this batch pays for it: it fails, or, where
    /// nobody of ours is to blame, it is run again as if it had been begun.
    fn fail_start(&mut self, id: BatchId, failure: Failure) -> Option<Event> {
        let infrastructure = failure.kind.is_infrastructure();
        let Some(entry) = self.registry.batches.get(&id).filter(|_| infrastructure) else {
            self.fail(id, failure);
            return None;
        };
        let failure = Failure { attempt: entry.trials.attempt(), ..failure };
        let outcome = BatchOutcome::never_ran(id, entry.batch.queued_at, failure);
        let Next::Again { call, makes_way, .. } = self.attempt_ended(outcome) else { return None };
        Some(Event::BatchReturned { batch: id, call, makes_way })
    }

    fn fail(&mut self, batch: BatchId, failure: Failure) {
        let outcome = match self.registry.batches.get_mut(&batch) {
            Some(BatchEntry { batch: Batch { queued_at, .. }, trials }) => {
                trials.whole(BatchOutcome::never_ran(batch, *queued_at, failure))
            }
            None => BatchOutcome::never_ran(batch, Monotonic::now(), failure),
        };
        self.deliver(outcome);
    }
}
