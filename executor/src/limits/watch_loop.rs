//! The one thread that looks at busy workers, and at what memory there is.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::watch;

use super::LimitOptions;
use super::enclosed::Enclosed;
use super::looks::{LOOK, Looks};
use super::memory::{Memory, processes};
use super::pressure::{Machine, Pressure, Reading, Room, Shortage, Usage};
use super::pulse::Pulse;
use crate::clock::Monotonic;
use crate::processes::{Proc, Process, Tree};

/// Time between looks at the memory of all.
const ROOM_LOOK: Duration = Duration::from_millis(100);
/// The same at most, however long a look takes: what was seen that long ago says
/// little.
const LATEST_ROOM_LOOK: Duration = Duration::from_millis(500);
/// And while memory is short, when others wait for what is seen.
const SHORT_ROOM_LOOK: Duration = Duration::from_millis(200);
/// So long the thread goes on after the last batch, so that a batch a moment
/// later need not wake it.
const LINGER: Duration = Duration::from_secs(1);
/// Looking may take this part of the thread's time.
const PART: u32 = 20;

/// Looks at workers while they are busy. Costs nothing while none is.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    thread: OnceLock<()>,
}

/// What the thread has in common with those who start it.
#[derive(Debug)]
struct Shared {
    proc: Proc,
    pulse: Pulse,
    enclosed: Mutex<Vec<Arc<Enclosed>>>,
    room: Room,
    shortage: watch::Sender<Option<Shortage>>,
}

impl Watcher {
    /// With nobody to look at.
    pub(super) fn new(options: &LimitOptions, usage: Option<Usage>) -> Self {
        let room = match options.memory_ceiling_bytes {
            Some(bytes) => Room::Ceiling { bytes, usage },
            None => Room::Machine(Machine::default()),
        };
        Self::in_room(room)
    }

    fn in_room(room: Room) -> Self {
        let shared = Shared {
            proc: Proc::default(),
            pulse: Pulse::default(),
            enclosed: Mutex::default(),
            room,
            shortage: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared), thread: OnceLock::new() }
    }

    pub(super) fn proc(&self) -> &Proc {
        &self.shared.proc
    }

    /// What there is too little of, now; `None`: of nothing.
    pub(super) fn shortage(&self) -> watch::Receiver<Option<Shortage>> {
        self.shared.shortage.subscribe()
    }

    /// Looks at a worker whenever it is busy from now on.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn add(&self, enclosed: Arc<Enclosed>) -> io::Result<()> {
        let mut all = self.shared.enclosed();
        // While others wait for the lock: one thread is started.
        if self.thread.get().is_none() {
            let shared = Arc::clone(&self.shared);
            let run = move || {
                shared.pulse.attend();
                Round::new(&shared).run();
            };
            thread::Builder::new().name("clutch-limits".to_owned()).spawn(run)?;
            self.thread.get_or_init(|| ());
        }
        all.push(enclosed);
        Ok(())
    }

    /// Looks at it no more.
    pub(super) fn remove(&self, enclosed: &Arc<Enclosed>) {
        self.shared.enclosed().retain(|other| !Arc::ptr_eq(other, enclosed));
    }

    /// A worker is busy, with something to look at if `hurry`.
    pub(super) fn begin(&self, hurry: bool) {
        self.shared.pulse.begin(hurry);
    }

    /// It is busy no more.
    pub(super) fn end(&self) {
        self.shared.pulse.end();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.pulse.finish();
    }
}

