//! One message at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::handle::DispatchHandle;
use super::message::{AttachError, Attached, Joined, Lease, Message, Opening};
use super::presence::{Arrival, Departure, Presence, StreamEnd};
use super::registry::{BatchEntry, Forked, Registry, SessionEntry};
use super::status::{AgentSnapshot, SessionSnapshot, WorkerSnapshot};
use super::trials::{Terms, Trials};
use crate::blobs::Store;
use crate::clock::Monotonic;
use crate::failure::{Breach, Failure, Kind};
use crate::identifiers::{CallId, SessionId};
use crate::limits::{Enforcer, LimitOptions, Shortage};
use crate::pool::{BatchOutcome, Reaper, WorkerEvent, Zygote};
use crate::scheduler::{self, Event, Scheduler};
use crate::session::{Ceilings, Command, Quota, SessionBlobs, outbox};
use crate::settings::{PoolOptions, SessionOptions};

/// Messages that may wait; senders wait when there are more.
const MAX_MESSAGES: usize = 4096;

/// Most payload bytes of a batch that is prefetched: its frame and the remains
/// of another one fit into a worker's socket, so that nobody waits for a worker
/// that is busy.
const PREFETCH_BYTES: usize = 32 << 10;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(500);

/// What the dispatcher needs.
#[derive(Debug)]
pub(crate) struct DispatchOptions {
    pub(crate) scheduler: scheduler::Options,
    pub(crate) pool: PoolOptions,
    pub(crate) session: SessionOptions,
    /// What sessions get and may ask for.
    pub(crate) limits: LimitOptions,
    /// One for each environment, in their order.
    pub(crate) zygotes: Vec<Zygote>,
    pub(crate) reaper: Reaper,
    pub(crate) blobs: Store,
    pub(crate) enforcer: Enforcer,
}

/// The loop and its tables.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(super) options: DispatchOptions,
    pub(super) scheduler: Scheduler,
    pub(super) registry: Registry,
    ceilings: Ceilings,
    /// Where workers report.
    pub(super) events: mpsc::Sender<WorkerEvent>,
    shortages: watch::Receiver<Option<Shortage>>,
    /// What memory is short of, as the scheduler knows it.
    pub(super) shortage: Option<Shortage>,
    /// What drivers are told of the slots; 0: we take nothing new.
    slots: watch::Sender<u32>,
    draining: bool,
    quiet: Vec<oneshot::Sender<()>>,
    ending: Vec<oneshot::Sender<()>>,
    /// Told when a driver has taken most of the outcomes that had piled up.
    pub(super) taken: Arc<Notify>,
    /// Sessions to close once everything at hand is done.
    pub(super) overflowed: Vec<SessionId>,
    /// Sessions for which nothing is to begin, likewise.
    pub(super) piled: Vec<SessionId>,
}

/// What comes after an attempt at a batch.
pub(super) enum Next {
    /// Its outcome was sent home.
    Over,
    /// Another attempt. `makes_way`: it may make way for others once more.
    /// `pressed`: this one was lost because memory was short.
    Again { call: CallId, makes_way: bool, pressed: bool },
}

impl Dispatcher {
    /// Starts the loop.
    pub(crate) fn start(options: DispatchOptions) -> DispatchHandle {
        let (messages, receiver) = mpsc::channel(MAX_MESSAGES);
        let (events, worker_events) = mpsc::channel(MAX_MESSAGES);
        let slots = u32::try_from(options.scheduler.slots).unwrap_or(u32::MAX);
        let scheduler = Scheduler::new(options.scheduler);
        let registry = Registry::default();
        let ceilings = Ceilings::new(options.limits.clone());
        let mut shortages = options.enforcer.shortage();
        shortages.mark_changed();
        let dispatcher = Self {
            options,
            scheduler,
            registry,
            ceilings,
            events,
            shortages,
            shortage: None,
            slots: watch::Sender::new(slots),
            draining: false,
            quiet: Vec::new(),
            ending: Vec::new(),
            taken: Arc::default(),
            overflowed: Vec::new(),
            piled: Vec::new(),
        };
        tokio::spawn(dispatcher.serve(receiver, worker_events));
        DispatchHandle { messages }
    }

    async fn serve(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut worker_events: mpsc::Receiver<WorkerEvent>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let taken = Arc::clone(&self.taken);
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.shortages.changed() => self.shortage_changed(),
                Some(event) = worker_events.recv() => self.on(Message::Worker(event)),
                message = messages.recv() => match message {
                    Some(message) => self.on(message),
                    None => return,
                },
                () = taken.notified() => self.outcomes_taken(),
                _ = ticks.tick() => self.tick(),
            }
            self.outcomes_piled();
            while let Some(session) = self.overflowed.pop() {
                self.close(session);
            }
            self.tell_when_quiet();
        }
    }

    fn on(&mut self, message: Message) {
        match message {
            Message::Open { opening, answer } => {
                let opened = self.open(opening);
                // Whoever asked may be gone; then the session expires.
                answer.send(opened).ok();
            }
            Message::Attach { token, resuming, answer } => {
                match answer.send(self.attach(&token, resuming)) {
                    Ok(()) | Err(Err(_)) => {}
                    Err(Ok(Attached::Begun(lease))) => self.close(lease.session),
                    Err(Ok(Attached::Again { session, stream })) => {
                        self.detached(session, stream, StreamEnd::Broken);
                    }
                }
            }
            Message::Join { token, answer } => {
                let entry = self.registry.by_token(&token);
                let joined = entry.map(|(_, entry)| Joined {
                    blobs: Arc::clone(&entry.blobs),
                    ended: entry.ended.subscribe(),
                });
                answer.send(joined).ok();
            }
            Message::Commands { session, commands } => {
                for command in commands {
                    self.command(session, command);
                }
            }
            Message::Detached { session, stream, end } => self.detached(session, stream, end),
            Message::Worker(event) => self.worker(event),
            Message::Snapshot(answer) => {
                answer.send(self.snapshot()).ok();
            }
            Message::Drain(answer) => {
                // Whoever asked may have lost patience.
                answer.send(self.registry.batches.len()).ok();
                self.drain();
            }
            Message::Quiet(answer) => self.quiet.push(answer),
            Message::Taken(answer) => {
                answer.send(self.registry.sessions.values().all(SessionEntry::is_taken)).ok();
            }
            Message::StopAll => self.apply(Event::StopAll),
            Message::EndSessions(answer) => {
                self.ending.push(answer);
                for session in self.registry.sessions.keys().copied().collect::<Vec<_>>() {
                    self.close(session);
                }
            }
        }
    }

    fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            // Ahead of what is turned away: nobody is to send more instead.
            self.slots.send_replace(0);
            self.apply(Event::Drain);
        }
    }

    fn open(&mut self, opening: Opening) -> Result<String, Failure> {
        if self.draining {
            return Err(Failure::new(Kind::AgentDraining, "the agent was asked to stop"));
        }
        let most = self.options.session.max_sessions;
        if self.registry.sessions.len() >= most {
            let message = format!("{most} sessions are open; `max-sessions` allows no more");
            return Err(Failure::new(Kind::QuotaExceeded, message));
        }
        let blobs = SessionBlobs::new(self.options.blobs.clone());
        let presence = Presence::expected(opening.silence, Monotonic::now());
        self.registry.open(opening, blobs, presence)
    }

    fn attach(&mut self, token: &str, resuming: bool) -> Result<Attached, AttachError> {
        let options = self.options.session;
        let (session, entry) = self.registry.by_token(token).ok_or(AttachError::Unknown)?;
        let arrival = entry.presence.arrive(resuming);
        let (stream, silence) = (entry.presence.stream(), entry.presence.silence());
        match arrival {
            Arrival::Taken => return Err(AttachError::Attached),
            Arrival::GoesOn => return Ok(Attached::Again { session, stream }),
            Arrival::Begins => {}
        }
        let mut slots = self.slots.subscribe();
        if self.draining {
            slots.mark_changed();
        }
        let (sender, receiver) = outbox(options.max_open_batches, slots, Arc::clone(&self.taken));
        entry.blobs.answer_through(sender.answers());
        entry.outbox = Some(sender);
        let (blobs, ended) = (Arc::clone(&entry.blobs), entry.ended.subscribe());
        tracing::info!(%session, name = entry.opening.name, "session attached");
        let share = entry.opening.share;
        self.apply(Event::SessionOpened(session, share));
        let (quota, ceilings) = (Quota::new(options), self.ceilings.clone());
        let outbox = receiver;
        let lease = Lease { session, stream, silence, quota, ceilings, outbox, blobs, ended };
        Ok(Attached::Begun(lease))
    }

    fn detached(&mut self, session: SessionId, stream: u64, end: StreamEnd) {
        let Some(entry) = self.registry.sessions.get_mut(&session) else { return };
        match entry.presence.depart(stream, end, Monotonic::now()) {
            Departure::Superseded => {}
            Departure::Final => self.close(session),
            Departure::Waiting(patience) => {
                tracing::warn!(%session, name = entry.opening.name, ?end, ?patience, "waiting for a driver");
            }
        }
    }

    pub(super) fn close(&mut self, session: SessionId) {
        if self.registry.sessions.contains_key(&session) {
            tracing::info!(%session, "session closed");
            self.registry.close(session);
            self.apply(Event::SessionClosed(session));
        }
    }

    fn command(&mut self, session: SessionId, command: Command) {
        if !self.registry.sessions.contains_key(&session) {
            return;
        }
        match command {
            Command::DefineProfile(id, profile) => {
                self.registry.profiles.insert(id, profile);
            }
            Command::OpenCall(call, settings) => {
                self.registry.calls.insert(call, settings);
                let (profile, max_running) = (settings.profile, settings.max_running);
                let makes_way = settings.retries != Some(0);
                self.apply(Event::CallOpened { call, profile, max_running, makes_way });
            }
            Command::Submit(batch) => {
                let (id, call) = (batch.id, batch.call);
                let bytes: usize = batch.payload.iter().map(Bytes::len).sum();
                let small = bytes + batch.blobs.line_bytes() <= PREFETCH_BYTES;
                let entry = BatchEntry { batch, trials: Trials::default() };
                self.registry.batches.insert(id, entry);
                self.apply(Event::BatchSubmitted { batch: id, call, small });
            }
            Command::Refuse(batch, failure) => {
                let now = Monotonic::now();
                self.deliver(BatchOutcome::never_ran(batch, now, failure));
            }
            Command::CloseCall(call) => {
                self.apply(Event::CallClosed(call));
                self.registry.calls.remove(&call);
            }
        }
    }

    fn worker(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Forked { worker, pid, progress } => {
                if let Some(entry) = self.registry.workers.get_mut(&worker) {
                    entry.process = Some(Forked { pid, progress });
                }
            }
            WorkerEvent::Ready { worker } => self.apply(Event::WorkerReady(worker)),
            WorkerEvent::Ended { worker, outcome, recycle } => {
                if let Some(entry) = self.registry.workers.get_mut(&worker) {
                    entry.batches += 1;
                }
                let ran = outcome.timings.ran();
                let again = self.ended(outcome);
                self.apply(Event::BatchEnded { worker, recycle, ran, again });
            }
            WorkerEvent::Exited { worker, remains, mut start_failure } => {
                let entry = self.registry.workers.remove(&worker);
                let shortage = entry.and_then(|entry| entry.made_way);
                let ended = remains.ended.map(|outcome| {
                    let mut outcome = outcome?;
                    if let Err(failure) = &mut outcome.result
                        && failure.kind == Kind::MemoryPressure
                    {
                        self.explain_pressure(failure, shortage);
                    }
                    let batch = outcome.batch;
                    let again = self.ended(outcome);
                    (!again).then_some(batch)
                });
                if let Some(failure) = &mut start_failure
                    && failure.kind == Kind::MemoryPressure
                {
                    self.explain_pressure(failure, shortage);
                }
                self.apply_exit(Event::WorkerExited { worker, ended }, start_failure.as_ref());
            }
        }
    }

    /// A worker died of want of memory: it was told to make way, or the kernel was
    /// faster.
    fn explain_pressure(&mut self, failure: &mut Failure, told: Option<Shortage>) {
        match told {
            Some(Shortage { limit, peak, .. }) => {
                failure.breach.get_or_insert(Breach { limit, peak });
            }
            None => self.apply(Event::MemoryRanOut),
        }
    }

    /// An attempt at a batch ended in a worker. True: it is run again.
    fn ended(&mut self, outcome: Box<BatchOutcome>) -> bool {
        let batch = outcome.batch;
        match self.attempt_ended(outcome) {
            Next::Over => false,
            Next::Again { call, makes_way, pressed } => {
                if pressed {
                    self.apply(Event::BatchMadeWay { batch, call });
                }
                if !makes_way {
                    self.apply(Event::BatchStays { batch, call });
                }
                true
            }
        }
    }

    /// An attempt at a batch ended: unless it is run again, its one outcome is
    /// sent home.
    pub(super) fn attempt_ended(&mut self, outcome: Box<BatchOutcome>) -> Next {
        let id = outcome.batch;
        let Some(BatchEntry { batch, trials }) = self.registry.batches.get_mut(&id) else {
            self.deliver(outcome);
            return Next::Over;
        };
        let call = batch.call;
        // For a call that is closed, nobody wants another attempt.
        let settings = self.registry.calls.get(&call).filter(|_| !self.draining);
        let terms = Terms {
            tasks: batch.tasks,
            retries: settings.map_or(Some(0), |settings| settings.retries),
            max_bytes: self.options.session.max_batch_bytes,
        };
        let pressed = matches!(&outcome.result, Err(lost) if lost.kind == Kind::MemoryPressure);
        if let Some(outcome) = trials.ended(outcome, terms) {
            self.deliver(outcome);
            return Next::Over;
        }
        tracing::info!(batch = %id, attempt = trials.attempt(), "a batch is run again");
        Next::Again { call, makes_way: trials.makes_way(terms), pressed }
    }

    fn shortage_changed(&mut self) {
        let before = self.shortage;
        self.shortage = *self.shortages.borrow_and_update();
        let was_acute = before.is_some_and(|before| before.acute);
        match self.shortage {
            None => self.apply(Event::PressureEnded),
            Some(Shortage { acute: false, .. }) if before.is_none() || was_acute => {
                self.apply(Event::PressureEased);
            }
            Some(Shortage { acute: false, .. }) => {}
            Some(shortage) => {
                if !was_acute {
                    tracing::warn!(?shortage, "memory is short");
                }
                self.apply(Event::PressureSeen { at: shortage.seen });
            }
        }
    }

    fn tick(&mut self) {
        for session in self.registry.expire(Monotonic::now()) {
            tracing::warn!(%session, "its driver did not come back");
            self.close(session);
        }
        self.apply(Event::Tick);
    }

    fn tell_when_quiet(&mut self) {
        if self.registry.workers.is_empty() {
            for answer in self.ending.drain(..) {
                answer.send(()).ok();
            }
        }
        if self.scheduler.is_quiet() {
            for answer in self.quiet.drain(..) {
                answer.send(()).ok();
            }
        }
    }

    fn snapshot(&self) -> AgentSnapshot {
        let sessions = self.registry.sessions.iter().map(|(id, entry)| {
            let counts = self.scheduler.counts(*id);
            SessionSnapshot {
                name: entry.opening.name.clone(),
                waiting: counts.waiting,
                running: counts.running,
                attached: entry.presence.is_here(),
                weight: entry.opening.share.weight,
            }
        });
        let workers = self.registry.workers.iter().filter_map(|(id, entry)| {
            let (environment, batches) = (entry.environment, entry.batches);
            let busy = self.scheduler.is_busy(*id);
            let pid = entry.process.as_ref()?.pid;
            Some(WorkerSnapshot { pid, environment, busy, batches })
        });
        AgentSnapshot {
            sessions: sessions.collect(),
            workers: workers.collect(),
            draining: self.draining,
        }
    }
}