impl Shared {
    fn enclosed(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Enclosed>>> {
        self.enclosed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread remembers from one look to the next.
struct Round<'a> {
    shared: &'a Shared,
    looks: Vec<Looks>,
    pressure: Pressure,
    /// Memory of all workers together, where the agent adds it up.
    memory: Memory,
    next_room: Monotonic,
    /// When processes may be listed again.
    next_list: Monotonic,
    /// When somebody was busy last.
    busy_at: Monotonic,
}

impl<'a> Round<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            looks: Vec::new(),
            pressure: Pressure::default(),
            memory: Memory::within(LATEST_ROOM_LOOK),
            next_room: Monotonic::default(),
            next_list: Monotonic::default(),
            busy_at: Monotonic::default(),
        }
    }

    fn run(mut self) {
        while !self.shared.pulse.is_over() {
            let next = self.look();
            let now = Monotonic::now();
            // A shortage ends by what others do, so it is looked at until then.
            let rests = now.since(self.busy_at) > LINGER && !self.pressure.is_short();
            // While workers with limits are there, nobody need wake it for each
            // of their batches.
            let most = if self.looks.is_empty() { ROOM_LOOK } else { LOOK };
            self.shared.pulse.sleep((!rests).then(|| next.since(now).min(most)), LOOK);
        }
    }

    /// Looks at everybody whose time has come; gives the time of the next look.
    fn look(&mut self) -> Monotonic {
        let now = Monotonic::now();
        if self.shared.pulse.is_busy() {
            self.busy_at = now;
        }
        self.renew();
        let next = self.look_at_workers(now);
        if now >= self.next_room {
            let begun = Monotonic::now();
            self.look_at_room();
            let done = Monotonic::now();
            let latest = if self.pressure.is_short() { SHORT_ROOM_LOOK } else { LATEST_ROOM_LOOK };
            let pause = (done.since(begun) * PART).clamp(ROOM_LOOK, latest);
            // Others are looked at in between, also when this takes long.
            self.next_room = done.after(pause);
        }
        next.map_or(self.next_room, |next| next.min(self.next_room))
    }

    /// Forgets workers that are gone, and learns of new ones with limits.
    fn renew(&mut self) {
        let all = self.shared.enclosed();
        self.looks.retain(|looks| all.iter().any(|enclosed| looks.are_at(enclosed)));
        for enclosed in all.iter().filter(|enclosed| enclosed.is_limited()) {
            if !self.looks.iter().any(|looks| looks.are_at(enclosed)) {
                self.looks.push(Looks::new(Arc::clone(enclosed)));
            }
        }
    }

    fn look_at_workers(&mut self, now: Monotonic) -> Option<Monotonic> {
        let mut busy: Vec<_> = self.looks.iter_mut().filter_map(Looks::renewed).collect();
        let mut due: Vec<_> = busy.iter_mut().filter(|looks| looks.next() <= now).collect();
        let roots: Vec<Option<Process>> = due.iter().map(|looks| looks.root()).collect();
        let roots: Vec<_> = roots.into_iter().filter(|_| now >= self.next_list).collect();
        let listed: Vec<Process> = roots.iter().copied().flatten().collect();
        let mut trees = Vec::new();
        if !listed.is_empty() {
            // Once for all: it may read about every process of the machine.
            trees = self.shared.proc.trees(&listed);
            let cost = Monotonic::now().since(now);
            self.next_list = now.after((cost * PART).max(LOOK));
        }
        let (mut roots, mut trees) = (roots.into_iter(), trees.into_iter());
        for looks in &mut due {
            let tree: Option<Tree> = roots.next().flatten().and_then(|_| trees.next());
            looks.look(&self.shared.proc, tree.as_ref());
        }
        busy.iter().map(|looks| looks.next()).min()
    }

    fn look_at_room(&mut self) {
        let seen = Monotonic::now();
        let reading = match &self.shared.room {
            Room::Machine(machine) => machine.read(),
            Room::Ceiling { bytes, usage: Some(usage) } => {
                usage().map(|used| Reading::Ceiling { bytes: *bytes, used })
            }
            Room::Ceiling { bytes, usage: None } => {
                self.used(*bytes).map(|used| Reading::Ceiling { bytes: *bytes, used })
            }
        };
        let Some(reading) = reading else { return };
        let now = self.pressure.take(reading, seen);
        self.shared.shortage.send_if_modified(|told| {
            match (*told, now) {
                (None, Some(_)) => tracing::warn!(?reading, "memory is short"),
                (Some(_), None) => tracing::info!(?reading, "memory is no longer short"),
                (None, None) | (Some(_), Some(_)) => {}
            }
            let changed = *told != now;
            *told = now;
            changed
        });
    }

    /// What all workers use together. Exact only when it may matter: from nine
    /// tenths of what they may use; `None`: it is there, but not known exactly.
    fn used(&mut self, most: u64) -> Option<u64> {
        let roots: Vec<_> = self.shared.enclosed().iter().map(|one| one.process).collect();
        let trees = self.shared.proc.trees(&roots);
        let everybody: Vec<Process> = trees.iter().flat_map(|tree| processes(tree)).collect();
        self.memory.read_surely(&self.shared.proc, &everybody, most / 10 * 9)
    }
}
